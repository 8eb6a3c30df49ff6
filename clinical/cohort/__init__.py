"""From an extract to the samples of a run: windows, tasks, splits and the files that hold them."""

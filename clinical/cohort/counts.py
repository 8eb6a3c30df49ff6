"""What a preparation met, as counts for the user's eyes, and what their names mean."""

from clinical.answers import Answer, known
from clinical.cohort.labels import label_array
from clinical.config import RunConfig

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

Counts = dict[str, int]
Bools = NDArray[np.bool_]

NOTHING_VISIBLE = "nothing visible"
"""The reason of a sample without any input."""

CAPTIONS = {
    "samples": "samples of the cohort, by split",
    "subjects": "subjects of the cohort, by split; nobody is in two",
    "labels": "samples with a label, and those labelled 1 or of a class",
    "modalities": "samples, by what is visible of them",
    "neighbours": "samples with at least one neighbour, by relation",
}
"""Group of counts -> what is counted; the other groups are modalities."""

MEANINGS = {
    # samples
    "train": "learned from; the graph looks at them",
    "select": "half of tuning: chooses epochs",
    "calibrate": "half of tuning: fits the calibration",
    "held_out": "judged at the end",
    "no split": "in no split: not used",
    NOTHING_VISIBLE: "get no score",
    # events of a modality
    "visible_events": "once for each sample that sees them",
    "unknown_codes": "not used: a code that train did not teach",
    "without_number": "not used: no number",
    "without_time": "not used: no time",
    "not_finite": "not used: infinite or not a number",
    "cut_events": "past a sample's newest max_events: in summaries",
    # notes
    "empty": "notes without text",
    "left_out_notes": "past the newest max_notes or max_chunks: unread",
    "left_out_chunks": "of the oldest note, past max_chunks: not read",
    "copied_lines": "in an earlier note of the sample: not read",
    "copied_notes": "notes of copied lines alone: not read",
    # images
    "without_path": "events of images without an image_path",
    "missing": "image files that are not there",
    "undecodable": "image files that cannot be read as an image",
    "too_large": "images of too many pixels: not read",
    "unsupported": "the log names an extra, or convert them",
    "left_out_slices": "between the slices that are kept: not read",
    "left_out_series": "further series of a folder: the largest is read",
    "left_out_images": "past a sample's newest max_images: not read",
}
"""Name of a count -> what it says, in a few words."""


def sum_counts(counts: Iterable[Mapping[str, Counts]]) -> dict[str, Counts]:
    """The counts of all shards together, by modality."""
    total: dict[str, Counter[str]] = {}
    for shard in counts:
        for name, found in shard.items():
            total.setdefault(name, Counter()).update(found)
    return {name: dict(sorted(found.items())) for name, found in total.items()}


def describe(
    config: RunConfig, answers: Mapping[str, Answer], samples: pl.DataFrame
) -> dict[str, Counts]:
    """Samples and subjects by split, samples by what is present, and labels by class."""
    found: dict[str, Counts] = {group: {} for group in ("samples", "modalities", "labels")}
    for group, name, rows, _ in _described(config, answers, samples):
        found[group][name] = int(rows.sum())
    subjects = samples.group_by("split").agg(pl.col("subject_id").n_unique().alias("n"))
    by_split = subjects.with_columns(pl.col("split").fill_null("no split")).sort("split")
    return {**found, "subjects": dict(by_split.iter_rows())}


def fewest_people(
    config: RunConfig, answers: Mapping[str, Answer], samples: pl.DataFrame
) -> dict[str, Counts]:
    """For each count of `describe`: how many people are in it, or left over, if those are fewer.

    Nobody is not few: of such a side nothing is said.
    """
    subjects = samples["subject_id"].to_numpy()
    found: dict[str, Counts] = {group: {} for group in ("samples", "modalities", "labels")}
    for group, name, rows, among in _described(config, answers, samples):
        sides = [len(np.unique(subjects[side])) for side in (rows, among & ~rows)]
        found[group][name] = min(filter(None, sides), default=0)
    return found


def _described(
    config: RunConfig, answers: Mapping[str, Answer], samples: pl.DataFrame
) -> Iterator[tuple[str, str, Bools, Bools]]:
    """(group, name, [N] whether a sample counts, [N] whether it could have)."""
    everybody = np.ones(samples.height, dtype=bool)
    names = list(config.modalities)
    parts = [pl.when(f"present.{name}").then(pl.lit(name)) for name in names]
    together = samples.select(pl.concat_str(parts, separator="+", ignore_nulls=True)).to_series()
    splits = samples["split"].fill_null("no split")
    for group, values in (
        ("samples", splits),
        ("modalities", together.replace("", NOTHING_VISIBLE)),
    ):
        for name in values.value_counts(sort=True)[values.name]:
            yield group, str(name), (values == name).to_numpy(), everybody
    for name, task in config.tasks.items():
        labels, answer = label_array(samples, name, task), answers[name]
        is_known = known(labels)
        yield "labels", f"{name}: labelled", is_known, everybody
        happened = answer.happened(labels)
        if happened is not None:
            yield "labels", f"{name}: observed", happened == 1, is_known
        elif task.kind != "regression":
            for place, label_class in enumerate(answer.classes):
                of_class = answer.truth(labels)[:, place] == 1
                yield "labels", f"{name}: {label_class or 'positive'}", of_class, is_known

"""How much of an extract a model knows: events, variables and codes, counted by modality."""

"""Classical models on flat features of the same inputs, beside the networks."""

from clinical.experts.lightgbm import LightGBM

EXPERTS: dict[str, type[LightGBM]] = {"lightgbm": LightGBM}
"""Name in `experts:` -> how it is fitted, kept as text and asked."""

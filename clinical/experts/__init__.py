"""Classical models on flat features of the same inputs, beside the networks."""

from clinical.experts.additive import Additive
from clinical.experts.expert import Expert
from clinical.experts.lightgbm import LightGBM

EXPERTS: dict[str, type[Expert]] = {"additive": Additive, "lightgbm": LightGBM}
"""Name in `experts:` and `finetune.teachers:` -> how it is fitted, kept as text and asked."""

__all__ = ["EXPERTS", "Expert"]

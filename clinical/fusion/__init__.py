"""Ways to make one vector of the modalities' summaries, some of them absent."""

from clinical.fusion.attention import AttentionFusion
from clinical.fusion.gated import GatedFusion

from torch import nn

FUSIONS: dict[str, type[nn.Module]] = {
    "attention": AttentionFusion,
    "gated": GatedFusion,
}
"""`Fusion(n_modalities, width, *, own YAML keys)`, `forward(summaries [B, M, D], present [B, M])
-> [B, D]`. What stands in an absent modality's summary, NaN included, changes nothing."""

__all__ = ["FUSIONS"]

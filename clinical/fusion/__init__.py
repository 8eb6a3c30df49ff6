"""Ways to make one vector of the modalities, some of them absent."""

from clinical.fusion.attention import AttentionFusion
from clinical.fusion.cross_attention import CrossAttentionFusion
from clinical.fusion.gated import GatedFusion
from clinical.fusion.parts import Parts

from torch import nn

FUSIONS: dict[str, type[nn.Module]] = {
    "attention": AttentionFusion,
    "cross_attention": CrossAttentionFusion,
    "gated": GatedFusion,
}
"""`Fusion(widths, width, *, own YAML keys)`, where M `widths` are those of the modalities' tokens;
`forward(Parts) -> [B, D]`. What stands in an absent modality's summary or tokens, NaN included,
changes nothing."""

__all__ = ["FUSIONS", "Parts"]

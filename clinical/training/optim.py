"""AdamW with warm-up and cosine decay."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

WARMUP_SHARE = 0.05


def build_optimizer(
    parts: Iterable[Sequence[nn.Module]],
    *,
    learning_rate: float,
    weight_decay: float,
    falloff: float = 1.0,
) -> AdamW:
    """AdamW (Loshchilov & Hutter 2019); vectors (biases, norms, queries) are not decayed.

    Args:
        parts: modules by depth; of their parameters those learn that need a gradient.
        learning_rate: of the first part.
        weight_decay: of matrices.
        falloff: what the rate of a part is divided by for the next.
    """
    groups: list[dict[str, list[nn.Parameter] | float]] = []
    for depth, modules in enumerate(parts):
        rate = learning_rate / falloff**depth
        parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
        matrices = [p for p in parameters if p.dim() >= 2]
        vectors = [p for p in parameters if p.dim() < 2]
        groups.append({"params": matrices, "lr": rate, "weight_decay": weight_decay})
        groups.append({"params": vectors, "lr": rate, "weight_decay": 0.0})
    return AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), fused=torch.cuda.is_available())


def warmup_cosine(optimizer: Optimizer, *, total_steps: int) -> LambdaLR:
    """Linear warm-up over the first steps, then a cosine down to a hundredth."""
    warmup = max(1, round(WARMUP_SHARE * total_steps))

    def scale(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = min(1.0, (step - warmup) / max(1, total_steps - warmup))
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))

    return LambdaLR(optimizer, scale)

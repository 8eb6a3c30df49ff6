"""Norms under which an image's encoding never depends on the other images of the batch."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional

_CHANNELS_PER_GROUP = 16


class FixedBatchNorm(nn.BatchNorm2d):
    """Batch norm that always uses the statistics it was loaded with, and still learns its scale.

    In training, too, an image's encoding then does not depend on the batch it is in.
    """

    def forward(self, input: Tensor) -> Tensor:
        """[R, C, H, W] -> the same shape."""
        return functional.batch_norm(
            input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


def group_norm(norm: nn.BatchNorm2d) -> nn.Module:
    """Norm of an image by itself: batches of one, masked images and averaged weights are safe."""
    channels = norm.num_features
    most = max(channels // _CHANNELS_PER_GROUP, 1)
    groups = next(n for n in range(most, 0, -1) if channels % n == 0)
    return nn.GroupNorm(groups, channels)


def _fixed_batch_norm(norm: nn.BatchNorm2d) -> nn.Module:
    return FixedBatchNorm(norm.num_features, eps=norm.eps)


NORMS: dict[str, Callable[[nn.BatchNorm2d], nn.Module]] = {
    "group": group_norm,
    "batch": _fixed_batch_norm,
}
"""Key -> what takes the place of a batch norm."""


def replace_batch_norms(net: nn.Module, norm: str) -> None:
    """Put the norm of the menu in the place of every batch norm; other norms stay."""
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, NORMS[norm](child))

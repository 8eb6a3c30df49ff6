"""The classification CNNs of torchvision, as modules that run one after the other."""

from clinical.config_file import likely
from clinical.errors import ConfigError

from collections.abc import Callable, Collection, Sequence

import torch
from torch import nn

MOST_STAGES = 4
TRIAL_SIZE = 64
"""Pixels of the image by which a network's stages are told apart."""
RESNETS = ("resnet", "resnext", "wide_resnet")
"""How the names begin of those that may have a small stem."""


def _resnet(net: nn.Module) -> list[str]:
    return ["conv1", "bn1", "relu", "maxpool", *(f"layer{i}" for i in range(1, 5))]


def _regnet(net: nn.Module) -> list[str]:
    blocks = net.get_submodule("trunk_output").named_children()
    return ["stem", *(f"trunk_output.{name}" for name, _ in blocks)]


def _features(net: nn.Module) -> list[str]:
    return [f"features.{name}" for name, _ in net.get_submodule("features").named_children()]


def _densenet(net: nn.Module) -> list[str]:
    """Transitions are taken apart: they are read after their norm, before they pool."""
    # Its own forward applies it, outside of any module.
    net.get_submodule("features").add_module("relu5", nn.ReLU(inplace=True))
    steps = []
    for name in _features(net):
        inside = net.get_submodule(name).named_children() if ".transition" in name else ()
        steps += [f"{name}.{part}" for part, _ in inside] or [name]
    return steps


_FAMILIES: dict[str, Callable[[nn.Module], list[str]]] = {
    **dict.fromkeys(RESNETS, _resnet),
    "densenet": _densenet,
    "efficientnet": _features,
    "convnext": _features,
    "mobilenet": _features,
    "regnet": _regnet,
}
"""How a network's name begins -> the names of the modules that it runs one after the other."""


def network(name: str) -> tuple[nn.Module, list[str]]:
    """A network of torchvision with random weights, and its modules one after the other.

    Raises:
        ConfigError: the name is of no family that is known here.
    """
    # Imported here: this takes seconds, and reading the menu must not.
    from torchvision import models

    known = [own for own in models.list_models(models) if own.startswith(tuple(_FAMILIES))]
    if name not in known:
        raise ConfigError(
            f"modalities.images.backbone: {name} is no CNN known here{likely(name, known)}"
        )
    net: nn.Module = models.get_model(name, weights=None)
    family = next(family for family in _FAMILIES if name.startswith(family))
    return net, _FAMILIES[family](net)


def replace_first(net: nn.Module, channels: int, *, stem: str, name: str) -> str:
    """Let the first convolution take images of other channels; the name of its weights.

    Raises:
        ConfigError: a small stem for anything but a ResNet.
    """
    path, first = next((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d))
    if stem == "small":
        if not name.startswith(RESNETS):
            raise ConfigError(
                f"modalities.images.stem: {name} has no small one; take standard or a ResNet"
            )
        first.kernel_size, first.padding = (3, 3), (1, 1)
        net.add_module("maxpool", nn.Identity())
    first.in_channels = channels
    shape = (first.out_channels, channels, *first.kernel_size)
    first.weight = nn.Parameter(torch.empty(shape))
    nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
    return f"{path}.weight"


def keep_blocks(net: nn.Module) -> None:
    """Let training drop no block of the networks that were made for it."""
    from torchvision.ops import StochasticDepth

    for module in net.modules():
        if isinstance(module, StochasticDepth):
            module.p = 0.0


def stages_of(net: nn.Module, steps: Sequence[str], channels: int) -> list[list[str]]:
    """The steps by the size of the maps that they give; what comes before the last four sizes
    belongs to the first of these."""
    maps = torch.zeros(1, channels, TRIAL_SIZE, TRIAL_SIZE)
    stages: list[list[str]] = []
    height = 0
    with torch.no_grad():
        for step in steps:
            maps = net.get_submodule(step)(maps)
            if maps.shape[-1] != height:
                height = maps.shape[-1]
                stages.append([])
            stages[-1].append(step)
    early = stages[: 1 - MOST_STAGES]
    return [[step for stage in early for step in stage], *stages[1 - MOST_STAGES :]]


def prune(module: nn.Module, kept: Collection[str], prefix: str = "") -> None:
    """Remove what is not among the modules `kept`, which are whole."""
    for name, child in list(module.named_children()):
        path = prefix + name
        if path in kept:
            continue
        if any(other.startswith(f"{path}.") for other in kept):
            prune(child, kept, f"{path}.")
        else:
            delattr(module, name)

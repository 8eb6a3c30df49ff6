"""Low-rank adapters on an encoder's attention (Hu et al., 2022, arXiv:2106.09685), through peft."""

from clinical.errors import ConfigError

import importlib.util
from collections.abc import Sequence

from torch import nn


def check_installed(where: str) -> None:
    """Refuse adapters where peft is missing.

    Raises:
        ConfigError: it is not installed.
    """
    if importlib.util.find_spec("peft") is None:
        raise ConfigError(
            f"{where}: lora needs peft, which is not installed; install it with "
            "`pip install 'clinical[lora]'`, or choose full or frozen"
        )


def attach(model: nn.Module, layers: Sequence[str], *, rank: int, alpha: int) -> None:
    """Put an adapter beside each of the named linear layers; from now on only they learn.

    An adapter starts as zero, so that the model says what it said before.
    """
    from peft import LoraConfig, inject_adapter_in_model

    model.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(layers))
    inject_adapter_in_model(config, model)


def merge(model: nn.Module) -> None:
    """Add every adapter to the layer it stands beside, and take it away."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            model.set_submodule(name, module.get_base_layer())

"""Pretrained weights from local files, read without running code from them."""

from clinical.errors import ConfigError

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

_UNREADABLE = (
    SafetensorError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
)
"""What readers of damaged files raise, by where the damage is; torch.load wraps none of it."""


def check_is_file(path: Path) -> None:
    """Refuse a path at which there is no file.

    Raises:
        ConfigError: there is none.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file of weights")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The named tensors of a safetensors file or of a PyTorch state dict.

    Raises:
        ConfigError: the file is missing, damaged, or holds more than tensors.
    """
    check_is_file(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise ConfigError(
            f"{path}: not readable as plain tensors; give a safetensors file or a state dict saved "
            "by torch.save"
        ) from error
    if isinstance(raw, dict) and isinstance(raw.get("state_dict"), dict):
        raw = raw["state_dict"]
    if not isinstance(raw, dict) or not all(isinstance(value, Tensor) for value in raw.values()):
        raise ConfigError(f"{path}: should hold a state dict, a mapping of names to tensors")
    return raw


def load_fitting(module: nn.Module, tensors: Mapping[str, Tensor], *, source: Path) -> None:
    """Copy into every parameter and buffer of `module` its tensor; leave out what it lacks.

    Raises:
        ConfigError: a tensor is missing or of another shape; nothing was copied then.
    """
    own = module.state_dict()
    # Counters and position rows, which a file may or may not have.
    optional = {name for name, tensor in own.items() if not tensor.is_floating_point()}
    missing = sorted(own.keys() - tensors.keys() - optional)
    if missing:
        raise ConfigError(
            f"{source}: lacks {len(missing)} of {len(own)} tensors, the first {missing[0]}; "
            "the weights are of another architecture"
        )
    chosen = {name: tensors[name] for name in own if name in tensors}
    for name, tensor in chosen.items():
        if tensor.shape != own[name].shape:
            raise ConfigError(
                f"{source}: {name} has shape {tuple(tensor.shape)}, the model has "
                f"{tuple(own[name].shape)}; the weights are of another architecture"
            )
    module.load_state_dict(own | chosen)

"""Given weights on this machine: those of a folder, or fetched from the hub where allowed."""

from clinical.config import ModalityConfig
from clinical.errors import ConfigError

import re
from pathlib import Path

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_FILES = (".pth", ".pt", ".bin", ".safetensors")
_TEXTS = ["*.json", "*.txt", "*.model"]
_SAFE, _PICKLED = "model.safetensors", "pytorch_model.bin"


def local_weights(name: str, modality: ModalityConfig) -> Path | None:
    """The file or folder of a modality's weights; of a name on the hub, a folder of its cache.

    A path that looks like no such name is given back as it is.

    Args:
        name: Of the modality, for messages.
        modality: Its weights, and whether the hub may be asked for them.

    Raises:
        ConfigError: It may not be asked, or has no such model.
    """
    weights, key = modality.weights, f"modalities.{name}"
    if weights is None or weights.exists() or weights.suffix in _FILES:
        return weights
    if not _HUB_NAME.fullmatch(weights.as_posix()):
        return weights
    if not modality.allow_download:
        raise ConfigError(
            f"{key}.weights: there is no folder {weights}; give one that is there, or "
            f"{key}.allow_download: true to fetch the model of that name from huggingface.co"
        )
    return _fetched(weights.as_posix(), where=f"{key}.weights")


def _fetched(name: str, *, where: str) -> Path:
    """A folder of the hub's cache; what is there is not asked for again, code is never fetched."""
    # Imported here: this takes a while, and reading a configuration must not.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    def fetch(*files: str, offline: bool) -> Path:
        return Path(snapshot_download(name, allow_patterns=list(files), local_files_only=offline))

    def has_all(folder: Path) -> bool:
        held = ((folder / file).is_file() for file in (_SAFE, _PICKLED))
        return (folder / "config.json").is_file() and any(held)

    try:
        try:
            known = fetch(*_TEXTS, _SAFE, offline=True)
        except FileNotFoundError:  # not in the cache
            known = None
        if known is not None and has_all(known):
            return known
        folder = fetch(*_TEXTS, _SAFE, offline=False)
        return folder if has_all(folder) else fetch(*_TEXTS, _PICKLED, offline=False)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ConfigError(
            f"{where}: {name} cannot be fetched from huggingface.co "
            f"({type(error).__name__}); check the name and the connection, or give a local folder"
        ) from error

"""Lets torchvision be imported where its compiled operators cannot load.

A CPU build of torch cannot load the operators in torchvision's ordinary wheel, and then `import
torchvision` stops with "operator torchvision::nms does not exist", and with it pytorch_lightning,
torchmetrics and transformers' BertModel. The networks and transforms used here are plain Python and
need none of those operators: declaring the missing schemas is enough.

`install` puts a finder in front of the import system. It imports nothing itself, and where
torchvision's own import succeeds or fails for another reason, it changes nothing.
"""

from __future__ import annotations

import logging
import sys
import threading
from importlib.abc import Loader, MetaPathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_PACKAGE = "torchvision"
_SYMPTOM = "operator torchvision::nms does not exist"
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

# torch forgets the schemas when the Library that declared them is collected.
_declared: list[object] = []
_logger = logging.getLogger(__name__)


def install() -> None:
    """Puts the repair in front of the import system; a second call does nothing."""
    if not any(isinstance(finder, _TorchvisionFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TorchvisionFinder())


class _TorchvisionFinder(MetaPathFinder):
    """Answers for torchvision alone: what the other finders say, with the loader wrapped."""

    def __init__(self) -> None:
        self._search = threading.local()

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
        /,
    ) -> ModuleSpec | None:
        # A flag, so that finders which ask one another, ours among them, don't go in circles.
        if fullname != _PACKAGE or getattr(self._search, "is_running", False):
            return None
        self._search.is_running = True
        try:
            spec = _ask_finders(fullname, path, target)
        finally:
            self._search.is_running = False
        if spec is not None and spec.loader is not None:
            spec.loader = _RepairingLoader(spec.loader)
        return spec


def _ask_finders(
    fullname: str, path: Sequence[str] | None, target: ModuleType | None
) -> ModuleSpec | None:
    for finder in list(sys.meta_path):
        find_spec = getattr(finder, "find_spec", None)
        spec: ModuleSpec | None = find_spec(fullname, path, target) if find_spec else None
        if spec is not None:
            return spec
    return None


class _RepairingLoader(Loader):
    """Runs torchvision's own loader, a second time where the operators are what is missing."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        # Callers of find_spec may ask the loader for sources, resources or the file's name.
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # From here on the module looks as if it had never been wrapped.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        fresh = dict(vars(module))
        try:
            self._loader.exec_module(module)
        except RuntimeError as error:
            if _SYMPTOM not in str(error):
                raise
            _clear_half_import(module, fresh)
            _declare_operators()
            _logger.debug("torchvision's compiled operators cannot load; importing it without them")
            self._loader.exec_module(module)


def _clear_half_import(module: ModuleType, fresh: dict[str, Any]) -> None:
    for name in [name for name in sys.modules if name.startswith(f"{_PACKAGE}.")]:
        del sys.modules[name]
    # A submodule left as an attribute would be taken for imported by `from torchvision import ...`.
    vars(module).clear()
    vars(module).update(fresh)


def _declare_operators() -> None:
    import torch

    library = torch.library.Library(_PACKAGE, "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    _declared.append(library)

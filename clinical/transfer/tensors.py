"""Taking over weights, tensor by tensor, where what lies along an axis only partly overlaps."""

from clinical.encoders.ontology import CodeEmbedding
from clinical.errors import ConfigError
from clinical.model import ClinicalModel

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Rows = Mapping[str, NDArray[np.int64]]
"""Modality (its vocabulary), "modalities", "sources", "aspects" or "heads.<task>" (its logits; all
the same where it is absent) -> for each entry of the new network its place in the old one, -1 for
none."""

ENCODERS = "encoders"
HEADS = "heads"
VOCABULARY = "vocabulary"
SHOWN = 3
"""Tensors that an error names."""


@dataclass(frozen=True)
class Axes:
    """What lies along the axes of a tensor.

    Attributes:
        lists: for each axis, from the first on, whose entries lie along it; None for the same in
            both networks.
        places: of each entry along its axis.
    """

    lists: tuple[str | None, ...] = ()
    places: int = 1


@dataclass
class Taken:
    """Which tensors were taken over, by the parts of the network."""

    whole: list[str] = field(default_factory=list)
    partly: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)


@torch.no_grad()
def take_over(
    model: ClinicalModel, old: ClinicalModel, rows: Rows, *, wanted: Callable[[str], bool]
) -> Taken:
    """Write into a new network what an old one has for it; the rest stays as it was drawn.

    Args:
        model: changed in place.
        old: of the same encoders, fusion and keys, built for other vocabularies.
        rows: what is which.
        wanted: whether a tensor may be taken over, by its name.

    Raises:
        ConfigError: tensors of other sizes; then nothing was changed.
    """
    state, theirs = model.state_dict(), old.state_dict()
    axes, moved, factors = _axes(model, rows), _moved(model, rows), _factors(model, old)
    taken, wrong, changed = Taken(), [], {}
    for name, tensor in state.items():
        source = moved.get(name, plain_name(name))
        if source is None or source not in theirs or not wanted(name):
            taken.new.append(name)
            continue
        along = axes.get(name, Axes())
        if not _fits(tensor, theirs[source], along):
            sizes = [list(each.shape) for each in (tensor, theirs[source])]
            wrong.append(f"{name} is {sizes[0]} here and {sizes[1]} in the bundle")
            continue
        places = [_places(tensor, theirs[source], axis, along, rows) for axis in range(tensor.ndim)]
        if not tensor.ndim:
            changed[name] = theirs[source]
        else:
            here, there = (_mesh(side) for side in zip(*places, strict=True))
            changed[name] = tensor.clone()
            changed[name][here] = (factors.get(name, 1.0) * theirs[source][there]).to(tensor.dtype)
        n_taken = int(np.prod([len(place) for place, _ in places]))
        kinds = (taken.new, taken.partly, taken.whole)
        kinds[(n_taken > 0) + (n_taken == tensor.numel())].append(name)
    if wrong:
        raise ConfigError(
            f"finetune.init: networks of other sizes: {'; '.join(wrong[:SHOWN])}; use the keys "
            "that the bundle was trained with"
        )
    model.load_state_dict(changed, strict=False)
    _settle_ontology(model, old, rows)
    return taken


def _settle_ontology(model: ClinicalModel, old: ClinicalModel, rows: Rows) -> None:
    """A code's vector is what it was, whatever stands above it here and there."""
    theirs = dict(old.named_modules())
    for prefix, module in model.named_modules():
        source = theirs.get(prefix)
        if isinstance(module, CodeEmbedding) and isinstance(source, CodeEmbedding):
            place = torch.from_numpy(rows[prefix.split(".")[1]])
            module.begin_as(source.table()[place.clamp_min(0)], place >= 0)


def _axes(model: ClinicalModel, rows: Rows) -> dict[str, Axes]:
    """Of each tensor that is listed in some part's `along`."""
    found = {}
    for prefix, module in model.named_modules():
        own = prefix.split(".")[1] if prefix.startswith(f"{ENCODERS}.") else prefix
        if prefix.startswith(f"{HEADS}.") and prefix not in rows:
            continue
        for name, lists in getattr(module, "along", {}).items():
            if not isinstance(getattr(module, name.partition(".")[0], None), nn.ModuleList):
                named = tuple(own if each == VOCABULARY else each for each in lists)
                found[_join(prefix, name)] = Axes(named, getattr(module, "places", 1))
    return found


def _moved(model: ClinicalModel, rows: Rows) -> dict[str, str | None]:
    """What a tensor in a list of modules is called in the old network; None where it has none."""
    found: dict[str, str | None] = {}
    for prefix, module in model.named_modules():
        for name, lists in getattr(module, "along", {}).items():
            parts = getattr(module, name, None)
            if not isinstance(parts, nn.ModuleList) or lists[0] is None:
                continue
            for number, part in enumerate(parts):
                place = int(rows[lists[0]][number])
                for tensor in part.state_dict():
                    there = _join(prefix, f"{name}.{place}.{tensor}") if place >= 0 else None
                    found[_join(prefix, f"{name}.{number}.{tensor}")] = there
    return found


def _factors(model: ClinicalModel, old: ClinicalModel) -> dict[str, float]:
    """By what a tensor's values grow, so that what their network multiplies them by evens out."""
    theirs = dict(old.named_modules())
    found = {}
    for prefix, module in model.named_modules():
        for name, factor in getattr(module, "multiplied", {}).items():
            before = getattr(theirs.get(prefix), "multiplied", {}).get(name, factor)
            found[_join(prefix, name)] = before / factor
    return found


def _fits(tensor: Tensor, source: Tensor, along: Axes) -> bool:
    """Whether they differ only along axes of lists."""
    if tensor.ndim != source.ndim:
        return False
    for axis, (ours, theirs) in enumerate(zip(tensor.shape, source.shape, strict=True)):
        is_list = axis < len(along.lists) and along.lists[axis] is not None
        if ours % along.places or theirs % along.places if is_list else ours != theirs:
            return False
    return True


def _places(
    tensor: Tensor, source: Tensor, axis: int, along: Axes, rows: Rows
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Along an axis, places of the new tensor and those of the old one they come from."""
    name = along.lists[axis] if axis < len(along.lists) else None
    if name is None:
        every = np.arange(tensor.shape[axis])
        return every, every
    step = along.places
    place = rows[name][: tensor.shape[axis] // step]
    # The first of a vocabulary may have weights of which the rest has none.
    kept = np.flatnonzero((place >= 0) & (place < source.shape[axis] // step))
    within = np.arange(step)
    return (
        (kept[:, None] * step + within).ravel(),
        (place[kept][:, None] * step + within).ravel(),
    )


def _mesh(places: Sequence[NDArray[np.int64]]) -> tuple[Tensor, ...]:
    return tuple(torch.from_numpy(axis) for axis in np.ix_(*places))


def plain_name(name: str) -> str:
    """Of a tensor as it is called where no adapter stands beside its layer."""
    return name.replace(".base_layer.", ".")


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name

"""The bundle that a run begins from, read and held against the run's own keys."""

from clinical.bundle import Bundle
from clinical.config import ModalityConfig, RunConfig, keywords
from clinical.encoders import ENCODERS
from clinical.errors import ConfigError
from clinical.fusion import FUSIONS
from clinical.modalities import MODALITIES
from clinical.sections import InitConfig, OpenSection
from clinical.transfer.apart import WHERE
from clinical.transfer.matching import Mapped, read_mapping

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Self

ONLY_IN_TRAINING = frozenset({"dropout"})
"""Keys of a fusion that change nothing of what its weights say."""


@dataclass(frozen=True)
class Source:
    """A finished bundle whose networks fit the configuration of a run.

    Attributes:
        bundle: as it was read, nothing of it executed.
        mapping: of the user.
        heads: tasks of which the head is wanted, too, by name, kind and unit.
    """

    bundle: Bundle
    mapping: Mapped
    heads: frozenset[str]

    @classmethod
    def read(cls, config: RunConfig, init: InitConfig) -> Self:
        """Open it.

        Raises:
            BundleError: it is none, unfinished, damaged or of another version.
            ConfigError: its networks were built with other keys; it lies where the run writes; the
                mapping can't be read; heads are wanted and no task has its like, or they are of
                another sort.
        """
        if init.bundle.resolve().is_relative_to(config.out.resolve()):
            raise ConfigError(
                f"{WHERE}.bundle: {init.bundle} lies in out, which this run writes; choose "
                "another out="
            )
        mapping = read_mapping(init.mapping)
        bundle = Bundle.read(init.bundle)
        if problems := list(differences(config, bundle.config)):
            raise ConfigError(
                f"{WHERE}: the bundle's networks are built otherwise: {'; '.join(problems)}; set "
                "the keys that it was trained with"
            )
        if init.heads and (kind := bundle.config.finetune.head) != "linear":
            raise ConfigError(
                f"{WHERE}.heads: the bundle's heads are {kind}, which those here are not; leave "
                "heads out"
            )
        heads = frozenset(alike_tasks(config, bundle.config)) if init.heads else frozenset[str]()
        if init.heads and not heads:
            raise ConfigError(
                f"{WHERE}.heads: no task of the bundle ({', '.join(bundle.config.tasks)}) has the "
                "name, kind and unit of one here; rename the task, or leave heads out"
            )
        return cls(bundle, mapping, heads)


def alike_tasks(config: RunConfig, other: RunConfig) -> list[str]:
    """Tasks of the same name, kind and unit in both."""
    return [
        name
        for name, task in config.tasks.items()
        if name in other.tasks
        and (task.kind, task.unit) == (other.tasks[name].kind, other.tasks[name].unit)
    ]


def differences(ours: RunConfig, theirs: RunConfig) -> Iterator[str]:
    """Keys by which networks are built that differ, with both values, where both have the part."""
    yield from _told("fusion.kind", ours.fusion.kind, theirs.fusion.kind)
    yield from _told("fusion.width", ours.fusion.width, theirs.fusion.width)
    if ours.fusion.kind == theirs.fusion.kind:
        fusion = FUSIONS[ours.fusion.kind]
        yield from _keys("fusion", fusion, ours.fusion, theirs.fusion, without=ONLY_IN_TRAINING)
    if not ours.modalities.keys() & theirs.modalities.keys():
        yield f"modalities: none of {', '.join(ours.modalities)} is the bundle's"
    for name, own in ours.modalities.items():
        if name in theirs.modalities:
            yield from _of_modality(name, own, theirs.modalities[name])


def _of_modality(name: str, ours: ModalityConfig, theirs: ModalityConfig) -> Iterator[str]:
    where = f"modalities.{name}"
    yield from _told(f"{where}.encoder", ours.encoder, theirs.encoder)
    if ours.encoder != theirs.encoder:
        return
    encoder, data = ENCODERS[ours.encoder], MODALITIES[name]
    yield from _keys(where, encoder, ours, theirs, without=encoder.only_in_training)
    shaping: Collection[str] = getattr(data, "shaping", ())
    yield from _keys(where, data, ours, theirs, without=keywords(data).keys() - set(shaping))


def _keys(
    where: str,
    entry: Callable[..., Any],
    ours: OpenSection,
    theirs: OpenSection,
    *,
    without: Collection[str],
) -> Iterator[str]:
    """A menu entry's own keys, as given or by default."""
    for key, parameter in keywords(entry).items():
        if key not in without:
            values = (each.options.get(key, parameter.default) for each in (ours, theirs))
            yield from _told(f"{where}.{key}", *values)


def _told(key: str, ours: Any, theirs: Any) -> Iterator[str]:
    if ours != theirs:
        said = ("null" if value is None else value for value in (ours, theirs))
        yield "{} is {} here and {} in the bundle".format(key, *said)

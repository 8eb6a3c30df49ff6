"""Where networks begin that begin from a bundle, and the account of what they took over."""

from clinical.cohort.fitted import Fitted
from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.extract.schema import Extract
from clinical.manifest import MANIFEST, digest_of, write_json
from clinical.modalities.shards import modalities_of
from clinical.model import ClinicalModel
from clinical.places import replacing
from clinical.transfer.apart import WHERE, check_apart
from clinical.transfer.heads import Heads
from clinical.transfer.matching import (
    Matched,
    Vocabulary,
    check_mapping,
    counted,
    match,
    rows_of,
)
from clinical.transfer.source import Source, alike_tasks
from clinical.transfer.tensors import HEADS, Rows, Taken, take_over

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any, Self

import numpy as np

logger = logging.getLogger(__name__)

ACCOUNT = "transfer.json"
"""In a run's folder: which variables and codes begin as what."""
FUSED = "fused"
PARTS = 3
"""Of a tensor's name that say of which part of the network it is."""


@dataclass(frozen=True)
class Start:
    """How the networks of a run begin.

    Attributes:
        config: of the run.
        source: the bundle.
        matched: modality -> what became of each code of its vocabulary.
        left_over: modality -> codes of the bundle that nothing begins as.
        vocabularies: modality -> for each row here the bundle's, -1 for none.
        heads: that are taken over.
    """

    config: RunConfig
    source: Source
    matched: Mapping[str, Sequence[Matched]]
    left_over: Mapping[str, Sequence[str]]
    vocabularies: Rows
    heads: Heads

    @classmethod
    def of(cls, config: RunConfig, store: Store, source: Source) -> Self:
        """Match what the run learned from its train split with what the bundle knows.

        Raises:
            BundleError: the bundle does not say from whom it learned.
            ConfigError: the mapping names codes that exist nowhere; an extract has no name; of
                the heads that are wanted none is about the same.
            LeakageError: the bundle was trained on subjects whom this run is judged on.
        """
        check_apart(store, source.bundle.fitted.lineage)
        heads = Heads.of(source.heads, store.fitted.answers(config), source.bundle.answers)
        known = source.bundle.fitted
        ours = vocabularies_of(config, store.fitted)
        theirs = vocabularies_of(source.bundle.config, known)
        here = {code for each in ours.values() for code in each.codes}
        here |= set(Extract.open(config.extract).codes()["code"])
        there = {code for each in theirs.values() for code in each.codes if code is not None}
        check_mapping(
            source.mapping, here={code for code in here if code is not None}, bundle=there
        )
        matched, left_over, rows = {}, {}, {}
        for name in config.modalities:
            other = theirs.get(name, Vocabulary(()))
            matched[name] = match(ours[name], other, source.mapping)
            rows[name] = rows_of(ours[name], other, matched[name])
            used = {each.source for each in matched[name]} | {None}
            left_over[name] = sorted({code for code in other.codes if code} - used)
        return cls(config, source, matched, left_over, rows, heads)

    def begin(self, number: int, model: ClinicalModel) -> Taken:
        """Let a network of an ensemble begin as one of the bundle's, in turn.

        Args:
            number: of the network, from 0; with the first one the account is written.
            model: changed in place.

        Raises:
            ConfigError: tensors of other sizes.
        """
        networks = self.source.bundle.networks
        old = networks[number % len(networks)].model
        taken = take_over(model, old, self._rows(model, old), wanted=self._wanted)
        self.heads.restate(model)
        if number == 0:
            self._tell()
            self._write(self.config.out / ACCOUNT, taken)
        return taken

    def _rows(self, model: ClinicalModel, old: ClinicalModel) -> Rows:
        kept = {*model.modalities, FUSED, *self._relations(), *alike_tasks(*self._configs)}
        if model.link_aspect is not None:
            kept.add(model.link_aspect)

        def places(ours: Sequence[str], theirs: Sequence[str]) -> Any:
            found = [theirs.index(e) if e in theirs and e in kept else -1 for e in ours]
            return np.array(found, dtype=np.int64)

        sources = [(FUSED, *each.modalities, *each.relations) for each in (model, old)]
        return {
            **self.vocabularies,
            **{f"{HEADS}.{task}": rows for task, rows in self.heads.rows.items()},
            "modalities": places(model.modalities, old.modalities),
            "sources": places(*sources),
            "aspects": places(model.readout.aspects, old.readout.aspects),
        }

    @property
    def _configs(self) -> tuple[RunConfig, RunConfig]:
        return self.config, self.source.bundle.config

    def _relations(self) -> frozenset[str]:
        """Relations of the same name and kind."""
        ours, theirs = (
            {(name, each.kind or name) for name, each in config.graph.relations.items()}
            for config in self._configs
        )
        return frozenset(name for name, _ in ours & theirs)

    def _wanted(self, name: str) -> bool:
        """Whether a tensor may be taken over; which relations tell something is found anew."""
        part, _, rest = name.partition(".")
        own = rest.partition(".")[0]
        if part == HEADS:
            return own in self.heads.rows
        if part == "message_passing":
            return own in self._relations()
        return name != "is_open"

    def _tell(self) -> None:
        for name, matched in self.matched.items():
            counts = counted(matched)
            new = counts.pop("from scratch", 0)
            ways = ", ".join(f"{n:,} by {by}" for by, n in counts.items())
            logger.info(
                "%s: %s: %d of %d begin as in the bundle%s; %d from scratch",
                WHERE,
                name,
                len(matched) - new,
                len(matched),
                f" ({ways})" if ways else "",
                new,
            )
        for task, reason in self.heads.left.items():
            logger.warning("%s.heads: %s %s; it begins from scratch", WHERE, task, reason)
        for task, names in self.heads.new.items():
            logger.warning(
                "%s.heads: %s: %d classes that the bundle has not begin from scratch",
                WHERE,
                task,
                len(names),
            )

    def _write(self, path: Path, taken: Taken) -> None:
        folder = self.source.bundle.folder
        account = {
            "bundle": folder.name,
            "manifest_sha256": digest_of(folder / MANIFEST),
            "trained_on": self.source.bundle.fitted.dataset_name,
            "counts": {name: dict(counted(each)) for name, each in self.matched.items()},
            "variables": [
                {
                    "modality": name,
                    "variable": each.code,
                    "matched_with": each.source,
                    "by": each.by or None,
                    "note": each.note or None,
                }
                for name, matched in self.matched.items()
                for each in matched
            ],
            "left_over": self.left_over,
            "heads": sorted(self.heads.rows),
            "classes_from_scratch": self.heads.new,
            "heads_from_scratch": self.heads.left,
            "parts": {
                "as_in_the_bundle": _parts(taken.whole),
                "partly": _parts(taken.partly),
                "from_scratch": _parts(taken.new),
            },
        }
        with replacing(path) as draft:
            write_json(draft, account)


def _parts(names: Sequence[str]) -> list[str]:
    return sorted({".".join(name.split(".")[:PARTS]) for name in names})


def vocabularies_of(config: RunConfig, fitted: Fitted) -> dict[str, Vocabulary]:
    """Modality -> its vocabulary."""
    found = {}
    for name, modality in modalities_of(config).items():
        codes = modality.entries(fitted.statistics[name])
        flags = fitted.statistics[name].get("is_number")
        numbers = None if flags is None else frozenset(filter(None, compress(codes, flags)))
        found[name] = Vocabulary(codes, fitted.described, numbers)
    return found


def begin(config: RunConfig, store: Store) -> Start | None:
    """The start of a run that begins from a bundle; None for one that doesn't.

    Raises:
        BundleError, ConfigError, LeakageError: as `Source.read` and `Start.of`.
    """
    init = config.finetune.init
    return None if init is None else Start.of(config, store, Source.read(config, init))

"""How much of an extract a model knows: events, codes and variables, counted by modality."""

from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.modalities.shards import SEEN_FILE, modalities_of

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import polars as pl


@dataclass(frozen=True)
class Recognised:
    """How much of one modality of an extract a model knows.

    Attributes:
        modality: Its name.
        samples: Those with something of it that the model can read.
        events: Visible events, once for each sample that sees them.
        unknown: Those of them whose code the model has not learned.
        variables: Codes of the variables that the model has learned, and whether any sample shows
            them; empty where codes are no variables.
        unknown_codes: Codes of the extract beside those variables.
    """

    modality: str
    samples: int
    events: int
    unknown: int
    variables: Mapping[str, bool]
    unknown_codes: frozenset[str]

    @property
    def missing(self) -> list[str]:
        """Variables that the model has learned and no sample shows."""
        return [code for code, is_seen in self.variables.items() if not is_seen]

    def __add__(self, other: Self) -> "Recognised":
        """Of both one's samples together."""
        return Recognised(
            self.modality,
            self.samples + other.samples,
            self.events + other.events,
            self.unknown + other.unknown,
            {code: seen or other.variables[code] for code, seen in self.variables.items()},
            self.unknown_codes | other.unknown_codes,
        )

    def to_json(self) -> dict[str, Any]:
        """A mapping that `from_json` reads back."""
        return asdict(self) | {"unknown_codes": sorted(self.unknown_codes)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """What `to_json` described."""
        return cls(**{**content, "unknown_codes": frozenset(content["unknown_codes"])})


def recognised(config: RunConfig, store: Store) -> list[Recognised]:
    """What is known of each modality of a store that was prepared for scoring."""
    parts = [pl.read_ipc(shard / SEEN_FILE) for shard in store.shards]
    codes = pl.concat(parts).select("modality", "code").unique()
    found = []
    for name, modality in modalities_of(config).items():
        counts = store.counts.get(name, {})
        shown = set(codes.filter(pl.col("modality") == name)["code"])
        variables = {code: code in shown for code in modality.variables(store.statistics[name])}
        found.append(
            Recognised(
                modality=name,
                samples=int(store.samples[f"present.{name}"].sum()),
                events=counts.get("visible_events", 0),
                unknown=counts.get("unknown_codes", 0),
                variables=variables,
                unknown_codes=frozenset(shown - variables.keys() if variables else ()),
            )
        )
    return found


def together(parts: Sequence[Sequence[Recognised]]) -> list[Recognised]:
    """Of several groups of samples as one, each with the same modalities in the same order."""
    total, *rest = parts
    for part in rest:
        total = [a + b for a, b in zip(total, part, strict=True)]
    return list(total)

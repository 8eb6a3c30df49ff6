"""What a unit of an import gives beside its events, in files: it is read by another process."""

from clinical.extract.importers.flat.accounts import Account
from clinical.extract.importers.flat.codebook import Codebook
from clinical.extract.importers.flat.labels import Outcomes
from clinical.extract.importers.flat.reasons import Reason

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

REJECTS = "rejects.parquet"
_STATE, _SUBJECTS, _PAIRS, _SAMPLES = "state.json", "subjects", "pairs", "samples"
_LABELS = "label."
_COUNTERS = ("left_out", "cells")


@dataclass(frozen=True)
class UnitResult:
    """What was counted and learned, and the small tables.

    Attributes:
        table: In the mapping.
        account: Of the unit's records.
        codebook: The codes by which its events are written.
        outcomes: Its labels and samples.
        pairs: Subjects with what keeps them together.
        images: For each image in the extract where it is in the source.
        subjects: With an event, sorted.
        parts: Numbers of the parts into which it wrote events.
    """

    table: str
    account: Account
    codebook: Codebook
    outcomes: Outcomes
    pairs: Sequence[pl.DataFrame]
    images: Mapping[str, str]
    subjects: pl.Series
    parts: Sequence[int]

    def write(self, folder: Path) -> None:
        """Into an existing folder."""
        account = dict(vars(self.account))
        for name in _COUNTERS:
            account[name] = {int(why): count for why, count in account[name].items()}
        state = {
            "table": self.table,
            "account": account,
            "codebook": self.codebook.state(),
            "images": dict(self.images),
            "parts": list(self.parts),
        }
        (folder / _STATE).write_text(json.dumps(state), encoding="utf-8")
        tables = {_SUBJECTS: [self.subjects.to_frame("subject_id")], _PAIRS: self.pairs}
        tables |= {_SAMPLES: self.outcomes.samples}
        tables |= {_LABELS + task: frames for task, frames in self.outcomes.labels.items()}
        for name, frames in tables.items():
            if frames:
                pl.concat(frames).write_ipc(folder / f"{name}.arrow")

    @classmethod
    def read(cls, folder: Path) -> "UnitResult":
        """What `write` wrote."""
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        account = dict(state["account"])
        for name in _COUNTERS:
            account[name] = Counter({Reason(int(w)): n for w, n in account[name].items()})
        account["unmatched"] = Counter(account["unmatched"])
        tables = {p.stem: _read(p) for p in sorted(folder.glob("*.arrow"))}
        labels = {
            name.removeprefix(_LABELS): [frame]
            for name, frame in tables.items()
            if name.startswith(_LABELS)
        }
        samples = [tables[_SAMPLES]] if _SAMPLES in tables else []
        return cls(
            table=state["table"],
            account=Account(**account),
            codebook=Codebook.of_state(state["codebook"]),
            outcomes=Outcomes(labels=labels, samples=samples),
            pairs=[tables[_PAIRS]] if _PAIRS in tables else [],
            images=state["images"],
            subjects=tables[_SUBJECTS]["subject_id"],
            parts=state["parts"],
        )


def _read(path: Path) -> pl.DataFrame:
    return pl.read_ipc(path.read_bytes())

"""What is compared on PhysioNet 2012, and on which parts of it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

FEW_LABELS = 0.1
"""Share of the labels up to which the number of epochs is another: a network that teachers teach,
which learns from all stays in every epoch, needs fewer, one that learns from the labelled ones
alone more."""
FEW_TAUGHT = ["finetune.epochs=3"]
FEW_UNTAUGHT = ["finetune.epochs=40"]


@dataclass(frozen=True)
class Line:
    """A network of the benchmark.

    Attributes:
        name: in the table.
        trunk: what is overridden for pretraining and fine-tuning.
        is_pretrained, is_taught: whether it starts from pretrained weights; has teachers.
        members: networks that are averaged.
    """

    name: str
    trunk: tuple[str, ...] = ()
    is_pretrained: bool = True
    is_taught: bool = True
    members: int = 1

    @property
    def slug(self) -> str:
        """What its folders and files are called."""
        name = self.name.replace(", ", "-").replace(" ", "-")
        return f"{name}-x{self.members}" if self.members > 1 else name

    def overrides(self, share: float) -> list[str]:
        """Of the configuration, for a share of the labels."""
        found = [f"ensemble={self.members}", *self.trunk]
        if not self.is_pretrained:
            found.append("pretrain=null")
        if not self.is_taught:
            found.append("finetune.teachers=[]")
        if share <= FEW_LABELS:
            found += FEW_TAUGHT if self.is_taught else FEW_UNTAUGHT
        return found


PLAIN = str.maketrans(dict.fromkeys(".={}: ", "-"))
TWO_AXIS = (
    "modalities.events.encoder=two_axis",
    "modalities.events.blocks=8",
    "modalities.events.block_hours=6",
    "pretrain.epochs=4",
    "finetune.epochs=4",
)
LINES = [
    Line("event_set"),
    Line("event_set, no pretraining", is_pretrained=False),
    Line("event_set, no teachers", is_taught=False),
    Line("event_set, neither", is_pretrained=False, is_taught=False),
    Line("event_set, with a graph", ("graph.relations={similar: {k: 16}}",)),
    Line("two_axis", TWO_AXIS),
    Line("two_axis, no pretraining", TWO_AXIS, is_pretrained=False),
]
NETWORKS = {line.name: line for line in LINES}


@dataclass(frozen=True)
class Part:
    """One fold, with all of its labels or one draw of them.

    Attributes:
        folder: of the benchmark.
        repeat, fold: which.
        share: of the labels of train and tuning.
        draw: which, where the share is below 1.
    """

    folder: Path
    repeat: int
    fold: int
    share: float = 1.0
    draw: int = 0

    @classmethod
    def named(cls, folder: Path, name: str) -> Self:
        """The part of that `name`."""
        repeat, fold, *rest = name.split("-")
        share, draw = (float(rest[0]), int(rest[1])) if rest else (1.0, 0)
        return cls(folder, int(repeat), int(fold), share, draw)

    @property
    def name(self) -> str:
        """What its files and folders are called."""
        whole = f"{self.repeat}-{self.fold}"
        return whole if self.share == 1 else f"{whole}-{self.share:g}-{self.draw}"

    @property
    def splits(self) -> Path:
        """Its split file, which all draws of the fold share."""
        return self.folder / f"splits-{self.repeat}-{self.fold}.parquet"

    @property
    def whole(self) -> Self:
        """The fold with all of its labels."""
        return replace(self, share=1.0, draw=0)

    @property
    def extract(self) -> Path:
        """Of set-b."""
        return self.folder / "extract"

    def run_folder(self, slug: str) -> Path:
        """Of a line."""
        return self.folder / "runs" / slug / self.name

    def scores(self, slug: str) -> Path:
        """Held-out scores of a line, or of the classical models."""
        return self.folder / "scores" / self.name / f"{slug}.parquet"

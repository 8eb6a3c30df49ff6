"""The networks of an ensemble: alike but for their seeds, each with a folder of its own."""

from clinical.config import RunConfig
from clinical.training.seeds import derive_seed

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Member:
    """One network.

    Attributes:
        number: from 0.
        config: of the run, with the member's seed in place of the run's.
    """

    number: int
    config: RunConfig

    @property
    def name(self) -> str:
        """What its folders are called."""
        return f"member-{self.number}"

    @property
    def checkpoints(self) -> Path:
        """Folder of its stages' folders."""
        return self.config.out / "checkpoints" / self.name

    @property
    def logs(self) -> Path:
        """Folder of its stages' figures."""
        return self.config.out / "logs" / self.name


def members(config: RunConfig) -> list[Member]:
    """The members of a run; the first has the run's own seed, so that it is what it is alone."""
    return [
        Member(number, config.model_copy(update={"seed": _seed(config.seed, number)}))
        for number in range(config.ensemble)
    ]


def _seed(seed: int, number: int) -> int:
    return derive_seed(seed, "member", number) if number else seed

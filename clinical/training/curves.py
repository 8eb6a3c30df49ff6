"""The figures of each epoch, as a CSV that survives an interruption."""

from clinical.places import replacing

import csv
import logging
from pathlib import Path

logger = logging.getLogger(__name__)


class Curves:
    """Figures by epoch and name; the file is rewritten whole, so it is never half a line.

    Args:
        path: `<stage>.csv`; columns stage, epoch (how many are done), name, value.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[list[str | int | float]] = []

    def add(self, epoch: int, figures: dict[str, float]) -> None:
        """Keep an epoch's figures, write the file and log one line."""
        stage = self.path.stem
        self.rows = [row for row in self.rows if row[1] != epoch]
        self.rows += [[stage, epoch, name, value] for name, value in sorted(figures.items())]
        with replacing(self.path) as draft, draft.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["stage", "epoch", "name", "value"])
            writer.writerows(self.rows)
        shown = {k: v for k, v in figures.items() if k.count("/") == 1 and k != "tuning/choice"}
        text = ", ".join(f"{name} {value:.4f}" for name, value in sorted(shown.items()))
        logger.info("%s epoch %d: %s", stage, epoch, text)

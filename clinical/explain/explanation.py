"""What was found of some samples' inputs, as tables and as pictures over the real thing."""

from clinical.errors import ConfigError
from clinical.explain.drawing import LOWERS, RAISES, SHADES, draw_image, draw_parts, note_html
from clinical.explain.sources import Picture
from clinical.places import replacing

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import polars as pl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

TABLES = ("modalities", "words", "regions")
MOST_SLICES = 3
"""Of a stack that are drawn."""


@dataclass(frozen=True)
class InputExplanation:
    """What moved scores, of a patient's own record; see `explain_inputs`.

    The pictures show the notes and images themselves; the tables hold no text unless asked to.

    Attributes:
        modalities: a row a sample, task and part: its Shapley value.
        words: a row a word of a note, for the samples looked at closely.
        regions: a row a patch of an image or of a slice of a stack, for the same.
        samples: task, rank (0 is the highest score), subject_id, prediction_time and score of the
            samples looked at closely, and their row in the store that was made for it.
        notes: row, number, text_value and more of their notes.
        pictures: (row, number) -> each of their images.
    """

    modalities: pd.DataFrame
    words: pd.DataFrame
    regions: pd.DataFrame
    samples: pd.DataFrame
    notes: pl.DataFrame = field(repr=False)
    pictures: Mapping[tuple[int, int], Picture] = field(repr=False)

    def plot_modalities(
        self, rank: int = 0, *, task: str | None = None, ax: Axes | None = None
    ) -> Axes:
        """What each modality, and the graph, adds to the score of a sample."""
        one = self._pick(rank, task)
        shown = _of(self.modalities, one)
        if ax is None:
            import matplotlib.pyplot as plt  # here: only notebooks need it, and it picks a screen

            size = (6.4, 1.3 + 0.4 * len(shown))
            _, ax = plt.subplots(figsize=size, layout="constrained")
        return draw_parts(shown.drop_duplicates("part"), ax)

    def notes_html(self, rank: int = 0, *, task: str | None = None) -> str:
        """The notes of a sample, their words shaded by what they add to its score."""
        one = self._pick(rank, task)
        words = _of(self.words, one)
        strongest = words["attribution"][words["start"].notna()].abs().max()
        texts = self.notes.filter(pl.col("row") == one["row"]).unique("number").sort("number")
        if texts.is_empty() or not len(words):
            return "<p>no note was read</p>"
        parts = [_key(float(strongest))]
        for number, time, code, text in texts.select(
            "number", "time", "code", "text_value"
        ).iter_rows():
            mine = words[words["note"] == number]
            when = "" if time is None else f", {time:%Y-%m-%d %H:%M}"
            title = f"{code}{when}: {mine['attribution'].sum():+.2f} in all"
            parts.append(f"<p><b>{html.escape(title)}</b></p>")
            parts.append(note_html(text, mine, strongest=float(strongest)))
        return "\n".join(parts)

    def plot_images(
        self, rank: int = 0, *, task: str | None = None, figure: Figure | None = None
    ) -> list[Axes]:
        """The images of a sample, each beside itself under the map of what its regions add; of a
        stack the three slices with the strongest ones.

        Raises:
            ConfigError: no image of the sample was read.
        """
        one = self._pick(rank, task)
        regions = _of(self.regions, one)
        chosen = _strongest(regions)
        if not chosen:
            raise ConfigError(f"rank: no image of sample {rank} was read; choose another")
        if figure is None:
            import matplotlib.pyplot as plt  # here: only notebooks need it, and it picks a screen

            figure = plt.figure(figsize=(7.4, 3.5 * len(chosen)), layout="constrained")
        strongest = float(regions["attribution"].abs().max())
        axes = figure.subplots(len(chosen), 2, squeeze=False)
        read = {n: self.pictures[one["row"], n].slices() for n in {number for number, _ in chosen}}
        for pair, (number, place) in zip(axes, chosen, strict=True):
            mine = regions[(regions["image"] == number) & (regions["slice"] == place)]
            if place >= len(read[number]):
                raise ConfigError("extract: an image can no longer be read; explain it anew")
            draw_image(read[number][place], mine, (pair[0], pair[1]), strongest=strongest)
            first = mine.iloc[0]
            when = "" if pd.isna(first["time"]) else f", {first['time']:%Y-%m-%d %H:%M}"
            of = f", slice {place + 1} of {len(read[number])}" if len(read[number]) > 1 else ""
            pair[0].set_title(f"{first['code']}{when}{of}", fontsize="medium")
            pair[1].set_title(f"{one['task']}: score {one['score']:.3f}", fontsize="medium")
        colours = ScalarMappable(Normalize(-strongest, strongest), SHADES)
        bar = figure.colorbar(colours, ax=axes[:, 1], shrink=0.8)
        bar.set_label("what a patch adds (log odds)")
        return [ax for pair in axes for ax in pair]

    def write(self, folder: Path) -> list[Path]:
        """Write the tables, without text unless it was asked for: one Parquet file each."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for name in TABLES:
            paths.append(folder / f"{name}.parquet")
            with replacing(paths[-1]) as draft:
                getattr(self, name).to_parquet(draft, index=False)
        return paths

    def _pick(self, rank: int, task: str | None) -> pd.Series:
        tasks = list(dict.fromkeys(self.samples["task"]))
        if task is None and len(tasks) > 1:
            raise ConfigError(f"task: say which; choose one of {', '.join(tasks)}")
        own = self.samples[self.samples["task"] == (tasks[0] if task is None and tasks else task)]
        found = own[own["rank"] == rank]
        if not len(found):
            raise ConfigError(
                f"rank: {len(own)} samples were looked at closely for this task, the first is "
                "rank 0; ask for more with highest"
            )
        return found.iloc[0]


def _of(table: pd.DataFrame, one: pd.Series) -> pd.DataFrame:
    """The rows about a sample and task."""
    keys = ["task", "subject_id", "prediction_time"]
    return table[(table[keys] == one[keys]).all(axis=1)]


def _strongest(regions: pd.DataFrame) -> list[tuple[int, int]]:
    """(image, slice) of what is drawn of a sample's images, in order."""
    size = regions["attribution"].abs().groupby([regions["image"], regions["slice"]]).max()
    most = size.sort_values(ascending=False, kind="stable").groupby(level=0).head(MOST_SLICES)
    return sorted(most.index.tolist())


def _key(strongest: float) -> str:
    """What the shades mean."""
    full = "".join(
        f'<span style="background:{colour}bf;border-radius:2px">&nbsp;{word}&nbsp;</span> '
        for colour, word in ((RAISES, "raises"), (LOWERS, "lowers"))
    )
    return f"<p>{full} the score; full shade: {strongest:.2g} log odds</p>"

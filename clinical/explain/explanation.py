"""What was found of some samples' inputs, as tables and as pictures over the real thing."""

from clinical.errors import ConfigError
from clinical.explain.drawing import (
    FAINT,
    LOWERS,
    RAISES,
    SHADES,
    draw_image,
    draw_parts,
    note_html,
    signed,
)
from clinical.explain.page import Patient, page_of
from clinical.explain.sources import Picture
from clinical.places import replacing

import base64
import html
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import polars as pl
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

TABLES = ("modalities", "variables", "words", "regions", "neighbours")
MOST_SLICES = 3
"""Of a stack that are drawn."""


@dataclass(frozen=True)
class InputExplanation:
    """What moved scores, of a patient's own record; see `explain_inputs`.

    The pictures show the notes and images themselves; the tables hold no text unless asked to.

    Attributes:
        modalities: a row a sample, task and part: its Shapley value.
        variables: a row a variable of the events, the static data and the codes, for the samples
            looked at closely: what it adds, its newest value and when, and where that stands.
        words: a row a word of a note, for the samples looked at closely.
        regions: a row a patch of an image or of a slice of a stack, for the same.
        neighbours: what relations and neighbours did, for the same; None without relations,
            or where nobody was looked at.
        samples: task, rank (0 is the highest score), subject_id, prediction_time and score of the
            samples looked at closely, and their row in the store that was made for it.
        events: row, modality, variable, time, value and more of all events behind the variables.
        notes: row, number, text_value and more of their notes.
        pictures: (row, number) -> each of their images.
    """

    modalities: pd.DataFrame
    variables: pd.DataFrame
    words: pd.DataFrame
    regions: pd.DataFrame
    neighbours: pd.DataFrame | None
    samples: pd.DataFrame
    events: pl.DataFrame = field(repr=False)
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
        strongest = max(words["attribution"][words["start"].notna()].abs().max(), FAINT)
        texts = self.notes.filter(pl.col("row") == one["row"]).unique("number").sort("number")
        if texts.is_empty() or not len(words):
            return "<p>no note was read</p>"
        parts = [_key(float(strongest))]
        for number, time, code, text, file, row in texts.select(
            "number", "time", "code", "text_value", "file", "file_row"
        ).iter_rows():
            mine = words[words["note"] == number]
            when = "" if time is None else f", {time:%Y-%m-%d %H:%M}"
            title = f"{code}{when}: {signed(mine['attribution'].sum())} in all"
            where = html.escape(f"{file}, row {row}")
            parts.append(f"<p><b>{html.escape(title)}</b> <small>{where}</small></p>")
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
            draw_image(
                read[number][place],
                mine,
                (pair[0], pair[1]),
                recipe=self.pictures[one["row"], number].recipe,
                strongest=strongest,
            )
            first = mine.iloc[0]
            when = "" if pd.isna(first["time"]) else f", {first['time']:%Y-%m-%d %H:%M}"
            of = f", slice {place + 1} of {len(read[number])}" if len(read[number]) > 1 else ""
            pair[0].set_title(f"{first['code']}{when}{of}", fontsize="medium")
            pair[1].set_title(f"{one['task']}: score {one['score']:.3f}", fontsize="medium")
        colours = ScalarMappable(Normalize(-strongest, strongest), SHADES)
        bar = figure.colorbar(colours, ax=axes[:, 1], shrink=0.8)
        bar.set_label("what a patch adds (log odds)")
        return [ax for pair in axes for ax in pair]

    def page_html(self, rank: int = 0, *, task: str | None = None, row: int | None = None) -> str:
        """One page about a sample: parts, variables, notes, images and neighbours.

        It shows the patient's data, says so, and has everything in it; nothing is fetched.

        Args:
            rank: of the sample among those looked at closely.
            task: where there are several.
            row: of a file of scores that this is about, to be named on the page.
        """
        one = self._pick(rank, task)
        own = pl.col("row") == one["row"]
        has_notes = not self.notes.filter(own).is_empty() and len(_of(self.words, one)) > 0
        page = Patient(
            one=one,
            row=row,
            parts=_of(self.modalities, one).drop_duplicates("part"),
            variables=_of(self.variables, one),
            words=_of(self.words, one),
            regions=_of(self.regions, one),
            neighbours=None if self.neighbours is None else _of(self.neighbours, one),
            events=self.events.filter(own),
            notes=self.notes_html(rank, task=one["task"]) if has_notes else None,
            pictures=self._pictures_as_text(rank, one),
        )
        return page_of(page)

    def write(self, folder: Path) -> list[Path]:
        """Write the tables, without text unless it was asked for: one Parquet file each."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for name in TABLES:
            table = getattr(self, name)
            if table is None:
                continue
            paths.append(folder / f"{name}.parquet")
            with replacing(paths[-1]) as draft:
                table.to_parquet(draft, index=False)
        return paths

    def _pictures_as_text(self, rank: int, one: pd.Series) -> str | None:
        """The images of a sample as base64, None if none was read."""
        n_shown = len(_strongest(_of(self.regions, one)))
        if not n_shown:
            return None
        figure = Figure(figsize=(8.4, 3.2 * n_shown), layout="constrained")
        self.plot_images(rank, task=one["task"], figure=figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        return base64.b64encode(buffer.getvalue()).decode("ascii")

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

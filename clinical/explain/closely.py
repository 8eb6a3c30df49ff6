"""Variables, words and regions of single samples: what each adds to a logit."""

from clinical.batch import ClinicalBatch
from clinical.cohort.store import Store
from clinical.containers import Images, Tokens
from clinical.datamodule import StoreDataset
from clinical.explain.gradients import integrate, piece_table
from clinical.explain.maps import maps_of
from clinical.explain.question import Question
from clinical.explain.recorded import TAKEN_APART, recorded, vocabulary_of
from clinical.explain.sources import no_events, pictures_of, real_events
from clinical.explain.variables import VARIABLES, variables_of_sample
from clinical.explain.words import Pieces, by_word
from clinical.extract.schema import Extract
from clinical.modalities.decoding import Recipe
from clinical.modalities.images import recipe_of
from clinical.modalities.notes import Notes
from clinical.modalities.phrases import Phrases
from clinical.modalities.shards import modalities_of
from clinical.predictor.panel import Panel

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

_OF_EVENT: dict[str, pl.DataType] = {
    "row": pl.Int64(),
    "task": pl.String(),
    "number": pl.Int64(),
    "time": pl.Datetime("us"),
    "code": pl.String(),
    "file": pl.String(),
    "file_row": pl.Int64(),
}
WORDS = {
    **_OF_EVENT,
    "start": pl.Int64(),
    "end": pl.Int64(),
    "text": pl.String(),
    "pieces": pl.Float64(),
    "phrases": pl.Float64(),
    "attribution": pl.Float64(),
    "gap": pl.Float64(),
}
REGIONS = {
    **_OF_EVENT,
    "slice": pl.Int64(),
    "position": pl.Float64(),
    **dict.fromkeys(("down", "across"), pl.Int64()),
    **dict.fromkeys(("left", "upper", "right", "lower"), pl.Float64()),
    **dict.fromkeys(("backbone", "coarse", "attribution", "gap"), pl.Float64()),
}


@dataclass(frozen=True)
class Seen:
    """What was found of some samples.

    Attributes:
        variables, words, regions: see `VARIABLES`, `WORDS` and `REGIONS`.
        events: behind the variables, as `recorded` gives them.
        notes, images: the real ones, as `real_events` gives them.
    """

    variables: pl.DataFrame
    words: pl.DataFrame
    regions: pl.DataFrame
    events: pl.DataFrame
    notes: pl.DataFrame
    images: pl.DataFrame


@dataclass(frozen=True)
class Closely:
    """A panel whose networks are asked about one sample after the other, with gradients.

    Of notes and images they say their mean logit, by its share in the logit of networks and experts
    together. Experts are not asked there: what they make of both cannot be differentiated.

    Attributes:
        panel: whose networks are asked.
        store: of the samples.
        extract: that the store was prepared from.
        memories: of each network, with nothing left out.
        steps: of integrated gradients, those of images at most.
    """

    panel: Panel
    store: Store
    extract: Extract
    memories: Sequence[Tensor]
    steps: int

    def look(self, chosen: Mapping[str, NDArray[np.int64]]) -> Seen:
        """The variables, words and regions of samples.

        Args:
            chosen: binary task -> rows of the store to explain for it.
        """
        rows = np.unique(np.concatenate([np.empty(0, np.int64), *chosen.values()]))
        notes, images = self._real("notes", rows), self._real("images", rows)
        config = self.panel.bundle.config
        events = recorded(self.extract, self.store, config, rows)
        vocabularies = {
            name: vocabulary_of(self.store, config, name)
            for name in TAKEN_APART
            if name in config.modalities
        }
        dataset = StoreDataset(self.store.folder, config)
        variables = [pl.DataFrame(schema=VARIABLES)]
        words, regions = [pl.DataFrame(schema=WORDS)], [pl.DataFrame(schema=REGIONS)]
        for row in rows.tolist():
            batch = dataset[np.array([row])]
            tasks = [task for task, of in chosen.items() if row in of]
            questions = [
                Question.of(network.model, batch, memory)
                for network, memory in zip(self.panel.bundle.networks, self.memories, strict=True)
            ]
            own = pl.col("row") == row
            variables += variables_of_sample(
                self.panel,
                questions,
                batch,
                vocabularies=vocabularies,
                real=events.filter(own),
                tasks=tasks,
            )
            words += self._words(questions, batch, notes.filter(own), tasks)
            regions += self._regions(questions, batch, images.filter(own), tasks)
        return Seen(
            pl.concat(variables), pl.concat(words), pl.concat(regions), events, notes, images
        )

    def _real(self, modality: str, rows: NDArray[np.int64]) -> pl.DataFrame:
        """The events behind the rows of a modality; none where it is not configured."""
        if modality not in self.panel.bundle.config.modalities:
            return no_events()
        return real_events(self.extract, self.store, rows, modality)

    def _words(
        self,
        questions: Sequence[Question],
        batch: ClinicalBatch,
        real: pl.DataFrame,
        tasks: Sequence[str],
    ) -> Iterator[pl.DataFrame]:
        if real.is_empty() or piece_table(questions[0]) is None:
            return
        notes = batch.inputs["notes"]
        assert isinstance(notes, Tokens)
        found = [integrate(each, notes, tasks=tasks, steps=self.steps) for each in questions]
        read = self._pieces(real)
        for task in tasks:
            values, slope = (self._mean(found, task, name) for name in ("pieces", "phrases"))
            chunks = []
            for place, event in enumerate(real.iter_rows(named=True)):
                ids, pieces = notes.ids[place, notes.mask[place]].numpy(), read[place]
                assert np.array_equal(pieces.ids, ids), "the note was not stored as it is read"
                words = by_word(
                    pieces,
                    values[place, : len(ids)],
                    phrases=self._phrases,
                    told=notes.phrases[place].double().numpy(),
                    slope=slope[place],
                )
                chunks.append(_about(words, event, task))
            gap = float(self._mean(found, task, "gap"))
            yield _of_notes(pl.concat(chunks), real, gap)

    def _mean(self, found: Sequence[Mapping[str, Any]], task: str, name: str) -> NDArray[Any]:
        """What the networks found on average, by their share in the logit of all."""
        share = self.panel.network_share(task) / len(found)
        return np.asarray(
            share * np.sum([np.asarray(getattr(each[task], name)) for each in found], axis=0)
        )

    @cached_property
    def _phrases(self) -> Phrases:
        return Phrases.from_json(self.store.fitted.statistics["notes"]["phrases"])

    @cached_property
    def _notes(self) -> Notes:
        notes = modalities_of(self.panel.bundle.config)["notes"]
        assert isinstance(notes, Notes)
        return notes

    def _pieces(self, real: pl.DataFrame) -> list[Pieces]:
        """Of each row of a sample's notes."""
        texts = real.unique("number", maintain_order=True)["text_value"].to_list()
        read = self._notes.read(texts, self.store.fitted.statistics["notes"])
        rows = [(chunk.note, chunk.chunk) for chunk in read]
        assert rows == list(real.select("number", "part").iter_rows()), "other chunks were stored"
        return Pieces.of(texts, read)

    def _regions(
        self,
        questions: Sequence[Question],
        batch: ClinicalBatch,
        real: pl.DataFrame,
        tasks: Sequence[str],
    ) -> Iterator[pl.DataFrame]:
        if real.is_empty():
            return
        images = batch.inputs["images"]
        assert isinstance(images, Images)
        found = [maps_of(each, images, tasks=tasks, steps=self.steps) for each in questions]
        boxes = self._boxes(real)
        for task in tasks:
            by_backbone, coarse = (self._mean(found, task, name) for name in ("backbone", "coarse"))
            gap = float(self._mean(found, task, "gap"))
            for place, event in enumerate(real.iter_rows(named=True)):
                found_at = boxes[place].with_columns(
                    slice=pl.lit(event["part"], pl.Int64()),
                    position=pl.lit(float(images.position[place])),
                    backbone=pl.Series(by_backbone[place].ravel()),
                    coarse=pl.Series(coarse[place].ravel()),
                )
                yield _about(found_at, event, task).select(
                    *_OF_EVENT,
                    "slice",
                    "position",
                    *boxes[place].columns,
                    "backbone",
                    "coarse",
                    (pl.col("backbone") + pl.col("coarse")).alias("attribution"),
                    pl.lit(None if np.isnan(gap) else gap, pl.Float64()).alias("gap"),
                )

    def _boxes(self, real: pl.DataFrame) -> list[pl.DataFrame]:
        """Where the patches of each row of a sample's images lie."""
        recipe = recipe_of(self.store.fitted.statistics["images"])
        shapes = {
            number: [plane.shape for plane in picture.slices()]
            for (_, number), picture in pictures_of(self.extract, self.store, real).items()
        }
        return [
            _boxes(
                shapes[number][part] if part < len(shapes[number]) else None,
                recipe=recipe,
                patch=self.store.sizes["images"]["patch"],
            )
            for number, part in real.select("number", "part").iter_rows()
        ]


def _about(found: pl.DataFrame, event: Mapping[str, Any], task: str) -> pl.DataFrame:
    """What was found, behind what it is of."""
    return found.select(
        *(
            pl.lit(event[name], dtype).alias(name)
            for name, dtype in _OF_EVENT.items()
            if name != "task"
        ),
        pl.lit(task).alias("task"),
        pl.all(),
    )


def _of_notes(words: pl.DataFrame, real: pl.DataFrame, gap: float) -> pl.DataFrame:
    """Each word once, however many chunks have it, and what the text says there."""
    where = [*_OF_EVENT, "start", "end"]
    words = words.group_by(where, maintain_order=True).agg(pl.col("pieces", "phrases").sum())
    texts = dict(real.select("number", "text_value").iter_rows())
    said = [
        None if start is None else texts[number][start:end]
        for number, start, end in words.select("number", "start", "end").iter_rows()
    ]
    return words.select(
        *where,
        pl.Series("text", said, pl.String),
        "pieces",
        "phrases",
        (pl.col("pieces") + pl.col("phrases")).alias("attribution"),
        pl.lit(gap).alias("gap"),
    )


def _boxes(shape: Sequence[int] | None, *, recipe: Recipe, patch: int) -> pl.DataFrame:
    """Where each patch lies in the real image: down, across, left, upper, right, lower in pixels.

    Null where the patch shows nothing of it but the black border.

    Args:
        shape: height and width of the image; None if it cannot be read, and all is null.
        recipe: of the square that was made of it.
        patch: side of its patches in pixels.
    """
    side = recipe.size // patch
    down, across = np.divmod(np.arange(side**2), side)
    found = {}
    if shape is not None:
        height, width = shape
        left, upper, wide, high = recipe.placed(width, height)
        for names, place, first, length, whole in (
            (("left", "right"), across, left, wide, width),
            (("upper", "lower"), down, upper, high, height),
        ):
            for name, edge in zip(names, (place * patch, (place + 1) * patch), strict=True):
                found[name] = (edge - first).clip(0, length) * (whole / length)
    boxes = pl.DataFrame({"down": down, "across": across}).with_columns(
        pl.Series(name, found.get(name, [None] * len(down)), pl.Float64)
        for name in ("left", "upper", "right", "lower")
    )
    seen = (pl.col("left") < pl.col("right")) & (pl.col("upper") < pl.col("lower"))
    return boxes.with_columns(
        pl.when(seen).then(name).alias(name) for name in ("left", "upper", "right", "lower")
    )

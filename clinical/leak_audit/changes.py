"""What the audit does to a copy of an extract: changes that must not matter, and some that must.

What is later than a prediction time is told here by a comparison of its own and not by
`cohort/window.py`: an audit that asked the code under suspicion would share its mistakes.
"""

from clinical.extract.tables import EDGES
from clinical.leak_audit.excerpt import KEYS, Excerpt

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np
import polars as pl

AT_ONCE = timedelta(microseconds=1)
"""The shortest time after a prediction time that an extract can tell."""

_COPIES = 20
"""Events of a kind and subject that are planted anew."""

_OUTCOME = "outcome"
_VALUES = ("boolean_value", "integer_value", "float_value", "categorical_value")

Cut = Mapping[int, datetime]
"""Subject -> the prediction time after which its events are the future."""


def cut_of(samples: pl.DataFrame) -> Cut:
    """Each subject's latest prediction time."""
    last = samples.group_by("subject_id").agg(pl.col("prediction_time").max())
    return dict(zip(last["subject_id"], last["prediction_time"], strict=True))


def _time_of(cut: Cut) -> pl.Expr:
    subjects, times = list(cut), list(cut.values())
    return pl.col("subject_id").replace_strict(
        pl.Series(subjects, dtype=pl.Int64),
        pl.Series(times, dtype=pl.Datetime("us")),
        default=None,
        return_dtype=pl.Datetime("us"),
    )


def is_later(cut: Cut) -> pl.Expr:
    """Whether `time` is after the subject's prediction time; static events are not."""
    return (pl.col("time") > _time_of(cut)).fill_null(False)


def is_known(cut: Cut) -> pl.Expr:
    """Whether `time` is at or before the subject's prediction time; static events are left out."""
    return (pl.col("time") <= _time_of(cut)).fill_null(False)


@dataclass(frozen=True)
class Scrambler:
    """Lets events say what others say.

    Attributes:
        excerpt: where codes, texts and images are drawn from, so that a model knows them.
        seed: of the draws.
        with_codes: change and plant codes too. Samples of a built-in task are made of codes, and
            other samples of a context would be other contemporaries, who do matter.
    """

    excerpt: Excerpt
    seed: int
    with_codes: bool = True

    def altered(self, which: pl.Expr) -> Excerpt:
        """The excerpt with other values, texts, images and codes in some of its events."""
        return self.excerpt.changed(lambda events: self._scrambled(events, which))

    def planted(self, cut: Cut, *, after: timedelta) -> Excerpt:
        """The excerpt with further, implausible events some time after the prediction times."""
        when = _time_of(cut) + after

        def more(events: pl.DataFrame) -> pl.DataFrame:
            known = events.filter(is_known(cut)).with_columns(self._kind().alias("kind"))
            latest = (
                known.filter(pl.col("kind").is_not_null())
                .group_by("subject_id", "kind", maintain_order=True)
                .tail(_COPIES)
                .select(events.columns)
            )
            copies = self._scrambled(latest.with_columns(when.alias("time")), pl.lit(True))
            return pl.concat([events, copies])

        return self.excerpt.changed(more)

    def _kind(self) -> pl.Expr:
        """What an event brings; null if it may not be planted."""
        return (
            pl.when(pl.col("image_path").is_not_null())
            .then(0)
            .when(pl.col("text_value").is_not_null())
            .then(1)
            .when(pl.col("numeric_value").is_not_null())
            .then(2)
            .when(self.with_codes)
            .then(3)
        )

    def _scrambled(self, events: pl.DataFrame, which: pl.Expr) -> pl.DataFrame:
        generator = np.random.default_rng(self.seed)

        def other(name: str) -> pl.Series:
            """As many as there are events, drawn from the whole excerpt."""
            parts = [frame[name].drop_nulls() for frame in self.excerpt.events.values()]
            stock = pl.concat(parts).unique(maintain_order=True)
            if stock.is_empty():
                return pl.Series(name, [None] * events.height, dtype=pl.String)
            return stock.gather(generator.integers(len(stock), size=events.height))

        # Longer than any: also where the whole excerpt has a single text.
        text = other("text_value") + " " + other("text_value")
        value = (pl.col("numeric_value") * -7 + 100).clip(-1e30, 1e30).cast(pl.Float32)
        new = {"numeric_value": value}
        for name, drawn in (("text_value", text), ("image_path", other("image_path"))):
            new[name] = pl.when(pl.col(name).is_not_null()).then(pl.lit(drawn))
        if self.with_codes:
            new["code"] = pl.lit(other("code"))
        return events.with_columns(
            pl.when(which).then(changed).otherwise(pl.col(name)).alias(name)
            for name, changed in new.items()
        )


def without(excerpt: Excerpt, which: pl.Expr) -> Excerpt:
    """The excerpt without some of its events, and without edges that are known then."""
    edges = {name: table.filter(~which) for name, table in excerpt.edges.items()}
    return replace(excerpt.changed(lambda events: events.filter(~which)), edges=edges)


def with_edges(excerpt: Excerpt, cut: Cut, *, after: timedelta, seed: int) -> Excerpt:
    """The excerpt with further edges, known some time after the prediction times.

    They lead to subjects that other edges lead to, since nobody else may be a reference.
    """
    if not excerpt.edges:
        return excerpt
    generator = np.random.default_rng(seed)
    found = {}
    for name, table in excerpt.edges.items():
        others = table["other_subject_id"]
        again = table.with_columns(
            others.gather(generator.permutation(len(others))),
            pl.lit(None, pl.Datetime("us")).alias("prediction_time"),
            pl.lit(None, pl.Datetime("us")).alias("other_prediction_time"),
            pl.lit(1.0, pl.Float32).alias("weight"),
            (_time_of(cut) + after).alias("time"),
        )
        found[name] = pl.concat([table, again])
    return replace(excerpt, edges=found)


def with_other_labels(excerpt: Excerpt, seed: int) -> Excerpt:
    """Every label another one, and every column of samples.parquet, with an outcome among them."""
    generator = np.random.default_rng(seed)
    labels = {
        task: frame.with_columns(_exchanged(frame[name]) for name in _VALUES if name in frame)
        for task, frame in excerpt.labels.items()
    }
    samples = excerpt.samples
    columns = [samples[name] for name in samples.columns if name not in KEYS]
    shuffled = [column.gather(generator.permutation(len(column))) for column in columns]
    outcome = pl.Series(_OUTCOME, generator.integers(2, size=len(samples)) == 1)
    return replace(excerpt, labels=labels, samples=samples.with_columns(*shuffled, outcome))


def without_labels(excerpt: Excerpt) -> Excerpt:
    """No label and no column of samples.parquet but the samples themselves."""
    return replace(excerpt, labels={}, samples=excerpt.samples.select(KEYS))


def _exchanged(values: pl.Series) -> pl.Series:
    """Each value replaced by the next greater one there is, the greatest by the least."""
    found = values.drop_nulls().unique().sort()
    if values.dtype == pl.Boolean:
        return ~values
    if len(found) < 2:
        return values + 1 if values.dtype.is_numeric() else values
    following = pl.concat([found[1:], found[:1]])
    return values.replace_strict(found, following, default=None)


def with_twins(excerpt: Excerpt, cohort: pl.DataFrame) -> Excerpt:
    """A copy of every subject under another number, and all samples that the subjects have.

    Args:
        excerpt: whom to copy.
        cohort: subject_id and prediction_time of the whole extract.
    """
    subjects = excerpt.samples["subject_id"].unique().sort().to_numpy()
    free = np.setdiff1d(np.arange(1, 2 * len(subjects) + 1), subjects)[: len(subjects)]
    number = pl.col("subject_id").replace_strict(
        pl.Series(subjects), pl.Series(free), default=None, return_dtype=pl.Int64
    )
    twins = excerpt.samples.select(KEYS).with_columns(number)
    theirs = cohort.select(KEYS).join(excerpt.samples, on="subject_id", how="semi")
    samples = pl.concat([excerpt.samples.select(KEYS), theirs, twins]).unique(maintain_order=True)
    whole = excerpt.changed(lambda events: pl.concat([events, events.with_columns(number)]))
    return replace(whole, samples=samples)


def shuffled(excerpt: Excerpt, seed: int) -> Excerpt:
    """The same subjects in other files and in another order, the samples too."""
    generator = np.random.default_rng(seed)
    subjects = excerpt.samples["subject_id"].unique().sort()
    rank = pl.Series(generator.permutation(len(subjects)))
    everybody = pl.concat(excerpt.events.values()).with_columns(
        pl.col("subject_id").replace_strict(subjects, rank).alias("rank")
    )
    ordered = everybody.sort("rank", maintain_order=True)
    n_files = 3
    events = {
        f"data/{number}.parquet": ordered.filter(pl.col("rank") % n_files == number).drop("rank")
        for number in range(n_files)
    }
    order = generator.permutation(excerpt.samples.height)
    return replace(excerpt, events=events, samples=excerpt.samples[order])


def with_edges_to_self(excerpt: Excerpt, relations: Iterable[str]) -> Excerpt:
    """The excerpt with an edge from every subject to itself, in the tables of some relations."""
    subjects = excerpt.samples.select(
        "subject_id", pl.col("subject_id").alias("other_subject_id")
    ).unique(maintain_order=True)
    edges = {
        name: pl.concat([excerpt.edges.get(name, EDGES.empty()), subjects], how="diagonal")
        for name in relations
    }
    return replace(excerpt, edges=edges)

"""Splits of an extract's subjects: made by a rule, existing ones kept, written with a record."""

from clinical.cohort.assigning import (
    HELD_OUT,
    TRAIN,
    TUNING,
    Shares,
    at_random,
    by_site,
    by_time,
    cuts,
)
from clinical.cohort.boundaries import check_dates, check_sites
from clinical.cohort.split_grounds import latest_times, sites_of, strata_of
from clinical.config_file import likely
from clinical.errors import ConfigError, LeakageError, SchemaError
from clinical.extract.schema import SPLIT_NAMES, Extract
from clinical.extract.tables import SPLITS
from clinical.places import replacing

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow.parquet as pq

if TYPE_CHECKING:
    import pandas as pd

SHARES = {TRAIN: 0.7, TUNING: 0.15, HELD_OUT: 0.15}
RULES = ("subject", "time", "site")


@dataclass(frozen=True)
class Splits:
    """Which subject is in which split, and how that came about.

    Attributes:
        frame: `subject_id, split`, each subject once; those in no split are not in it.
        record: The rule, its arguments and counts, as written beside the splits.
    """

    frame: pl.DataFrame
    record: Mapping[str, Any]

    @property
    def table(self) -> "pd.DataFrame":
        """`split, subjects`, a row a split."""
        counts = self.record["subjects"]
        return pl.DataFrame({"split": list(counts), "subjects": list(counts.values())}).to_pandas()

    def write(self, path: Path) -> None:
        """The Parquet file, and a JSON file of the same name that says how it was made."""
        record = path.with_suffix(".json")
        if path.exists() or record.exists():
            raise ConfigError(
                f"splits: {path.name} is there already and stays; choose another file, which a run "
                "names with splits:"
            )
        if not path.parent.is_dir():
            raise ConfigError(f"splits: there is no folder {path.parent}; make it first")
        with replacing(record) as said, replacing(path) as draft:
            said.write_text(json.dumps(self.record, indent=1) + "\n", encoding="utf-8")
            pq.write_table(SPLITS.to_arrow(self.frame), draft)


def make_splits(
    extract: str | Path,
    by: str = "subject",
    *,
    shares: Shares | None = None,
    seed: int = 0,
    stratify: Sequence[str | Path] = (),
    site: str | None = None,
    held_out: Sequence[str] = (),
    tuning_from: datetime | None = None,
    held_out_from: datetime | None = None,
    complete: bool = False,
    out: str | Path | None = None,
) -> Splits:
    """Put each subject of an extract into train, tuning or held_out.

    Args:
        extract: A MEDS folder.
        by: "subject" at random; "time", so that train has no sample from the day on at which tuning
            begins, which needs a consistent calendar; "site", whole sites held out.
        shares: Of train, tuning and held_out; by default 0.7, 0.15 and 0.15.
        seed: Of what is random.
        stratify: Folders of labels, relative to the extract: `by="subject"` gives each split its
            share of the subjects with each combination of labels.
        site: A column that dataset.json names in site_id_columns, or codes (a regular expression;
            what a group in brackets matches is the site). By default the one such column.
        held_out: Sites to hold out; by default they are drawn.
        tuning_from, held_out_from: Where the later splits begin, both or none; by default where
            they have their shares.
        complete: Keep the extract's splits and add the subjects that have none.
        out: Parquet file to write; by default nothing is written.

    Raises:
        ConfigError: An argument is wrong or doesn't fit the rule.
        LeakageError: By time without a consistent calendar; or splits that are kept put a subject
            on the other side of a date or a site than the rule.
        SchemaError: The extract cannot be split so, or nobody would be in train.
    """
    wanted = _checked_shares(shares or SHARES)
    opened = Extract.open(extract)
    opened.check_subjects_apart()
    _check_fit(
        by,
        stratify=stratify,
        site=site or held_out,
        dates=(tuning_from, held_out_from),
    )
    record: dict[str, Any] = {"by": by, "shares": dict(wanted), "seed": seed}
    subjects = opened.subjects().select("subject_id").sort("subject_id")
    kept = _existing(opened, subjects) if complete else None
    new = subjects if kept is None else subjects.join(kept, on="subject_id", how="anti")
    if by == "time":
        times = subjects.join(_latest(opened), on="subject_id", how="left")
        chosen, said = _in_time(_of(times, new), wanted, tuning_from, held_out_from)
        frame = _together(chosen, kept)
        _check_kept_dates(frame.join(times, on="subject_id"), said)
    elif by == "site":
        sites = sites_of(opened, site, subjects)
        chosen, out_of = by_site(_of(sites, new), wanted, held_out=held_out, seed=seed)
        frame = _together(chosen, kept)
        said = {"sites_held_out": check_sites(frame, sites, out_of)}
    else:
        chosen = at_random(strata_of(opened, new, stratify), wanted, seed=seed)
        frame = _together(chosen, kept)
        said = {"stratified_by": [Path(folder).as_posix() for folder in stratify]}
    check_disjoint(frame)
    _check_train(frame, by)
    record |= {
        **said,
        "kept": 0 if kept is None else kept.height,
        "subjects": _count(frame, subjects),
        "subjects_in_two_splits": n_in_two(frame),
    }
    made = Splits(frame, record)
    if out is not None:
        made.write(Path(out))
    return made


def read_shares(text: str) -> dict[str, float]:
    """Shares of train, tuning and held_out as a user writes them: "0.7,0.15,0.15".

    Raises:
        ConfigError: They are not three numbers.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
        return dict(zip(SPLIT_NAMES, numbers, strict=True))
    except ValueError:
        raise ConfigError(f"shares: {text} is not three numbers, such as 0.7,0.15,0.15") from None


def check_disjoint(frame: pl.DataFrame) -> None:
    """Refuse splits that share a subject.

    Args:
        frame: `subject_id, split` in any number of rows; null is no split.

    Raises:
        LeakageError: With the count of such subjects.
    """
    if n_twice := n_in_two(frame):
        raise LeakageError(f"splits: {n_twice} subjects are in two splits; keep each in one")


def n_in_two(frame: pl.DataFrame) -> int:
    """How many subjects are in more than one split."""
    known = frame.select("subject_id", "split").drop_nulls().unique()
    return int((known["subject_id"].value_counts()["count"] > 1).sum())


def _checked_shares(shares: Shares) -> dict[str, float]:
    found = {name: float(shares.get(name, 0.0)) for name in SPLIT_NAMES}
    if unknown := [name for name in shares if name not in SPLIT_NAMES]:
        raise ConfigError(
            f"shares: there is no {', '.join(unknown)}; give {', '.join(SPLIT_NAMES)}"
        )
    is_whole = abs(sum(found.values()) - 1) < 1e-9
    if not is_whole or min(found.values()) < 0 or not found[TRAIN]:
        raise ConfigError("shares: have to be 0 or more, of train above 0, and 1 together")
    return found


def _check_fit(
    by: str, *, stratify: Sequence[str | Path], site: object, dates: tuple[datetime | None, ...]
) -> None:
    """Refuse what another rule would need."""
    if by not in RULES:
        raise ConfigError(f"by: there is no {by}{likely(by, RULES)}; give subject, time or site")
    if stratify and by != "subject":
        raise ConfigError(f"stratify: is for splits by subject; by {by} the labels have no say")
    if site and by != "site":
        raise ConfigError("site, held_out: are for splits by site")
    if any(dates) and by != "time":
        raise ConfigError("tuning_from, held_out_from: are for splits by time")
    if any(dates) and not all(dates):
        raise ConfigError("tuning_from, held_out_from: give both or none")


def _existing(extract: Extract, subjects: pl.DataFrame) -> pl.DataFrame:
    splits = extract.splits()
    if splits is None:
        raise ConfigError("complete: the extract has no splits to keep; leave it out")
    return splits.join(subjects, on="subject_id", how="semi").select("subject_id", "split")


def _of(rows: pl.DataFrame, subjects: pl.DataFrame) -> pl.DataFrame:
    return rows.join(subjects, on="subject_id", how="semi")


def _together(chosen: pl.DataFrame, kept: pl.DataFrame | None) -> pl.DataFrame:
    parts = [chosen.drop_nulls("split"), *([] if kept is None else [kept])]
    return pl.concat(parts).sort("subject_id")


def _latest(extract: Extract) -> pl.DataFrame:
    if not extract.consistent_calendar:
        raise LeakageError(
            "splits by time: dataset.json doesn't say consistent_calendar: true, so dates count as "
            "shifted per patient and order nobody; split by subject or site, or declare the "
            "calendar where you know that dates are true"
        )
    return latest_times(extract)


def _in_time(
    times: pl.DataFrame,
    shares: Shares,
    tuning_from: datetime | None,
    held_out_from: datetime | None,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    if tuning_from is None or held_out_from is None:
        tuning_from, held_out_from = cuts(times, shares)
    chosen = by_time(times, tuning_from=tuning_from, held_out_from=held_out_from)
    said = {"tuning_from": tuning_from.isoformat(), "held_out_from": held_out_from.isoformat()}
    return chosen, said


def _check_kept_dates(times: pl.DataFrame, said: Mapping[str, str]) -> None:
    check_dates(
        times,
        tuning_from=datetime.fromisoformat(said["tuning_from"]),
        held_out_from=datetime.fromisoformat(said["held_out_from"]),
        what="subjects",
        remedy="splits that were there are kept: give later dates, or split anew without complete",
    )


def _check_train(frame: pl.DataFrame, by: str) -> None:
    if TRAIN not in frame["split"]:
        remedy = {
            "time": "so many have the same latest time, or tuning_from is before all; give a later "
            "tuning_from, or split by subject",
            "site": "give train a larger share, or hold out other sites",
            "subject": "give train a larger share",
        }
        raise SchemaError(f"splits: no subject would be in train; {remedy[by]}")


def _count(frame: pl.DataFrame, subjects: pl.DataFrame) -> dict[str, int]:
    counts = dict(frame["split"].value_counts().iter_rows())
    found = {name: int(counts.get(name, 0)) for name in SPLIT_NAMES}
    return {**found, "no split": subjects.height - frame.height}

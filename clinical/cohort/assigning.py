"""Three rules by which subjects come into splits: at random, by time, by site.

Each gives every subject one split or none, and depends on nothing but its arguments: chance is a
hash of the seed and the subject.
"""

from clinical.errors import ConfigError, SchemaError
from clinical.extract.schema import SPLIT_NAMES

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

import polars as pl

TRAIN, TUNING, HELD_OUT = SPLIT_NAMES
Shares = Mapping[str, float]
"""Split -> share of the subjects, in the order of `SPLIT_NAMES`; together 1."""


def at_random(strata: pl.DataFrame, shares: Shares, *, seed: int) -> pl.DataFrame:
    """Subjects in random order, cut by the shares within each stratum.

    Args:
        strata: `subject_id, stratum` (text), each subject once.
        shares: Of the splits.
        seed: Another seed is another order.

    Returns:
        `subject_id, split`. A stratum of n subjects gives each split its share of n, rounded up or
        down; which of the two is chance, so that many small strata don't all round alike.
    """
    frame = strata.with_columns(
        pl.Series("place", [_chance(seed, s) for s in strata["subject_id"]], dtype=pl.Float64)
    )
    rank = pl.col("place").rank("ordinal").over("stratum") - 1
    sizes = pl.len().over("stratum")
    names = frame["stratum"].unique().to_list()
    offsets = {name: _chance(seed, f"stratum {name}") for name in names}
    offset = pl.col("stratum").replace_strict(offsets, return_dtype=pl.Float64)
    position = (rank + offset) / sizes
    return frame.select("subject_id", _cut(position, shares).alias("split"))


def by_time(times: pl.DataFrame, *, tuning_from: datetime, held_out_from: datetime) -> pl.DataFrame:
    """Subjects by their latest time: train has nothing from `tuning_from` on.

    Args:
        times: `subject_id, time`, the latest at which something of the subject is predicted.
        tuning_from, held_out_from: Where the later splits begin, inclusive.

    Returns:
        `subject_id, split`, null where the time is. Later splits may have earlier times too, of
        subjects whose latest is in them.

    Raises:
        ConfigError: The second begins before the first.
    """
    if held_out_from < tuning_from:
        raise ConfigError("held_out_from: is before tuning_from; train, tuning and held_out follow")
    time = pl.col("time")
    split = (
        pl.when(time < tuning_from)
        .then(pl.lit(TRAIN))
        .when(time < held_out_from)
        .then(pl.lit(TUNING))
        .when(time.is_not_null())
        .then(pl.lit(HELD_OUT))
    )
    return times.select("subject_id", split.alias("split"))


def cuts(times: pl.DataFrame, shares: Shares) -> tuple[datetime, datetime]:
    """From when subjects are in tuning and held out, so that the shares are met; ties are late.

    Raises:
        SchemaError: No subject has a time.
    """
    known = times["time"].drop_nulls().sort()
    if known.is_empty():
        raise SchemaError("splits: no subject has a dated event; split by subject instead")
    ends = (shares[TRAIN], shares[TRAIN] + shares[TUNING])
    places = [min(round(end * len(known)), len(known) - 1) for end in ends]
    tuning_from, held_out_from = (known[place] for place in places)
    return tuning_from, held_out_from


def by_site(
    sites: pl.DataFrame, shares: Shares, *, held_out: Sequence[str], seed: int
) -> tuple[pl.DataFrame, list[str]]:
    """Whole sites held out; the subjects of the others are cut at random into train and tuning.

    Args:
        sites: `subject_id, site`, a row for each site of a subject.
        shares: Of the splits.
        held_out: Sites to hold out; where there are none, sites are drawn until they have the
            share of held_out.
        seed: Of what is drawn.

    Returns:
        `subject_id, split`, null for subjects of both kinds of site; and the sites held out.

    Raises:
        ConfigError: There is no such site.
        SchemaError: There are fewer than two.
    """
    sizes = dict(sites.group_by("site").len().sort("site").iter_rows())
    if unknown := [name for name in held_out if name not in sizes]:
        raise ConfigError(f"held_out: no subject is of {', '.join(unknown)}; check the names")
    if len(sizes) < 2 or len(set(held_out)) == len(sizes):
        raise SchemaError(
            f"splits: the subjects are of {len(sizes)} sites and none would be left to learn from; "
            "split by subject instead"
        )
    out = list(held_out) or _drawn(sizes, shares[HELD_OUT], seed)
    is_out = pl.col("site").is_in(out)
    kinds = sites.group_by("subject_id").agg(is_out=is_out.any(), all=is_out.all())
    rest = kinds.filter(~pl.col("is_out")).select("subject_id", stratum=pl.lit("all"))
    learning = shares[TRAIN] + shares[TUNING]
    inner = {TRAIN: shares[TRAIN] / learning, TUNING: shares[TUNING] / learning}
    chosen = at_random(rest, inner, seed=seed)
    split = pl.when("all").then(pl.lit(HELD_OUT)).otherwise("split")
    together = kinds.join(chosen, on="subject_id", how="left")
    return together.select("subject_id", split.alias("split")), sorted(out)


def _drawn(sizes: Mapping[str, int], share: float, seed: int) -> list[str]:
    """Sites in random order until they have the share; never all."""
    order = sorted(sizes, key=lambda name: _chance(seed, f"site {name}"))
    wanted, out = share * sum(sizes.values()), list[str]()
    for name in order[:-1]:
        if sum(sizes[chosen] for chosen in out) >= wanted:
            break
        out.append(name)
    return out


def _cut(position: pl.Expr, shares: Shares) -> pl.Expr:
    names = [name for name in shares if shares[name] > 0]
    split, end = pl.lit(names[-1]), 1.0
    for name, later in zip(names[-2::-1], names[:0:-1], strict=True):
        end -= shares[later]
        split = pl.when(position < end).then(pl.lit(name)).otherwise(split)
    return split


def _chance(seed: int, who: int | str) -> float:
    digest = hashlib.blake2b(f"clinical-splits:{seed}:{who}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64

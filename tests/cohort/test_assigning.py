from clinical.cohort.assigning import at_random, by_site, by_time, cuts
from clinical.errors import ConfigError, SchemaError

from datetime import datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

SHARES = {"train": 0.7, "tuning": 0.15, "held_out": 0.15}
DAY = datetime(2020, 1, 1)


def strata(*sizes):
    names = [str(n) for n, size in enumerate(sizes) for _ in range(size)]
    return pl.DataFrame(
        {"subject_id": range(len(names)), "stratum": names},
        schema={"subject_id": pl.Int64, "stratum": pl.String},
    )


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5), seed=st.integers(0, 99))
@settings(max_examples=50)
def test_each_stratum_gives_each_split_its_share_rounded_up_or_down(sizes, seed):
    rows = strata(*sizes)
    found = at_random(rows, SHARES, seed=seed)
    assert found["subject_id"].sort().to_list() == rows["subject_id"].to_list()
    both = found.join(rows, on="subject_id")
    for number, size in enumerate(sizes):
        own = both.filter(pl.col("stratum") == str(number))["split"]
        for name, share in SHARES.items():
            assert abs((own == name).sum() - share * size) < 1 + 1e-9


def test_strata_of_one_subject_do_not_all_fall_on_train():
    found = at_random(strata(*[1] * 400), SHARES, seed=0)["split"]
    assert (found == "train").sum() == pytest.approx(280, abs=30)


def test_the_order_of_subjects_and_other_strata_change_nothing():
    rows = strata(30, 20)
    found = at_random(rows, SHARES, seed=1).sort("subject_id")
    assert at_random(rows.reverse(), SHARES, seed=1).sort("subject_id").equals(found)
    alone = at_random(rows.head(30), SHARES, seed=1).sort("subject_id")
    assert alone.equals(found.head(30))
    assert not at_random(rows, SHARES, seed=2).sort("subject_id").equals(found)


def test_a_share_of_nothing_gives_nothing():
    found = at_random(strata(50), {"train": 0.8, "tuning": 0.2, "held_out": 0.0}, seed=0)["split"]
    assert sorted(found.unique()) == ["train", "tuning"]


def times(*days):
    return pl.DataFrame(
        {
            "subject_id": range(len(days)),
            "time": [None if d is None else DAY + timedelta(days=d) for d in days],
        },
        schema={"subject_id": pl.Int64, "time": pl.Datetime("us")},
    )


def test_train_ends_before_tuning_begins_and_ties_are_late():
    at = {"tuning_from": DAY + timedelta(days=3), "held_out_from": DAY + timedelta(days=5)}
    found = by_time(times(0, 2.9, 3, 4, 5, 9, None), **at)
    assert found["split"].to_list() == [
        *["train"] * 2,
        *["tuning"] * 2,
        *["held_out"] * 2,
        None,
    ]


def test_the_cuts_meet_the_shares_where_no_times_are_alike():
    rows = times(*range(100))
    tuning_from, held_out_from = cuts(rows, SHARES)
    assert (tuning_from, held_out_from) == (DAY + timedelta(days=70), DAY + timedelta(days=85))
    found = by_time(rows, tuning_from=tuning_from, held_out_from=held_out_from)["split"]
    assert [(found == name).sum() for name in SHARES] == [70, 15, 15]


def test_later_splits_cannot_begin_earlier():
    with pytest.raises(ConfigError, match="is before tuning_from"):
        by_time(times(1), tuning_from=DAY, held_out_from=DAY - timedelta(days=1))
    with pytest.raises(SchemaError, match="no subject has a dated event"):
        cuts(times(None), SHARES)


def sites(**subjects):
    rows = [(subject, site) for site, who in subjects.items() for subject in who]
    return pl.DataFrame(rows, schema={"subject_id": pl.Int64, "site": pl.String}, orient="row")


def test_a_site_is_held_out_whole_and_who_was_at_both_is_in_no_split():
    rows = sites(a=range(20), b=range(18, 40))
    found, out = by_site(rows, SHARES, held_out=["b"], seed=0)
    split = dict(found.iter_rows())
    assert out == ["b"]
    assert {split[subject] for subject in range(20, 40)} == {"held_out"}
    assert {split[subject] for subject in (18, 19)} == {None}
    assert {split[subject] for subject in range(18)} == {"train", "tuning"}


def test_sites_are_drawn_until_they_have_their_share_and_never_all():
    rows = sites(**{f"s{n}": range(10 * n, 10 * n + 10) for n in range(10)})
    found, out = by_site(rows, {"train": 0.6, "tuning": 0.1, "held_out": 0.3}, held_out=[], seed=0)
    assert len(out) == 3
    assert (found["split"] == "held_out").sum() == 30
    most = {"train": 0.1, "tuning": 0.0, "held_out": 0.9}
    assert len(by_site(rows, most, held_out=[], seed=0)[1]) == 9
    drawn = {tuple(by_site(rows, SHARES, held_out=[], seed=seed)[1]) for seed in range(5)}
    assert len(drawn) > 1


def test_sites_that_cannot_be_held_out_are_told():
    rows = sites(a=[1], b=[2])
    with pytest.raises(ConfigError, match="no subject is of c"):
        by_site(rows, SHARES, held_out=["c"], seed=0)
    with pytest.raises(SchemaError, match="none would be left"):
        by_site(rows, SHARES, held_out=["a", "b"], seed=0)
    with pytest.raises(SchemaError, match="of 1 sites"):
        by_site(sites(a=[1, 2]), SHARES, held_out=[], seed=0)

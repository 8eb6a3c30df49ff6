"""Splits of an extract: by what it says, with what it has, and written with their record."""

import clinical
from clinical import cli
from clinical.cohort.splits import check_disjoint, make_splits, read_shares
from clinical.errors import ConfigError, LeakageError, SchemaError
from clinical.extract.schema import Extract
from clinical.extract.write import write_extract

import json
from datetime import datetime, timedelta

import polars as pl
import pytest

DAY = datetime(2020, 1, 1)
N = 100
US = pl.Datetime("us")


@pytest.fixture
def make(tmp_path):
    """Write an extract of 100 subjects, one event a day later each, in two shards."""

    def write(*, calendar=True, splits=None, samples=None, labels=None, sites=True):
        ids = list(range(N))
        events = pl.DataFrame(
            {
                "subject_id": ids,
                "time": [DAY + timedelta(days=n) for n in ids],
                "code": [f"SITE//{'AB'[n % 2]}" for n in ids],
                "hospital": ["AB"[n % 2] for n in ids],
            },
            schema_overrides={"time": US},
        )
        root = tmp_path / "extract"
        root.mkdir()
        write_extract(
            root,
            shards=[events.head(50), events.tail(50)],
            codes=pl.DataFrame({"code": ["SITE//A", "SITE//B"]}),
            dataset={
                "consistent_calendar": calendar,
                "site_id_columns" if sites else "other_extension_columns": ["hospital"],
            },
            splits=splits,
            samples=samples,
            labels=labels,
        )
        return root

    return write


def times(days):
    return pl.DataFrame(
        {
            "subject_id": list(days),
            "prediction_time": [DAY + timedelta(days=d) for d in days.values()],
        },
        schema={"subject_id": pl.Int64, "prediction_time": US},
    )


def died(who):
    labels = times(dict.fromkeys(range(N), 200))
    return labels.with_columns(pl.col("subject_id").is_in(list(who)).alias("boolean_value"))


def test_at_random_each_split_has_its_share_and_the_same_again(make):
    root = make()
    made = make_splits(root)
    assert dict(made.table.itertuples(index=False)) == made.record["subjects"]
    assert sum(made.record["subjects"].values()) == N
    assert abs(made.record["subjects"]["train"] - 70) <= 1
    assert made.record["subjects_in_two_splits"] == 0
    assert make_splits(root).frame.equals(made.frame)


def test_strata_have_the_same_share_of_every_label(make):
    root = make(labels={"died": died(range(20)), "sick": died(range(10, 60))})
    frame = make_splits(root, stratify=["tasks/died", "tasks/sick"]).frame
    train = set(frame.filter(pl.col("split") == "train")["subject_id"])
    for stratum in (range(10), range(10, 20), range(20, 60), range(60, 100)):
        assert abs(len(train & set(stratum)) - 0.7 * len(stratum)) < 1


def test_labels_without_a_class_cannot_stratify(make):
    labels = times({0: 1}).with_columns(float_value=pl.lit(1.0, pl.Float32))
    with pytest.raises(ConfigError, match="no label that is yes, no or a class"):
        make_splits(make(labels={"days": labels}), stratify=["tasks/days"])


def test_by_time_train_has_no_sample_from_the_day_on_when_tuning_begins(make):
    # Subject 3 comes back at the very end: it is late, whatever else it has.
    late = times({**{n: n for n in range(N)}, 3: 300})
    root = make(labels={"t": late.with_columns(boolean_value=pl.lit(True))}, samples=times({3: 4}))
    made = make_splits(root, "time")
    frame = dict(made.frame.iter_rows())
    assert frame[3] == "held_out"
    begins = datetime.fromisoformat(made.record["tuning_from"])
    train = [subject for subject, split in frame.items() if split == "train"]
    assert max(DAY + timedelta(days=n) for n in train) < begins
    assert made.record["subjects"] == {"train": 70, "tuning": 15, "held_out": 15, "no split": 0}


def test_by_time_without_samples_the_last_event_counts(make):
    at = {"tuning_from": DAY + timedelta(days=10), "held_out_from": DAY + timedelta(days=30)}
    made = make_splits(make(), "time", **at)
    assert made.record["subjects"] == {"train": 10, "tuning": 20, "held_out": 70, "no split": 0}


def test_shifted_calendars_order_nobody(make):
    with pytest.raises(LeakageError, match="doesn't say consistent_calendar: true"):
        make_splits(make(calendar=False), "time")


@pytest.mark.parametrize("site", [None, "hospital", "SITE//(.*)"])
def test_by_site_one_hospital_is_held_out(make, site):
    made = make_splits(make(), "site", site=site, held_out=["B"])
    out = made.frame.filter(pl.col("split") == "held_out")["subject_id"]
    assert sorted(out) == list(range(1, N, 2))
    assert made.record["sites_held_out"] == ["B"]


def test_splits_that_are_there_stay_and_others_join_them(make, tmp_path):
    given = pl.DataFrame({"subject_id": range(30), "split": ["held_out"] * 30})
    root = make(splits=given)
    made = make_splits(root, complete=True, out=tmp_path / "all.parquet")
    kept = made.frame.filter(pl.col("subject_id") < 30)
    assert kept["split"].to_list() == ["held_out"] * 30
    assert made.record["kept"] == 30
    assert made.frame.height == N
    again = Extract.open(root).splits(tmp_path / "all.parquet")
    assert again is not None
    assert again.equals(made.frame)
    before = (root / "metadata" / "subject_splits.parquet").read_bytes()
    with pytest.raises(ConfigError, match="is there already and stays"):
        make_splits(root, out=root / "metadata" / "subject_splits.parquet")
    assert (root / "metadata" / "subject_splits.parquet").read_bytes() == before


def kept(split, subjects):
    return pl.DataFrame({"subject_id": subjects, "split": [split] * len(subjects)})


def test_splits_that_stay_cannot_be_in_train_at_a_site_that_is_held_out(make, tmp_path):
    root = make(splits=kept("train", range(50)))
    with pytest.raises(
        LeakageError, match=r"by site: 25 subjects in train or tuning are of a site"
    ):
        make_splits(root, "site", complete=True, held_out=["A"], out=tmp_path / "s.parquet")
    assert not list(tmp_path.glob("s.*"))


def test_splits_that_stay_cannot_hold_out_at_a_site_that_is_learned_from(make):
    root = make(splits=kept("held_out", range(1, 11, 2)))
    with pytest.raises(LeakageError, match="splits by site: 45 subjects"):
        make_splits(root, "site", complete=True, held_out=["A"])


def test_splits_by_site_that_fit_those_that_stay_are_made(make):
    root = make(splits=kept("train", range(0, 50, 2)))
    made = make_splits(root, "site", complete=True, held_out=["B"])
    assert made.record["sites_held_out"] == ["B"]
    split = dict(made.frame.iter_rows())
    assert {split[subject] for subject in range(1, N, 2)} == {"held_out"}
    assert "held_out" not in {split[subject] for subject in range(0, N, 2)}


AT = {"tuning_from": DAY + timedelta(days=50), "held_out_from": DAY + timedelta(days=80)}


@pytest.mark.parametrize(
    ("split", "subjects", "problem"),
    [
        ("train", range(48, 53), "3 subjects of train lie at tuning_from .* 0 of tuning"),
        ("tuning", range(78, 90), "0 subjects of train .* 10 of tuning at held_out_from"),
        ("tuning", range(45, 80), None),
        ("held_out", range(5), None),  # later splits may have earlier times
    ],
)
def test_splits_that_stay_are_held_against_the_dates(make, split, subjects, problem):
    root = make(splits=kept(split, subjects))
    if problem is None:
        assert make_splits(root, "time", complete=True, **AT).record["kept"] == len(subjects)
        return
    with pytest.raises(LeakageError, match=problem):
        make_splits(root, "time", complete=True, **AT)


def test_dates_that_are_drawn_are_held_against_splits_that_stay(make):
    with pytest.raises(LeakageError, match="50 subjects of train lie at tuning_from"):
        make_splits(make(splits=kept("train", range(50, N))), "time", complete=True)


def test_splits_without_anybody_in_train_are_refused(make, tmp_path):
    root = make(samples=times(dict.fromkeys(range(N), 1)))
    with pytest.raises(SchemaError, match="no subject would be in train; so many have the same"):
        make_splits(root, "time", out=tmp_path / "s.parquet")
    assert not list(tmp_path.glob("s.*"))


def test_the_command_writes_the_extract_its_splits_and_how_they_were_made(make, command):
    root = make()
    code, out, err = command("split", root, "--shares", "0.5,0.25,0.25", "--seed", "3")
    assert code == cli.DONE, err
    made = clinical.make_splits(root, shares=read_shares("0.5,0.25,0.25"), seed=3)
    found = Extract.open(root).splits()
    assert found is not None
    assert found.equals(made.frame)
    record = json.loads((root / "metadata" / "subject_splits.json").read_text())
    assert record == made.record
    for split, count in record["subjects"].items():
        assert any(split in line and f" {count} " in line for line in out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"by": "tiem"}, "there is no tiem; did you mean time"),
        ({"shares": {"train": 0.5}}, "1 together"),
        ({"shares": {"train": 0.5, "test": 0.5}}, "there is no test"),
        ({"by": "time", "stratify": ["tasks/a"]}, "is for splits by subject"),
        ({"site": "hospital"}, "are for splits by site"),
        ({"tuning_from": DAY}, "are for splits by time"),
        ({"by": "time", "tuning_from": DAY}, "give both or none"),
        ({"complete": True}, "no splits to keep"),
        ({"by": "site"}, "names no site_id_columns; name one, or a pattern of codes"),
    ],
)
def test_arguments_that_do_not_fit_are_told(make, arguments, problem, tmp_path):
    root = make(sites=False)
    with pytest.raises(ConfigError, match=problem):
        make_splits(root, **arguments, out=tmp_path / "s.parquet")
    assert not list(tmp_path.glob("s.*"))


def test_codes_that_say_no_site_are_told(make):
    with pytest.raises(SchemaError, match="no event says a site by WARD"):
        make_splits(make(), "site", site="WARD//.*")


def test_shares_are_three_numbers():
    with pytest.raises(ConfigError, match="is not three numbers"):
        read_shares("0.8,0.2")


def test_a_subject_in_two_splits_is_refused():
    rows = {"subject_id": [1, 1, 2, 3], "split": ["train", "tuning", "train", None]}
    with pytest.raises(LeakageError, match="1 subjects are in two splits"):
        check_disjoint(pl.DataFrame(rows))
    check_disjoint(pl.DataFrame(rows).slice(1))

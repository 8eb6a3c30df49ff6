"""The synthetic hospital as files: valid, reproducible, and guarded by time alone."""

from clinical.errors import ConfigError
from clinical.extract.synthetic import synthesize
from clinical.extract.validate import validate

import hashlib
import json
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

SUBJECTS, SEED = 250, 11
KEYS = ["subject_id", "prediction_time"]


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "hospital"
    synthesize(out, subjects=SUBJECTS, seed=SEED)
    return out


@pytest.fixture(scope="module")
def events(hospital: Path) -> pl.DataFrame:
    """Events with a time, and the prediction time of the first stay that ends no earlier."""
    events = pl.read_parquet(hospital / "data" / "*.parquet").drop_nulls("time").with_row_index()
    is_end = pl.col("code").str.starts_with("HOSPITAL_DISCHARGE//")
    ends = events.filter(is_end).select("subject_id", end="time")
    stays = (
        pl.read_parquet(hospital / "samples.parquet")
        .join(ends, on="subject_id")
        .filter(pl.col("end") >= pl.col("prediction_time"))
        .group_by(KEYS)
        .agg(pl.col("end").min())
    )
    of_stay = (
        events.join(stays, on="subject_id")
        .filter(pl.col("time") <= pl.col("end"))
        .sort("end")
        .unique("index", keep="first", maintain_order=True)
    )
    assert of_stay.height == events.height
    return of_stay.with_columns(is_visible=pl.col("time") <= pl.col("prediction_time"))


def digests(root: Path) -> dict[str, str]:
    files = sorted(file for file in root.rglob("*") if file.is_file())
    return {str(f.relative_to(root)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_the_extract_is_valid_without_a_warning(hospital):
    assert validate(hospital).findings == ()


def test_the_same_seed_writes_the_same_bytes(hospital, tmp_path):
    synthesize(tmp_path / "again", subjects=SUBJECTS, seed=SEED)
    assert digests(tmp_path / "again") == digests(hospital)


def test_another_seed_is_another_hospital_with_the_same_words(hospital, tmp_path):
    synthesize(tmp_path / "other", subjects=SUBJECTS, seed=SEED + 1)
    ours, others = digests(hospital), digests(tmp_path / "other")
    same = {name for name in ours if ours[name] == others.get(name)}
    assert same == {"metadata/codes.parquet"}
    names = [
        json.loads((root / "metadata/dataset.json").read_text())["dataset_name"]
        for root in (hospital, tmp_path / "other")
    ]
    assert str(SEED) in names[0]
    assert str(SEED + 1) in names[1]


def test_times_may_be_compared_across_subjects(hospital):
    assert json.loads((hospital / "metadata/dataset.json").read_text())["consistent_calendar"]


def test_samples_labels_and_truth_have_the_same_rows(hospital):
    samples = pl.read_parquet(hospital / "samples.parquet")
    labels = pl.read_parquet(hospital / "tasks/in_hospital_mortality/0.parquet")
    truth = pl.read_parquet(hospital / "truth.parquet")
    assert samples.equals(labels.select(KEYS))
    assert samples.equals(truth.select(KEYS))
    assert samples.is_unique().all()
    assert samples["subject_id"].n_unique() == SUBJECTS
    assert truth.drop(KEYS).min_horizontal().min() > 0
    assert truth.drop(KEYS).max_horizontal().max() < 1


def test_every_label_is_what_became_of_the_stay(hospital, events):
    labels = pl.read_parquet(hospital / "tasks/in_hospital_mortality/0.parquet")
    died = events.filter(pl.col("code") == "MEDS_DEATH").select(KEYS)
    assert labels.filter("boolean_value").select(KEYS).sort(KEYS).equals(died.sort(KEYS))


@pytest.mark.parametrize(
    "pattern",
    [
        "MEDS_DEATH",
        "ORDER//COMFORT_CARE",
        "NOTE//DISCHARGE",
        "ICU_DISCHARGE",
        "HOSPITAL_DISCHARGE",
        "ICD10CM//I46.9",
    ],
)
def test_what_gives_the_outcome_away_comes_after_the_prediction(events, pattern):
    found = events.filter(pl.col("code").str.starts_with(pattern))
    assert found.height > 5
    assert not found["is_visible"].any()


def test_every_modality_has_events_before_and_after_the_prediction(events):
    modality = (
        pl.when(pl.col("image_path").is_not_null())
        .then(pl.lit("images"))
        .when(pl.col("code").str.starts_with("NOTE//"))
        .then(pl.lit("notes"))
        .when(pl.col("numeric_value").is_not_null())
        .then(pl.lit("events"))
        .otherwise(pl.lit("codes"))
    )
    counts = events.group_by(modality.alias("modality"), "is_visible").len()
    assert counts.height == 8
    assert counts["len"].min() >= 10


def test_static_events_have_sex_height_and_weight_once_a_subject(hospital):
    static = pl.read_parquet(hospital / "data/*.parquet").filter(pl.col("time").is_null())
    kinds = static.group_by("subject_id").agg(pl.col("code").str.head(6).sort().str.join(" "))
    assert kinds["code"].unique().to_list() == ["GENDER Height Weight"]


def test_the_unit_is_known_from_admission_48_hours_before_the_prediction(events):
    unit = events.filter(pl.col("code").str.starts_with("UNIT//"))
    assert unit.select(KEYS).is_unique().all()
    assert (unit["prediction_time"] - unit["time"]).unique().dt.total_hours().to_list() == [48]


def test_a_second_stay_follows_a_discharge_home_by_more_than_a_week(tmp_path):
    synthesize(tmp_path / "h", subjects=400, seed=5)
    samples = pl.read_parquet(tmp_path / "h/samples.parquet")
    gaps = samples.with_columns(
        gap=pl.col("prediction_time").diff().over("subject_id").dt.total_days(),
        is_last=pl.col("prediction_time") == pl.col("prediction_time").max().over("subject_id"),
    )
    labels = pl.read_parquet(tmp_path / "h/tasks/in_hospital_mortality/0.parquet")
    assert gaps["gap"].drop_nulls().len() > 0
    assert gaps["gap"].drop_nulls().min() > 7
    assert not labels.filter(~gaps["is_last"])["boolean_value"].any()


def test_splits_are_70_15_15_by_subject(hospital):
    splits = pl.read_parquet(hospital / "metadata/subject_splits.parquet")
    counts = dict(splits["split"].value_counts().iter_rows())
    assert counts == {"train": 174, "tuning": 38, "held_out": 38}


def test_images_are_small_gray_pictures(hospital, events):
    path = events["image_path"].drop_nulls()[0]
    with Image.open(hospital / path) as image:
        assert image.mode == "L"
        assert image.size == (96, 96)


def test_codes_name_their_parents(hospital):
    codes = pl.read_parquet(hospital / "metadata/codes.parquet")
    parents = codes.explode("parent_codes")["parent_codes"].drop_nulls()
    assert parents.len() > 60
    assert parents.is_in(codes["code"].to_list()).all()


def test_without_outbreaks_the_outbreak_is_worth_nothing(tmp_path):
    synthesize(tmp_path / "calm", subjects=100, seed=2, outbreak=False)
    truth = pl.read_parquet(tmp_path / "calm/truth.parquet")
    assert truth["risk"].equals(truth["risk_without_outbreak"])
    assert "seed-2" in (tmp_path / "calm/metadata/dataset.json").read_text()


@pytest.mark.parametrize(
    ("subjects", "seed", "message"),
    [(9, 1, "at least 10"), (50, -1, "seed is -1")],
)
def test_impossible_sizes_and_seeds_are_refused(tmp_path, subjects, seed, message):
    with pytest.raises(ConfigError, match=message):
        synthesize(tmp_path / "out", subjects=subjects, seed=seed)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_as_it_is(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        synthesize(tmp_path / "out", subjects=20, seed=1)
    assert [file.name for file in tmp_path.rglob("*")] == ["out", "mine.txt"]

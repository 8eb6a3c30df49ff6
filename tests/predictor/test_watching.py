"""What is said beside scores: how typical each sample is, and whether the cohort drifted."""

import clinical
from clinical.bundle import TYPICALITY, TYPICALITY_WORDS, Bundle
from clinical.cohort.store import Store
from clinical.errors import BundleError
from clinical.manifest import seal
from clinical.predictor import Predictor, stream
from clinical.predictor.facts import facts_of
from clinical.predictor.watching import typicality_of
from clinical.score_file import score_extract
from clinical.typicality import weights

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

KEYS = ["subject_id", "prediction_time"]
MODALITIES = ["events", "static", "notes", "images", "codes"]
COLUMNS = ["typicality", *(f"typicality_{name}" for name in MODALITIES)]


@pytest.fixture(scope="module")
def predictor(finished) -> Predictor:
    return Predictor.load(finished.bundle)


@pytest.fixture(scope="module")
def scores(predictor, finished) -> pd.DataFrame:
    return predictor.score(finished.extract)


@pytest.fixture(scope="module")
def store(finished) -> Store:
    return Store.open(finished.out / "store")


@pytest.fixture(scope="module")
def changed(predictor, finished, hospital_tools, tmp_path_factory):
    """Scores of the hospital after a change of its events."""

    def score(change) -> pd.DataFrame:
        target = tmp_path_factory.mktemp("changed") / "extract"
        return predictor.score(hospital_tools.alter(finished.extract, target, change))

    return score


def number(code: str, change) -> pl.Expr:
    value = pl.col("numeric_value")
    return pl.when(pl.col("code") == code).then(change(value)).otherwise(value)


# Of a sample


def test_every_score_says_how_typical_its_sample_is(scores):
    n = 17  # the people of calibrate
    assert scores[COLUMNS].notna().all(axis=None)
    assert scores[COLUMNS].min().min() >= 1 / (n + 1) - 1e-9
    assert scores[COLUMNS].max().max() == 1


def test_train_is_rarely_called_atypical(scores, store):
    train = store.samples[store.rows("train")].select("subject_id").unique().to_series()
    typical = scores.loc[scores["subject_id"].isin(train.to_list()), "typicality"]
    assert (typical <= 0.1).mean() < 0.25


def test_it_does_not_depend_on_who_else_is_scored(predictor, finished, scores):
    some = scores.iloc[[3, 90, 150]][KEYS]
    for alone in (some, some.iloc[:1]):
        found = predictor.score(finished.extract, samples=alone)
        expected = alone.merge(scores, on=KEYS)
        np.testing.assert_allclose(found[COLUMNS], expected[COLUMNS], atol=1e-3)


def test_a_wrong_unit_is_atypical_in_its_modality_alone(changed, scores):
    wrong = changed(lambda frame: frame.with_columns(number("Temp", lambda v: v * 1.8 + 32)))
    for column in ("typicality", "typicality_events"):
        # Of 17 people, the seven highest give no knot of their own.
        assert wrong[column].max() < 0.3 < scores[column].median()
    others = [name for name in COLUMNS if name not in ("typicality", "typicality_events")]
    np.testing.assert_allclose(wrong[others], scores[others], atol=1e-3)


def test_what_every_train_sample_had_is_missed(changed, scores):
    without = changed(lambda frame: frame.filter(pl.col("code") != "Temp"))
    assert without["typicality_events"].max() < scores["typicality_events"].quantile(0.3)


def test_a_modality_that_train_often_lacked_is_not_missed(changed, scores):
    without = changed(lambda frame: frame.filter(pl.col("image_path").is_null()))
    assert without["typicality_images"].nunique() == 1
    assert without["typicality_images"].iloc[0] > 0.2
    assert (without["typicality"] >= scores["typicality"] - 1e-3).mean() > 0.5


def test_what_is_left_out_of_a_score_is_not_left_out_of_it(predictor, finished, scores):
    less = predictor.score(finished.extract, without=["events"])
    np.testing.assert_allclose(less[COLUMNS], scores[COLUMNS], atol=1e-3)
    each = predictor.leave_out(finished.extract, ["events"])
    assert not each.duplicated([*KEYS, "left_out"]).any()
    assert each.groupby(KEYS)["typicality"].nunique().max() == 1


def test_a_sample_without_a_score_has_no_typicality(changed, scores):
    first = scores["subject_id"].iloc[0]
    found = changed(lambda frame: frame.filter(pl.col("subject_id") != first))
    has_none = found["score"].isna()
    assert has_none.tolist() == (found["subject_id"] == first).tolist()
    assert found[COLUMNS].isna().all(axis=1).equals(has_none)


# What is learned


def test_the_same_run_learns_the_same(finished, store):
    draft = replace(Bundle.read(finished.bundle), typicality=None)
    known = Bundle.read(finished.bundle).typicality
    again = typicality_of(draft, store)
    assert again.to_json() == known.to_json()
    for name, tensor in known.to_tensors().items():
        np.testing.assert_array_equal(again.to_tensors()[name].numpy(), tensor.numpy())


def test_nothing_is_calibrated_on_what_networks_learned(finished, store):
    bundle = Bundle.read(finished.bundle)
    finetune = bundle.config.finetune.model_copy(update={"learn_tuning": True})
    spent = replace(bundle, config=bundle.config.model_copy(update={"finetune": finetune}))
    known = typicality_of(spent, store)
    assert known.n_calibrated == 0
    predictor = Predictor(replace(spent, typicality=known))
    rows = store.rows("held_out")
    watch = predictor.watch(store)
    assert predictor.score_store(store, rows, watch=watch)[COLUMNS].isna().all(axis=None)
    assert set(watch.drift()["what"]) == {"variable"}


def test_each_person_counts_once():
    np.testing.assert_allclose(weights(np.array([7, 5, 7, 7])), [1 / 3, 1, 1 / 3, 1 / 3])


def test_it_counts_the_people_of_calibrate(finished, store):
    bundle = Bundle.read(finished.bundle)
    people = store.samples[store.rows("calibrate")]["subject_id"].n_unique()
    assert bundle.typicality.n_calibrated == people
    assert facts_of(bundle)["typicality"].endswith(f"p-values of {people} people")


def test_a_bundle_without_it_or_with_that_of_another_is_refused(finished, tmp_path):
    for name, change in {
        "missing": lambda folder: (folder / TYPICALITY_WORDS).unlink(),
        "other": lambda folder: _rename(folder / TYPICALITY_WORDS),
    }.items():
        folder = Path(shutil.copytree(finished.bundle, tmp_path / name))
        change(folder)
        seal(folder)
        with pytest.raises(BundleError, match=r"cannot be opened|parts do not fit"):
            Bundle.read(folder)


def _rename(path: Path) -> None:
    words = json.loads(path.read_text())
    words["variables"]["events"].append("another")
    path.write_text(json.dumps(words))


def test_its_files_are_small(finished):
    assert (finished.bundle / TYPICALITY).stat().st_size < 1e6


# Of a cohort


def test_drift_is_the_same_in_portions_at_once_and_in_the_file(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "PORTION", 16)
    out = tmp_path / "new.parquet"
    scored = score_extract(finished.bundle, finished.extract, out=out)
    at_once = clinical.drift(finished.bundle, finished.extract)
    written = pd.read_parquet(tmp_path / "new.drift.parquet")
    for other in (at_once, written):
        rows = [
            each.set_index(["what", "modality", "variable"]).sort_index()
            for each in (scored.drift, other)
        ]
        pd.testing.assert_frame_equal(*rows, check_like=True, atol=0.02, rtol=0)
    subjects = pl.read_parquet(finished.extract / "samples.parquet")["subject_id"].n_unique()
    assert written["patients"].round(6).eq(subjects).all()


def test_a_cohort_in_another_unit_is_warned_of(finished, hospital_tools, tmp_path, caplog):
    wrong = hospital_tools.alter(
        finished.extract,
        tmp_path / "extract",
        lambda frame: frame.with_columns(number("Temp", lambda v: v * 1.8 + 32)),
    )
    scored = score_extract(finished.bundle, wrong, out=tmp_path / "x.parquet")
    (line,) = (record.message for record in caplog.records if record.levelname == "WARNING")
    assert "the cohort differs from the one trained on in 1 of" in line
    assert "Temp higher" in line
    first = scored.drift.iloc[0]
    assert (first["variable"], first["direction"]) == ("Temp", "higher")


def test_the_table_has_the_documented_columns(finished):
    drift = clinical.drift(finished.bundle, finished.extract)
    described = json.loads((Path("data_schemas") / "drift.json").read_text())
    assert list(drift) == [column["name"] for column in described["columns"]]
    for column in described["columns"]:
        assert column["nullable"] or drift[column["name"]].notna().all()

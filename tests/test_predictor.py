"""Scores depend on the sample, the bundle and the context alone, and on nothing later."""

import clinical
from clinical.cohort.store import Store
from clinical.errors import ConfigError
from clinical.preparation import prepare_for_scoring

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

KEYS = ["subject_id", "prediction_time"]
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def predictor(finished):
    """Uncalibrated: a calibration as flat as so few patients give would hide differences."""
    bundle = clinical.Predictor.load(finished.bundle).bundle
    return clinical.Predictor(replace(bundle, calibration={}))


@pytest.fixture(scope="module")
def scores(predictor, finished):
    """Of the whole hospital, with itself as context."""
    return predictor.score(finished.extract, context=finished.extract)


@pytest.fixture(scope="module")
def alone(predictor, finished):
    """Of the whole hospital, without a context."""
    return predictor.score(finished.extract)


def assert_same_scores(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    joined = found.merge(expected, on=[*KEYS, "task"], suffixes=("", "_expected"))
    assert len(joined) == len(found) > 0
    assert joined["score"].notna().equals(joined["score_expected"].notna())
    np.testing.assert_allclose(
        joined["score"], joined["score_expected"], rtol=0, atol=TOLERANCE, equal_nan=True
    )


def differ(found: pd.DataFrame, expected: pd.DataFrame) -> int:
    joined = found.merge(expected, on=KEYS, suffixes=("", "_expected"))
    return int(((joined["score"] - joined["score_expected"]).abs() > TOLERANCE).sum())


def some(scores: pd.DataFrame, n: int) -> pd.DataFrame:
    return scores[KEYS].sample(n, random_state=0)


# What a score depends on


def test_scores_vary_and_lie_between_0_and_1(scores):
    assert scores["score"].between(0, 1).all()
    assert scores["score"].nunique() > 0.9 * len(scores)


def test_the_context_matters_or_the_tests_with_it_show_nothing(scores, alone):
    assert differ(scores, alone) > 5


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_score_of_a_sample_is_the_same_in_batches_of_any_size(
    predictor, finished, scores, size, monkeypatch
):
    monkeypatch.setattr("clinical.predictor.panel.BATCH_SIZE", size)
    assert_same_scores(predictor.score(finished.extract, context=finished.extract), scores)


def test_the_score_of_a_sample_is_the_same_in_any_order(predictor, finished, tmp_path):
    bundle = predictor.bundle
    store = prepare_for_scoring(bundle.config, bundle.fitted, finished.extract, tmp_path / "store")
    rows = np.random.default_rng(0).permutation(store.n_samples)
    mixed, sorted_ = predictor.score_store(store, rows), predictor.score_store(store, np.sort(rows))
    assert mixed[KEYS].equals(sorted_.iloc[rows][KEYS].reset_index(drop=True))
    assert_same_scores(mixed, sorted_)


def test_a_sample_scored_alone_has_the_score_it_has_among_others(
    predictor, finished, scores, alone
):
    for context, expected in ((finished.extract, scores), (None, alone)):
        for _, sample in some(scores, 2).iterrows():
            one = sample.to_frame().T.astype(expected[KEYS].dtypes)
            found = predictor.score(finished.extract, samples=one, context=context)
            assert len(found) == 1
            assert_same_scores(found, expected)


def test_the_held_out_scores_of_the_run_are_those_of_the_moved_bundle(finished, tmp_path):
    shutil.copytree(finished.bundle, tmp_path / "elsewhere")
    moved = clinical.Predictor.load(tmp_path / "elsewhere")
    written = finished.predictions
    assert len(written) == 30
    assert_same_scores(written, moved.score(finished.extract))


# Nothing later than the prediction time


def last_times(finished) -> pl.DataFrame:
    samples = pl.read_parquet(finished.extract / "samples.parquet")
    return samples.group_by("subject_id").agg(pl.col("prediction_time").max())


def with_later(frame: pl.DataFrame, last: pl.DataFrame) -> pl.DataFrame:
    joined = frame.join(last, on="subject_id", how="left", maintain_order="left")
    return joined.with_columns(
        later=(pl.col("time") > pl.col("prediction_time")).fill_null(False)
    ).drop("prediction_time")


def altered(frame: pl.DataFrame) -> pl.DataFrame:
    later = pl.col("later")
    return frame.with_columns(
        numeric_value=pl.when(later).then(999.0).otherwise("numeric_value").cast(pl.Float32),
        text_value=pl.when(later).then(pl.lit("died of it")).otherwise("text_value"),
        code=pl.when(later).then(pl.lit("ICD10CM//I50.9")).otherwise("code"),
        image_path=pl.when(later).then(None).otherwise("image_path"),
    )


def removed(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(~pl.col("later"))


def added(frame: pl.DataFrame) -> pl.DataFrame:
    """Every event of a subject again, an hour after its last prediction time and later."""
    pause = pl.lit(timedelta(days=9000))
    copies = frame.filter(pl.col("time").is_not_null(), ~pl.col("later"))
    return pl.concat([frame, copies.with_columns(time=pl.col("time") + pause)])


@pytest.mark.parametrize("change", [altered, removed, added])
def test_no_score_changes_with_events_after_the_prediction_time(
    predictor, finished, scores, change, hospital_tools, tmp_path
):
    last = last_times(finished)
    touched = 0

    def whole(frame: pl.DataFrame) -> pl.DataFrame:
        nonlocal touched
        before = with_later(frame, last)
        after = change(before)
        touched += int(before["later"].sum()) if change is not added else len(after) - len(before)
        return after.drop("later")

    copy = hospital_tools.alter(finished.extract, tmp_path / "copy", whole)
    assert touched > 200  # the synthetic hospital gives outcomes away after the prediction time
    assert_same_scores(predictor.score(copy, context=copy), scores)


def test_an_event_before_the_prediction_time_does_change_scores(
    predictor, finished, alone, hospital_tools, tmp_path
):
    copy = hospital_tools.alter(
        finished.extract,
        tmp_path / "copy",
        lambda frame: frame.with_columns(numeric_value=pl.col("numeric_value") * 2),
    )
    assert differ(predictor.score(copy), alone) > 100


def test_no_score_depends_on_labels(predictor, finished, alone, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(finished.extract, copy, copy_function=os.link)
    (path,) = (copy / "tasks").rglob("*.parquet")
    labels = pl.read_parquet(path)
    path.unlink()
    labels.with_columns(~pl.col("boolean_value")).write_parquet(path)
    found = predictor.score(copy)
    assert (found["label"] == 1 - alone["label"]).all()
    assert_same_scores(found, alone)
    shutil.rmtree(copy / "tasks")
    assert_same_scores(predictor.score(copy), alone)


# Nobody else


def with_copies(hospital_tools, finished, folder: Path) -> Path:
    """The hospital with a twin of every subject, of other numbers."""
    shift = 500_000

    def twice(frame: pl.DataFrame) -> pl.DataFrame:
        twins = frame.with_columns(pl.col("subject_id") + shift)
        return pl.concat([frame, twins])

    copy = hospital_tools.alter(finished.extract, folder, twice)
    samples = pl.read_parquet(copy / "samples.parquet")
    (copy / "samples.parquet").unlink()
    twins = samples.with_columns(pl.col("subject_id") + shift)
    pl.concat([samples, twins]).write_parquet(copy / "samples.parquet")
    return copy


def test_adding_patients_to_those_scored_changes_nobody_s_score(
    predictor, finished, scores, alone, hospital_tools, tmp_path
):
    more = with_copies(hospital_tools, finished, tmp_path / "more")
    for context, expected in ((None, alone), (finished.extract, scores)):
        found = predictor.score(more, context=context)
        assert len(found) == 2 * len(expected)
        assert_same_scores(found[found["subject_id"].isin(expected["subject_id"])], expected)


def test_scoring_changes_nothing_in_the_bundle_or_the_extract(predictor, finished, alone):
    def state(folder: Path) -> dict[Path, tuple[int, int]]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}

    before = state(finished.extract), state(finished.bundle)
    predictor.score(finished.extract, samples=some(alone, 3), context=finished.extract)
    assert (state(finished.extract), state(finished.bundle)) == before


# Which modalities are there


@pytest.mark.parametrize("name", ["images", "notes"])
def test_leaving_a_modality_out_equals_an_extract_without_it(
    predictor, finished, alone, name, hospital_tools, tmp_path
):
    column = {"images": "image_path", "notes": "text_value"}[name]
    bare = hospital_tools.alter(
        finished.extract,
        tmp_path / "bare",
        lambda frame: frame.filter(pl.col(column).is_null()),
    )
    found = predictor.score(bare)
    assert not found["modalities"].str.contains(name).any()
    assert_same_scores(found, predictor.score(finished.extract, without=[name]))
    had = alone["modalities"].str.contains(name)
    assert 0 < had.sum() < len(alone)
    assert_same_scores(found[~had.to_numpy()], alone)
    assert differ(found, alone) > 0.5 * had.sum()


def test_every_combination_of_modalities_left_out_still_scores_every_sample(predictor, finished):
    names = ["events", "static", "notes", "images", "codes"]
    for kept in names:
        left_out = [name for name in names if name != kept]
        found = predictor.score(finished.extract, without=[*left_out, "graph"])
        assert found["score"].notna().all()


def test_leaving_out_the_graph_is_leaving_out_every_relation(predictor, finished, alone):
    every = predictor.score(finished.extract, without=["similar", "same_unit"])
    assert_same_scores(predictor.score(finished.extract, without=["graph"]), every)
    assert differ(every, alone) > 0


@pytest.mark.parametrize("with_context", [False, True])
def test_leaving_each_part_out_at_once_is_scoring_without_each(predictor, finished, with_context):
    context = finished.extract if with_context else None
    parts = ["events", "images", "same_unit", "graph"]
    each = predictor.leave_out(finished.extract, parts, context=context)
    nothing = each["left_out"].isna()
    whole = predictor.score(finished.extract, context=context)
    assert_same_scores(each[nothing], whole)
    for part in parts:
        expected = predictor.score(finished.extract, context=context, without=[part])
        assert_same_scores(each[each["left_out"] == part], expected)
        assert differ(expected, whole) > 0


def test_by_default_every_modality_and_the_graph_are_left_out_in_turn(predictor, finished, alone):
    each = predictor.leave_out(finished.extract, samples=alone[KEYS].head(3))
    parts = ["events", "static", "notes", "images", "codes", "graph"]
    assert each["left_out"].dropna().unique().tolist() == parts
    assert len(each) == 3 * 7


def test_leaving_out_what_the_model_does_not_have_is_refused(predictor, finished):
    with pytest.raises(ConfigError, match=r"the model has no image; did you mean images\?"):
        predictor.score(finished.extract, without=["image"])
    with pytest.raises(ConfigError, match=r"the model has no image; did you mean images\?"):
        predictor.leave_out(finished.extract, ["image"])


def test_scores_come_in_the_order_they_were_asked_for(predictor, finished, alone):
    asked = some(alone, 12)
    found = predictor.score(finished.extract, samples=pd.concat([asked, asked.head(2)]))
    expected = [*asked["subject_id"], *asked["subject_id"].head(2)]
    assert found["subject_id"].tolist() == expected
    assert_same_scores(found.head(12), alone)
    each = predictor.leave_out(finished.extract, ["notes"], samples=asked)
    assert each["subject_id"].tolist() == 2 * asked["subject_id"].tolist()


def test_every_asked_sample_gets_a_row_and_one_with_nothing_visible_a_reason(
    predictor, finished, alone, hospital_tools, tmp_path
):
    empty = alone["subject_id"].iloc[0]
    unknown = int(alone["subject_id"].max()) + 77
    copy = hospital_tools.alter(
        finished.extract,
        tmp_path / "copy",
        lambda frame: frame.filter(pl.col("subject_id") != empty),
    )
    stranger = alone[KEYS].iloc[[1]].assign(subject_id=unknown)
    asked = pd.concat([alone[KEYS], stranger])
    found = predictor.score(copy, samples=asked)
    assert len(found) == len(asked)
    gone = found["subject_id"].isin([empty, unknown])
    assert found.loc[gone, "score"].isna().all()
    assert set(found.loc[gone, "reason"]) == {"nothing visible"}
    assert (found.loc[gone, "modalities"] == "").all()
    assert found.loc[~gone, "reason"].isna().all()
    assert_same_scores(found[~gone], alone)


def test_an_unreadable_image_is_counted_and_its_sample_scored_by_the_rest(
    predictor, finished, alone, tmp_path
):
    copy = tmp_path / "copy"
    shutil.copytree(finished.extract, copy)
    pictures = sorted((copy / "images").rglob("*.png"))
    for picture in pictures:
        picture.write_bytes(b"no picture")
    work = tmp_path / "store"
    found = predictor.score(copy, work=work)
    assert_same_scores(found, predictor.score(finished.extract, without=["images"]))
    assert Store.open(work).counts["images"]["undecodable"] > 0.5 * len(pictures)


def test_predictions_have_the_documented_columns(alone):
    assert list(alone) == [
        *KEYS,
        "task",
        "class",
        "horizon_hours",
        "score",
        "label",
        "kind",
        "in_set",
        "other_in_set",
        "coverage",
        "calibration",
        "reason",
        "modalities",
        "typicality",
        *(f"typicality_{name}" for name in ("events", "static", "notes", "images", "codes")),
    ]
    assert alone["label"].dtype == np.float64
    assert alone["class"].isna().all()
    assert alone.duplicated(KEYS).sum() == 0


def test_several_threads_score_with_one_predictor_as_one_does(predictor, finished, scores, alone):
    asked = [some(alone, n) for n in (3, 30, 200)]
    contexts = [None, finished.extract]

    def score(job: tuple[pd.DataFrame, Path | None]) -> pd.DataFrame:
        return predictor.score(finished.extract, samples=job[0], context=job[1])

    jobs = [(samples, context) for samples in asked for context in contexts] * 2
    with ThreadPoolExecutor(4) as pool:
        for (samples, context), found in zip(jobs, pool.map(score, jobs), strict=True):
            assert found[KEYS].reset_index(drop=True).equals(samples.reset_index(drop=True))
            assert_same_scores(found, alone if context is None else scores)

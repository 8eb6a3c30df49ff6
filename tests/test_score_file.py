"""A file of scores is the same whatever its portions, and whatever was killed on the way."""

import clinical
from clinical.cohort.selection import Selection
from clinical.errors import ConfigError, SchemaError
from clinical.extract.schema import Extract
from clinical.predictor import Predictor, stream
from clinical.predictor.stream import Stream
from clinical.score_file import score_extract

import importlib.metadata
import json
import logging
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

KEYS = ["subject_id", "prediction_time"]
SMALL = 16
BOTH = [
    f"{name}.{end}" for name in ("scores", "undisturbed") for end in ("drift.parquet", "parquet")
]


@pytest.fixture
def small_portions(monkeypatch) -> None:
    monkeypatch.setattr(stream, "PORTION", SMALL)


@pytest.fixture(scope="module")
def foreign(finished, hospital_tools, tmp_path_factory) -> Path:
    """The hospital, with every number but those of the heart rate under a code of its own."""
    own = pl.col("numeric_value").is_not_null() & (pl.col("code") != "HR")
    return hospital_tools.alter(
        finished.extract,
        tmp_path_factory.mktemp("foreign") / "extract",
        lambda frame: frame.with_columns(
            pl.when(own & pl.col("time").is_not_null())
            .then("LOCAL//" + pl.col("code"))
            .otherwise("code")
            .alias("code")
        ),
    )


def beside(out: Path) -> list[str]:
    """What lies in the folder of the file."""
    return sorted(path.name for path in out.parent.iterdir())


def ordered(scores: pd.DataFrame) -> pd.DataFrame:
    return scores.sort_values(KEYS).reset_index(drop=True)


# The same scores


@pytest.mark.parametrize("around", [None, "own", "other"])
def test_portions_give_the_scores_of_all_at_once(
    finished, foreign, small_portions, tmp_path, around
):
    context = {None: None, "own": finished.extract, "other": foreign}[around]
    expected = Predictor.load(finished.bundle).score(finished.extract, context=context)
    found = clinical.score(finished.bundle, finished.extract, context=context)
    assert len(found) > 10 * SMALL
    # Whose context they are decides in which order samples are batched: not what they are told.
    typical = [name for name in found if name.startswith("typicality")]
    for columns, rounding in ((found.columns.drop(typical), 1e-5), (typical, 1e-3)):
        pd.testing.assert_frame_equal(
            ordered(found)[list(columns)],
            ordered(expected)[list(columns)],
            check_dtype=False,
            atol=rounding,
            rtol=0,
        )


def test_a_context_changes_scores_portion_by_portion_too(finished, small_portions):
    alone = clinical.score(finished.bundle, finished.extract)
    around = clinical.score(finished.bundle, finished.extract, context=finished.extract)
    moved = (ordered(alone)["score"] - ordered(around)["score"]).abs() > 1e-6
    assert moved.sum() > 20


def test_rows_come_by_event_file_subject_and_time_and_each_portion_is_a_row_group(
    finished, small_portions, tmp_path
):
    out = tmp_path / "new" / "scores.parquet"
    score_extract(finished.bundle, finished.extract, out=out)
    assert beside(out) == ["scores.drift.parquet", "scores.parquet"]
    scores = pd.read_parquet(out)
    shards = sorted((finished.extract / "data").rglob("*.parquet"))
    place = {
        subject: number
        for number, shard in enumerate(shards)
        for subject in pl.read_parquet(shard)["subject_id"].unique()
    }
    order = list(zip(scores["subject_id"].map(place), *(scores[k] for k in KEYS), strict=True))
    assert order == sorted(order)
    assert pq.ParquetFile(out).num_row_groups >= len(scores) / SMALL


def test_portions_of_one_large_event_file_read_their_own_subjects_alone(
    finished, small_portions, tmp_path, monkeypatch
):
    single = tmp_path / "single"
    shutil.copytree(finished.extract, single)
    shards = sorted((single / "data").rglob("*.parquet"))
    whole = pl.concat([pl.read_parquet(shard) for shard in shards])
    for shard in shards:
        shard.unlink()
    whole.sort("subject_id", maintain_order=True).write_parquet(single / "data" / "all.parquet")
    read, heights = Extract.read_checked, []

    def counted(self, shard, **only):
        events = read(self, shard, **only)
        heights.append(events.height)
        return events

    monkeypatch.setattr(Extract, "read_checked", counted)
    found = clinical.score(finished.bundle, single)
    assert max(heights) < 0.3 * whole.height
    expected = clinical.score(finished.bundle, finished.extract)
    pd.testing.assert_frame_equal(ordered(found), ordered(expected), atol=1e-5, rtol=0)


def test_a_single_portion_without_anything_visible_is_scored_as_null(
    finished, hospital_tools, small_portions, tmp_path
):
    samples = pl.read_parquet(finished.extract / "samples.parquet")
    first = set(samples["subject_id"].unique().sort().head(3 * SMALL))
    bare = hospital_tools.alter(
        finished.extract,
        tmp_path / "bare",
        lambda frame: frame.filter(
            ~pl.col("subject_id").is_in(first) | (pl.col("code") == "UNHEARD//OF")
        ),
    )
    scores = clinical.score(finished.bundle, bare)
    assert len(scores) == len(samples)
    gone = scores["subject_id"].isin(first)
    assert scores.loc[gone, "score"].isna().all()
    assert scores.loc[gone, "in_set"].isna().all()
    assert set(scores.loc[gone, "reason"]) == {"nothing visible"}
    assert scores.loc[~gone, "score"].notna().all()


def test_an_extract_of_which_nothing_is_visible_is_refused_and_leaves_nothing(
    finished, hospital_tools, tmp_path
):
    bare = hospital_tools.alter(
        finished.extract,
        tmp_path / "bare",
        lambda frame: frame.with_columns(code=pl.lit("UNHEARD//OF"), numeric_value=None).drop(
            "text_value", "image_path"
        ),
    )
    out = tmp_path / "new" / "scores.parquet"
    with pytest.raises(SchemaError, match="nothing is visible of any sample"):
        score_extract(finished.bundle, bare, out=out)
    assert beside(out) == []


@pytest.mark.parametrize("with_context", [False, True])
def test_batches_that_are_scored_beside_each_other_give_the_same_file(
    finished, tmp_path, with_context
):
    context = finished.extract if with_context else None
    for threads in (1, 3):
        out = tmp_path / f"{threads}.parquet"
        score_extract(finished.bundle, finished.extract, out=out, context=context, threads=threads)
    assert (tmp_path / "1.parquet").read_bytes() == (tmp_path / "3.parquet").read_bytes()


# Which samples


def test_samples_of_a_file_are_scored_and_no_others(finished, tmp_path):
    asked = pd.read_parquet(finished.extract / "samples.parquet").sample(7, random_state=0)
    asked.to_parquet(tmp_path / "asked.parquet")
    found = clinical.score(finished.bundle, finished.extract, samples=tmp_path / "asked.parquet")
    assert ordered(found)[KEYS].equals(ordered(asked)[KEYS])
    whole = clinical.score(finished.bundle, finished.extract)
    both = found.merge(whole, on=KEYS, suffixes=("", "_whole"))
    np.testing.assert_allclose(both["score"], both["score_whole"], atol=1e-5, rtol=0)


def test_a_rule_gives_the_samples_that_the_extract_names(finished):
    found = clinical.score(finished.bundle, finished.extract, at="ICU_ADMISSION + 48h")
    own = pd.read_parquet(finished.extract / "samples.parquet")
    assert ordered(found)[KEYS].equals(ordered(own)[KEYS])


def test_rolling_predictions_score_a_stay_again_and_again(finished):
    found = clinical.score(finished.bundle, finished.extract, at="ICU_ADMISSION + 24h", every="1d")
    gaps = ordered(found).groupby("subject_id")["prediction_time"].diff().dropna()
    assert (gaps >= pd.Timedelta(days=1)).all()
    once = clinical.score(finished.bundle, finished.extract, at="ICU_ADMISSION + 24h")
    assert len(found) > 2 * len(once)
    both = once.merge(found, on=KEYS, suffixes=("", "_rolling"))
    assert len(both) == len(once)
    np.testing.assert_allclose(both["score"], both["score_rolling"], atol=1e-5, rtol=0)


def test_a_split_is_scored_by_itself(finished):
    found = clinical.score(finished.bundle, finished.extract, split="held_out")
    splits = pd.read_parquet(finished.extract / "metadata" / "subject_splits.parquet")
    held_out = set(splits.loc[splits["split"] == "held_out", "subject_id"])
    assert set(found["subject_id"]) <= held_out
    written = finished.predictions
    both = found.merge(written, on=KEYS, suffixes=("", "_run"))
    assert len(both) == len(found) == len(written)
    np.testing.assert_allclose(both["score"], both["score_run"], atol=1e-5, rtol=0)


def test_labels_may_lie_elsewhere(finished, tmp_path):
    (task,) = (finished.extract / "tasks").iterdir()
    shutil.copytree(task, tmp_path / "elsewhere")
    copy = tmp_path / "copy"
    shutil.copytree(finished.extract, copy)
    shutil.rmtree(copy / "tasks")
    assert clinical.score(finished.bundle, copy)["label"].isna().all()
    found = clinical.score(finished.bundle, copy, labels=[str(tmp_path / "elsewhere")])
    expected = clinical.score(finished.bundle, finished.extract)
    pd.testing.assert_series_equal(found["label"], expected["label"])


# Killed and started again


def test_an_interrupted_file_goes_on_where_it_stopped_and_ends_the_same(
    finished, small_portions, tmp_path, monkeypatch, caplog
):
    undisturbed, out = tmp_path / "undisturbed.parquet", tmp_path / "scores.parquet"
    score_extract(finished.bundle, finished.extract, out=undisturbed)
    whole, asked = Stream.score, []

    def stop_at_the_fourth(self, number):
        if number == 3:
            raise KeyboardInterrupt
        return whole(self, number)

    monkeypatch.setattr(Stream, "score", stop_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        score_extract(finished.bundle, finished.extract, out=out)
    assert not out.exists()
    monkeypatch.setattr(Stream, "score", lambda self, n: asked.append(n) or whole(self, n))
    with caplog.at_level(logging.INFO):
        scored = score_extract(finished.bundle, finished.extract, out=out)
    assert "going on: 3 of" in caplog.text
    assert asked[0] == 3
    assert out.read_bytes() == undisturbed.read_bytes()
    assert scored.counts["rows scored"] == len(pd.read_parquet(out))
    assert beside(out) == BOTH


@pytest.mark.parametrize("gone", ["made-from.json", "0000001.json", "portion"])
def test_a_kill_while_something_was_removed_does_no_harm(
    finished, small_portions, tmp_path, monkeypatch, gone
):
    undisturbed, out = tmp_path / "undisturbed.parquet", tmp_path / "scores.parquet"
    score_extract(finished.bundle, finished.extract, out=undisturbed)
    whole = Stream.score

    def stop_at_the_fourth(self, number):
        if number == 3:
            raise KeyboardInterrupt
        return whole(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Stream, "score", stop_at_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            score_extract(finished.bundle, finished.extract, out=out)
    parts = tmp_path / ".scores.parquet.parts"
    if gone == "portion":  # of a store that was being removed
        (parts / gone).mkdir()
        (parts / gone / "samples.arrow").touch()
    else:  # of a whole folder that was: what names its origin goes first
        (parts / "made-from.json").unlink()
        (parts / gone).unlink(missing_ok=True)
    score_extract(finished.bundle, finished.extract, out=out)
    assert out.read_bytes() == undisturbed.read_bytes()
    assert beside(out) == BOTH


def test_subjects_without_any_event_get_a_reason_in_a_portion_of_their_own(
    finished, small_portions, tmp_path
):
    own = pd.read_parquet(finished.extract / "samples.parquet")
    strangers = own.head(2 * SMALL).assign(subject_id=range(1, 2 * SMALL + 1))
    pd.concat([own.tail(SMALL), strangers]).to_parquet(tmp_path / "asked.parquet")
    found = clinical.score(finished.bundle, finished.extract, samples=tmp_path / "asked.parquet")
    assert len(found) == 3 * SMALL
    unknown = found["subject_id"] <= 2 * SMALL
    assert set(found.loc[unknown, "reason"]) == {"nothing visible"}
    assert found.loc[~unknown, "score"].notna().all()


@pytest.mark.parametrize("change", ["coverage", "samples", "extract", "code"])
def test_what_was_scored_of_something_else_is_not_gone_on_with(
    finished, small_portions, tmp_path, monkeypatch, change
):
    out, whole, asked = tmp_path / "scores.parquet", Stream.score, []
    extract = Path(shutil.copytree(finished.extract, tmp_path / "extract"))

    def stop_at_the_second(self, number):
        if number == 1:
            raise KeyboardInterrupt
        return whole(self, number)

    monkeypatch.setattr(Stream, "score", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        score_extract(finished.bundle, extract, out=out)
    if change == "extract":
        codes = extract / "metadata" / "codes.parquet"
        pl.read_parquet(codes).head(3).write_parquet(codes)
    if change == "code":
        monkeypatch.setattr(importlib.metadata, "version", lambda name: "another")
    rule = Selection.of(at="ICU_ADMISSION + 24h") if change == "samples" else Selection()
    coverage = 0.8 if change == "coverage" else 0.9
    monkeypatch.setattr(Stream, "score", lambda self, n: asked.append(n) or whole(self, n))
    score_extract(finished.bundle, extract, out=out, selection=rule, coverage=coverage)
    assert asked[0] == 0


def test_a_second_call_for_the_same_file_is_refused_and_gets_nothing_into_it(
    finished, foreign, small_portions, tmp_path, monkeypatch
):
    undisturbed, out = tmp_path / "undisturbed.parquet", tmp_path / "scores.parquet"
    score_extract(finished.bundle, finished.extract, out=undisturbed)
    whole, refused = Stream.score, []

    def disturbed(self, number):
        if number == 2:
            for extract in (finished.extract, foreign):
                with pytest.raises(ConfigError, match="another call is at work") as error:
                    score_extract(finished.bundle, extract, out=out)
                refused.append(str(error.value))
        return whole(self, number)

    monkeypatch.setattr(Stream, "score", disturbed)
    score_extract(finished.bundle, finished.extract, out=out)
    assert len(refused) == 2
    assert out.read_bytes() == undisturbed.read_bytes()
    assert beside(out) == BOTH


@pytest.mark.parametrize("of_another", ["portion", "rows"])
def test_a_portion_of_another_call_is_scored_again(
    finished, foreign, small_portions, tmp_path, monkeypatch, of_another
):
    """Such as one of a version that let two calls into the folder."""
    whole, asked = Stream.score, []

    def stop_at_the_fourth(self, number):
        if number == 3:
            raise KeyboardInterrupt
        return whole(self, number)

    with monkeypatch.context() as patch:
        patch.setattr(Stream, "score", stop_at_the_fourth)
        for name, extract in {"own": finished.extract, "other": foreign}.items():
            with pytest.raises(KeyboardInterrupt):
                score_extract(finished.bundle, extract, out=tmp_path / f"{name}.parquet")
    own, other = (tmp_path / f".{name}.parquet.parts" for name in ("own", "other"))
    for suffix in ("parquet", "json")[: 2 if of_another == "portion" else 1]:
        shutil.copyfile(other / f"0000001.{suffix}", own / f"0000001.{suffix}")
    monkeypatch.setattr(Stream, "score", lambda self, n: asked.append(n) or whole(self, n))
    score_extract(finished.bundle, finished.extract, out=tmp_path / "own.parquet")
    assert asked[:2] == [1, 3]
    score_extract(finished.bundle, finished.extract, out=tmp_path / "undisturbed.parquet")
    undisturbed = (tmp_path / "undisturbed.parquet").read_bytes()
    assert (tmp_path / "own.parquet").read_bytes() == undisturbed


def test_a_portion_that_is_changed_while_others_are_scored_ends_in_no_file(
    finished, small_portions, tmp_path, monkeypatch
):
    out, whole = tmp_path / "scores.parquet", Stream.score

    def meddle(self, number):
        if number == 3:
            parts = tmp_path / ".scores.parquet.parts"
            shutil.copyfile(parts / "0000000.parquet", parts / "0000001.parquet")
        return whole(self, number)

    monkeypatch.setattr(Stream, "score", meddle)
    with pytest.raises(ConfigError, match="was changed while scores"):
        score_extract(finished.bundle, finished.extract, out=out)
    assert beside(out) == []


CHILD = """
import sys
from clinical.predictor import stream
from clinical.score_file import score_extract
stream.PORTION = 16
bundle, extract, context, out = sys.argv[1:]
print("ready", flush=True)
score_extract(bundle, extract, out=out, context=context or None)
"""


@pytest.mark.slow("starts a dozen processes")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("with_context", [False, True])
def test_killed_at_ten_random_moments_the_file_is_the_undisturbed_one(
    finished, tmp_path, with_context
):
    context = finished.extract if with_context else ""

    def start(out: Path) -> "subprocess.Popen[str]":
        arguments = [sys.executable, "-c", CHILD, finished.bundle, finished.extract, context, out]
        child = subprocess.Popen(map(str, arguments), stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        return child

    undisturbed, out = tmp_path / "undisturbed.parquet", tmp_path / "scores.parquet"
    began = time.monotonic()
    assert start(undisturbed).wait() == 0
    whole, draws, killed = time.monotonic() - began, random.Random(7), 0
    while killed < 10:
        child = start(out)
        try:
            child.wait(timeout=draws.uniform(0, whole))
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            assert child.wait() == -signal.SIGKILL
            killed += 1
        if out.exists():  # it was quicker, or killed when all was done but the tidying
            assert out.read_bytes() == undisturbed.read_bytes()
            out.unlink()
    assert start(out).wait() == 0
    assert out.read_bytes() == undisturbed.read_bytes()
    assert beside(out) == BOTH


# What is told of it


def visible_numbers(extract: Path, *, hours: int) -> pl.DataFrame:
    """Timed numbers in the window, once for each sample that sees them: a naive join."""
    events = pl.read_parquet(extract / "data" / "**" / "*.parquet")
    joined = events.filter(pl.col("numeric_value").is_not_null()).join(
        pl.read_parquet(extract / "samples.parquet"), on="subject_id"
    )
    ago = pl.col("prediction_time") - pl.col("time")
    return joined.filter(ago.is_between(pl.duration(hours=0), pl.duration(hours=hours)))


@pytest.mark.parametrize("with_context", [False, True])
def test_the_samples_events_variables_and_unknown_codes_are_counted(
    finished, foreign, small_portions, tmp_path, with_context
):
    context = foreign if with_context else None
    scored = score_extract(finished.bundle, foreign, out=tmp_path / "x.parquet", context=context)
    seen = visible_numbers(foreign, hours=48)
    rates = seen.filter(pl.col("code") == "HR")
    (events,) = (one for one in scored.recognised if one.modality == "events")
    assert events.samples == rates.select(KEYS).n_unique()
    assert events.events == seen.height
    assert events.unknown == seen.height - rates.height > 0
    known = Predictor.load(finished.bundle).bundle.fitted.statistics["events"]["vocabulary"]
    assert set(events.missing) == set(known) - {"HR"}
    assert events.unknown_codes == {f"LOCAL//{code}" for code in known if code != "HR"}


def test_an_extract_that_the_model_knows_has_no_unknown_code_and_no_warning(
    finished, tmp_path, caplog
):
    scored = score_extract(finished.bundle, finished.extract, out=tmp_path / "x.parquet")
    predictions = pd.read_parquet(scored.out)
    present = predictions["modalities"].str.split("+").explode().value_counts()
    assert {one.modality: one.samples for one in scored.recognised} == dict(present)
    assert all(one.events > one.unknown for one in scored.recognised)
    assert not any(one.missing or one.unknown_codes for one in scored.recognised)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_a_warning_says_where_most_codes_are_unknown(
    finished, foreign, tmp_path, caplog, hospital_tools
):
    score_extract(finished.bundle, foreign, out=tmp_path / "x.parquet")
    lines = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "visible events of events have a code that the model has not learned" in lines[0]
    assert "the cohort differs from the one trained on in 19 of" in lines[1]
    assert str(hospital_tools.FIRST)[:6] not in "".join(lines)


def test_progress_is_told_up_to_the_last_sample(finished, small_portions, tmp_path):
    told = []
    score_extract(
        finished.bundle,
        finished.extract,
        out=tmp_path / "x.parquet",
        progress=lambda done, total: told.append((done, total)),
    )
    n = len(pd.read_parquet(tmp_path / "x.parquet"))
    assert told[-1] == (n, n)
    assert [done for done, _ in told] == sorted({done for done, _ in told})


def test_a_task_that_could_hardly_be_calibrated_is_told_of(finished, tmp_path):
    scored = score_extract(finished.bundle, finished.extract, out=tmp_path / "x.parquet")
    calibration = json.loads((finished.bundle / "calibration.json").read_text())
    reasons = {name: fit["reason"] for name, fit in calibration.items() if fit["reason"]}
    assert scored.notes == reasons
    assert reasons


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"coverage": 0.905}, "coverage: 0.905 cannot be asked for"),
        ({"coverage": 90}, "coverage: 90 cannot be asked for"),
        ({"form": "meds"}, "format: there is no meds"),
        ({"task": "in_hospital_mortality"}, "predictions hold every task"),
        ({"form": "meds-evaluation", "task": "x"}, "the bundle has no binary task x"),
        ({"labels": ["nowhere"]}, "labels: there is no folder nowhere"),
        ({"selection": Selection(file=Path("no.parquet"))}, "samples: there is no such file"),
        ({"out": Path("scores.csv")}, "what is written is Parquet; call it scores.parquet"),
    ],
)
def test_mistakes_are_told_before_anything_is_scored(
    finished, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=words):
        score_extract(finished.bundle, finished.extract, **{"out": Path("x.parquet")} | arguments)
    assert list(tmp_path.iterdir()) == []

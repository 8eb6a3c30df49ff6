"""A run from end to end: what it leaves, how it is resumed, what it refuses, what it tells."""

import clinical
from clinical.cohort.store import Store
from clinical.config_file import load_yaml
from clinical.errors import ConfigError, SchemaError
from clinical.experiment import Run
from clinical.predictor import Predictor
from clinical.training.build import build_model
from clinical.training.finetune import FinetuneStage

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

KEYS = ["subject_id", "prediction_time"]


def tree(folder: Path) -> dict[str, int]:
    """Every file with its time of change."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in files}


@pytest.fixture
def read(hospital_tools, hospital):
    """The quick tiny run with other overrides."""

    def call(out: Path, *more: str, extract: Path = hospital) -> Run:
        return Run.read(hospital_tools.TINY, hospital_tools.overrides(extract, out, *more))

    return call


# What a run leaves


def test_a_run_leaves_the_documented_folder(finished):
    found = {path.name for path in finished.out.iterdir()}
    assert found == {
        "run.yaml",
        "store",
        "logs",
        "checkpoints",
        "bundle",
        "predictions.parquet",
        "predictions_baseline.parquet",
        "predictions_left_out.parquet",
        "metrics.json",
        "figures",
    }
    figures = {path.name for path in (finished.out / "figures").iterdir()}
    assert figures == {"roc.png", "pr.png", "calibration.png", "net_benefit.png", "training.png"}


def test_the_resolved_run_reads_back_as_the_run_and_says_what_it_was_made_from(
    finished, hospital_tools
):
    saved = load_yaml(finished.out / "run.yaml")
    provenance = saved.pop("provenance")
    given = Run.read(hospital_tools.TINY, hospital_tools.overrides(finished.extract, finished.out))
    assert Run.parse(saved, where="run.yaml") == given
    assert provenance["clinical"] == clinical.__version__
    assert provenance["extract_fingerprint"] == Store.open(finished.out / "store").fingerprint


def test_predictions_and_baseline_are_of_the_held_out_samples(finished):
    splits = pl.read_parquet(finished.extract / "metadata" / "subject_splits.parquet")
    held_out = splits.filter(pl.col("split") == "held_out")["subject_id"].to_list()
    for name in ("predictions.parquet", "predictions_baseline.parquet"):
        frame = pd.read_parquet(finished.out / name)
        assert set(frame["subject_id"]) == set(held_out)
        assert frame["score"].between(0, 1).all()
        assert frame["label"].isin([0.0, 1.0]).all()


def test_thresholds_are_chosen_on_the_calibrate_half_and_travel_in_the_bundle(finished):
    store = Store.open(finished.out / "store")
    scores = Predictor.load(finished.bundle).score_store(store, store.rows("calibrate"))
    chosen = clinical.choose_thresholds(
        scores.dropna(subset=["score", "label"]),
        rules={"sensitivity": [0.8, 0.9], "alert_rate": [0.1]},
    )
    written = json.loads((finished.bundle / "thresholds.json").read_text())
    for task, thresholds in chosen.items():
        assert written[task] == pytest.approx(thresholds)


def test_the_metrics_name_the_split_and_are_those_of_the_predictions(finished):
    metrics = json.loads((finished.out / "metrics.json").read_text())
    assert metrics["split"] == "held_out"
    baseline = pd.read_parquet(finished.out / "predictions_baseline.parquet")
    less = pd.read_parquet(finished.out / "predictions_left_out.parquet")
    again = clinical.evaluate(
        pd.concat([finished.predictions, less]),
        baseline=baseline,
        thresholds=finished.bundle / "thresholds.json",
        resamples=20,
        seed=3,
    )
    assert metrics["evaluation"] == json.loads(json.dumps(again.to_json(smallest=10)))
    assert (finished.bundle / "metrics.json").read_text() == (
        finished.out / "metrics.json"
    ).read_text()


def test_pretraining_learns(finished):
    curves = pd.read_csv(finished.out / "logs" / "member-0" / "pretrain.csv")
    for name in ("train/loss", "tuning/loss"):
        losses = curves[curves["name"] == name].sort_values("epoch")["value"].to_numpy()
        assert len(losses) == 4
        assert losses[-1] < 0.97 * losses[0]


def test_the_card_says_that_it_is_no_medical_device_and_how_it_did(finished):
    card = (finished.bundle / "MODEL_CARD.md").read_text()
    for text in ("not a medical device", "AUROC", "pseudonyms", "held_out"):
        assert text in card


def test_the_card_says_how_scores_do_without_each_part_as_the_metrics_do(finished):
    card = (finished.bundle / "MODEL_CARD.md").read_text()
    missing = card.partition("## When inputs are missing")[2].partition("\n## ")[0]
    metrics = json.loads((finished.out / "metrics.json").read_text())
    for part in ("events", "static", "notes", "images", "codes", "graph"):
        (row,) = [
            row
            for row in metrics["evaluation"]["costs"]
            if row["left_out"] == part and row["metric"] == "AUROC"
        ]
        assert f"| {part} | {row['without']:.3f} | " in missing
    less = pd.read_parquet(finished.out / "predictions_left_out.parquet")
    predictor = Predictor.load(finished.bundle)
    store = Store.open(finished.out / "store")
    again = predictor.score_store(store, store.rows("held_out"), without=frozenset({"notes"}))
    assert np.allclose(less.loc[less["left_out"] == "notes", "score"], again["score"])


# What it tells


def test_nothing_but_store_and_predictions_contains_a_subject_or_the_text_of_a_note(
    finished, hospital_tools
):
    subjects = pl.read_parquet(finished.extract / "samples.parquet")["subject_id"].unique()
    secrets = [str(subject).encode() for subject in subjects]
    secrets += [hospital_tools.WORD.encode()]
    notes = pl.read_parquet(finished.extract / "data" / "**" / "*.parquet")["text_value"]
    secrets += [note[:40].encode() for note in notes.drop_nulls().unique() if len(note) >= 40]
    assert len(secrets) > 300
    assert any(hospital_tools.WORD in note for note in notes.drop_nulls())
    assert "epoch 1" in finished.screen
    texts = {"screen": finished.screen.encode()}
    for path in finished.out.rglob("*"):
        inside = path.relative_to(finished.out)
        if path.is_file() and inside.parts[0] != "store" and "predictions" not in path.name:
            texts[str(inside)] = path.read_bytes()
    assert len(texts) > 15
    assert [name for name, text in texts.items() if any(s in text for s in secrets)] == []


# The same again


def test_the_same_run_twice_gives_the_same_predictions(finished, read, tmp_path):
    clinical.run(read(tmp_path / "again"))
    again = pd.read_parquet(tmp_path / "again" / "predictions.parquet")
    pd.testing.assert_frame_equal(again, finished.predictions)


def without_the_truth_of_held_out(extract: Path, copy: Path) -> Path:
    """A copy in which every label of held_out is another one, and every number twice as large."""
    shutil.copytree(extract, copy)
    splits = pl.read_parquet(copy / "metadata" / "subject_splits.parquet")
    subjects = splits.filter(pl.col("split") == "held_out")["subject_id"].to_list()
    is_held_out = pl.col("subject_id").is_in(subjects)
    for path in sorted([*(copy / "data").rglob("*.parquet"), *(copy / "tasks").rglob("*.parquet")]):
        frame = pl.read_parquet(path)
        other = pl.col("numeric_value") * 2 if "code" in frame else ~pl.col("boolean_value")
        name = other.meta.root_names()[0]
        changed = pl.when(is_held_out).then(other).otherwise(name).cast(frame[name].dtype)
        frame.with_columns(changed.alias(name)).write_parquet(path)
    return copy


def test_nothing_of_held_out_reaches_a_model(finished, read, hospital, tmp_path):
    other = without_the_truth_of_held_out(hospital, tmp_path / "other")
    clinical.run(read(tmp_path / "run", extract=other))
    found = clinical.Predictor.load(tmp_path / "run" / "bundle").score(hospital)
    joined = finished.predictions.merge(found, on=KEYS, suffixes=("", "_found"))
    assert len(joined) == len(finished.predictions)
    np.testing.assert_allclose(joined["score_found"], joined["score"], rtol=0, atol=1e-5)
    written = pd.read_parquet(tmp_path / "run" / "predictions.parquet")
    joined = finished.predictions.merge(written, on=KEYS, suffixes=("", "_other"))
    assert (joined["label_other"] == 1 - joined["label"]).all()
    assert ((joined["score_other"] - joined["score"]).abs() > 1e-5).mean() > 0.5


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(6000):
        if path.exists():
            return
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        time.sleep(0.02)
    raise AssertionError(f"{path} did not appear")


def kill_during(stage: str, out: Path, extract: Path, tools) -> None:
    """Start the command, and kill it as soon as a stage has written its first epoch."""
    # A console script's own program, without depending on where it is installed.
    program = "from clinical.cli import main; main()"
    arguments = ["run", tools.TINY, *tools.overrides(extract, out, "resume=true")]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        wait_for(out / "logs" / "member-0" / f"{stage}.csv", process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "checkpoints" / "member-0" / stage / "model.safetensors").exists()


def test_a_run_killed_in_each_stage_and_resumed_scores_as_an_undisturbed_one(
    finished, read, hospital_tools, tmp_path
):
    out = tmp_path / "killed"
    out.mkdir()
    shutil.copytree(finished.out / "store", out / "store")  # its making has tests of its own
    for stage in ("pretrain", "finetune"):
        kill_during(stage, out, finished.extract, hospital_tools)
    weights = out / "checkpoints" / "member-0" / "pretrain" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    with pytest.raises(ConfigError, match=r"holds an interrupted run; .* resume=true"):
        clinical.run(read(out))
    clinical.run(read(out, "resume=true"))
    assert weights.stat().st_mtime_ns == before
    found = pd.read_parquet(out / "predictions.parquet")
    assert found[KEYS].equals(finished.predictions[KEYS])
    np.testing.assert_allclose(found["score"], finished.predictions["score"], rtol=0, atol=1e-5)
    for stage, first in (("pretrain", 1), ("finetune", 0)):
        epochs = pd.read_csv(out / "logs" / "member-0" / f"{stage}.csv")["epoch"]
        assert sorted(epochs.unique()) == list(range(first, 5))


def test_few_labels_may_all_be_learned_and_then_nothing_is_chosen_on_them(finished, read, tmp_path):
    out = tmp_path / "few"
    out.mkdir()
    shutil.copytree(finished.out / "store", out / "store")
    quick = ("pretrain=null", "finetune.epochs=1", "finetune.keep=last", "evaluate.resamples=2")
    seen = []
    training_step = FinetuneStage.training_step

    def watched(self, batch, index):
        seen.extend(batch.row.tolist())
        return training_step(self, batch, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FinetuneStage, "training_step", watched)
        clinical.run(read(out, *quick, "finetune.learn_tuning=true"))
    store = Store.open(out / "store")
    learned = np.concatenate([store.rows(split) for split in ("train", "select", "calibrate")])
    assert sorted(set(seen)) == sorted(learned)
    calibration = json.loads((out / "bundle" / "calibration.json").read_text())
    assert calibration["in_hospital_mortality"]["kind"] == "identity"
    assert "not calibrated" in calibration["in_hospital_mortality"]["reason"]


# What is refused


@pytest.mark.parametrize("name", ["gpu", "cuda", "mps"])
def test_an_accelerator_that_is_not_there_is_told_before_preparing(
    finished, read, tmp_path, monkeypatch, name
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    with pytest.raises(ConfigError, match=f"there is no {name} here; use cpu or auto"):
        clinical.run(read(tmp_path / "out", f"trainer.accelerator={name}"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", [clinical.run, clinical.pretrain, clinical.finetune])
def test_a_finished_run_is_not_overwritten(finished, read, verb):
    before = tree(finished.out)
    with pytest.raises(ConfigError, match=r"holds a finished run; .* overwrite=true"):
        verb(read(finished.out))
    assert tree(finished.out) == before


@pytest.mark.parametrize("verb", [clinical.run, clinical.pretrain, clinical.finetune])
def test_resuming_with_other_keys_is_refused_naming_them(finished, read, verb):
    before = tree(finished.out)
    other = read(finished.out, "resume=true", "seed=4", "finetune.epochs=9")
    with pytest.raises(ConfigError, match="other values of finetune, seed; use the same"):
        verb(other)
    assert tree(finished.out) == before


def test_pretraining_again_needs_a_word_and_then_leaves_nothing_of_before(finished, read, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished.out, out, ignore=shutil.ignore_patterns("bundle"))
    shutil.copytree(out / "checkpoints" / "member-0", out / "checkpoints" / "member-1")
    with pytest.raises(ConfigError, match="holds an interrupted run"):
        clinical.pretrain(read(out, "seed=5"))
    clinical.pretrain(read(out, "seed=5", "overwrite=true", "pretrain.epochs=1"))
    left = {path.relative_to(out).as_posix() for path in (out / "checkpoints").rglob("*.*")}
    assert left == {"checkpoints/member-0/pretrain/model.safetensors"}


def test_weights_that_were_pretrained_otherwise_are_not_fine_tuned(finished, read, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished.out, out, ignore=shutil.ignore_patterns("bundle"))
    before = tree(out)
    for other in ("seed=5", "fusion.width=20", "pretrain.epochs=9"):
        key = other.partition("=")[0].partition(".")[0]
        with pytest.raises(ConfigError, match=f"pretrained with other values of {key}; use the"):
            clinical.finetune(read(out, other))
    assert tree(out) == before


def test_resuming_with_other_threads_or_a_folder_written_otherwise_is_the_same_run(
    finished, read, monkeypatch
):
    def checked(*_):
        raise InterruptedError

    monkeypatch.setattr("clinical.pipeline.prepare", checked)
    monkeypatch.chdir(finished.extract.parent)
    relative = Path("nowhere") / ".." / finished.extract.name
    for more, extract in (
        (("trainer.threads=7", "trainer.workers=1"), finished.extract),
        ((), relative),
    ):
        with pytest.raises(InterruptedError):
            clinical.run(read(finished.out, "resume=true", *more, extract=extract))
    for more in (("trainer.precision=bf16-mixed",), ("splits=x.parquet",)):
        with pytest.raises(ConfigError, match=f"other values of {more[0].split('=')[0][:6]}"):
            clinical.run(read(finished.out, "resume=true", *more))


def test_resuming_on_a_changed_extract_is_refused(finished, read, tmp_path):
    out, extract = tmp_path / "run", tmp_path / "extract"
    shutil.copytree(finished.extract, extract, copy_function=os.link)
    out.mkdir()
    shutil.copy(finished.out / "run.yaml", out)
    saved = (out / "run.yaml").read_text().replace(str(finished.extract), str(extract))
    (out / "run.yaml").write_text(saved)
    (shard,) = (extract / "data").rglob("*.parquet")
    events = pl.read_parquet(shard)
    shard.unlink()
    events.with_columns(pl.col("numeric_value") + 1).write_parquet(shard)
    with pytest.raises(ConfigError, match="was changed since the run in"):
        clinical.run(read(out, "resume=true", extract=extract))


def test_a_run_never_touches_a_folder_that_is_none_of_its_own(finished, read, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "diary.txt").write_text("mine")
    before = tree(tmp_path)
    for more in ((), ("overwrite=true",), ("resume=true",)):
        with pytest.raises(ConfigError, match=r"has logs but no run\.yaml, so it is no run"):
            clinical.run(read(tmp_path, *more))
    assert tree(tmp_path) == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is a file"):
        clinical.run(read(tmp_path / "file"))


def test_overwriting_with_a_bad_extract_leaves_the_finished_run_alone(finished, read):
    before = tree(finished.out)
    with pytest.raises(ConfigError, match="nowhere"):
        clinical.run(read(finished.out, "overwrite=true", extract=Path("nowhere")))
    assert tree(finished.out) == before


def test_finetuning_without_the_pretrained_weights_says_what_to_do(finished, read, tmp_path):
    shutil.copytree(finished.out / "store", tmp_path / "run" / "store")
    with pytest.raises(ConfigError, match="run `clinical pretrain` first"):
        clinical.finetune(read(tmp_path / "run"))


def test_pretraining_without_objectives_says_what_to_do(read, tmp_path):
    with pytest.raises(ConfigError, match="add objectives"):
        clinical.pretrain(read(tmp_path / "run", "pretrain=null"))
    assert tree(tmp_path) == {}


def test_weights_for_an_encoder_that_takes_none_are_refused(finished, read, tmp_path):
    store = Store.open(finished.out / "store")
    with pytest.raises(
        ConfigError, match=r"modalities\.static: weights: MLPEncoder learns from scr"
    ):
        build_model(read(tmp_path, "modalities.static.weights=x"), store)


def test_scores_are_written_whole_or_not_at_all(finished, tmp_path):
    out = tmp_path / "deep" / "scores.parquet"
    scores = clinical.score(finished.bundle, finished.extract, out=out)
    table = pl.read_parquet(out)
    assert table["score"].to_list() == scores["score"].to_list()
    assert {table[name].dtype for name in ("task", "class", "reason", "modalities")} == {pl.String}
    assert tree(tmp_path).keys() == {"deep/scores.parquet", "deep/scores.drift.parquet"}
    with pytest.raises(ConfigError, match="is a folder"):
        clinical.score(finished.bundle, finished.extract, out=tmp_path)
    with pytest.raises(ConfigError):
        clinical.score(finished.bundle, tmp_path / "nowhere", out=tmp_path / "x.parquet")
    assert tree(tmp_path).keys() == {"deep/scores.parquet", "deep/scores.drift.parquet"}


def test_a_predictions_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="there is no such file"):
        clinical.evaluate(tmp_path / "nowhere.parquet")
    (tmp_path / "x.parquet").write_text("no parquet")
    with pytest.raises(SchemaError, match="is not readable Parquet"):
        clinical.evaluate(tmp_path / "x.parquet")

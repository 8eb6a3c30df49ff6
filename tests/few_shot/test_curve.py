"""The verb from an extract to a curve: what it may not see, what it does once, what it refuses."""

import clinical
from clinical.few_shot import curve as few_shot_curve
from clinical.few_shot.lines import few_labels
from clinical.few_shot.result import LearningCurve
from clinical.unfinished import alone

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import yaml

TASK = "in_hospital_mortality"
CONFIG = {
    "seed": 3,
    "modalities": {
        "events": {"encoder": "event_set", "width": 8, "layers": 1},
        "static": {"encoder": "mlp", "width": 8},
    },
    "fusion": {"width": 8},
    "graph": {"relations": {"similar": {"k": 3}}},
    "pretrain": {"epochs": 1, "objectives": {"values": 1.0}},
    "finetune": {"epochs": 2, "try_relations": False},
    "experts": ["lightgbm"],
    "trainer": {"accelerator": "cpu", "threads": 1},
    "tasks": {TASK: {"kind": "binary", "labels": f"tasks/{TASK}"}},
}


def configured(extract: Path, out: Path, *overrides: str, **changes: object) -> clinical.Run:
    raw = {**CONFIG, "extract": str(extract), "out": str(out), **changes}
    path = out.with_name(f"{out.name}.yaml")
    path.write_text(yaml.safe_dump(raw))
    return clinical.Run.read(path, overrides)


def drawn(config: clinical.Run, **asked: object) -> LearningCurve:
    return clinical.learning_curve(
        config, **{"positives": [2], "draws": 2, "resamples": 30, **asked}
    )


def scores(out: Path) -> dict[str, np.ndarray]:
    """Draw and line -> held-out scores."""
    found = sorted(out.glob("learning-curve/scores/*/*/*.parquet"))
    return {f"{p.parent.name}/{p.stem}": pd.read_parquet(p)["score"].to_numpy() for p in found}


@pytest.fixture(scope="module")
def made(hospital: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LearningCurve]:
    """A curve with all three lines, and the folder of its run; not to be written to."""
    out = tmp_path_factory.mktemp("curve") / "run"
    return out, drawn(configured(hospital, out), scratch=True, positives=[2, 10_000])


def test_every_line_sees_every_draw_and_what_cannot_be_drawn_is_said(made):
    out, curve = made
    assert curve.table[["line", "draw"]].values.tolist() == [
        [line, draw] for draw in (0, 1) for line in ("pretrained", "scratch", "LightGBM")
    ]
    assert (curve.table[["labels", "positives_seen"]] == [8, 4]).all(axis=None)
    assert list(curve.skipped) == ["10000"]
    assert "fewer than 10,000" in curve.skipped["10000"]
    assert curve.differences["other"].tolist() == ["scratch", "LightGBM"]
    found = scores(out)
    assert len(found) == 6
    assert all(np.isfinite(each).all() and len(each) == curve.n_held_out for each in found.values())
    written = pd.read_csv(out / "learning-curve" / "curve.csv")
    pd.testing.assert_frame_equal(written, curve.table, check_dtype=False)
    assert (out / "learning-curve" / "curve.png").stat().st_size > 10_000


def test_changed_labels_of_held_out_patients_change_no_score(made, hospital, tmp_path):
    extract = tmp_path / "extract"
    shutil.copytree(hospital, extract)
    splits = pl.read_parquet(extract / "metadata" / "subject_splits.parquet")
    held_out = splits.filter(pl.col("split") == "held_out")["subject_id"].to_list()
    n_changed = 0
    for path in (extract / "tasks" / TASK).rglob("*.parquet"):
        labels = pl.read_parquet(path)
        is_held_out = pl.col("subject_id").is_in(held_out)
        n_changed += labels.filter(is_held_out).height
        flipped = pl.when(is_held_out).then(~pl.col("boolean_value")).otherwise("boolean_value")
        labels.with_columns(boolean_value=flipped).write_parquet(path)
    assert n_changed > 10
    planted = drawn(configured(extract, tmp_path / "run"), scratch=True)
    before, after = scores(made[0]), scores(tmp_path / "run")
    assert before.keys() == after.keys()
    for name, of_line in before.items():
        np.testing.assert_array_equal(of_line, after[name], err_msg=name)
    assert planted.table["auroc"].tolist() == pytest.approx((1 - made[1].table["auroc"]).tolist())


def test_changed_labels_that_are_learned_change_the_scores(made, hospital, tmp_path):
    extract = tmp_path / "extract"
    shutil.copytree(hospital, extract)
    splits = pl.read_parquet(extract / "metadata" / "subject_splits.parquet")
    held_out = splits.filter(pl.col("split") == "held_out")["subject_id"].to_list()
    for path in (extract / "tasks" / TASK).rglob("*.parquet"):
        labels = pl.read_parquet(path)
        keep = pl.col("subject_id").is_in(held_out)
        flipped = pl.when(keep).then("boolean_value").otherwise(~pl.col("boolean_value"))
        labels.with_columns(boolean_value=flipped).write_parquet(path)
    drawn(configured(extract, tmp_path / "run"), scratch=True, draws=1)
    before, after = scores(made[0]), scores(tmp_path / "run")
    assert all(
        not np.array_equal(before[name], after[name]) for name in after if "LightGBM" not in name
    )


def test_a_draw_of_all_labels_scores_as_a_run_that_learns_them_does(hospital, tmp_path):
    learned = ["finetune.learn_tuning=true", "finetune.keep=last", "experts=[]"]
    run = configured(hospital, tmp_path / "run", *learned, evaluate={"resamples": 2})
    clinical.run(run)
    drawn(configured(hospital, tmp_path / "few"), shares=[1.0], draws=5)
    keys = ["subject_id", "prediction_time"]
    whole = pd.read_parquet(tmp_path / "run" / "predictions.parquet")
    files = sorted((tmp_path / "few").glob("learning-curve/scores/*/*/pretrained.parquet"))
    assert [file.parent.name for file in files] == ["100%-0"]  # five draws would be the same
    both = pd.read_parquet(files[0]).merge(whole, on=keys, suffixes=("", "_of_run"))
    assert len(both) > 10
    np.testing.assert_allclose(both["score"], both["score_of_run"], atol=1e-6)


def test_finished_draws_and_weights_are_not_made_again(made, hospital, tmp_path, monkeypatch):
    out = tmp_path / "run"
    shutil.copytree(made[0], out)
    weights = out / "learning-curve/checkpoints/member-0/pretrain/model.safetensors"
    written = weights.stat().st_mtime_ns
    lost = next(out.glob("learning-curve/scores/*/2-1/scratch.parquet"))
    expected = pd.read_parquet(lost)
    lost.unlink()  # as if killed before it was scored
    scored = []
    real = few_shot_curve.network_risks

    def counting(config, *arguments, **named):
        scored.append(config.out.name)
        return real(config, *arguments, **named)

    monkeypatch.setattr(few_shot_curve, "network_risks", counting)
    again = drawn(configured(hospital, out), scratch=True)
    assert scored == ["scratch"]
    pd.testing.assert_frame_equal(pd.read_parquet(lost), expected)
    pd.testing.assert_frame_equal(again.table, made[1].table)
    assert weights.stat().st_mtime_ns == written
    assert not any((out / "learning-curve" / "draws").iterdir())


def test_a_folder_of_other_settings_is_refused_and_replaced_if_said(made, hospital, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(made[0], out)
    with pytest.raises(clinical.ConfigError, match="other values of finetune"):
        drawn(configured(hospital, out, "finetune.epochs=1"))
    before = scores(out)
    drawn(configured(hospital, out, "finetune.epochs=1", "overwrite=true"), draws=1)
    after = scores(out)
    assert list(after) == ["2-0/LightGBM", "2-0/pretrained"]
    assert not np.array_equal(before["2-0/pretrained"], after["2-0/pretrained"])


def test_nothing_is_chosen_by_few_labels(hospital, tmp_path):
    config = few_labels(configured(hospital, tmp_path / "run"))
    assert config.finetune.learn_tuning
    assert config.finetune.keep == "last"
    assert config.finetune.patience is None
    assert config.experts == []
    clinical.Run.parse(config.dump(), where="few labels")  # no contradiction


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"positives": []}, "none given"),
        ({"positives": [0]}, "0 is none"),
        ({"shares": [2.0]}, "2 is not above 0"),
        ({"draws": 0}, "1 or more"),
        ({"task": "sepsis"}, "there is no sepsis; known are in_hospital_mortality"),
        ({"positives": [5000]}, "no draw is possible"),
    ],
)
def test_what_cannot_be_drawn_is_refused(made, hospital, tmp_path, asked, said):
    out = tmp_path / "run"
    shutil.copytree(made[0], out)
    with pytest.raises(clinical.ConfigError, match=said):
        drawn(configured(hospital, out), **asked)


def test_two_calls_do_not_work_in_one_folder(made, hospital, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(made[0], out)
    config = configured(hospital, out)
    refused = pytest.raises(clinical.ConfigError, match="another call is at work")
    with alone(out / "learning-curve", what="a test"), refused:
        drawn(config, scratch=True)
    assert drawn(config, scratch=True).n_draws == 2


def test_a_curve_may_begin_from_a_bundle(finished, hospital, tmp_path):
    """Without pretraining of its own; the line from scratch takes nothing of the bundle."""
    shape = {"modalities": finished_modalities(finished), "fusion": {"width": 16}, "graph": {}}
    begun = configured(
        hospital,
        tmp_path / "run",
        f"finetune.init={finished.bundle}",
        pretrain=None,
        **shape,
    )
    curve = drawn(begun, draws=1, scratch=True)
    assert list(dict.fromkeys(curve.table["line"])) == ["pretrained", "scratch", "LightGBM"]
    found = scores(tmp_path / "run")
    assert not np.allclose(found["2-0/pretrained"], found["2-0/scratch"], atol=1e-4)


def finished_modalities(finished) -> dict[str, object]:
    """Two of those that the bundle has, of its shape."""
    raw = yaml.safe_load((finished.out / "run.yaml").read_text())["modalities"]
    return {name: raw[name] for name in ("events", "static")}


def test_a_task_that_is_not_binary_is_refused_before_anything_is_prepared(hospital, tmp_path):
    tasks = {
        "stay": {"kind": "regression", "labels": f"tasks/{TASK}", "unit": "d"},
        TASK: CONFIG["tasks"][TASK],
    }
    config = configured(hospital, tmp_path / "run", tasks=tasks)
    with pytest.raises(clinical.ConfigError, match="say which of in_hospital_mortality, stay"):
        drawn(config)
    with pytest.raises(clinical.ConfigError, match=r"tasks\.stay: is a regression task"):
        drawn(config, task="stay")
    assert not (tmp_path / "run").exists()


def test_a_picture_is_drawn_into_given_axes(made):
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    assert made[1].plot(ax, metric="AUPRC") is ax
    assert ax.get_ylabel() == "AUPRC"
    _, labels = ax.get_legend_handles_labels()
    assert labels == ["pretrained", "scratch", "LightGBM"]
    with pytest.raises(clinical.ConfigError, match="there is no"):
        made[1].plot(ax, metric="F1")


def test_the_command_shows_the_table_and_goes_on_with_what_is_there(
    made, hospital, command, tmp_path
):
    out = tmp_path / "run"
    shutil.copytree(made[0], out)
    configured(hospital, out)
    code, shown, _ = command(
        "learning-curve", tmp_path / "run.yaml", "--positives", "2", "--draws", "2", "--scratch"
    )
    assert code == 0
    assert "means of 2 draws" in shown
    assert "pretrained − it" in shown
    assert all(len(line) <= 80 for line in shown.splitlines() if "/" not in line)
    code, _, error = command("learning-curve", tmp_path / "run.yaml", "--positives", "two")
    assert (code, error) == (2, "error: --positives: two are no numbers; give them as 1,2,4\n")

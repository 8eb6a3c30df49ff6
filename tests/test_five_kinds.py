"""One trunk that serves all five kinds of task at once, most of their labels absent."""

import clinical
from clinical.bundle import Bundle
from clinical.cohort.store import Store
from clinical.errors import BundleError, ConfigError
from clinical.finishing import _members
from clinical.leak_audit.bench import Bench
from clinical.predictor import Predictor
from clinical.predictor.facts import facts_of

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

KEYS = ["subject_id", "prediction_time"]


@pytest.fixture(scope="module")
def tools():
    path = Path(__file__).with_name("five_kinds.py")
    spec = importlib.util.spec_from_file_location("five_kinds", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def extract(tools, hospital, tmp_path_factory):
    root = tmp_path_factory.mktemp("five") / "extract"
    shutil.copytree(hospital, root)
    tools.write_labels(root)
    return root


@pytest.fixture(scope="module")
def run(tools, extract):
    """A finished run."""
    config = tools.configure(extract, extract.with_name("run"))
    evaluation = clinical.run(config)
    return config, evaluation


@pytest.fixture(scope="module")
def predictions(run):
    return pd.read_parquet(run[0].out / "predictions.parquet")


@pytest.fixture(scope="module")
def scores(run, extract):
    return clinical.Predictor.load(run[0].out / "bundle").score(extract)


def value(evaluation, task, metric, **where):
    table = evaluation.table
    for column, wanted in {"class": None, "horizon_hours": None, **where}.items():
        table = table[table[column].isna() if wanted is None else table[column] == wanted]
    (row,) = table[(table["task"] == task) & (table["metric"] == metric)].to_dict("records")
    return row["value"]


def test_there_is_one_row_a_sample_task_class_and_horizon(predictions):
    n = len(predictions[KEYS].drop_duplicates())
    per_task = predictions.groupby("task", sort=False).size() / n
    assert per_task.to_dict() == {"old": 1, "group": 3, "findings": 2, "years": 1, "event": 2}
    assert not predictions.duplicated([*KEYS, "task", "class", "horizon_hours"]).any()
    classes = predictions.groupby("task")["class"].agg(lambda c: sorted(c.dropna().unique()))
    assert classes["group"] == ["adult", "middle", "old"]
    assert classes["findings"] == ["junior", "senior"]
    assert classes["old"] == classes["years"] == classes["event"] == []
    is_timed = predictions["task"] == "event"
    assert set(predictions.loc[is_timed, "horizon_hours"]) == {100, 400}
    assert predictions.loc[~is_timed, "horizon_hours"].isna().all()
    assert predictions.loc[~is_timed, "label_observed"].isna().all()


def test_labels_are_the_truth_of_each_row_and_most_are_absent_somewhere(predictions, extract):
    share = predictions.groupby("task")["label"].agg(lambda label: label.notna().mean())
    assert share.between(0.3, 0.9).all()
    event = pd.read_parquet(extract / "tasks" / "event")
    rows = predictions[predictions["task"] == "event"].merge(event, on=KEYS)
    assert len(rows)
    assert (rows["label"] == rows["float_value"]).all()
    assert (rows["label_observed"] == rows["boolean_value"]).all()
    group = pd.read_parquet(extract / "tasks" / "group")
    rows = predictions[predictions["task"] == "group"].merge(group, on=KEYS)
    is_class = rows["class"].to_numpy() == rows["categorical_value"].to_numpy()
    np.testing.assert_array_equal(rows["label"], is_class.astype(float))


def test_scores_are_probabilities_risks_and_values(predictions):
    by_task = dict(iter(predictions.groupby("task")))
    total = by_task["group"].groupby(KEYS)["score"].sum()
    np.testing.assert_allclose(total, 1, atol=1e-9)
    assert by_task["findings"]["score"].between(0, 1).all()
    assert by_task["years"]["score"].between(10, 110).all()
    risks = by_task["event"].pivot(index=KEYS, columns="horizon_hours", values="score")
    assert risks.to_numpy().min() >= 0
    assert risks.to_numpy().max() <= 1
    assert (risks[100] < risks[400]).all()


def test_classes_have_sets_values_have_intervals_and_risks_by_a_time_have_neither(predictions):
    by_task = dict(iter(predictions.groupby("task")))
    for task in ("old", "group", "findings"):
        assert by_task[task]["in_set"].notna().all()
        assert by_task[task][["low", "high"]].isna().all(axis=None)
    for task in ("old", "findings"):
        assert by_task[task]["other_in_set"].notna().all()
    assert by_task["group"]["other_in_set"].isna().all()
    years, event = by_task["years"], by_task["event"]
    middle = (years["low"] + years["high"]) / 2
    np.testing.assert_allclose(middle, years["score"])
    assert np.ptp(years["high"] - years["low"]) < 1e-9
    sets = ["in_set", "other_in_set", "low", "high", "coverage"]
    assert event[sets].isna().all(axis=None)
    assert set(predictions["coverage"].dropna()) == {0.9}
    assert set(event["calibration"]) == set(years["calibration"]) == {"none"}
    assert "none" not in set(by_task["group"]["calibration"])


def test_what_the_bundle_shows_names_every_task_with_how_it_did(run):
    shown = facts_of(Bundle.read(run[0].out / "bundle"))
    assert "R2" in shown["task years"]
    assert "in years" in shown["task years"]
    assert "time_to_event by 100, 400 h" in shown["task event"]
    assert "judged on too few people" in shown["task event"]  # few had it, of few held out
    assert "macro AUROC" in shown["task group"]
    bare = "as the network gives them, not calibrated"
    assert shown["  scores of years"].startswith(f"{bare}; intervals of ")
    assert shown["  scores of event"] == f"{bare}; no sets"


def test_every_kind_is_learned(scores, extract):
    # Of the tuning subjects too: held-out ones alone are too few for anything but luck.
    splits = pd.read_parquet(extract / "metadata" / "subject_splits.parquet")
    others = splits.loc[splits["split"] != "train", "subject_id"]
    evaluation = clinical.evaluate(scores[scores["subject_id"].isin(others)], resamples=10)
    assert value(evaluation, "old", "AUROC") > 0.8
    assert value(evaluation, "group", "macro AUROC") > 0.75
    assert value(evaluation, "findings", "macro AUROC") > 0.8
    assert value(evaluation, "findings", "AUROC", **{"class": "senior"}) > 0.8
    assert value(evaluation, "years", "R2") > 0.5
    assert value(evaluation, "years", "Spearman") > 0.7
    for horizon in (100, 400):
        assert value(evaluation, "event", "concordance", horizon_hours=horizon) > 0.7
        assert value(evaluation, "event", "Brier at horizon", horizon_hours=horizon) < 0.2


def test_the_baseline_answers_every_kind_too(run, predictions):
    baseline = pd.read_parquet(run[0].out / "predictions_baseline.parquet")
    columns = [*KEYS, "task", "class", "horizon_hours", "label", "kind"]
    pd.testing.assert_frame_equal(baseline[columns], predictions[columns])
    assert baseline["score"].notna().all()
    against = run[1].table.set_index(["task", "metric"])["baseline"]
    assert against["years", "R2"].item() > 0.5
    assert against["group", "accuracy"].item() > 0.5


def test_alone_or_in_any_batch_a_sample_has_the_same_scores(run, extract, scores):
    predictor = clinical.Predictor.load(run[0].out / "bundle")
    samples = scores[KEYS].drop_duplicates()
    for chosen in (samples.iloc[[5]], samples.iloc[[40, 3, 5]]):
        alone = predictor.score(extract, samples=chosen)
        index = [*KEYS, "task", "class", "horizon_hours"]
        both = alone.merge(scores, on=index, suffixes=("", "_all"))
        assert len(both) == len(alone) == 9 * len(chosen)
        risk = both["kind"] != "regression"
        difference = (both["score"] - both["score_all"]).abs()
        assert difference[risk].max() < 1e-5
        assert difference[~risk].max() < 2e-4  # of years that differ by 20


def test_the_written_predictions_are_what_the_bundle_scores(predictions, scores):
    index = [*KEYS, "task", "class", "horizon_hours"]
    both = predictions.merge(scores, on=index, suffixes=("", "_again"))
    assert len(both) == len(predictions)
    np.testing.assert_allclose(both["score"], both["score_again"], atol=1e-4)


def test_each_answer_is_calibrated_as_its_kind_has_it(run, scores, extract, tmp_path):
    predictor = clinical.Predictor.load(run[0].out / "bundle")
    names = {task: set(predictor.bundle.calibration_of(task)) for task in run[0].tasks}
    assert names == {
        "old": {None},
        "group": {None},
        "findings": {"senior", "junior"},
        "years": set(),
        "event": set(),
    }
    predictor.score(extract, work=tmp_path / "store")
    store = Store.open(tmp_path / "store")
    logits = predictor.logits(predictor.opinions(store, np.arange(store.n_samples)))
    calibrated = predictor.bundle.calibration["old"].apply(logits["old"])
    assert predictor.bundle.calibration["old"].kind != "identity"
    np.testing.assert_allclose(scores[scores["task"] == "old"]["score"], calibrated, atol=1e-9)


def test_predictions_read_from_a_file_are_judged_the_same(run):
    config, evaluation = run
    again = clinical.evaluate(
        config.out / "predictions.parquet",
        baseline=config.out / "predictions_baseline.parquet",
        resamples=50,
        seed=config.seed,
    )
    pd.testing.assert_frame_equal(again.table, evaluation.table)


def test_experts_answer_the_binary_task_beside_the_networks(run):
    bundle = Bundle.read(run[0].out / "bundle")
    assert set(bundle.experts["additive"]) == set(bundle.stack) == {"old"}
    store = Store.open(run[0].out / "store")
    # metrics.json withholds it: few of the held-out are not old.
    ranking = _members(Predictor(bundle), store, store.rows("held_out"))["old"]["ranking"]
    assert {"network 1", "additive", "together"} <= set(ranking)
    assert ranking["additive"]["auroc"] > 0.8


def test_parts_can_be_left_out_of_every_kind(run, extract):
    parts = clinical.Predictor.load(run[0].out / "bundle").leave_out(extract, ["static"])
    costs = clinical.evaluate(parts, resamples=20).costs
    assert set(costs["task"]) == set(run[0].tasks)
    # Age is a static column: without it the error of the age rises.
    years = costs[(costs["task"] == "years") & (costs["metric"] == "MAE")]
    assert years["difference"].item() < -1


def test_a_binary_task_is_explained_and_one_of_another_kind_refused(run, extract, scores):
    bundle = run[0].out / "bundle"
    samples = scores[KEYS].drop_duplicates().iloc[:6]
    told = clinical.explain_neighbours(bundle, extract, samples=samples)
    assert set(told["task"]) == {"old"}
    whole = told[told["neighbour"].isna()].merge(scores[scores["task"] == "old"], on=KEYS)
    np.testing.assert_allclose(whole["score_x"], whole["score_y"], atol=1e-5)
    with pytest.raises(ConfigError, match="no binary task years"):
        clinical.explain_neighbours(bundle, extract, task="years")
    predictor = clinical.Predictor.load(bundle)
    config = predictor.bundle.config
    tasks = {name: task for name, task in config.tasks.items() if name != "old"}
    less = replace(predictor.bundle, config=config.model_copy(update={"tasks": tasks}))
    with pytest.raises(ConfigError, match="the model has no binary task"):
        clinical.explain_neighbours(clinical.Predictor(less), extract)


def test_every_aspect_has_a_representation(run, extract, scores):
    predictor = clinical.Predictor.load(run[0].out / "bundle")
    samples = scores[KEYS].drop_duplicates().iloc[:4]
    for task in run[0].tasks:
        assert predictor.embed(extract, aspect=task, samples=samples).filter(like="dim_").shape == (
            4,
            32,
        )


def test_the_audit_compares_every_kind(run, extract, monkeypatch):
    monkeypatch.setattr("clinical.leak_audit.checks.N_ALONE", 2)
    found = clinical.audit(run[0].out / "bundle", extract, samples=16)
    assert found.passed
    labels = found.table[found.table["check"] == "labels"]
    assert (labels["samples"] > 8).all()
    predictor = clinical.Predictor.load(run[0].out / "bundle")
    for unit in (1e-9, 1.0):
        # Years in another unit: their scores should move the audit as much.
        years = replace(predictor.bundle.answers["years"], mean=50 * unit, sd=20 * unit)
        answers = {**predictor.bundle.answers, "years": years}
        other = clinical.Predictor(replace(predictor.bundle, answers=answers))
        bench = Bench.open(other, extract, run[0].out, context=None, samples=4, seed=0)
        assert len(bench.excerpt.labels) == 6
        scored = bench.predictor.score(extract, samples=bench.drawn.to_pandas())
        assert 0.1 < scored.loc[scored["task"] == "years", "score"].std() < 10


def test_the_card_and_the_screen_tell_of_every_task(run, capsys):
    from clinical import screen

    card = (run[0].out / "bundle" / "MODEL_CARD.md").read_text()
    assert "`years`: regression (in years)" in card
    assert "`event`: time_to_event (risk by 100, 400 hours)" in card
    assert "### event by 400 h" in card
    assert "- `years`: uncalibrated" in card
    assert "travel in it and in predictions: `group` (of 5 or more subjects)" in card
    assert "- `event`: uncalibrated" in card
    screen.show_run(run[1], run[0].out)
    shown = capsys.readouterr().out
    for words in ("group/adult", "macro AUROC", "event by 100 h", "concordance", "Spearman"):
        assert words in shown
    figures = {path.name for path in (run[0].out / "figures").glob("values_*.png")}
    assert len(figures) == 1


def test_what_train_taught_of_the_tasks_travels_and_is_checked(run, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(run[0].out / "bundle", bundle)
    learned = json.loads((bundle / "statistics.json").read_text())
    assert learned["tasks"]["group"] == {"classes": ["adult", "middle", "old"]}
    assert set(learned["tasks"]) == {"group", "years", "event"}
    for task, wrong in (
        ("group", {"classes": ["old", "adult"]}),
        ("group", {"classes": ["adult", "old"]}),
        ("years", {"mean": 50.0, "sd": 0.0}),
        ("event", {"edges": [100.0, 400.0, 300.0]}),
        ("event", {}),
    ):
        tasks = {**learned["tasks"], task: wrong}
        (bundle / "statistics.json").write_text(json.dumps({**learned, "tasks": tasks}))
        with pytest.raises(BundleError):
            Bundle.read(bundle, draft=True)


def test_classes_that_train_lacks_are_masked_and_told(tools, extract, run, tmp_path, caplog):
    root = tmp_path / "extract"
    shutil.copytree(extract, root)
    path = root / "tasks" / "group" / "0.parquet"
    labels = pd.read_parquet(path)
    labels.loc[labels.index[:3], "categorical_value"] = "ancient"
    labels.to_parquet(path)
    with caplog.at_level("WARNING"):
        predictor = clinical.Predictor.load(run[0].out / "bundle")
        scored = predictor.score(root, work=tmp_path / "store")
    assert "tasks.group: 3 labels are of 1 classes that no train label has" in caplog.text
    asked = scored[scored["task"] == "group"].merge(labels.iloc[:3][KEYS], on=KEYS)
    assert len(asked) == 9
    assert asked["label"].isna().all()
    assert Store.open(tmp_path / "store").samples["label.group"].max() == 2


def keep_one_each(extract, folder, split, key):
    """Of a folder of labels one train subject for each value of `key`, and all of other splits."""
    path = extract / "tasks" / folder / "0.parquet"
    labels = pd.read_parquet(path)
    is_train = labels["subject_id"].map(split) == "train"
    few = labels[is_train].groupby(key(labels[is_train])).head(1)
    pd.concat([few, labels[~is_train]]).to_parquet(path)


def test_a_handful_of_labels_and_no_binary_task_make_a_model(tools, extract, tmp_path, caplog):
    """Two or three labels a task in train, a class that train lacks, one class of a multilabel."""
    root = tmp_path / "extract"
    shutil.copytree(extract, root)
    splits = pd.read_parquet(root / "metadata" / "subject_splits.parquet")
    split = splits.set_index("subject_id")["split"]
    keys = {
        "group": lambda labels: labels["categorical_value"],
        "senior": lambda labels: labels["boolean_value"],
        "years": lambda labels: labels["float_value"] > 50,
        "event": lambda labels: labels["boolean_value"] & (labels["float_value"] < 400),
    }
    for folder, key in keys.items():
        keep_one_each(root, folder, split, key)
    path = root / "tasks" / "group" / "0.parquet"
    labels = pd.read_parquet(path)
    labels.loc[labels["subject_id"].map(split) == "held_out", "categorical_value"] = "ancient"
    labels.to_parquet(path)
    tasks = {name: task for name, task in tools.TASKS.items() if name != "old"}
    tasks["findings"] = {"kind": "multilabel", "labels": ["tasks/senior"]}
    tasks["group"] = {**tasks["group"], "min_subjects": 1}
    config = tools.configure(
        root,
        tmp_path / "run",
        tasks=tasks,
        modalities={
            "static": {"encoder": "mlp", "width": 8},
            "codes": {"encoder": "bag", "width": 8, "window_hours": None},
        },
        graph={"relations": {"similar": {"k": 2}, "shares_code": {"k": 2}}},
        pretrain={"epochs": 1, "objectives": {"edges": 1.0}},
        finetune={"epochs": 2, "batch_size": 4},
        experts=[],  # which are of binary tasks
    )
    with caplog.at_level("WARNING"):
        evaluation = clinical.run(config)
    assert "classes that no train label has; they are left out" in caplog.text
    predictor = clinical.Predictor.load(config.out / "bundle")
    assert "not tried" in (config.out / "bundle" / "MODEL_CARD.md").read_text()
    assert predictor.bundle.networks[0].model.open_relations == {"similar", "shares_code"}
    predictions = pd.read_parquet(config.out / "predictions.parquet")
    assert predictions["score"].notna().all()
    group = predictions[predictions["task"] == "group"]
    assert set(group["class"]) == {"adult", "middle", "old"}
    assert group["label"].isna().all()
    assert np.isnan(value(evaluation, "group", "accuracy"))
    assert value(evaluation, "years", "MAE") > 0
    assert set(predictions.loc[predictions["task"] == "findings", "class"]) == {"senior"}
    assert len(predictor.link(root, top=3))

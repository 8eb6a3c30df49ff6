"""Tables of every kind of task: read, and judged against naive references."""

from clinical.censoring import observed_until
from clinical.errors import ConfigError, SchemaError
from clinical.evaluation import evaluate
from clinical.evaluation.bootstrap import resample_weights
from clinical.evaluation.classes import Classes, Exclusive
from clinical.evaluation.risk_groups import TOP_ECE
from clinical.evaluation.survival import (
    Survival,
    comparable_pairs,
    concordance,
    first_order_concordance,
    pairs_of_rows,
)
from clinical.evaluation.values import Values

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    brier_score_loss,
    log_loss,
    r2_score,
    roc_auc_score,
)

START = pd.Timestamp("2150-03-01 06:00")
ONE = np.ones((1, 300))


def keys(n, task, kind):
    return pd.DataFrame(
        {
            "subject_id": np.arange(n) // 2,
            "prediction_time": START + pd.to_timedelta(np.arange(n), unit="h"),
            "task": task,
            "class": pd.Series([None] * n, dtype="string"),
            "horizon_hours": np.nan,
            "kind": kind,
        }
    )


def regression(n=100, *, seed=0):
    generator = np.random.default_rng(seed)
    label = generator.normal(100, 20, n)
    score = label + generator.normal(0, 10, n)
    return keys(n, "days", "regression").assign(score=score, label=label)


def classes(n=120, *, kind="multiclass", seed=0):
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n, 3))
    if kind == "multiclass":
        score = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        label = np.eye(3)[[generator.choice(3, p=p) for p in score]]
    else:
        score = 1 / (1 + np.exp(-logits))
        label = (generator.random((n, 3)) < score).astype(float)
    parts = [
        keys(n, "which", kind).assign(**{"class": name}, score=score[:, i], label=label[:, i])
        for i, name in enumerate("abc")
    ]
    return pd.concat(parts, ignore_index=True)


def survival(n=150, *, seed=0, horizons=(24.0, 48.0)):
    generator = np.random.default_rng(seed)
    rate = generator.exponential(0.02, n)
    event, end = generator.exponential(1 / rate), generator.uniform(0, 100, n)
    parts = [
        keys(n, "death", "time_to_event").assign(
            horizon_hours=horizon,
            score=1 - np.exp(-rate * horizon),
            label=np.minimum(event, end).round(),
            label_observed=pd.Series(event <= end, dtype="boolean"),
        )
        for horizon in horizons
    ]
    return pd.concat(parts, ignore_index=True)


def naive_concordance(scores, hours, observed, weights):
    right = total = 0.0
    for i in np.flatnonzero(observed):
        for j in range(len(scores)):
            later = hours[j] > hours[i] or (hours[j] == hours[i] and not observed[j])
            if later:
                total += weights[i] * weights[j]
                won = (scores[i] > scores[j]) + 0.5 * (scores[i] == scores[j])
                right += weights[i] * weights[j] * won
    return right / total if total else np.nan


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_concordance_is_that_of_the_pairs_under_ties_and_weights(seed, n):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 5, n) / 5
    hours = generator.integers(0, 8, n).astype(float)
    observed = generator.random(n) < 0.6
    weights = generator.integers(0, 4, (2, n)).astype(float)
    found = concordance(comparable_pairs(scores, hours, observed), weights)
    expected = [naive_concordance(scores, hours, observed, w) for w in weights]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_to_first_order_concordance_is_exact_where_one_row_counts_otherwise(seed, n):
    generator = np.random.default_rng(seed)
    scores = generator.integers(0, 5, n) / 5
    hours = generator.integers(0, 8, n).astype(float)
    pairs = comparable_pairs(scores, hours, generator.random(n) < 0.6)
    weights = 1 + np.eye(n) * generator.choice([-1, 1, 3])
    found = first_order_concordance(*pairs_of_rows(pairs, n), weights)
    np.testing.assert_allclose(found, concordance(pairs, weights), atol=1e-12)


def test_resamples_of_many_subjects_are_those_to_first_order():
    table = survival(3000, horizons=(24.0,))
    known = (table["score"].to_numpy(), table["label"].to_numpy())
    known += (table["label_observed"].to_numpy(bool), 24.0)
    (drawn,) = resample_weights(np.arange(3000), 100, np.random.default_rng(0))
    exact, quick = (
        Survival(*known, n).compute(np.vstack([drawn, np.ones(3000)]), ["concordance"])
        for n in (3000, 10_000)
    )
    difference = quick["concordance"] - exact["concordance"]
    assert difference[-1] == pytest.approx(0, abs=1e-12)
    assert 0 < difference.std() < 0.05 * exact["concordance"].std()
    assert Survival(*known, 10_000).notes("concordance") == ["interval to first order"]


@given(st.integers(0, 2**32 - 1))
def test_spearman_and_r2_are_those_of_repeated_rows(seed):
    generator = np.random.default_rng(seed)
    scores, labels = generator.integers(0, 9, (2, 30)).astype(float)
    weights = generator.integers(0, 3, 30)
    drawn = np.repeat(np.arange(30), weights)
    found = Values(scores, labels).compute(weights[None].astype(float), Values.names)
    assert found["Spearman"][0] == pytest.approx(spearmanr(scores[drawn], labels[drawn])[0])
    assert found["R2"][0] == pytest.approx(r2_score(labels[drawn], scores[drawn]))
    error = (scores - labels)[drawn]
    assert found["MAE"][0] == pytest.approx(np.abs(error).mean())
    assert found["RMSE"][0] == pytest.approx(np.sqrt((error**2).mean()))


def test_rows_are_sorted_once_for_all_resamples(monkeypatch):
    table = survival(60, horizons=(24.0,))
    hours, observed = table["label"].to_numpy(), table["label_observed"].to_numpy(bool)
    scores, weights = table["score"].to_numpy(), np.ones((2, 60))
    judged = (Survival(scores, hours, observed, 24.0), Values(scores, hours))
    first = [one.compute(weights, one.names) for one in judged]
    for name in ("unique", "argsort", "sort"):
        monkeypatch.setattr(np, name, None)
    again = [one.compute(weights, one.names) for one in judged]
    for one, other in zip(first, again, strict=True):
        for metric, found in one.items():
            np.testing.assert_array_equal(found, other[metric])


def test_the_chance_to_stay_under_observation_by_hand():
    hours = np.array([1.0, 2.0, 2.0, 3.0, 4.0])
    observed = np.array([False, True, False, False, True])
    # Leave at 1: 1 of 5. At 2: 1 of 4, of whom one has the event first: 1 of 3. At 3: 1 of 2.
    until = np.array([0.5, 1.0, 1.5, 2.0, 2.5, 3.5])
    expected = [1, 1, 0.8, 0.8, 0.8 * 2 / 3, 0.8 * 2 / 3 / 2]
    np.testing.assert_allclose(observed_until(hours, observed, until), expected)


def test_who_was_watched_until_the_horizon_is_known_to_be_without_the_event():
    hours = np.array([729.6, 729.6, 729.6, 729.5, 800.0]).astype(np.float32).astype(float)
    observed = np.array([False, True, False, False, False])
    found = Survival(np.full(5, 0.5), hours, observed, 729.6)
    np.testing.assert_array_equal(found.status, [0, 1, 0, np.nan, 0])
    _, _, counts = found._at_horizon
    np.testing.assert_allclose(counts, 5 / 4)  # one of five left before


def test_weights_of_the_observed_undo_censoring():
    generator = np.random.default_rng(0)
    n = 40_000
    risk = generator.uniform(0.05, 0.9, n)
    event = 24 * np.log1p(-generator.random(n)) / np.log1p(-risk)  # by 24 hours with that risk
    end = generator.exponential(30, n)
    weights, scores = np.ones((1, n)), risk / 3  # too low, and more so in the known ones
    whole = Survival(scores, event, np.ones(n, dtype=bool), 24.0).compute(weights, Survival.names)
    censored = Survival(scores, np.minimum(event, end), event <= end, 24.0)
    found = censored.compute(weights, Survival.names)
    for name in ("AUROC at horizon", "Brier at horizon"):
        assert found[name][0] == pytest.approx(whole[name][0], abs=0.012)
    # Without the weights it would be far off: the known ones are the early events.
    known = ~np.isnan(censored.status)
    plain = np.mean((scores - censored.status)[known] ** 2)
    assert abs(plain - whole["Brier at horizon"][0]) > 0.02


def test_macro_auroc_is_the_mean_over_classes_of_their_known_rows():
    table = classes(300, kind="multilabel")
    scores, labels = (table[c].to_numpy().reshape(3, -1).T.copy() for c in ("score", "label"))
    labels[:50, 0] = np.nan
    found = Classes(scores, labels).compute(ONE, ["macro AUROC"])["macro AUROC"][0]
    each = [
        roc_auc_score(labels[~np.isnan(labels[:, c]), c], scores[~np.isnan(labels[:, c]), c])
        for c in range(3)
    ]
    assert found == pytest.approx(np.mean(each))


def test_accuracy_and_log_loss_of_exclusive_classes_by_hand():
    scores = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    labels = np.array([[0.0, 1, 0], [0, 0, 1]])
    found = Exclusive(scores, labels).compute(np.array([[1.0, 3.0]]), Exclusive.names)
    assert found["accuracy"][0] == 0.75
    assert found["log loss"][0] == pytest.approx(-(np.log(0.3) + 3 * np.log(0.7)) / 4)
    assert np.isnan(found["macro AUROC"][0])  # nobody is of the first class
    assert np.isnan(found["balanced accuracy"][0])
    of_rows = [0.25 + 0.49 + 0.04, 0.01 + 0.04 + 0.09]
    assert found["Brier (sum over classes)"][0] == pytest.approx((of_rows[0] + 3 * of_rows[1]) / 4)
    # One group: 0.65 sure on average of what is right in 3 of 4.
    assert found[TOP_ECE][0] == pytest.approx(abs((0.5 + 3 * 0.7) / 4 - 0.75))


def test_metrics_of_exclusive_classes_agree_with_scikit_learn():
    table = classes(300)
    scores, labels = (table[c].to_numpy().reshape(3, -1).T for c in ("score", "label"))
    found = Exclusive(scores, labels).compute(ONE, Exclusive.names)
    truth = labels.argmax(axis=1)
    assert found["log loss"][0] == pytest.approx(log_loss(truth, scores), abs=1e-9)
    right = balanced_accuracy_score(truth, scores.argmax(axis=1))
    assert found["balanced accuracy"][0] == pytest.approx(right, abs=1e-9)
    macro = roc_auc_score(truth, scores, multi_class="ovr", average="macro")
    assert found["macro AUROC"][0] == pytest.approx(macro, abs=1e-9)
    precision = average_precision_score(labels, scores, average="macro")
    assert found["macro AUPRC"][0] == pytest.approx(precision, abs=1e-9)


def test_metrics_of_several_labels_are_means_of_scikit_learn_s():
    table = classes(300, kind="multilabel")
    scores, labels = (table[c].to_numpy().reshape(3, -1).T for c in ("score", "label"))
    found = Classes(scores, labels).compute(ONE, Classes.names)
    for name, of in (("macro Brier", brier_score_loss), ("macro log loss", log_loss)):
        expected = np.mean([of(labels[:, c], scores[:, c]) for c in range(3)])
        assert found[name][0] == pytest.approx(expected, abs=1e-9)


def test_the_calibration_of_values_is_that_of_the_line_through_them():
    table = regression(200)
    found = Values(table["score"].to_numpy(), table["label"].to_numpy()).compute(
        np.ones((1, 200)), Values.names
    )
    slope, _ = np.polyfit(table["score"], table["label"], 1)
    assert found["calibration slope"][0] == pytest.approx(slope, abs=1e-9)
    assert found["mean error"][0] == pytest.approx((table["score"] - table["label"]).mean())


def everything():
    binary = classes(120)[lambda t: t["class"] == "a"].assign(kind="binary", task="yes")
    binary["class"] = pd.NA
    return pd.concat([regression(), classes(), survival(), binary], ignore_index=True)


def test_all_kinds_are_judged_in_one_table():
    evaluation = evaluate(everything(), resamples=30)
    groups = evaluation.table.groupby(["task", "class", "horizon_hours"], sort=False, dropna=False)
    found = [(*(None if pd.isna(k) else k for k in key), len(rows)) for key, rows in groups]
    assert found == [
        ("days", None, None, 6),
        ("which", None, None, 7),
        ("which", "a", None, 13),
        ("which", "b", None, 13),
        ("which", "c", None, 13),
        ("death", None, None, 2),
        ("death", None, 24.0, 5),
        ("death", None, 48.0, 5),
        ("yes", None, None, 13),
    ]
    defined = evaluation.table.dropna(subset=["value"])
    assert (defined["low"] <= defined["value"]).mean() > 0.95
    assert (defined["value"] <= defined["high"]).mean() > 0.95
    text = json.dumps(evaluation.to_json())
    assert "NaN" not in text
    entries = json.loads(text)["tasks"]
    assert [len(entry["metrics"]) for entry in entries] == [n for *_, n in found]
    assert entries[0]["events"] is None
    assert entries[6]["horizon_hours"] == 24
    assert evaluation.headlines[0] == "days: 100 rows of 50 subjects"
    assert evaluation.headlines[6].startswith("death by 24 h: 150 rows of 75 subjects, ")
    assert "<table" in evaluation._repr_html_()


def test_a_baseline_stands_beside_every_kind():
    table = everything()
    other = table.assign(score=table["score"].sample(frac=1, random_state=0).to_numpy())
    is_value = table["kind"] == "regression"
    other.loc[is_value, "score"] = 100.0
    other.loc[~is_value, "score"] = other.loc[~is_value, "score"].clip(0, 1)
    other.loc[other["kind"] == "multiclass", "score"] = 1 / 3
    found = evaluate(table, baseline=other, resamples=30).table
    r2 = found[found["metric"] == "R2"].iloc[0]
    assert r2["difference_low"] > 0.5
    concordance = found[found["metric"] == "concordance"]
    assert (concordance["difference_low"] > 0).all()


def test_the_order_of_the_rows_changes_nothing():
    once, again = (
        evaluate(t, resamples=20).table.sort_values(["task", "class", "horizon_hours", "metric"])
        for t in (everything(), everything().sample(frac=1, random_state=3))
    )
    columns = ["task", "metric", "value", "low", "high"]
    pd.testing.assert_frame_equal(
        once[columns].reset_index(drop=True), again[columns].reset_index(drop=True)
    )


def meds_labels(table):
    """One row a sample and task, in MEDS' columns."""
    one = table.drop_duplicates(["subject_id", "prediction_time", "task"])
    is_true = (table["label"] == 1) & (table["kind"] == "multiclass")
    names = table[is_true].set_index(["subject_id", "prediction_time", "task"])["class"]
    index = pd.MultiIndex.from_frame(one[["subject_id", "prediction_time", "task"]])
    is_class = (one["kind"] == "multiclass").to_numpy()
    is_yes = (one["kind"] == "binary").to_numpy()
    happened = one["label_observed"].to_numpy(dtype=float, na_value=np.nan)
    return one[["subject_id", "prediction_time", "task"]].assign(
        categorical_value=np.where(is_class, names.reindex(index).to_numpy(object), None),
        float_value=np.where(is_class | is_yes, np.nan, one["label"]),
        boolean_value=np.where(is_yes, one["label"], happened),
    )


def test_a_frame_of_meds_labels_serves_every_kind_but_multilabel():
    table = everything()
    bare = table.drop(columns=["label", "label_observed"])
    labels = meds_labels(table)
    found = evaluate(bare, labels, resamples=10).table
    pd.testing.assert_frame_equal(found, evaluate(table, resamples=10).table)
    with pytest.raises(SchemaError, match="can't tell classes apart"):
        evaluate(bare.replace({"kind": {"multiclass": "multilabel"}}), labels)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (regression().assign(kind="gaussian"), "kind says gaussian; known are binary"),
        (regression().assign(kind="time_to_event"), "100 rows kind and horizon_hours contradict"),
        (regression().drop(columns="kind"), "100 scores are outside 0 to 1"),
        (survival().assign(kind="binary"), "300 rows kind and horizon_hours contradict"),
        (survival().drop(columns="label_observed"), "300 rows .* no column label_observed"),
        (survival().assign(label=-1.0), "labels of task 'death' are negative hours"),
        (classes().assign(label=1.0), "120 samples of task 'which' have none or several classes"),
        (
            classes().assign(score=0.9),
            "120 samples of task 'which' have a score of all classes that does not add up to 1",
        ),
        (
            pd.concat([regression(), classes()]).assign(task="one"),
            "1 tasks have more than one kind",
        ),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(table, words):
    with pytest.raises(SchemaError, match=words):
        evaluate(table, resamples=5)


def test_scores_of_classes_that_add_up_to_one_when_rounded_are_judged_and_a_baseline_s_too():
    table = classes()
    evaluate(table.assign(score=table["score"].round(4)), resamples=2)
    with pytest.raises(SchemaError, match="a baseline of all classes that does not add up to 1"):
        evaluate(table, baseline=table.assign(score=table["score"] / 2), resamples=2)


def test_classes_that_are_numbers_are_compared_as_texts():
    table = classes().replace({"class": {"a": "0", "b": "1", "c": "2"}})
    bare, labels = table.drop(columns="label"), meds_labels(table.assign(label_observed=None))
    expected = evaluate(table, resamples=2).table
    for dtype in (np.int64, np.float64, "Int64", object):
        numbers = labels["categorical_value"].astype(np.int64).astype(dtype)
        found = evaluate(bare, labels.assign(categorical_value=numbers), resamples=2).table
        pd.testing.assert_frame_equal(found, expected)
    mixed = pd.concat([bare, regression().drop(columns="label")])
    mixed["class"] = pd.to_numeric(mixed["class"].astype("string")).astype(
        "float64"
    )  # as null makes it
    both = pd.concat([labels, meds_labels(regression().assign(label_observed=None))])
    found = evaluate(mixed, both, resamples=2).table
    assert set(found["class"].dropna()) == {"0", "1", "2"}


def test_labels_of_which_none_is_a_class_of_the_predictions_are_refused():
    table = classes()
    labels = meds_labels(table.assign(label_observed=None))
    other = labels["categorical_value"].map({"a": "A", "b": "B", "c": "C"})
    bare = table.drop(columns="label")
    with pytest.raises(SchemaError, match="none of the values of categorical_value is a class"):
        evaluate(bare, labels.assign(categorical_value=other), resamples=2)
    # One that the model knows is enough; the others are classes that train lacked.
    other[labels["categorical_value"] == "a"] = "a"
    found = evaluate(bare, labels.assign(categorical_value=other), resamples=2)
    assert 0 < found.judged[0].labels.sum() < 120


def test_each_undefined_metric_of_a_horizon_says_its_own_reason():
    table = survival(4, horizons=(24.0,))
    notes = {}
    for name, hours, observed in (
        ("alike", [10.0] * 4, [True] * 4),
        ("censored", [1.0, 2, 3, 4], [False] * 4),
    ):
        told = evaluate(table.assign(label=hours, label_observed=observed), resamples=2).table
        notes[name] = told.set_index("metric")["note"]
    assert "no row has the event while another" in notes["alike"]["concordance"]
    assert "no two rows of different status by 24" in notes["alike"]["AUROC at horizon"]
    assert "no row has the event while another" in notes["censored"]["concordance"]
    assert "nobody's status by 24 hours is known" in notes["censored"]["Brier at horizon"]


def test_without_a_kind_a_horizon_says_time_to_event():
    table = survival()
    found = evaluate(table.drop(columns="kind"), resamples=10).table
    pd.testing.assert_frame_equal(found, evaluate(table, resamples=10).table)


def test_a_regression_task_is_drawn_as_values_and_not_as_a_roc(tmp_path):
    evaluation = evaluate(everything(), resamples=5)
    assert evaluation.plot_values(task="days").get_xlabel() == "Predicted value"
    with pytest.raises(ConfigError, match=r"days is regression.*plot_values"):
        evaluation.plot_roc(task="days")
    with pytest.raises(ConfigError, match=r"death by 24 h is time_to_event.*plot_net_benefit"):
        evaluation.plot_roc(task="death by 24 h")
    with pytest.raises(ConfigError, match=r"death is time_to_event.*none for it"):
        evaluation.plot_net_benefit(task="death")
    names = [path.name for path in evaluation.save_figures(tmp_path)]
    assert sum(name.startswith("values_") for name in names) == 1
    assert sum(name.startswith("roc_") for name in names) == 4
    assert sum(name.startswith("net_benefit_") for name in names) == 6

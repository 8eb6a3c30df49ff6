from clinical.errors import ConfigError
from clinical.evaluation import compare, evaluate
from clinical.evaluation.delong import CLUSTERED, PLAIN, auroc_covariance

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def drawn(n=200, *, seed=0, rows_each=1):
    """Scores [2, N], labels, subjects; with ties, and subjects whose rows are alike."""
    generator = np.random.default_rng(seed)
    subjects = np.arange(n) // rows_each
    own = generator.normal(size=n)[subjects]
    scores = own + generator.normal(0, [[0.8], [1.5]], (2, n))
    labels = (generator.random(n) < 1 / (1 + np.exp(1 - 1.5 * own))).astype(float)
    return 1 / (1 + np.exp(-scores.round(1))), labels, subjects


def table(scores, labels, subjects):
    return pd.DataFrame(
        {
            "subject_id": subjects,
            "prediction_time": pd.Timestamp("2150-01-01")
            + pd.to_timedelta(np.arange(len(labels)), unit="h"),
            "task": "death",
            "score": scores,
            "label": labels,
        }
    )


def naive_covariance(scores, labels):
    """DeLong, DeLong and Clarke-Pearson (1988), pair by pair."""
    x, y = scores[:, labels == 1], scores[:, labels == 0]
    won = (x[:, :, None] > y[:, None, :]) + 0.5 * (x[:, :, None] == y[:, None, :])
    of_positives, of_negatives = won.mean(axis=2), won.mean(axis=1)
    covariance = np.cov(of_positives) / x.shape[1] + np.cov(of_negatives) / y.shape[1]
    return won.mean(axis=(1, 2)), covariance


def naive_clustered(scores, labels, subjects):
    """Obuchowski (1997), subject by subject."""
    x, y = scores[:, labels == 1], scores[:, labels == 0]
    won = (x[:, :, None] > y[:, None, :]) + 0.5 * (x[:, :, None] == y[:, None, :])
    theta = won.mean(axis=(1, 2))
    components = np.empty(scores.shape)
    components[:, labels == 1], components[:, labels == 0] = won.mean(axis=2), won.mean(axis=1)
    m, n = x.shape[1], y.shape[1]
    s10, s01, s11 = (np.zeros((2, 2)) for _ in range(3))
    i10 = i01 = 0
    names = np.unique(subjects)
    for name in names:
        ill, well = (subjects == name) & (labels == 1), (subjects == name) & (labels == 0)
        a = components[:, ill].sum(axis=1) - ill.sum() * theta
        b = components[:, well].sum(axis=1) - well.sum() * theta
        i10, i01 = i10 + ill.any(), i01 + well.any()
        s10, s01, s11 = s10 + np.outer(a, a), s01 + np.outer(b, b), s11 + np.outer(a, b)
    s10, s01 = s10 * i10 / ((i10 - 1) * m), s01 * i01 / ((i01 - 1) * n)
    s11 = s11 * len(names) / (len(names) - 1)
    return s10 / m + s01 / n + s11 / (m * n) + s11.T / (m * n)


def test_the_variance_is_delong_s_pair_by_pair():
    scores, labels, subjects = drawn()
    auroc, covariance = auroc_covariance(scores, labels, subjects)
    expected, naive = naive_covariance(scores, labels)
    np.testing.assert_allclose(auroc, expected, atol=1e-12)
    np.testing.assert_allclose(auroc, [roc_auc_score(labels, each) for each in scores], atol=1e-9)
    np.testing.assert_allclose(covariance, naive, rtol=1e-9)


def test_rows_of_a_subject_are_clustered_as_obuchowski_does():
    scores, labels, subjects = drawn(rows_each=3)
    _, covariance = auroc_covariance(scores, labels, subjects)
    np.testing.assert_allclose(covariance, naive_clustered(scores, labels, subjects), rtol=1e-9)


def test_copies_of_each_row_change_nothing_but_a_little():
    scores, labels, subjects = drawn(300)
    _, once = auroc_covariance(scores, labels, subjects)
    _, twice = auroc_covariance(
        *(np.repeat(each, 2, axis=-1) for each in (scores, labels)), np.repeat(subjects, 2)
    )
    np.testing.assert_allclose(twice, once, rtol=1e-9)
    _, apart = auroc_covariance(np.repeat(scores, 2, axis=1), np.repeat(labels, 2), np.arange(600))
    assert apart[0, 0] < 0.6 * once[0, 0]


def test_two_scores_worked_out_by_hand():
    # Positives 3, 1 and negatives 2, 0: components 1, 1/2 and 1/2, 1, so AUROC 3/4, and their
    # variances are 1/8 each: (1/8 + 1/8) / 2.
    scores, labels = np.array([[3.0, 1, 2, 0]]), np.array([1.0, 1, 0, 0])
    auroc, covariance = auroc_covariance(scores, labels, np.arange(4))
    assert auroc[0] == 0.75
    assert covariance[0, 0] == pytest.approx(1 / 8)


def test_the_difference_and_its_error_are_those_of_the_bootstrap():
    scores, labels, subjects = drawn(600, rows_each=2, seed=4)
    evaluation = evaluate(
        table(scores[0], labels, subjects),
        baseline=table(scores[1], labels, subjects),
        resamples=1000,
    )
    row = evaluation.delong().iloc[0]
    boot = evaluation.table.set_index("metric").loc["AUROC"]
    assert row["difference"] == pytest.approx(boot["difference"], abs=1e-12)
    width = boot["difference_high"] - boot["difference_low"]
    assert row["high"] - row["low"] == pytest.approx(width, rel=0.1)
    assert row["method"] == CLUSTERED
    assert row["z"] == pytest.approx(row["difference"] / row["standard_error"])
    expected = math.erfc(abs(row["z"]) / math.sqrt(2))
    assert row["p_value"] == pytest.approx(expected, abs=1e-12)


def test_under_no_difference_p_is_below_5_percent_in_5_percent():
    generator = np.random.default_rng(0)
    below = 0
    for _ in range(600):
        own = generator.normal(size=150)
        labels = (generator.random(150) < 1 / (1 + np.exp(-own))).astype(float)
        scores = own + generator.normal(size=(2, 150))
        auroc, covariance = auroc_covariance(scores, labels, np.arange(150))
        error = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
        below += abs(auroc[0] - auroc[1]) / error > 1.96
    # Three standard errors of 600 repeats around 5 %.
    assert 14 <= below <= 46


def test_without_a_baseline_there_is_no_test():
    scores, labels, subjects = drawn(50)
    with pytest.raises(ConfigError, match="give baseline="):
        evaluate(table(scores[0], labels, subjects), resamples=3).delong()


def test_scores_that_rank_alike_have_no_p_value():
    scores, labels, subjects = drawn(80)
    one = table(scores[0], labels, subjects)
    row = evaluate(one, baseline=one, resamples=3).delong().iloc[0]
    assert row["difference"] == 0
    assert row["method"] == PLAIN
    assert math.isnan(row["p_value"])


def models(n=1000):
    scores, labels, subjects = drawn(n)
    worse = np.random.default_rng(1).permutation(scores[1])
    return {
        name: table(each, labels, subjects)
        for name, each in (("network", scores[0]), ("noise", worse), ("old score", scores[1]))
    }


def test_a_reference_called_like_a_column_takes_no_column_away():
    old, *others = list(models().values())
    found = compare({"model": old, "another": others[0]}, reference="model", resamples=5)
    shown = found.display_table()
    assert set(shown["model"]) == {"another"}
    assert "model (reference)" in shown


def test_models_are_compared_with_the_reference_on_the_same_rows():
    found = compare(models(), resamples=100)
    assert found.reference == "old score"
    assert list(dict.fromkeys(found.table["model"])) == ["network", "noise"]
    auroc = found.table[found.table["metric"] == "AUROC"].set_index("model")
    assert auroc.loc["network", "difference_low"] > 0
    assert auroc.loc["noise", "difference_high"] < 0
    assert auroc.loc["noise", "p_value"] < 1e-6
    paired = evaluate(models()["noise"], baseline=models()["old score"], resamples=100)
    assert auroc.loc["noise", "p_value"] == paired.delong()["p_value"][0]
    assert auroc.loc["noise", "reference"] == auroc.loc["network", "reference"]
    assert found.table.loc[found.table["metric"] != "AUROC", "p_value"].isna().all()
    assert "&lt; 0.001" in found._repr_html_()
    assert "not adjusted" in found._repr_html_()


def test_rows_that_one_model_has_not_scored_are_left_out():
    tables = models()
    tables["network"] = tables["network"].iloc[:200]
    found = compare(tables, reference="noise", resamples=20).table
    assert dict(found.groupby("model")["n"].first()) == {"network": 200, "old score": 1000}


def test_the_picture_of_a_comparison_has_a_line_a_model():
    found = compare(models(), resamples=50)
    ax = found.plot(Figure().subplots())
    assert [text.get_text() for text in ax.get_yticklabels()] == ["network", "noise"]
    assert ax.get_xlabel() == "AUROC: difference from old score (95 % interval)"
    found.plot(metric="Brier")
    with pytest.raises(ConfigError, match="there is no 'AUC'; choose one of AUROC"):
        found.plot(metric="AUC")
    with pytest.raises(ConfigError, match="there is no 'deth'; choose one of death"):
        found.plot(task="deth")


def test_a_comparison_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="1 given"):
        compare({"one": models()["network"]})
    with pytest.raises(ConfigError, match="there is no 'best'; known are network, noise"):
        compare(models(), reference="best")

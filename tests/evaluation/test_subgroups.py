from clinical.errors import ConfigError, SchemaError
from clinical.evaluation import evaluate
from clinical.evaluation.groups import NOT_SHOWN

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import average_precision_score, roc_auc_score

N = 600


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def predictions(n=N, *, seed=0, task="death"):
    generator = np.random.default_rng(seed)
    scores = generator.beta(1, 2, n)
    return pd.DataFrame(
        {
            "subject_id": np.arange(n) // 2,
            "prediction_time": (
                pd.Timestamp("2150-01-01") + pd.to_timedelta(np.arange(n), unit="D")
            ).astype("datetime64[us]"),
            "task": task,
            "score": scores,
            "label": (generator.random(n) < scores).astype(float),
        }
    )


def groups(table=None, *, seed=1):
    table = predictions() if table is None else table
    generator = np.random.default_rng(seed)
    samples = table[["subject_id", "prediction_time"]]
    return samples.assign(
        sex=np.where(samples["subject_id"] % 3 == 0, "F", "M"),
        unit=generator.choice(["A", "B", "C"], len(samples)),
    )


def rows_of(found, column, group):
    table = found.table
    return table[(table["column"] == column) & (table["group"] == group)].set_index("metric")


def test_metrics_of_a_group_are_those_of_its_rows():
    table, by = predictions(), groups()
    found = evaluate(table, resamples=50).by(by)
    for column in ("sex", "unit"):
        for level in by[column].unique():
            own = table[(by[column] == level).to_numpy()]
            rows = rows_of(found, column, level)
            expected = roc_auc_score(own["label"], own["score"])
            assert rows.loc["AUROC", "value"] == pytest.approx(expected, abs=1e-9)
            expected = average_precision_score(own["label"], own["score"])
            found_one = rows.loc["AUPRC (average precision)", "value"]
            assert found_one == pytest.approx(expected, abs=1e-9)
            assert (rows["n"] == len(own)).all()
            assert (rows["subjects"] == own["subject_id"].nunique()).all()
            assert (rows["events"] == own["label"].sum()).all()
            assert (rows["low"] < rows["value"]).all()
            assert (rows["value"] < rows["high"]).all()


def test_a_group_is_set_against_all_others_with_an_interval():
    table, by = predictions(2000), groups(predictions(2000))
    worse = (by["sex"] == "F").to_numpy()
    shuffled = np.random.default_rng(0).permutation(table["score"].to_numpy())
    table["score"] = np.where(worse, shuffled, table["score"])
    found = evaluate(table, resamples=100).by(by)
    women, men = (rows_of(found, "sex", sex).loc["AUROC"] for sex in "FM")
    assert women["difference"] == pytest.approx(women["value"] - men["value"])
    assert women["difference"] == -men["difference"]
    assert women["difference_high"] < 0
    unit = rows_of(found, "unit", "A").loc["AUROC"]
    assert unit["difference_low"] < 0 < unit["difference_high"]
    assert np.isnan(rows_of(found, "all", "all").loc["AUROC", "difference"])


def test_the_whole_comes_first_and_equals_the_evaluation():
    evaluation = evaluate(predictions(), resamples=50)
    found = evaluation.by(groups())
    whole = rows_of(found, "all", "all")
    expected = evaluation.table.set_index("metric").loc[whole.index]
    for name in ("value", "low", "high"):
        np.testing.assert_allclose(whole[name], expected[name], atol=1e-12)


def test_groups_are_judged_at_the_thresholds_of_the_whole():
    table, by = predictions(), groups()
    found = evaluate(table, thresholds={"ours": 0.4}, resamples=20).by(by)
    own = table[(by["sex"] == "F").to_numpy()]
    alert = own["score"] >= 0.4
    rows = rows_of(found, "sex", "F")["value"]
    assert rows["PPV at ours"] == pytest.approx(own["label"][alert].mean())
    assert rows["sensitivity at ours"] == pytest.approx(alert[own["label"] == 1].mean())
    assert rows["alert rate at ours"] == pytest.approx(alert.mean())
    assert "sensitivity at ours" in found._repr_html_()


def test_a_small_group_and_what_gives_it_away_are_only_counted():
    by = groups()
    by.loc[by.index[:7], "unit"] = "rare"
    found = evaluate(predictions(), resamples=10).by(by)
    shown = set(found.table.loc[found.table["column"] == "unit", "group"])
    assert "rare" not in shown
    assert len(shown & {"A", "B", "C"}) == 2
    (row,) = rows_of(found, "unit", NOT_SHOWN).reset_index().to_dict("records")
    assert row["note"].startswith("2 groups: fewer than 10 people")
    assert pd.isna(row["n"])
    assert pd.isna(row["events"])
    assert "rare" not in found._repr_html_()
    assert "rare" not in repr(found)
    # With a limit that it reaches, it is shown: 7 rows of 4 people need both outcomes.
    lines = [text.get_text() for text in found.plot(Figure().subplots()).get_yticklabels()]
    assert "unit (2 not shown)" in lines
    more = evaluate(predictions(), resamples=10).by(by, smallest=1)
    assert {"A", "B", "C"} <= set(more.table["group"])


def test_a_group_with_few_events_is_not_shown():
    table, by = predictions(), groups()
    in_a = (by["unit"] == "A").to_numpy()
    table.loc[in_a, "label"] = 0.0
    table.loc[np.flatnonzero(in_a)[:5], "label"] = 1.0
    found = evaluate(table, resamples=5).by(by)
    assert "A" not in set(found.table["group"])


def test_what_is_hidden_of_one_class_is_hidden_of_all_that_exclude_each_other():
    n = 400
    generator = np.random.default_rng(0)
    risks = generator.dirichlet(np.ones(3), n)
    truth = np.array([generator.choice(3, p=p) for p in risks])
    by = pd.DataFrame({"subject_id": np.arange(n), "unit": generator.choice(["A", "B", "C"], n)})
    in_a = (by["unit"] == "A").to_numpy()
    truth[in_a & (truth == 2)] = 1
    truth[np.flatnonzero(in_a)[:4]] = 2  # few of the third class in A
    table = pd.concat(
        pd.DataFrame(
            {
                "subject_id": np.arange(n),
                "prediction_time": pd.Timestamp("2150-01-01"),
                "task": "which",
                "class": name,
                "kind": "multiclass",
                "score": risks[:, place],
                "label": (truth == place).astype(float),
            }
        )
        for place, name in enumerate("xyz")
    )
    found = evaluate(table, resamples=5).by(by).table
    assert "A" not in set(found["group"])
    assert set(found["class"].dropna()) == {"x", "y", "z"}


def test_a_group_for_life_needs_no_times_and_null_is_a_group():
    table = predictions()
    by = pd.DataFrame({"subject_id": np.arange(N // 2), "sex": ["F", "M", None] * (N // 6)})
    found = evaluate(table, resamples=5).by(by)
    groups_found = list(dict.fromkeys(found.table.loc[found.table["column"] == "sex", "group"]))
    assert groups_found == ["F", "M", "unknown"]


def test_an_ordered_category_keeps_its_order():
    table = predictions()
    age = np.random.default_rng(0).uniform(10, 90, N)
    bands = pd.cut(age, [0, 18, 65, 120], labels=["< 18", "18 to 64", "65 and over"])
    by = table[["subject_id", "prediction_time"]].assign(age=bands)
    found = evaluate(table, resamples=5).by(by).table
    order = list(dict.fromkeys(found.loc[found["column"] == "age", "group"]))
    assert order == ["< 18", "18 to 64", "65 and over"]


def everything():
    one = predictions().assign(kind="binary")
    hours = np.where(one["label"] == 1, 10.0, 50.0)
    timed = one.assign(
        task="time",
        kind="time_to_event",
        horizon_hours=24.0,
        label=hours,
        label_observed=one["label"] == 1,
    )
    value = one.assign(task="days", kind="regression", label=one["score"] + one["label"])
    return pd.concat([one, timed, value], ignore_index=True)


def test_every_kind_of_task_has_groups():
    found = evaluate(everything(), resamples=10).by(groups())
    metrics = found.table.groupby("task")["metric"].unique().to_dict()
    assert "concordance" in metrics["time"]
    assert "MAE" in metrics["days"]
    assert set(found.table.loc[found.table["task"] == "time", "group"]) == {
        "all",
        "F",
        "M",
        "A",
        "B",
        "C",
    }


def test_a_trend_needs_a_calendar_and_has_a_period_a_group():
    evaluation = evaluate(predictions(), resamples=20)
    with pytest.raises(ConfigError, match="shifted by patient have no common calendar"):
        evaluation.trend(consistent_calendar=False)
    with pytest.raises(ConfigError, match="no 'decade'; known are week, month, quarter, year"):
        evaluation.trend("decade", consistent_calendar=True)
    found = evaluation.trend("quarter", consistent_calendar=True)
    periods = found.table.loc[found.table["column"] == "period", "group"].unique()
    assert list(periods) == ["2150Q1", "2150Q2", "2150Q3", "2150Q4", "2151Q1", "2151Q2", "2151Q3"]
    weeks = evaluate(predictions(150), resamples=5).trend("week", consistent_calendar=True)
    assert list(weeks.table["group"].unique()) == ["all", "not shown"]
    ax = found.plot_trend(Figure().subplots())
    assert [text.get_text() for text in ax.get_xticklabels()] == list(periods)
    with pytest.raises(ConfigError, match="these groups are no periods"):
        evaluation.by(groups()).plot_trend()


def test_the_picture_has_a_line_a_group_with_its_size():
    found = evaluate(predictions(), resamples=20).by(groups())
    ax = found.plot(Figure().subplots())
    lines = [text.get_text() for text in ax.get_yticklabels()]
    assert lines == ["all", "sex", "F", "M", "unit", "A", "B", "C"]
    sizes = [text.get_text() for text in ax.texts]
    assert len(sizes) == 6
    assert sizes[0].startswith("600 rows, ")
    assert found.plot(metric="calibration slope").get_xlabel().startswith("calibration slope")
    with pytest.raises(ConfigError, match="there is no 'F1'"):
        found.plot(metric="F1")
    with pytest.raises(ConfigError, match="there is no 'deth'; choose one of death"):
        found.plot(task="deth")
    several = evaluate(everything(), resamples=5).by(groups())
    with pytest.raises(ConfigError, match="there is no 'deth'"):
        several.plot(task="deth")


@pytest.mark.parametrize(
    ("by", "words"),
    [
        (pd.DataFrame({"sex": ["F"]}), "groups: found sex; give subject_id"),
        (pd.DataFrame({"subject_id": [1]}), "a column for each way to group"),
        (pd.DataFrame({"subject_id": [1, 1], "sex": "F"}), "1 rows repeat subject_id"),
        (pd.DataFrame({"subject_id": [-5], "sex": "F"}), "none of the judged rows has a group"),
    ],
)
def test_groups_that_cannot_be_meant_are_refused(by, words):
    with pytest.raises(SchemaError, match=words):
        evaluate(predictions(), resamples=3).by(by)


def test_a_limit_below_one_is_refused():
    with pytest.raises(ConfigError, match="smallest: 0 should be at least 1"):
        evaluate(predictions(), resamples=3).by(groups(), smallest=0)


def test_the_order_of_rows_changes_nothing():
    table, by = predictions(), groups()
    shuffled = table.sample(frac=1, random_state=0)
    once = evaluate(table, resamples=10).by(by).table
    again = evaluate(shuffled, resamples=10).by(by.sample(frac=1, random_state=1)).table
    pd.testing.assert_frame_equal(once, again)


def test_a_group_is_hidden_for_all_tasks_where_one_of_them_gives_it_away():
    table, by = predictions(), groups()
    few = by.index[by["unit"] == "A"][:3]
    other = predictions(seed=4, task="sepsis").drop(index=few)
    alone = [evaluate(one, resamples=5).by(by) for one in (table, other)]
    assert all({"A", "B", "C"} <= set(found.table["group"]) for found in alone)
    both = evaluate(pd.concat([table, other], ignore_index=True), resamples=5).by(by).table
    for task in ("death", "sepsis"):
        of_task = both[both["task"] == task]
        assert "A" not in set(of_task["group"])
        assert NOT_SHOWN in set(of_task["group"])


def test_rates_of_a_group_with_few_alerts_are_told_of_no_group_of_its_column():
    table = predictions().assign(subject_id=np.arange(N))
    by = pd.DataFrame({"subject_id": np.arange(N), "sex": "F", "unit": "B"})
    by.loc[::2, "sex"] = "M"
    by.loc[:99, "unit"] = "A"
    is_high = (np.arange(N) < 100) & (table["score"] >= 0.4) & (table["label"] == 1)
    first = is_high & (is_high.cumsum() <= 4)  # of unit A four true alerts are left
    table.loc[is_high & ~first, "score"] = 0.1
    found = evaluate(table, thresholds={"high": 0.4}, resamples=5).by(by).table
    told = found[found["metric"] == "PPV at high"]
    assert set(told["group"]) == {"all", "F", "M"}
    assert set(found.loc[found["metric"] == "AUROC", "group"]) == {"all", "F", "M", "A", "B"}

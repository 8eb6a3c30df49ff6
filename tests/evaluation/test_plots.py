from clinical.errors import ConfigError, SchemaError
from clinical.evaluation import evaluate, plot_training_curves, save_training_curves
from clinical.evaluation.figures import SIZES
from clinical.evaluation.metrics import Scored
from clinical.evaluation.plots import bin_frequencies, wilson_interval

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def predictions(n=300, *, seed=0, task="death"):
    generator = np.random.default_rng(seed)
    scores = generator.beta(1, 4, n).round(2)  # with ties
    return pd.DataFrame(
        {
            "subject_id": np.arange(n),
            "prediction_time": pd.Timestamp("2150-01-01"),
            "task": task,
            "score": scores,
            "label": (np.random.default_rng(9).random(n) < scores).astype(float),
        }
    )


def fresh_axes():
    return Figure().subplots()


def lines(ax):
    return {str(line.get_label()).split(",")[0]: line for line in ax.get_lines()}


def test_the_area_under_the_drawn_roc_curve_is_the_auroc():
    table = predictions()
    ax = evaluate(table, resamples=10).plot_roc(fresh_axes())
    x, y = lines(ax)["model"].get_data()
    assert np.trapezoid(y, x) == pytest.approx(roc_auc_score(table["label"], table["score"]))


def test_the_area_under_the_drawn_steps_is_the_average_precision():
    table = predictions()
    ax = evaluate(table, resamples=10).plot_pr(fresh_axes())
    line = lines(ax)["model"]
    x, y = line.get_data()
    assert line.get_drawstyle() == "steps-pre"
    area = (np.diff(x) * y[1:]).sum()
    assert area == pytest.approx(average_precision_score(table["label"], table["score"]))


def test_the_baseline_is_drawn_beside_the_model_in_another_colour_and_style():
    evaluation = evaluate(predictions(), baseline=predictions(seed=1), resamples=10)
    for plot in (evaluation.plot_roc, evaluation.plot_pr):
        drawn = lines(plot(fresh_axes()))
        model, baseline = drawn["model"], drawn["baseline"]
        assert model.get_color() != baseline.get_color()
        assert model.get_linestyle() != baseline.get_linestyle()
    legend = evaluation.plot_calibration(fresh_axes()).get_legend()
    text = " ".join(item.get_text() for item in legend.get_texts())
    assert "model" in text
    assert "baseline" in text


def test_legends_carry_the_figures_of_the_table():
    evaluation = evaluate(predictions(), resamples=30)
    auroc = evaluation.table.set_index("metric").loc["AUROC"]
    legend = evaluation.plot_roc(fresh_axes()).get_legend()
    expected = f"AUROC {auroc['value']:.2f} ({auroc['low']:.2f} to {auroc['high']:.2f})"
    assert any(expected in item.get_text() for item in legend.get_texts())


def test_calibration_points_are_the_means_of_equal_groups():
    scores = np.repeat([0.1, 0.3], 20)
    labels = np.concatenate([np.repeat([1.0, 0.0], [4, 16]), np.repeat([1.0, 0.0], [5, 15])])
    bins = bin_frequencies(Scored.of(scores, labels), np.arange(40))
    np.testing.assert_allclose(bins.predicted, [0.1, 0.3])
    np.testing.assert_allclose(bins.observed, [0.2, 0.25])
    table = predictions(1000)
    many = bin_frequencies(
        Scored.of(table["score"].to_numpy(), table["label"].to_numpy()), np.arange(1000)
    )
    assert len(many.predicted) == 10
    assert (np.diff(many.predicted) > 0).all()


@pytest.mark.parametrize("layout", ["constrained", None])
@pytest.mark.parametrize("n", [30, 231])
def test_the_legend_of_the_calibration_covers_no_error_bar(n, layout):
    # Rare events: bars reach high where the legend used to be.
    table = predictions(n, seed=3).assign(score=lambda frame: frame["score"] / 3)
    evaluation = evaluate(table, baseline=table.assign(score=table["score"] / 2), resamples=10)
    figure = Figure(figsize=SIZES["calibration"], layout=layout)
    ax = evaluation.plot_calibration(figure.subplots())
    ax.set_title("two\nlines")
    figure.canvas.draw()
    lowest = ax.get_legend().get_window_extent().y0
    bars = [path for bar in ax.collections for path in bar.get_paths()]
    assert len(bars) >= 2
    tops = [ax.transData.transform(path.vertices)[:, 1].max() for path in bars]
    assert max(tops) < lowest
    assert ax.get_legend().get_window_extent().y1 <= ax.bbox.y1


def test_rows_of_one_subject_count_once_in_the_bars():
    scored = Scored.of(np.full(40, 0.2), np.repeat([1.0, 0.0], 20))
    apart = bin_frequencies(scored, np.arange(40))
    together = bin_frequencies(scored, np.tile(np.arange(10), 4))
    expected = wilson_interval(np.array([0.5]), np.array([10.0]))
    np.testing.assert_allclose([together.low, together.high], expected)
    assert together.low < apart.low


def test_wilsons_interval_has_its_published_values():
    # Newcombe (1998), table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611.
    low, high = wilson_interval(np.array([81 / 263, 0.0]), np.array([263.0, 20.0]))
    np.testing.assert_allclose(low, [0.2553, 0.0], atol=5e-5)
    np.testing.assert_allclose(high, [0.3662, 0.1611], atol=5e-5)


@pytest.mark.parametrize("n", [1, 5, 60])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_one_class_is_written_into_the_picture(tmp_path, n, label):
    evaluation = evaluate(predictions(n).assign(label=label), resamples=10)
    words = "no positives" if label == 0 else "no negatives"
    for plot in (evaluation.plot_roc, evaluation.plot_pr):
        ax = plot(fresh_axes())
        assert any(words in text.get_text() for text in ax.texts)
    assert len(evaluation.save_figures(tmp_path)) == 4


def test_a_task_without_labels_still_has_its_pictures(tmp_path):
    table = pd.concat([predictions(), predictions(task="other").assign(label=np.nan)])
    evaluation = evaluate(table, resamples=10)
    ax = evaluation.plot_calibration(fresh_axes(), task="other")
    assert any("no labelled scores" in text.get_text() for text in ax.texts)
    assert len(evaluation.save_figures(tmp_path)) == 8


def test_figures_are_written_without_touching_pyplot(tmp_path):
    evaluation = evaluate(predictions(), baseline=predictions(seed=1), resamples=10)
    paths = evaluation.save_figures(tmp_path / "figures")
    assert [path.name for path in paths] == [
        "roc.png",
        "pr.png",
        "calibration.png",
        "net_benefit.png",
    ]
    assert not plt.get_fignums()
    for path in paths:
        with Image.open(path) as image:
            assert min(image.size) >= 700
            assert len(image.convert("RGB").getcolors(maxcolors=10**6)) > 50


def test_figures_of_several_tasks_have_names_of_their_own(tmp_path):
    table = pd.concat([predictions(task="a b"), predictions(task="a/b")])
    paths = evaluate(table, resamples=10).save_figures(tmp_path)
    assert len({path.name for path in paths}) == 8
    assert all(path.parent == tmp_path and path.exists() for path in paths)


def test_a_notebook_gets_axes_of_its_own_and_a_given_one_is_used():
    evaluation = evaluate(predictions(), resamples=10)
    for plot in (evaluation.plot_roc, evaluation.plot_pr, evaluation.plot_calibration):
        ax = fresh_axes()
        assert plot(ax) is ax
        assert not plt.get_fignums()
        made = plot()
        assert made.figure.number in plt.get_fignums()
        assert "300 rows" in made.get_title()
        plt.close("all")


def test_the_task_must_be_named_where_there_are_several():
    evaluation = evaluate(pd.concat([predictions(), predictions(task="other")]), resamples=10)
    with pytest.raises(ConfigError, match="say which; choose one of death, other"):
        evaluation.plot_roc(fresh_axes())
    with pytest.raises(ConfigError, match="there is no 'deth'"):
        evaluation.plot_roc(fresh_axes(), task="deth")
    assert evaluation.plot_roc(fresh_axes(), task="other").get_legend()


def curves(aurocs=(0.55, 0.6, 0.7, 0.8, 0.75)):
    rows = []
    for epoch, auroc in enumerate(aurocs):
        rows += [
            ("finetune", epoch, "tuning/loss", 0.6 - 0.1 * epoch),
            ("finetune", epoch, "tuning/auroc", auroc),
            ("finetune", epoch, "tuning/choice", auroc),
        ]
        if not epoch:  # the start, which only fine-tuning judges
            continue
        rows += [
            ("pretrain", epoch, "train/loss", 2.1 - 0.1 * epoch),
            ("pretrain", epoch, "tuning/loss", 2.2 - 0.1 * epoch),
            ("pretrain", epoch, "train/values/event", 0.3),
            ("finetune", epoch, "train/loss", 0.5 - 0.1 * epoch),
        ]
    return pd.DataFrame(rows, columns=["stage", "epoch", "name", "value"])


def test_training_curves_have_a_panel_for_each_stage_and_figure():
    # Epochs in any order, as a resumed run may leave them; the stages' order is the table's.
    loss, tuned, auroc = plot_training_curves(curves().sort_values("epoch", ascending=False))
    titles = [ax.get_title() for ax in (loss, tuned, auroc)]
    assert titles == ["Pretraining: loss", "Fine-tuning: loss", "Fine-tuning: AUROC"]
    x, y = lines(loss)["train"].get_data()
    np.testing.assert_array_equal(x, [1, 2, 3, 4])
    np.testing.assert_allclose(y, [2.0, 1.9, 1.8, 1.7])
    np.testing.assert_array_equal(lines(auroc)["tuning"].get_xdata(), [0, 1, 2, 3, 4])
    assert "best: epoch 3" in lines(auroc)
    assert "best: epoch 3" not in lines(loss)
    *_, auroc = plot_training_curves(curves(aurocs=(0.8, 0.6, 0.7)))
    assert "best: the start" in lines(auroc)


def test_training_curves_go_into_a_file_without_touching_pyplot(tmp_path):
    path = save_training_curves(curves(), tmp_path / "figures" / "training.png")
    assert path.stat().st_size > 5_000
    assert not plt.get_fignums()


def test_several_tasks_have_a_curve_each():
    frame = curves()
    second = frame[frame["name"] == "tuning/auroc"].assign(name="tuning/auroc/b")
    frame["name"] = frame["name"].replace("tuning/auroc", "tuning/auroc/a")
    *_, auroc = plot_training_curves(pd.concat([frame, second]))
    assert {"a", "b"} <= set(lines(auroc))


def test_objectives_their_weights_and_the_probe_have_panels():
    more = [
        ("pretrain", epoch, name, value)
        for epoch in (1, 2)
        for name, value in {
            "train/objective/values": 0.9,
            "tuning/objective/values": 1.0 / epoch,
            "tuning/objective/edges": 0.5,
            "train/weight/values": 1.1,
            "train/weight/edges": 0.7,
            "probe/death": 0.6 + 0.1 * epoch,
        }.items()
    ]
    more.append(("pretrain", 0, "probe/death", 0.5))
    more += [("pretrain", epoch, "probe/death/error", 0.05) for epoch in (0, 1, 2)]
    frame = pd.concat([curves(), pd.DataFrame(more, columns=curves().columns)])
    axes = plot_training_curves(frame)
    (band,) = axes[1].collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((0.45, 0.85))
    drawn = {ax.get_title(): lines(ax) for ax in axes}
    assert list(drawn) == [
        "Pretraining: loss",
        "Pretraining: AUROC of a linear probe",
        "Pretraining: weights of objectives",
        "Pretraining: values",
        "Pretraining: edges",
        "Fine-tuning: loss",
        "Fine-tuning: AUROC",
    ]
    assert "death/error" not in drawn["Pretraining: AUROC of a linear probe"]
    probe = drawn["Pretraining: AUROC of a linear probe"]["death"]
    np.testing.assert_array_equal(probe.get_xdata(), [0, 1, 2])
    np.testing.assert_allclose(probe.get_ydata(), [0.5, 0.7, 0.8])
    assert {"values", "edges"} <= set(drawn["Pretraining: weights of objectives"])
    np.testing.assert_allclose(drawn["Pretraining: values"]["tuning"].get_ydata(), [1.0, 0.5])
    assert "train" not in drawn["Pretraining: edges"]
    single = frame[~frame["name"].str.endswith("objective/edges")]
    titles = [ax.get_title() for ax in plot_training_curves(single)]
    assert "Pretraining: values" not in titles  # its loss is the stage's


def test_bad_curves_are_refused():
    with pytest.raises(SchemaError, match="column value is missing"):
        plot_training_curves(curves().drop(columns="value"))
    with pytest.raises(SchemaError, match="no row is named"):
        plot_training_curves(curves().assign(value=np.nan))
    with pytest.raises(ConfigError, match="1 axes for 3 panels"):
        plot_training_curves(curves(), [fresh_axes()])

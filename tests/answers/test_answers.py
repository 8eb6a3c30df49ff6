"""Answers: what train teaches of a task, and what logits become."""

import clinical  # noqa: F401
from clinical.answers import ANSWERS, Binary, Multiclass, Multilabel, Regression, TimeToEvent
from clinical.calibration import Calibration, sigmoid
from clinical.config import TaskConfig
from clinical.errors import SchemaError
from clinical.evaluation.judged import MARKED
from clinical.experts.fitting import BASELINES
from clinical.heads import HEADS

import json

import numpy as np
import pytest

NAN = np.nan
TASKS = {
    "binary": TaskConfig(kind="binary", labels="a"),
    "multiclass": TaskConfig(kind="multiclass", labels="a", min_subjects=1),
    "multilabel": TaskConfig(kind="multilabel", labels=["x/a", "x/b"]),
    "regression": TaskConfig(kind="regression", labels="a", unit="days"),
    "time_to_event": TaskConfig(kind="time_to_event", labels="a", horizon_hours=[48, 24]),
}
LABELS = {
    "binary": np.array([[0.0], [1], [NAN]]),
    "multiclass": np.array([["b"], [None], ["a"], ["c"], ["b"]], dtype=object),
    "multilabel": np.array([[0.0, 1], [1, NAN], [NAN, 0]]),
    "regression": np.array([[4.0], [NAN], [8]]),
    "time_to_event": np.array([[12.0, 1], [36, 1], [30, 0], [60, 0], [NAN, NAN], [90, 1]]),
}


def learn(kind):
    return learned_from(TASKS[kind], LABELS[kind])


def learned_from(task, labels, subjects=None):
    subjects = np.arange(len(labels)) if subjects is None else subjects
    return ANSWERS[task.kind].learn(task, labels, subjects=subjects, where="tasks.t")


@pytest.mark.parametrize("kind", ANSWERS)
def test_what_was_learned_survives_json(kind):
    answer = learn(kind)
    plain = json.loads(json.dumps(answer.learned))
    assert ANSWERS[kind].read(TASKS[kind], plain) == answer
    assert len(answer.classes) == len(answer.horizons)


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_sample_without_logits_has_no_score_and_the_others_keep_theirs(kind):
    answer = learn(kind)
    logits = np.random.default_rng(0).normal(size=(3, *answer.shape))
    whole = answer.scores(logits, {})
    logits[1] = NAN
    holed = answer.scores(logits, {})
    assert whole.shape == (3, len(answer.classes))
    assert np.isnan(holed[1]).all()
    np.testing.assert_array_equal(holed[[0, 2]], whole[[0, 2]])


def test_classes_are_sorted_and_their_probabilities_add_up_to_one():
    answer = learn("multiclass")
    assert answer.names == ("a", "b", "c")
    scores = answer.scores(np.log([[1.0, 1, 2]]), {})
    np.testing.assert_allclose(scores, [[0.25, 0.25, 0.5]])
    truth = answer.truth(np.array([[1.0], [NAN]]))
    np.testing.assert_array_equal(truth, [[0, 1, 0], [NAN, NAN, NAN]])


def test_a_temperature_flattens_classes_that_were_too_sure():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(3000, 3))
    chances = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([generator.choice(3, p=p) for p in chances], dtype=float)[:, None]
    labels[:100] = NAN
    subjects = np.arange(3000)
    (fit,) = learn("multiclass").calibrate(3 * logits, labels, subjects=subjects).values()
    assert (fit.kind, fit.n) == ("temperature", 2900)
    assert fit.slope_low == pytest.approx(1 / 3, abs=0.03)
    scores = learn("multiclass").scores(3 * logits, {None: fit})
    np.testing.assert_allclose(scores, chances, atol=0.05)
    shuffled = generator.permutation(3000)
    some = learn("multiclass").calibrate(3 * logits[shuffled], labels[shuffled], subjects=subjects)
    assert some == {None: fit}


def test_without_labels_nothing_is_calibrated_and_it_is_said():
    unknown = np.full((2, 1), NAN)
    fits = learn("multiclass").calibrate(np.zeros((2, 3)), unknown, subjects=np.arange(2))
    (fit,) = fits.values()
    assert fit.kind == "identity"
    assert "no labelled sample" in fit.reason


def test_each_class_of_a_multilabel_task_is_calibrated_by_itself():
    answer = learn("multilabel")
    logits = np.array([[0.0, 1.0]])
    halved = Calibration(kind="temperature", slope_low=0.5, slope_high=0.5)
    scores = answer.scores(logits, {"b": halved})
    np.testing.assert_allclose(scores, sigmoid(np.array([[0.0, 0.5]])))
    generator = np.random.default_rng(0)
    many = generator.normal(size=(400, 2))
    labels = (generator.random((400, 2)) < sigmoid(many)).astype(float)
    labels[:150, 0] = NAN
    fits = answer.calibrate(many, labels, subjects=np.arange(len(many)))
    assert {name: fit.n for name, fit in fits.items()} == {"a": 250, "b": 400}


def test_values_are_in_the_unit():
    answer = learn("regression")
    assert (answer.mean, answer.sd) == (6, 2)
    np.testing.assert_array_equal(answer.scores(np.array([-1.0, 0.5]), {}), [[4], [7]])


def test_edges_are_quantiles_of_event_times_and_every_horizon():
    answer = learn("time_to_event")
    assert answer.horizons == (24, 48)
    assert {24, 48} <= set(answer.edges)
    assert answer.edges[-1] == 48
    inner = set(answer.edges) - {24.0, 48.0}
    # Events by the last horizon are at 12 and 36 hours: quantiles lie in between.
    assert all(12 <= edge <= 36 for edge in inner)


def test_the_risk_is_one_less_the_chance_to_come_through_all_intervals_before():
    answer = TimeToEvent((10.0, 24.0, 48.0), (24.0, 48.0))
    hazards = np.array([[0.1, 0.2, 0.5]])
    scores = answer.scores(np.log(hazards / (1 - hazards)), {})
    np.testing.assert_allclose(scores, [[1 - 0.9 * 0.8, 1 - 0.9 * 0.8 * 0.5]])


def test_who_was_censored_before_a_horizon_has_no_outcome_there():
    labels = np.array([[24.0, 1], [24, 0], [23, 0], [25, 1], [50, 0], [NAN, NAN]])
    outcomes = learn("time_to_event").outcomes(labels)
    expected = [[1, 1], [0, NAN], [NAN, NAN], [0, 1], [0, 0], [NAN, NAN]]
    np.testing.assert_array_equal(outcomes, expected)


def test_an_end_of_observation_at_the_horizon_is_one_in_float32_too():
    answer = TimeToEvent((729.6,), (729.6,))
    hours = float(np.float32(729.6))
    assert hours < 729.6
    labels = np.array([[hours, 0], [hours, 1], [729.5, 0], [729.7, 1]])
    np.testing.assert_array_equal(answer.outcomes(labels)[:, 0], [0, 1, NAN, 0])


@pytest.mark.parametrize(
    ("kind", "labels", "words"),
    [
        ("binary", [[1.0], [1]], "2 positive and 0 negative"),
        ("multilabel", [[1.0, 1], [0, 1]], r"tasks\.t \(b\): train has 2 positive and 0"),
        ("multiclass", np.array([["a"], [None]], dtype=object), "have 1 different classes"),
        ("regression", [[2.0], [2.0]], "2 labels, all alike.*float_value"),
        ("regression", [[36.6]] * 10, "10 labels, all alike"),  # whose deviation is not quite 0
        ("regression", [[NAN]], "0 labels, all alike"),
        ("time_to_event", [[50.0, 1], [60, 0]], "0 have the event by 48 hours"),
        ("time_to_event", [[5.0, 1], [6, 0]], "and 0 are known to have none"),
    ],
)
def test_labels_that_teach_nothing_are_refused(kind, labels, words):
    with pytest.raises(SchemaError, match=words):
        learned_from(TASKS[kind], np.asarray(labels))


def texts(*names):
    return np.array(names, dtype=object)[:, None]


def test_a_column_of_free_text_is_no_column_of_classes():
    task = TaskConfig(kind="multiclass", labels="a")
    notes = texts(*["a"] * 5, *["b"] * 5, *(f"seen by Dr {i}" for i in range(400)))
    with pytest.raises(SchemaError, match="400 of 402 classes have fewer than 5 train") as error:
        learned_from(task, notes)
    assert "Dr" not in str(error.value)
    assert learned_from(task, notes[:10]).names == ("a", "b")


def test_many_samples_of_one_subject_are_no_class_of_several():
    task = TaskConfig(kind="multiclass", labels="a", min_subjects=2)
    labels, subjects = texts("a", "a", "b", "b", None), np.array([1, 2, 3, 3, 4])
    with pytest.raises(SchemaError, match="1 of 2 classes have fewer than 2"):
        learned_from(task, labels, subjects)
    subjects[3] = 5
    assert learned_from(task, labels, subjects).names == ("a", "b")


@pytest.mark.parametrize(
    ("kind", "learned"),
    [
        ("multiclass", {}),
        ("multiclass", {"classes": ["a"]}),
        ("multiclass", {"classes": ["b", "a"]}),
        ("multiclass", {"classes": ["a", "a"]}),
        ("multiclass", {"classes": ["a", 1]}),
        ("multiclass", {"classes": None}),
        ("regression", {"mean": 1.0}),
        ("regression", {"mean": float("nan"), "sd": 1.0}),
        ("regression", {"mean": 1.0, "sd": -1.0}),
        ("time_to_event", {"edges": []}),
        ("time_to_event", {"edges": [24.0]}),  # not every horizon
        ("time_to_event", {"edges": [24.0, 48.0, 40.0]}),
        ("time_to_event", {"edges": [0.0, 24.0, 48.0]}),
        ("time_to_event", {"edges": [24.0, 48.0, float("inf")]}),
    ],
)
def test_what_was_put_together_by_hand_is_refused(kind, learned):
    with pytest.raises((ValueError, TypeError, KeyError)):
        ANSWERS[kind].read(TASKS[kind], learned)


@pytest.mark.parametrize("table", [BASELINES, HEADS, MARKED])
def test_every_kind_is_in_every_table(table):
    assert list(table) == list(ANSWERS)


def test_the_menu_is_complete():
    assert list(ANSWERS.values()) == [Binary, Multiclass, Multilabel, Regression, TimeToEvent]

"""Relations that tell something stay open, others are closed, and why is written down."""

from clinical.cohort.store import Store
from clinical.config import TaskConfig
from clinical.experiment import Run
from clinical.training import build, relevance
from clinical.training.build import build_model, references
from clinical.training.members import members
from clinical.training.relevance import Relevance, relation_figures, shown, write_relevances

import dataclasses

import numpy as np
import pytest
import torch

N = 600
TASK = "in_hospital_mortality"
REGRESSION = TaskConfig(kind="regression", labels="tasks/stay", unit="days")


def added(word, *, subject=None, seed=0) -> Relevance | None:
    """What `word` adds to a logit that knows half of what there is to know."""
    draws = np.random.default_rng(seed)
    own, others = draws.normal(size=(2, N))
    labels = (draws.random(N) < 1 / (1 + np.exp(-own - others))).astype(float)
    subject = np.arange(N) if subject is None else subject
    return tried(own, word(others, draws), labels, subject, seed=seed)


def tried(own, word, labels, subject, seed=0):
    prior = np.full(word.shape[1], 4.0 * word.shape[1])
    return relevance._added(own, word, labels, subject, prior=prior, seed=seed)


@pytest.mark.parametrize("seed", range(3))
def test_neighbours_who_know_what_the_patient_does_not_are_heard(seed):
    found = added(lambda others, draws: np.column_stack([others, draws.normal(size=N)]), seed=seed)
    assert found.is_shown(n_tasks=1)
    assert found.gain > 0.05
    assert found.n == N


def test_chance_is_hardly_ever_heard():
    closed = [
        not added(lambda _, d: d.normal(size=(N, 8)), seed=s).is_shown(n_tasks=1) for s in range(20)
    ]
    assert np.mean(closed) >= 0.8


def test_what_the_patient_knows_already_adds_nothing():
    draws = np.random.default_rng(3)
    own = draws.normal(size=N)
    labels = (draws.random(N) < 1 / (1 + np.exp(-own))).astype(float)
    found = tried(own, own[:, None], labels, np.arange(N))
    assert found.gain < 0.005


def test_the_word_is_judged_on_subjects_that_it_was_not_fitted_on():
    """Each subject has a column of its own, by which its one outcome could be learned by heart."""
    subject = np.arange(N) // 20
    labels = (np.random.default_rng(0).random(N // 20) < 0.5).astype(float)[subject]
    by_heart = np.eye(N // 20)[subject]
    told = tried(np.zeros(N), by_heart, labels, subject)
    as_if_apart = tried(np.zeros(N), by_heart, labels, np.arange(N))
    assert told.gain < 0.01 < 0.1 < as_if_apart.gain


def test_with_too_few_of_a_class_nothing_is_known():
    rare = np.zeros(N)
    rare[:2] = 1
    word = np.ones((N, 1))
    assert tried(np.zeros(N), word, rare, np.arange(N)) is None
    assert shown({"similar": {}, "same_unit": {TASK: Relevance(0.1, 0.01, 50)}}) == {"same_unit"}


def test_of_labels_that_the_patient_alone_tells_perfectly_the_gain_is_finite():
    own = np.linspace(-3, 3, 40)
    found = tried(own, np.ones((40, 1)), (own > 2).astype(float), np.arange(40))
    assert np.isfinite([found.gain, found.error]).all()
    assert not found.is_shown(n_tasks=1)


def test_a_relation_that_could_not_be_tried_is_closed_with_a_word(run, caplog):
    write_relevances(members(run)[0], {"similar": {}})
    assert "graph.relations.similar: closed, since no task has labels enough" in caplog.text


def test_among_many_labels_whole_subjects_are_tried(monkeypatch):
    monkeypatch.setattr(relevance, "MOST", 100)
    subject = np.repeat(np.arange(50), 4)
    kept = relevance._by_chance(subject, 1)
    assert len(kept) == 100
    assert np.bincount(subject[kept]).max() == 4 == np.bincount(subject[kept])[subject[kept]].min()
    assert (np.diff(kept) > 0).all()
    assert not np.array_equal(kept, relevance._by_chance(subject, 2))


@pytest.mark.parametrize("gain", [-0.01, 0.0, 0.009])
def test_a_gain_within_its_error_is_none(gain):
    assert not Relevance(gain, 0.01, 100).is_shown(n_tasks=1)


def test_of_many_tasks_one_must_tell_more():
    found = Relevance(0.015, 0.01, 100)
    assert found.is_shown(n_tasks=1)
    assert not found.is_shown(n_tasks=10)
    assert Relevance(0.022, 0.01, 100).is_shown(n_tasks=10)
    tasks = {f"task_{i}": Relevance(0.0, 0.01, 100) for i in range(9)}
    assert shown({"similar": {"one": found}, "same_unit": {"one": found, **tasks}}) == {"similar"}


def test_a_sample_counts_with_its_subject():
    gains = np.repeat(np.random.default_rng(0).normal(size=50), 4)
    alone = relevance._over_subjects(gains, np.arange(200))
    together = relevance._over_subjects(gains, np.arange(200) // 4)
    assert together.gain == pytest.approx(alone.gain)
    assert together.error == pytest.approx(2 * alone.error, rel=0.02)


@pytest.fixture
def run(hospital_tools, hospital, finished, tmp_path) -> Run:
    own = hospital_tools.overrides(hospital, tmp_path / "out", "ensemble=2")
    return Run.read(hospital_tools.TINY, own)


@pytest.fixture
def store(finished) -> Store:
    return Store.open(finished.out / "store")


def test_the_neighbours_word_is_the_mean_of_their_memory(run, store):
    model = build_model(run, store)
    references(run, store).refresh(model, device=torch.device("cpu"))
    rows = store.rows("train")[:30]
    word, prior, linked = relevance._word(store, model, "similar", rows)
    n_agreed = model.directions("similar").shape[1]
    assert word.shape == (30, len(prior)) == (30, n_agreed + model.width + 1)
    near = store.neighbours("similar")["rows"].take(rows)
    weight = store.neighbours("similar")["weight"].take(rows)
    memory = model.reference_memory.read(torch.arange(len(model.memory))).numpy()
    for place in np.flatnonzero(linked)[:5]:
        there = near[place] >= 0
        mean = np.average(memory[near[place][there]], axis=0, weights=weight[place][there])
        np.testing.assert_allclose(word[place, n_agreed:-1], mean, atol=1e-5)
        assert word[place, -1] == pytest.approx(np.log1p(there.sum()))
    assert linked.any()


def test_only_labels_of_train_are_looked_at(run, store):
    model = build_model(run, store)
    references(run, store).refresh(model, device=torch.device("cpu"))
    told = relevance.relevances(run, store, model)
    assert set(told) == set(run.graph.relations)
    other = Store.open(store.folder)
    flipped = store.samples[f"label.{TASK}"].to_numpy().copy()
    outside = np.setdiff1d(np.arange(len(flipped)), store.rows("train"))
    flipped[outside] = 1 - flipped[outside]
    other.__dict__["samples"] = store.samples.with_columns(
        store.samples[f"label.{TASK}"].scatter(outside.tolist(), flipped[outside].tolist())
    )
    assert relevance.relevances(run, other, model) == told


@pytest.mark.parametrize(("others", "n_open"), [({}, 0), ({"stay": REGRESSION}, 2)])
def test_a_relation_may_tell_of_a_task_that_it_was_not_tried_for(
    run, store, monkeypatch, others, n_open
):
    """What tells nothing of one outcome is closed only if there is no task of another kind."""
    finetune = run.finetune.model_copy(update={"try_relations": True})
    tasks = {**run.tasks, **others}
    config = run.model_copy(update={"tasks": tasks, "finetune": finetune, "ensemble": 1})
    nothing = {name: {TASK: Relevance(-0.1, 0.01, 80)} for name in run.graph.relations}
    monkeypatch.setattr(build, "relevances", lambda *_: nothing)
    monkeypatch.setattr(build, "references", lambda _, store, __: references(run, store))
    model = build_model(run, store)
    (member,) = members(config)
    build._look_around(member, store, model, {})
    assert len(model.open_relations) == n_open


def test_without_a_binary_task_nothing_is_tried(run, store):
    config = run.model_copy(update={"tasks": {"stay": REGRESSION}})
    told = relevance.relevances(config, store, build_model(run, store))
    assert told == {name: {} for name in run.graph.relations}


def test_the_figures_are_means_of_the_networks(run, store):
    open_one, closed = build_model(run, store).eval(), build_model(run, store).eval()
    closed.keep_open(["same_unit"])
    for model in (open_one, closed):
        references(run, store).refresh(model, device=torch.device("cpu"))
    for gain, member in zip([0.01, 0.03], members(run), strict=True):
        write_relevances(member, {"similar": {TASK: Relevance(gain, 0.01, 80)}, "same_unit": {}})
    figures = relation_figures(run, store, [open_one, closed], store.rows("held_out"))
    similar, same_unit = figures["similar"], figures["same_unit"]
    assert (similar["open"], same_unit["open"], similar["networks"]) == (1, 2, 2)
    assert similar["tried"][TASK] == pytest.approx(dataclasses.asdict(Relevance(0.02, 0.01, 80)))
    assert same_unit["tried"] == {}
    assert 0 < similar["gate"] < 1
    assert 0 < similar["linked"] <= 1

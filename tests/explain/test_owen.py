"""Owen values are what a naive loop over all orders gives, and add up to Shapley values."""

import clinical
from clinical.batch import ClinicalBatch
from clinical.datamodule import StoreDataset
from clinical.explain import owen
from clinical.explain.apart import keeping, variables_of
from clinical.explain.owen import Shares, orders_of
from clinical.explain.question import Question
from clinical.explain.shapley import parts_of, share_out

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

TASKS = ("death", "transfer")


def shares_of(predictor, store, row: int) -> Shares:
    panel = predictor.panel
    batch = StoreDataset(store.folder, panel.bundle.config)[np.array([row])]
    memories = [memory for (memory,) in panel.memories(store)]
    networks = panel.bundle.networks
    questions = [Question.of(n.model, batch, m) for n, m in zip(networks, memories, strict=True)]
    return Shares(panel, questions, batch, TASKS)


def n_variables(store, modality: str) -> int:
    sizes = store.sizes[modality]
    names = {"events": "variables", "static": "columns", "codes": "codes"}
    return sizes[names[modality]]


@pytest.fixture(scope="module")
def full_row(small_predictor, small_store):
    """A sample with every part, and with several variables of the events."""
    present = small_store.samples.select("^present.*$").to_numpy().all(1)
    return int(np.flatnonzero(present)[0])


@pytest.mark.parametrize("modality", ["events", "static", "codes"])
def test_variables_add_up_to_the_shapley_value_of_their_modality(
    small_predictor, small_store, full_row, modality
):
    panel = small_predictor.panel
    memories = [memory for (memory,) in panel.memories(small_store)]
    (shared,) = share_out(panel, small_store, np.array([full_row]), memories=memories)
    found = shares_of(small_predictor, small_store, full_row).of(
        modality, n_variables=n_variables(small_store, modality)
    )
    at = parts_of(panel).index(modality)
    for task in TASKS:
        whole = shared.shares[task][at, 0]
        assert found.shares[task].sum() + found.rest[task] == pytest.approx(whole, abs=1e-5)
        assert np.abs(found.shares[task]).max() > 1e-4


def naive(predictor, store, row: int, modality: str, task: str) -> np.ndarray:
    """[G + 1] mean gain over all orders of parts and of the variables within the modality, each
    time with a new batch; last what goes with the modality as a whole."""
    panel, config = predictor.panel, predictor.bundle.config
    batch = StoreDataset(store.folder, config)[np.array([row])]
    memories = [memory for (memory,) in panel.memories(store)]
    container = batch.inputs[modality]
    variables = variables_of(container)
    parts = parts_of(panel)

    def worth(coalition: frozenset, kept: tuple[bool, ...] | None) -> float:
        gone = [p for p in parts if p not in coalition and p != modality]
        without = panel.left_out_with([*gone, *([modality] if kept is None else [])])
        some = np.array([kept or (False,) * len(variables)])
        own = keeping(container, variables, some, n_variables=n_variables(store, modality))
        asked: ClinicalBatch = batch.replace(**{modality: own})
        networks = [
            panel.answers(
                n.model, asked, encoded=n.model.encode(asked), left_out=[without], memories=[m]
            )[0][task].double().detach().numpy()
            for n, m in zip(panel.bundle.networks, memories, strict=True)
        ]  # fmt: skip
        experts = panel.expert_logits(asked, without)[task]
        opinions = owen.Opinions(networks=np.stack(networks), experts=experts)
        return float(panel.logits({task: opinions})[task][0])

    known = {}

    def cached(coalition, kept):
        key = (coalition, kept)
        if key not in known:
            known[key] = worth(*key)
        return known[key]

    gains, n = np.zeros(len(variables) + 1), 0
    for order in permutations(parts):
        before = frozenset(order[: order.index(modality)])
        for inner in permutations(range(len(variables))):
            n += 1
            kept = [False] * len(variables)
            reached = cached(before, tuple(kept))
            gains[-1] += reached - cached(before, None)
            for variable in inner:
                kept[variable] = True
                now = cached(before, tuple(kept))
                gains[variable] += now - reached
                reached = now
    return gains / n


@pytest.mark.parametrize("modality", ["events", "codes"])
def test_the_values_are_the_mean_gain_over_all_orders_of_parts_and_variables(
    small_predictor, small_store, full_row, modality
):
    found = shares_of(small_predictor, small_store, full_row).of(
        modality, n_variables=n_variables(small_store, modality)
    )
    assert len(found.variables) >= 2
    expected = naive(small_predictor, small_store, full_row, modality, "death")
    np.testing.assert_allclose(found.shares["death"], expected[:-1], rtol=0, atol=1e-5)
    assert found.rest["death"] == pytest.approx(expected[-1], abs=1e-5)
    assert (found.errors["death"] == 0).all()


def test_what_the_chosen_neighbours_add_is_told_by_itself(small_predictor, small_store, full_row):
    shares = shares_of(small_predictor, small_store, full_row)
    assert abs(shares.of("events", n_variables=2).rest["death"]) > 1e-5
    rest = shares.of("codes", n_variables=n_variables(small_store, "codes")).rest["death"]
    assert rest == pytest.approx(0.0, abs=1e-12)


def test_drawn_orders_hold_the_truth_within_their_error(small_predictor, small_store, monkeypatch):
    dataset = StoreDataset(small_store.folder, small_predictor.bundle.config)
    counts = [
        int(dataset[np.array([r])].inputs["codes"].mask.sum()) for r in range(small_store.n_samples)
    ]
    shares = shares_of(small_predictor, small_store, int(np.argmax(counts)))
    size = n_variables(small_store, "codes")
    exact = shares.of("codes", n_variables=size)
    monkeypatch.setattr(owen, "FEW", 0)
    drawn = shares.of("codes", n_variables=size)
    assert len(exact.variables) > 2
    assert max(drawn.errors[task].max() for task in TASKS) > 1e-7
    for task in TASKS:
        assert drawn.shares[task].sum() == pytest.approx(exact.shares[task].sum(), abs=1e-6)
        error = np.abs(drawn.shares[task] - exact.shares[task])
        assert (error <= 4 * drawn.errors[task] + 1e-6).all()


def test_orders_are_drawn_with_their_reverses_and_the_same_for_everybody():
    orders = orders_of(9)
    assert (orders == orders_of(9)).all()
    assert (np.sort(orders, axis=1) == np.arange(9)).all()
    assert (orders[owen.DRAWN :] == orders[: owen.DRAWN, ::-1]).all()
    assert len(orders_of(3)) == 6


def test_networks_alone_are_shared_out_as_well(small_predictor, small_store, full_row):
    alone = replace(small_predictor.bundle, experts={}, stack={})
    found = shares_of(clinical.Predictor(alone), small_store, full_row).of("events", n_variables=2)
    whole = shares_of(small_predictor, small_store, full_row).of("events", n_variables=2)
    assert not np.allclose(found.shares["death"], whole.shares["death"], atol=1e-5)

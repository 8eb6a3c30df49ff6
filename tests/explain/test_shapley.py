"""Shapley values are what a naive loop over all orders gives, and keep their axioms."""

from clinical.explain.shapley import parts_of, shapley_values, share_out

from itertools import permutations

import numpy as np
import pytest


def naive(worth: np.ndarray, n_players: int) -> np.ndarray:
    """The mean gain of each player over all orders in which they may come: [P, N]."""
    values = np.zeros((n_players, worth.shape[1]))
    orders = list(permutations(range(n_players)))
    for order in orders:
        coalition = 0
        for player in order:
            values[player] += worth[coalition | 1 << player] - worth[coalition]
            coalition |= 1 << player
    return values / len(orders)


@pytest.mark.parametrize("n_players", [1, 2, 3, 5])
def test_the_values_are_the_mean_gain_over_all_orders(n_players):
    worth = np.random.default_rng(n_players).normal(size=(1 << n_players, 7))
    found = shapley_values(worth)
    np.testing.assert_allclose(found, naive(worth, n_players), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.sum(0), worth[-1] - worth[0], rtol=0, atol=1e-12)


def test_a_game_of_gloves_is_shared_as_the_textbook_says():
    # Player 0 has a left glove, players 1 and 2 a right one each; a pair is worth 1.
    worth = np.array([[float(c & 1 and c & 6)] for c in range(8)]).astype(bool).astype(float)
    np.testing.assert_allclose(shapley_values(worth)[:, 0], [4 / 6, 1 / 6, 1 / 6])


def test_like_players_get_the_same_and_one_without_effect_nothing():
    # Players 0 and 1 are alike, player 2 never matters.
    of_size = np.array([0.3, 1.0, 5.0])
    worth = np.array([[of_size[(c & 1) + (c >> 1 & 1)]] for c in range(8)])
    first, second, third = shapley_values(worth)[:, 0]
    assert first == second == pytest.approx((5.0 - 0.3) / 2)
    assert third == 0.0


# On a panel of networks and an expert


def shared_by_row(panel, store, rows):
    memories = [memory for (memory,) in panel.memories(store)]
    found = {}
    for each in share_out(panel, store, rows, memories=memories):
        for place, row in enumerate(each.rows.tolist()):
            found[row] = {
                task: (each.shares[task][:, place], each.whole[task][place], each.present[:, place])
                for task in each.shares
            }
    return found


@pytest.fixture(scope="module")
def shared(small_predictor, small_store):
    rows = np.arange(small_store.n_samples)
    return shared_by_row(small_predictor.panel, small_store, rows)


def worth_of(predictor, store, row: int, parts: list[str], present: np.ndarray, task: str):
    """[2^P, 1] by asking for each coalition as `Predictor.score(without=...)` does."""
    panel = predictor.panel
    left_out = [
        panel.left_out_with(
            [part for p, part in enumerate(parts) if present[p] and not coalition >> p & 1]
        )
        for coalition in range(1 << len(parts))
    ]
    said = panel.opinions(store, np.array([row]), left_out)
    return np.array([panel.logits(each)[task] for each in said])


def test_a_coalition_is_worth_what_scoring_without_the_others_gives(
    small_predictor, small_store, shared
):
    parts = parts_of(small_predictor.panel)
    assert parts == ["events", "static", "notes", "images", "codes", "graph"]
    with_image = next(row for row, of in shared.items() if of["death"][2].all())
    without = next(row for row, of in shared.items() if not of["death"][2][3])
    for row in (with_image, without):
        for task in ("death", "transfer"):
            values, whole, present = shared[row][task]
            worth = worth_of(small_predictor, small_store, row, parts, present, task)
            np.testing.assert_allclose(values, naive(worth, 6)[:, 0], rtol=0, atol=1e-5)
            assert whole == pytest.approx(worth[-1, 0], abs=1e-6)
            assert (np.abs(values[present]) > 1e-4).sum() >= 4


def test_a_part_that_a_sample_lacks_adds_exactly_nothing(shared):
    absent = [of[task][0][~of[task][2]] for of in shared.values() for task in of]
    assert sum(map(len, absent)) > 10
    assert all((values == 0.0).all() for values in absent)


@pytest.mark.parametrize("size", [1, 7])
def test_the_values_are_the_same_in_batches_of_any_size(
    small_predictor, small_store, shared, size, monkeypatch
):
    monkeypatch.setattr("clinical.predictor.panel.BATCH_SIZE", size)
    monkeypatch.setattr("clinical.explain.shapley.ASKED_AT_ONCE", 50)
    found = shared_by_row(small_predictor.panel, small_store, np.array([9, 2, 5]))
    assert set(found) == {2, 5, 9}
    for row, of in found.items():
        for task, (values, _, _) in of.items():
            np.testing.assert_allclose(values, shared[row][task][0], rtol=0, atol=1e-5)

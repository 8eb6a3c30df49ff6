"""The drift of a cohort: what is counted, what the table says, and how often it is wrong."""

from clinical.typicality.drift import TOLERATED, Variable, drift_table
from clinical.typicality.tally import BINS, Tally
from clinical.typicality.telling import drift_file, warning
from clinical.typicality.views import Table

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

VARIABLES = [Variable("variable", "events", name) for name in ("Temp", "HR", "Na")]


def tally(n: int, *, seed: int, shift: float = 0.0, share: float = 0.8) -> Tally:
    """Normal levels, those of Temp shifted; a share of patients has HR."""
    draws = np.random.default_rng(seed)
    value = draws.normal(size=(n, 3, 1)) + np.array([shift, 0, 0])[:, None]
    observed = np.ones((n, 3), dtype=bool)
    observed[:, 1] = draws.random(n) < share
    table = Table(torch.from_numpy(value).float(), torch.from_numpy(observed))
    return Tally.of(table, np.ones(n))


@pytest.fixture(scope="module")
def train() -> Tally:
    return tally(5000, seed=0)


def test_levels_are_counted_in_deciles_of_train_by_hand():
    value = torch.tensor([[-9.0], [0.01], [9.0], [9.0]])[:, :, None]
    observed = torch.tensor([[True], [True], [True], [False]])
    found = Tally.of(Table(value, observed), np.array([1.0, 0.5, 1.0, 1.0]))
    assert found.total.tolist() == [3.5]
    assert found.seen.tolist() == [2.5]
    assert found.bins[0].nonzero()[0].tolist() == [0, 6, BINS - 1]
    assert found.bins[0].sum() == 2.5


def test_parts_of_a_cohort_add_up_and_survive_a_file():
    a, b = tally(30, seed=1), tally(20, seed=2)
    both = Tally.from_json((a + b).to_json())
    assert both.total.tolist() == [50] * 3
    np.testing.assert_array_equal(both.bins, a.bins + b.bins)
    tensors = both.to_tensors()
    again = Tally.from_tensors(tensors, n_variables=3)
    np.testing.assert_array_equal(again.seen, both.seen)
    with pytest.raises(ValueError, match="other variables"):
        Tally.from_tensors(tensors, n_variables=4)


def test_a_shifted_variable_drifts_and_comes_first(train):
    table = drift_table(VARIABLES, tally(500, seed=1, shift=2.0), train)
    first = table.iloc[0]
    assert (first["variable"], first["direction"], first["drifted"]) == ("Temp", "higher", True)
    # Two normal distributions two apart: 2 Φ(1) - 1 = 0.683 at the most.
    assert first["shift"] == pytest.approx(0.683, abs=0.05)
    assert first["shift_low"] < 0.683 < first["shift_high"]
    assert table["drifted"].sum() == 1
    assert "differs from the one trained on in 1 of 3 variables: Temp higher" in warning(table)


def test_a_variable_that_fewer_patients_have_drifts(train):
    table = drift_table(VARIABLES, tally(500, seed=1, share=0.2), train)
    first = table.iloc[0]
    assert first["variable"] == "HR"
    assert first["drifted"]
    assert first["change_low"] < 0.2 - 0.8 < first["change_high"] < 0
    assert "1 of 3 variables: HR in 19.6 % of patients, not 80.5 %" in warning(table)


def test_cohorts_like_train_drift_no_more_often_than_one_in_twenty(train):
    alarms = [
        drift_table(VARIABLES, tally(200, seed=seed), train)["drifted"].any()
        for seed in range(1, 301)
    ]
    assert np.mean(alarms) <= 0.05


def test_all_intervals_of_a_table_hold_what_they_are_about(train):
    truth = {"Temp": 0.383, "HR": 0.0, "Na": 0.0}  # 2 Φ(0.5) - 1
    missed = 0
    for seed in range(1, 201):
        table = drift_table(VARIABLES, tally(300, seed=seed, shift=1.0), train)
        at = table["variable"].map(truth)
        # Between two edges the distribution functions may lie a little further apart.
        missed += not ((table["shift_low"] <= at) & (at - 0.02 <= table["shift_high"])).all()
    assert missed <= 10


def test_a_few_patients_are_certain_of_nothing_small(train):
    few = drift_table(VARIABLES, tally(10, seed=1, shift=1.0), train)
    assert not few["drifted"].any()
    assert warning(few) is None
    assert drift_table(VARIABLES, tally(10, seed=1, shift=30.0), train)["drifted"].any()


def test_certain_differences_that_are_small_are_no_drift():
    many = drift_table(VARIABLES, tally(400_000, seed=1, shift=0.05), tally(400_000, seed=2))
    first = many.set_index("variable").loc["Temp"]
    assert 0 < first["shift_low"] < TOLERATED
    assert not first["drifted"]


def test_repeating_every_sample_of_a_patient_changes_nothing(train):
    draws = torch.Generator().manual_seed(0)
    once = Table(torch.randn(50, 3, 1, generator=draws), torch.ones(50, 3, dtype=torch.bool))
    thrice = Table(once.value.repeat(3, 1, 1), once.observed.repeat(3, 1))
    tables = [
        drift_table(VARIABLES, Tally.of(each, np.full(len(each.value), weight)), train)
        for each, weight in ((once, 1.0), (thrice, 1 / 3))
    ]
    pd.testing.assert_frame_equal(*tables)


def test_a_variable_that_nobody_has_in_either_is_left_out(train):
    nothing = Tally.nothing(1)
    here = Tally.joined([tally(50, seed=1), Tally(np.array([50.0]), *nothing_but(nothing))])
    before = Tally.joined([train, Tally(np.array([5000.0]), *nothing_but(nothing))])
    table = drift_table([*VARIABLES, Variable("variable", "codes", "X")], here, before)
    assert set(table["variable"]) == {"Temp", "HR", "Na"}


def nothing_but(tally: Tally) -> tuple[np.ndarray, np.ndarray]:
    return tally.seen, tally.bins


def test_the_table_lies_beside_the_predictions():
    assert drift_file(Path("a/new.parquet")) == Path("a/new.drift.parquet")


def test_without_drifted_variables_the_warning_tells_of_modalities(train):
    rows = [Variable("everything"), Variable("modality", "images"), VARIABLES[2]]
    here = tally(500, seed=1, shift=2.0, share=0.2)
    said = warning(drift_table(rows, here, train))
    assert said.startswith(
        "the cohort differs from the one trained on: less typical; images in 19.6 %"
    )

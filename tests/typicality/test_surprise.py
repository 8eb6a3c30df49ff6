"""What is unlike train surprises, by its values or by its absence, and nothing else does."""

from clinical.containers import SUMMARY_STATISTICS, CodeSet, TimeSeries, Vector
from clinical.typicality.density import Mahalanobis
from clinical.typicality.surprise import Modality, Seen
from clinical.typicality.views import Table, normal_scores, table_of

import numpy as np
import pytest
import torch
from scipy.stats import norm

N, V, S = 600, 3, 2
FOLD, PEOPLE = np.arange(N) % 3, np.arange(N)


@pytest.fixture(scope="module")
def train() -> Seen:
    """The first variable is always there, the second in half of the samples; two move together."""
    draws = torch.Generator().manual_seed(0)
    value = torch.randn(N, V, S, generator=draws)
    value[:, 2] = value[:, 0] + 0.1 * value[:, 2]
    observed = torch.rand(N, V, generator=draws) < torch.tensor([2.0, 0.5, 2.0])
    value = value.masked_fill(~observed[..., None], 0.0)
    return Seen(torch.ones(N, dtype=torch.bool), Table(value, observed), None)


@pytest.fixture(scope="module")
def modality(train) -> Modality:
    return Modality.fit(train, FOLD, PEOPLE)


def one(value: torch.Tensor, observed: list[bool]) -> Seen:
    known = torch.tensor([observed])
    table = Table(value[None].masked_fill(~known[..., None], 0.0), known)
    return Seen(torch.tensor([True]), table, None)


MIDDLE = torch.zeros(V, S)


def far(variable: int, statistic: int) -> torch.Tensor:
    value = MIDDLE.clone()
    value[variable, statistic] = 8.0
    return value


def test_the_squared_distance_is_mahalanobis_by_hand():
    values = np.random.default_rng(0).normal(size=(5000, 1, 2)) * [1.0, 3.0]
    density = Mahalanobis.fit(values, np.ones((5000, 1), dtype=bool))
    found = density.log_distance(torch.tensor([[[2.0, 3.0]]])).exp()
    assert found.item() == pytest.approx(2**2 + 1**2, rel=0.1)


def test_distances_of_train_samples_are_those_of_new_ones_rather_than_their_own():
    draws = torch.Generator().manual_seed(0)
    values = torch.randn(600, 1, 30, generator=draws) * torch.logspace(-2, 2, 30)
    known, others = values[:90], values[90:]
    density, away = Mahalanobis.crossed(known, np.ones((90, 1), dtype=bool), np.arange(90) % 3)
    own, new = density.log_distance(known).mean(), density.log_distance(others).mean()
    assert own + 0.1 < new
    assert abs(away.mean() - new) < abs(own - new)


def test_variables_are_missed_only_among_samples_with_the_modality(train):
    with_it = torch.arange(N) % 2 == 0
    observed = train.table.observed & with_it[:, None]
    value = train.table.value.masked_fill(~observed[..., None], 0.0)
    modality = Modality.fit(Seen(with_it, Table(value, observed), None), FOLD, PEOPLE)
    assert modality.variables.absent[0].item() == pytest.approx(np.log(N / 2 + 2))


def test_a_variable_that_train_hardly_has_says_nothing():
    density = Mahalanobis.fit(np.ones((5, 1, 2)), np.ones((5, 1), dtype=bool))
    assert density.log_distance(torch.full((1, 1, 2), 9.0)).item() == pytest.approx(-20)


@pytest.mark.parametrize("variable", range(V))
@pytest.mark.parametrize("statistic", range(S))
def test_a_value_far_from_those_of_train_surprises(modality, variable, statistic):
    usual = modality(one(MIDDLE, [True] * V)).item()
    assert usual < 2
    assert modality(one(far(variable, statistic), [True] * V)).item() > usual + 4


def test_levels_that_never_go_together_surprise_though_each_is_usual(modality):
    apart, along = MIDDLE.clone(), MIDDLE.clone()
    apart[0, 0], apart[2, 0] = 1.2, -1.2
    along[0, 0], along[2, 0] = 1.2, 1.2
    found = [modality(one(each, [True] * V)).item() for each in (along, apart)]
    assert found[1] > found[0] + 4


def test_only_the_absence_of_what_was_always_there_surprises(modality):
    absent = {
        which: modality(one(MIDDLE, [place != which for place in range(V)])).item()
        for which in range(V)
    }
    assert absent[1] < 2 < 4 < min(absent[0], absent[2])


def test_an_absent_modality_surprises_as_far_as_train_had_it(train):
    always = Modality.fit(train, FOLD, PEOPLE)
    half = Modality.fit(Seen(torch.arange(N) % 2 == 0, train.table, None), FOLD, PEOPLE)
    nothing = Seen(torch.tensor([False]), Table(MIDDLE[None], torch.zeros(1, V).bool()), None)
    assert always(nothing).item() == pytest.approx(np.log(N + 2))
    assert half(nothing).item() == pytest.approx(np.log(2), abs=0.01)


def test_a_modality_without_variables_is_judged_by_its_summary():
    draws = torch.Generator().manual_seed(0)
    summary = torch.randn(N, 4, generator=draws)
    everybody = torch.ones(N, dtype=torch.bool)
    modality = Modality.fit(Seen(everybody, None, summary), FOLD, PEOPLE)
    known = torch.tensor([True])
    assert modality(Seen(known, None, torch.zeros(1, 4))).item() < 1
    assert modality(Seen(known, None, torch.full((1, 4), 5.0))).item() > 4


def test_without_anything_to_read_only_absence_counts():
    present = torch.arange(N) % 4 > 0
    modality = Modality.fit(Seen(present, None, None), FOLD, PEOPLE)
    found = modality(Seen(torch.tensor([True, False]), None, None))
    assert found[0].item() == 0
    assert found[1].item() == pytest.approx(np.log(4), abs=0.01)


def test_a_sample_surprises_the_same_alone_and_among_others(modality, train):
    together = modality(train)[:7]
    alone = [modality(train.of(np.arange(N) == at)).item() for at in range(7)]
    np.testing.assert_allclose(together.numpy(), alone, atol=1e-9)


def test_what_was_learned_survives_a_file(modality, train):
    again = Modality.from_tensors(modality.to_tensors())
    assert torch.equal(again(train), modality(train))


def test_positions_become_normal_scores_that_go_on_beyond_the_extremes():
    found = normal_scores(torch.tensor([0.0, 0.5, 1.0, 2.0, -1.0]))
    end = norm.ppf(0.995)
    np.testing.assert_allclose(found.numpy(), [-end, 0, end, 3 * end, -3 * end], atol=1e-5)


def test_tables_show_what_is_observed_and_nothing_else():
    size, statistics = 2, len(SUMMARY_STATISTICS)
    steps = torch.zeros(size, 1)
    mask = torch.ones(size, 1, dtype=torch.bool)
    events = table_of(
        TimeSeries(
            steps.long(),
            steps,
            steps,
            mask,
            mask,
            torch.rand(size, V, statistics),
            torch.tensor([[True, False, True], [False, False, False]]),
        ),
        0,
    )
    assert (events.value[~events.observed] == 0).all()
    static = table_of(Vector(torch.tensor([[0.5, 9.0]]), torch.tensor([[True, False]])), 2)
    assert static.value.flatten().tolist() == [0, 0]
    code = torch.tensor([[1, 5, 0], [0, 0, 0]])
    has = torch.tensor([[True, True, False], [False, True, True]])
    codes = table_of(CodeSet(code, torch.zeros(2, 3), has), 3)
    assert codes.observed.tolist() == [[False, True, False], [True, False, False]]
    assert codes.value.shape == (2, 3, 0)

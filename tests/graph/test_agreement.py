"""What neighbours agree on is found where it is there, not where it is not, and is followed."""

import clinical  # noqa: F401
from clinical.graph.agreement import agreed_directions, followed

import pytest
import torch
from torch import Tensor

N, WIDTH, MOST = 4000, 6, 3


def draws(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


SUBJECT = torch.arange(N)
MIXING = draws(WIDTH, WIDTH, seed=9)


def rows_of(shared: Tensor, *, seed: int) -> Tensor:
    """[N, D] rows that hold something shared [N, S] among a noise of their own."""
    hidden = draws(N, WIDTH, seed=seed)
    hidden[:, : shared.shape[1]] = hidden[:, : shared.shape[1]] * 0.7 + shared
    return hidden @ MIXING


def likeness(first: Tensor, second: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([first, second]))[0, 1])


@pytest.fixture
def shared() -> Tensor:
    """Two things that go round, the second more faintly."""
    return draws(N, 2, seed=0) * torch.tensor([1.0, 0.6])


def test_what_is_shared_is_found_and_nothing_else(shared):
    own, others = rows_of(shared, seed=1), rows_of(shared, seed=2)
    found = agreed_directions(own, others, SUBJECT, most=MOST)
    assert found.any(0).tolist() == [True, True, False]
    read = others @ found
    assert [abs(likeness(read[:, i], shared[:, i])) > 0.6 for i in (0, 1)] == [True, True]
    assert abs(likeness(read[:, 0], shared[:, 1])) < 0.2
    torch.testing.assert_close(read.std(0)[:2], torch.ones(2), rtol=0.02, atol=0)


@pytest.mark.parametrize("seed", range(10))
def test_among_strangers_nothing_is_found(seed):
    own, others = draws(N, WIDTH, seed=2 * seed), draws(N, WIDTH, seed=2 * seed + 1)
    assert not agreed_directions(own, others, SUBJECT, most=MOST).any()


@pytest.mark.parametrize("seed", range(10))
def test_agreement_that_fitting_alone_makes_is_not_believed(seed):
    few = slice(0, 4 * WIDTH)
    own, others = (draws(N, WIDTH, seed=2 * seed + i)[few] for i in (0, 1))
    assert not agreed_directions(own, others, SUBJECT[few], most=MOST).any()


def test_many_rows_of_a_few_subjects_count_as_a_few():
    """Rows of a subject are alike, and so are their neighbours': chance agrees many times over."""
    subject = torch.arange(200)[:, None].expand(-1, 20).flatten()
    found = []
    for seed in range(10):
        own, others = (draws(200, WIDTH, seed=2 * seed + i)[subject] for i in (0, 1))
        found.append(bool(agreed_directions(own, others, subject, most=MOST).any()))
    assert sum(found) == 0


def test_too_few_references_to_tell_have_none(shared):
    own, others = rows_of(shared, seed=1), rows_of(shared, seed=2)
    few = slice(0, 2 * WIDTH)
    assert not agreed_directions(own[few], others[few], SUBJECT[few], most=MOST).any()
    none = slice(0, 0)
    assert not agreed_directions(own[none], others[none], SUBJECT[none], most=MOST).any()


def test_rows_that_are_all_alike_have_none():
    same = torch.ones(N, WIDTH)
    found = agreed_directions(same, same, SUBJECT, most=MOST)
    assert torch.equal(found, torch.zeros(WIDTH, MOST))


def test_no_more_directions_than_rows_are_wide(shared):
    own, others = rows_of(shared, seed=1), rows_of(shared, seed=2)
    found = agreed_directions(own, others, SUBJECT, most=WIDTH + 2)
    assert found.shape == (WIDTH, WIDTH + 2)
    assert found.any(0).sum() == 2


def test_readings_are_followed_through_a_change_of_the_rows(shared):
    rows = rows_of(shared, seed=1)
    directions = agreed_directions(rows, rows_of(shared, seed=2), SUBJECT, most=MOST)
    readings = rows @ directions
    moved = rows @ draws(WIDTH, WIDTH, seed=5) + draws(WIDTH, seed=6)
    again = followed(readings, moved)
    assert torch.equal(again[:, 2], torch.zeros(WIDTH))
    read = moved @ again
    for i in (0, 1):
        assert likeness(read[:, i], readings[:, i]) > 0.99
    torch.testing.assert_close(read.std(0), readings.std(0))
    assert abs(likeness((moved @ directions)[:, 0], readings[:, 0])) < 0.9


def test_rows_that_lost_what_was_read_are_read_as_zero(shared):
    readings = rows_of(shared, seed=1) @ draws(WIDTH, MOST, seed=3)
    assert torch.isfinite(followed(readings, torch.ones(N, WIDTH))).all()


def test_how_subjects_are_numbered_changes_nothing():
    own = draws(800, WIDTH, seed=1)
    others = 0.5 * own + draws(800, WIDTH, seed=2)
    subject = torch.arange(400).repeat_interleave(2)
    names = torch.randint(-(2**62), 2**62, (400,), generator=torch.Generator().manual_seed(0))
    found = agreed_directions(own, others, subject, most=MOST)
    assert found.any()
    torch.testing.assert_close(
        agreed_directions(own, others, names[subject], most=MOST), found, rtol=0, atol=0
    )

"""The piecewise-linear embedding is what it says: one curve per variable, linear in each piece."""

import clinical  # noqa: F401
from clinical.encoders.pieces import PieceTable, cut

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

PIECES = 4
KNOTS = np.array([-1, 0, 0.25, 0.5, 0.75, 1, 2])


@pytest.fixture
def table() -> PieceTable:
    torch.manual_seed(0)
    table = PieceTable(3, 5, pieces=PIECES)
    torch.nn.init.normal_(table.slope)  # the tails too
    return table


def embed(table: PieceTable, variable: int, position: float) -> np.ndarray:
    return (
        table(torch.tensor([[variable]]), torch.tensor([[position]]), torch.tensor([[True]]))
        .detach()
        .numpy()[0, 0]
    )


def curve(table: PieceTable, variable: int) -> np.ndarray:
    """The curve at its knots, worked out one by one from the slopes."""
    heights = [np.zeros(5)]
    for piece in range(PIECES + 2):
        heights.append(heights[-1] + table.slope[variable, piece].detach().numpy())
    middle = np.mean(heights[1:-1], axis=0)
    return np.array(heights) - middle + table.variable[variable].detach().numpy()


@given(variable=st.integers(0, 2), position=st.floats(-1, 2, width=32))
def test_a_value_lies_on_the_curve_between_its_knots(variable, position):
    torch.manual_seed(0)
    table = PieceTable(3, 5, pieces=PIECES)
    heights = curve(table, variable)
    expected = [np.interp(position, KNOTS, heights[:, d]) for d in range(5)]
    np.testing.assert_allclose(embed(table, variable, position), expected, atol=1e-5)


@pytest.mark.parametrize("place", range(len(KNOTS)))
def test_a_value_at_a_knot_is_the_knot(table, place):
    for variable in range(3):
        expected = curve(table, variable)[place]
        np.testing.assert_allclose(embed(table, variable, KNOTS[place]), expected, atol=1e-5)


def test_beyond_the_clipped_positions_nothing_moves(table):
    np.testing.assert_array_equal(embed(table, 1, 2.0), embed(table, 1, 7.0))
    np.testing.assert_array_equal(embed(table, 1, -1.0), embed(table, 1, -7.0))


def test_a_hidden_value_tells_only_its_variable(table):
    variable = torch.tensor([[0, 0, 1]])
    hidden = torch.zeros(1, 3, dtype=torch.bool)
    out = table(variable, torch.tensor([[0.1, torch.nan, 0.1]]), hidden)[0]
    torch.testing.assert_close(out[0], out[1], rtol=0, atol=0)
    torch.testing.assert_close(out, table.variable[variable[0]] + table.hidden)
    (2 * out).sum().backward()
    assert table.slope.grad is None or not table.slope.grad.any()


def test_one_value_teaches_only_its_variable_and_the_pieces_that_tell_it_apart(table):
    table(torch.tensor([[1]]), torch.tensor([[0.6]]), torch.tensor([[True]])).sum().backward()
    assert not table.slope.grad[[0, 2]].any()
    assert table.slope.grad[1, 1:-1].any()
    # Only its own tail could tell a value in a tail apart.
    assert not table.slope.grad[1, -1].any()


def test_a_new_table_is_flat_in_the_tails():
    table = PieceTable(1, 5, pieces=PIECES)
    np.testing.assert_array_equal(embed(table, 0, 1.0), embed(table, 0, 1.5))
    assert np.abs(embed(table, 0, 0.9) - embed(table, 0, 0.1)).max() > 1e-3


def test_cut_fills_the_pieces_from_below_less_the_average():
    # Positions spread evenly fill 7/8, 5/8, 3/8 and 1/8 of the four pieces on average.
    average = torch.tensor([0, 0.875, 0.625, 0.375, 0.125, 0])
    filled = cut(torch.tensor([-0.5, 0.3, 1.0, 1.75]), 4) + average
    expected = [
        [-0.5, 0, 0, 0, 0, 0],
        [0, 1, 0.2, 0, 0, 0],
        [0, 1, 1, 1, 1, 0],
        [0, 1, 1, 1, 1, 0.75],
    ]
    torch.testing.assert_close(filled, torch.tensor(expected))


def test_cut_averages_to_zero_over_evenly_spread_positions():
    position = (torch.arange(1000) + 0.5) / 1000
    torch.testing.assert_close(cut(position, 10).mean(0), torch.zeros(12), rtol=0, atol=1e-5)

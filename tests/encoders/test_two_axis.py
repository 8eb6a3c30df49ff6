"""The two-axis encoder: cells are exact, order does not matter, no variable is lost."""

import clinical  # noqa: F401
from clinical.containers import TimeSeries
from clinical.encoders.two_axis import TwoAxisEncoder, lay_out
from clinical.errors import ConfigError

import pytest
import torch

SIZES = {"variables": 6, "summary_variables": 4}


def build(**options) -> TwoAxisEncoder:
    torch.manual_seed(0)
    return TwoAxisEncoder(SIZES, width=16, **options).eval()


def naive_cells(events: TimeSeries, variables: int, blocks: int, block_hours: float) -> dict:
    """The readable values and the number of events of each (sample, variable, block)."""
    found: dict = {}
    for b, t in events.mask.nonzero().tolist():
        v = int(events.variable[b, t])
        if v >= variables:
            continue
        block = min(int(events.time_hours[b, t] // block_hours), blocks - 1)
        values, count = found.get((b, v, block), ([], 0))
        read = [float(events.value[b, t])] if events.observed[b, t] else []
        found[b, v, block] = (values + read, count + 1)
    return found


@pytest.mark.parametrize(("variables", "blocks", "block_hours"), [(6, 4, 12.0), (3, 2, 5.0)])
def test_cells_hold_what_a_loop_over_the_events_finds(events, variables, blocks, block_hours):
    cells = lay_out(events, variables=variables, blocks=blocks, block_hours=block_hours)
    expected = naive_cells(events, variables, blocks, block_hours)
    for b in range(len(events.mask)):
        for v in range(variables):
            for t in range(blocks):
                values, count = expected.get((b, v, t), ([], 0))
                assert cells.count[b, v, t] == count
                assert cells.readable[b, v, t] == bool(values)
                mean = sum(values) / len(values) if values else 0.0
                assert cells.mean[b, v, t] == pytest.approx(mean, abs=1e-6)
                assert cells.low[b, v, t] == pytest.approx(min(values, default=0.0))
                assert cells.high[b, v, t] == pytest.approx(max(values, default=0.0))


def test_each_event_knows_its_cell_and_those_outside_the_grid_say_so(events):
    cells = lay_out(events, variables=3, blocks=4, block_hours=12.0)
    outside = ~events.mask | (events.variable >= 3)
    assert torch.equal(cells.place == 12, outside)
    block = (events.time_hours / 12).long().clamp(max=3)
    inside = ~outside
    assert torch.equal(cells.place[inside], (events.variable * 4 + block)[inside])


def test_the_order_of_events_does_not_matter(events):
    order = torch.randperm(events.mask.shape[1], generator=torch.Generator().manual_seed(0))
    names = ("variable", "value", "time_hours", "mask", "observed")
    shuffled = events.replace(**{name: getattr(events, name)[:, order] for name in names})
    encoder = build()
    torch.testing.assert_close(
        encoder(shuffled).summary, encoder(events).summary, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("grid_variables", [6, 2])
def test_every_value_moves_the_summary_of_its_sample_alone(events, grid_variables):
    encoder = build(wide=False, grid_variables=grid_variables)
    before = encoder(events).summary
    for step in range(9):  # the steps that every sample has
        if not events.observed[0, step]:
            continue
        value = events.value.clone()
        value[0, step] += 0.5
        after = encoder(events.replace(value=value)).summary
        changed = (after - before).abs().amax(1) > 1e-6
        assert changed.tolist() == [True, False, False, False, False]


def test_an_older_event_than_the_grid_is_long_is_kept_in_the_oldest_block(events):
    encoder = build(wide=False, blocks=2, block_hours=1.0)
    older = events.replace(time_hours=events.time_hours + 500.0)
    without = events.drop(torch.ones(5, dtype=torch.bool))
    gap = (encoder(older).summary - encoder(without).summary).abs().amax(1)
    assert bool((gap > 1e-3).all())


def test_statistics_reach_the_summary_also_without_the_wide_path(events):
    encoder = build(wide=False)
    summary = events.summary.clone()
    variable = int(events.summary_observed[0].nonzero()[0])
    summary[0, variable, 3] += 0.4
    moved = encoder(events.replace(summary=summary)).summary - encoder(events).summary
    assert (moved.abs().amax(1) > 1e-6).tolist() == [True, False, False, False, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "events: width 16 is no multiple of heads 3"),
        ({"blocks": 0}, "blocks and grid_variables should be 1 or more"),
        ({"block_hours": 0.0}, "block_hours above 0"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build(**options)

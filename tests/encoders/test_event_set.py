"""The event-set encoder: order does not matter, the wide path is linear, sizes scale."""

import clinical  # noqa: F401
from clinical.containers import SUMMARY_STATISTICS, TimeSeries
from clinical.encoders.event_set import EventSetEncoder
from clinical.encoders.wide import WideSummary
from clinical.errors import ConfigError

import pytest
import torch

SIZES = {"variables": 6, "summary_variables": 4}
S = len(SUMMARY_STATISTICS)


def build(**options) -> EventSetEncoder:
    torch.manual_seed(0)
    return EventSetEncoder(SIZES, width=16, **options).eval()


@pytest.mark.parametrize("latents", [8, None])
def test_the_order_of_events_does_not_matter(events, latents):
    order = torch.randperm(events.mask.shape[1], generator=torch.Generator().manual_seed(0))
    names = ("variable", "value", "time_hours", "mask", "observed")
    shuffled = events.replace(**{name: getattr(events, name)[:, order] for name in names})
    encoder = build(latents=latents)
    torch.testing.assert_close(
        encoder(shuffled).summary, encoder(events).summary, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("name", ["value", "time_hours", "variable"])
def test_the_summary_moves_with_each_part_of_an_event(events, name):
    part = getattr(events, name).clone()
    part[0, 1] = (part[0, 1] + 1) % 3
    assert events.observed[0, 1]
    encoder = build(wide=False)
    moved = encoder(events.replace(**{name: part})).summary
    changed = (moved - encoder(events).summary).abs().amax(1) > 1e-5
    assert changed.tolist() == [True, False, False, False, False]


def test_the_wide_path_is_added_after_everything_else(events):
    torch.manual_seed(0)
    both = build()
    deep = build(wide=False)
    deep.load_state_dict(both.state_dict(), strict=False)
    wide = build(deep=False)
    wide.load_state_dict(both.state_dict(), strict=False)
    total = deep(events).summary + wide(events).summary
    torch.testing.assert_close(both(events).summary, total)


def test_a_path_that_is_off_has_no_weights_and_no_say(events):
    garbage = torch.randn(events.summary.shape)
    deep = build(wide=False)
    assert torch.equal(deep(events.replace(summary=garbage)).summary, deep(events).summary)
    wide = build(deep=False)
    assert torch.equal(
        wide(
            events.drop(torch.arange(5) < 9).replace(summary_observed=events.summary_observed)
        ).summary,
        wide(events).summary,
    )
    assert deep.wide is None
    assert wide.deep is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wide": False, "deep": False}, "events: wide and deep are both off"),
        ({"heads": 3}, "events: width 16 is no multiple of heads 3"),
        ({"heads": 0}, "events: width 16 is no multiple of heads 0"),
        ({"latents": 0}, "events.latents: 0 should be 1 or more, or null"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        build(**options)


def test_the_wide_path_adds_up_what_each_statistic_says():
    torch.manual_seed(0)
    wide = WideSummary(2, 3, pieces=4, dropout=0.0).eval()
    draws = torch.rand(1, 2, S)
    observed = torch.tensor([[True, False]])
    base = wide(draws, observed)
    moved = []
    for statistic in (0, 5):
        other = draws.clone()
        other[0, 0, statistic] += 0.4
        moved.append(wide(other, observed) - base)
    both = draws.clone()
    both[0, 0, [0, 5]] += 0.4
    torch.testing.assert_close(wide(both, observed) - base, moved[0] + moved[1])
    unread = draws.clone()
    unread[0, 1] += 0.4
    assert torch.equal(wide(unread, observed), base)


def test_a_missing_variable_is_told_from_an_average_one():
    torch.manual_seed(0)
    wide = WideSummary(1, 3, pieces=4, dropout=0.0).eval()
    middle = torch.full((1, 1, S), 0.5)
    seen, missing = (wide(middle, torch.tensor([[flag]])) for flag in (True, False))
    assert (seen - missing).abs().max() > 1e-4


@pytest.mark.parametrize("latents", [8, None])
def test_the_state_of_a_hidden_event_knows_the_other_events(events, latents):
    hidden = events.observed.clone()
    hidden[0, 0] = False
    hides = events.replace(observed=hidden)
    value = events.value.clone()
    value[0, 2] += 0.5
    assert events.observed[0, 2]
    encoder = build(latents=latents)
    moved = encoder(hides.replace(value=value)).states - encoder(hides).states
    assert moved[0, 0].abs().max() > 1e-5
    assert not moved[1:].any()


def test_thousands_of_events_and_variables_fit():
    encoder = EventSetEncoder({"variables": 2000, "summary_variables": 1}, width=16, layers=1)
    steps = 4000
    mask = torch.ones(1, steps, dtype=torch.bool)
    series = TimeSeries(
        variable=torch.randint(2000, (1, steps)),
        value=torch.rand(1, steps),
        time_hours=torch.rand(1, steps) * 1e5,
        mask=mask,
        observed=mask,
        summary=torch.zeros(1, 1, S),
        summary_observed=torch.zeros(1, 1, dtype=torch.bool),
    )
    encoding = encoder(series)
    assert encoding.states.shape == (1, steps, 16)
    encoding.summary.sum().backward()
    assert encoding.summary.isfinite().all()

"""Which hours are taken away, what is left of them, and what is asked."""

import clinical  # noqa: F401
from clinical.errors import ConfigError
from clinical.objectives.blocks import Forecast, Presence

import pytest
import torch


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model(synthetic):
    return synthetic.make_model()


def test_forecasting_takes_the_last_hours_and_nothing_older(model, synthetic):
    batch = synthetic.make_batch(20)
    masked, hidden = Forecast(model, share=1.0, hours=24.0).hide(batch, draws())
    before, after = batch.inputs["events"], masked.inputs["events"]
    gone = before.mask & ~after.mask
    assert gone.any()
    assert (hidden.bounds[:, 0] == 0).all()
    longest = hidden.bounds[:, 1:]
    assert torch.equal(gone, before.mask & (before.time_hours < longest))


def test_a_block_lies_anywhere_from_the_first_event_to_the_last(model, synthetic):
    batch = synthetic.make_batch(400)
    masked, hidden = Presence(model, share=1.0, hours=24.0).hide(batch, draws())
    events = batch.inputs["events"]
    hours = events.time_hours.masked_fill(~events.mask, -1.0)
    span = hours.amax(1)
    assert (hidden.bounds[hidden.chosen, 0] <= span[hidden.chosen]).all()
    gone = events.mask & ~masked.inputs["events"].mask
    oldest = gone.gather(1, hours.argmax(1, keepdim=True))[hidden.chosen]
    newest_at = hours.masked_fill(~events.mask, torch.inf).argmin(1, keepdim=True)
    newest = gone.gather(1, newest_at)[hidden.chosen]
    assert oldest.any()
    assert newest.any()
    assert not oldest.all()
    assert not newest.all()


def test_two_objectives_never_take_hours_from_the_same_sample(model, synthetic):
    batch = synthetic.make_batch(200)
    once, forecast = Forecast(model, share=0.5, hours=24.0).hide(batch, draws(0))
    _, presence = Presence(model, share=0.8, hours=24.0).hide(once, draws(1))
    assert forecast.chosen.any()
    assert presence.chosen.any()
    assert not (forecast.chosen & presence.chosen).any()
    _, alone = Presence(model, share=0.8, hours=24.0).hide(batch, draws(1))
    both = presence.chosen & alone.chosen
    assert torch.equal(presence.measured[both], alone.measured[both])
    assert torch.equal(presence.level[both], alone.level[both])


@pytest.mark.parametrize("objective", [Forecast, Presence])
def test_nothing_is_left_of_an_event_taken_away(model, synthetic, objective):
    batch = synthetic.make_batch(20)
    masked, hidden = objective(model, share=1.0, hours=24.0).hide(batch, draws())
    before, after = batch.inputs["events"], masked.inputs["events"]
    gone = before.mask & ~after.mask
    for name in ("variable", "value", "time_hours", "observed"):
        assert not getattr(after, name)[gone].any()
    # Even where a variable's events were all kept: a summary less would say who was measured.
    assert not after.summary_observed[hidden.chosen].any()


def test_samples_that_were_not_drawn_are_left_alone(model, synthetic):
    batch = synthetic.make_batch(200)
    masked, hidden = Forecast(model, share=0.4, hours=24.0).hide(batch, draws())
    before, after = batch.inputs["events"], masked.inputs["events"]
    untouched = ~hidden.chosen
    for name in ("variable", "value", "time_hours", "mask", "observed", "summary_observed"):
        assert torch.equal(getattr(after, name)[untouched], getattr(before, name)[untouched])
    assert float(hidden.chosen.float().mean()) == pytest.approx(0.4, abs=0.1)


@pytest.mark.parametrize("objective", [Forecast, Presence])
def test_what_is_asked_is_what_a_loop_over_the_events_finds(model, synthetic, objective):
    batch = synthetic.make_batch(20)
    masked, hidden = objective(model, share=1.0, hours=24.0).hide(batch, draws())
    before, after = batch.inputs["events"], masked.inputs["events"]
    gone = before.mask & ~after.mask
    for b in range(20):
        for v in range(synthetic.N_SUMMARIES):
            values = before.value[b][gone[b] & (before.variable[b] == v)]
            assert bool(hidden.measured[b, v]) == bool(len(values))
            mean = float(values.mean()) if len(values) else 0.0
            assert float(hidden.level[b, v]) == pytest.approx(mean, abs=1e-6)


def test_that_nothing_was_measured_is_asked_as_well(model, synthetic):
    batch = synthetic.make_batch(20)
    objective = Forecast(model, share=1.0, hours=1e-3)
    masked, hidden = objective.hide(batch, draws())
    quiet = hidden.chosen & ~hidden.measured.any(1)
    assert quiet.any()
    loss = objective.loss(model(masked), hidden)
    assert loss.parts["forecast/presence"] > 0


@pytest.mark.parametrize("hours", [0.0, -1.0, float("nan"), float("inf")])
def test_hours_that_are_none_are_refused(model, hours):
    with pytest.raises(ConfigError, match=r"objectives\.presence\.hours: .* should be above 0"):
        Presence(model, hours=hours)

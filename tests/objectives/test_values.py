"""Which values are hidden, and the units of the losses."""

import clinical  # noqa: F401
from clinical.containers import TimeSeries
from clinical.objectives.values import HiddenValues, Values

import dataclasses

import pytest
import torch


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def model(synthetic):
    return synthetic.make_model()


def hide(objective: Values, batch, seed: int = 0) -> tuple[TimeSeries, TimeSeries, HiddenValues]:
    masked, hidden = objective.hide(batch, draws(seed))
    return batch.inputs["events"], masked.inputs["events"], hidden


@pytest.mark.parametrize("seed", range(5))
def test_no_summary_of_a_hidden_value_is_left(model, synthetic, seed):
    before, after, hidden = hide(Values(model), synthetic.make_batch(20), seed)
    for sample, step in torch.nonzero(hidden.event).tolist():
        variable = int(before.variable[sample, step])
        if variable < synthetic.N_SUMMARIES:
            assert not after.summary_observed[sample, variable]


def test_a_whole_variable_is_hidden_with_all_its_values(model, synthetic):
    objective = Values(model, variable_share=0.5, event_share=0.0, forecast_share=0.0)
    before, after, _ = hide(objective, synthetic.make_batch(20))
    seen_of, hidden_of = set(), set()
    for sample, step in torch.nonzero(before.mask).tolist():
        pair = (sample, int(before.variable[sample, step]))
        (seen_of if after.observed[sample, step] else hidden_of).add(pair)
    assert seen_of
    assert hidden_of
    assert seen_of.isdisjoint(hidden_of)
    for sample, variable in torch.nonzero(before.summary_observed).tolist():
        assert after.summary_observed[sample, variable] == ((sample, variable) in seen_of)


def test_forecasting_hides_the_last_hours_and_nothing_older(model, synthetic):
    objective = Values(
        model, variable_share=0.0, event_share=0.0, forecast_share=1.0, forecast_hours=24.0
    )
    before, after, hidden = hide(objective, synthetic.make_batch(20))
    assert hidden.event.any()
    assert not (hidden.event & (before.time_hours >= 24)).any()
    hours = before.time_hours
    newest_seen = hours.masked_fill(~after.observed, torch.inf).amin(1)
    oldest_hidden = hours.masked_fill(~hidden.event, -1.0).amax(1)
    assert (oldest_hidden < newest_seen).all()


def test_padding_and_what_was_hidden_before_are_not_asked_for(model, synthetic):
    batch = synthetic.make_batch(20)
    events = batch.inputs["events"]
    batch = batch.replace(events=events.replace(observed=events.observed & (events.value > 0.5)))
    _, _, hidden = hide(Values(model, variable_share=1.0), batch)
    assert torch.equal(hidden.event, batch.inputs["events"].observed)


def test_shares_come_out_as_configured(model, synthetic):
    batch = synthetic.make_batch(2000)
    objective = Values(model, variable_share=0.25, event_share=0.0, forecast_share=0.0)
    before, _, hidden = hide(objective, batch)
    assert float(hidden.event.sum() / before.mask.sum()) == pytest.approx(0.25, abs=0.02)
    objective = Values(model, variable_share=0.0, event_share=0.3, forecast_share=0.0)
    _, _, hidden = hide(objective, batch)
    assert float(hidden.event.sum() / before.mask.sum()) == pytest.approx(0.15, abs=0.01)
    assert float(hidden.event.any(1).float().mean()) == pytest.approx(0.48, abs=0.03)


def test_always_saying_the_middle_costs_about_one(model, synthetic):
    objective = Values(model, variable_share=1.0)
    for decoder in (objective.event[-1], objective.level):
        torch.nn.init.zeros_(decoder.weight)
    batch = synthetic.make_batch(500)
    events = batch.inputs["events"]
    even = torch.rand(events.summary.shape, generator=draws())
    batch = batch.replace(events=events.replace(summary=even))
    masked, hidden = objective.hide(batch, draws())
    parts = objective.loss(model(masked), hidden).parts
    for part in ("values/event", "values/summary"):
        assert float(parts[part]) == pytest.approx(1.0, abs=0.06)


def test_the_summary_loss_counts_every_measured_variable_and_no_other(model, synthetic):
    objective = Values(model)
    masked, hidden = objective.hide(synthetic.make_batch(), draws())
    torch.nn.init.zeros_(objective.level.weight)
    level = torch.full_like(hidden.level, 0.5)
    sample, variable = torch.nonzero(hidden.measured)[0].tolist()
    level[sample, variable] = 0.5 + 0.1
    level[~hidden.measured] = 77.0
    hidden = dataclasses.replace(hidden, level=level)
    part = objective.loss(model(masked), hidden).parts["values/summary"]
    # Half of 0.1 squared, in units of 1/24, over the measured variables.
    assert float(part) == pytest.approx(0.005 * 24 / int(hidden.measured.sum()), rel=1e-4)


def test_which_variables_were_measured_is_asked_only_of_samples_with_events(model, synthetic):
    objective = Values(model)
    batch = synthetic.make_batch(6)
    bare = torch.tensor([True, False, False, True, False, False])
    batch = batch.replace(events=batch.inputs["events"].drop(bare))
    masked, hidden = objective.hide(batch, draws())
    outputs = model(masked)
    presence = objective.presence(outputs.fused).sigmoid()
    surprise = -torch.where(hidden.measured, presence, 1 - presence).log()[~bare]
    part = objective.loss(outputs, hidden).parts["values/presence"]
    torch.testing.assert_close(part, surprise.mean())


def test_the_event_loss_reads_each_hidden_event_from_its_own_state(model, synthetic):
    objective = Values(model)
    masked, hidden = objective.hide(synthetic.make_batch(), draws())
    outputs = model(masked)
    states = outputs.encodings["events"].states
    errors = []
    for sample, step in torch.nonzero(hidden.event).tolist():
        wrong = objective.event(states[sample, step])[0] - hidden.value[sample, step]
        errors.append(wrong**2 / 2 if wrong.abs() < 1 else wrong.abs() - 0.5)
    part = objective.loss(outputs, hidden).parts["values/event"]
    torch.testing.assert_close(part, 24 * torch.stack(errors).mean())

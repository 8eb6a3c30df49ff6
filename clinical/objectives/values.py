"""Masked measurements: hide values, predict them from the rest of the patient."""

from clinical.batch import ClinicalBatch
from clinical.containers import SUMMARY_STATISTICS, TimeSeries
from clinical.objectives.objective import (
    Loss,
    ModelOutputs,
    Objective,
    SizedModel,
    add_parts,
    check_share,
    container_of,
    masked_mean,
    sizes_of,
    uniform,
)

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, smooth_l1_loss

_MEAN = SUMMARY_STATISTICS.index("mean")
_SINGLE_EVENT_SAMPLES = 0.5
_PRESENCE_WEIGHT = 0.1
# Half the squared error of always saying the middle, for positions spread evenly over 0 to 1.
_KNOWS_NOTHING = 1 / 24


@dataclass(frozen=True)
class HiddenValues:
    """What was hidden, and what was measured.

    Attributes:
        event: [B, T] bool, the event's value was hidden.
        value: [B, T] position of each event.
        level: [B, V] position of each variable's mean.
        measured: [B, V] bool.
    """

    event: Tensor
    value: Tensor
    level: Tensor
    measured: Tensor


class Values(Objective):
    """Hide whole variables, single events and the last hours; predict positions.

    Two decoders. "event" reads each hidden event's own state. "summary" reads, linearly from
    the fused vector, the mean of every measured variable (and, lightly, which were measured):
    so the embedding memory carries each patient's levels, also those that say little about the
    patient but, averaged over a ward, something about its patients.

    Losses of positions are in units of what a model that knows nothing would have, so about 1
    at the start.

    Args:
        model: of whose sizes the decoders are.
        variable_share: share of variables hidden wholly.
        event_share: share of events hidden singly, in half the samples.
        forecast_share: share of samples whose last hours are hidden.
        forecast_hours: at most this many hours.

    Raises:
        ConfigError: no modality `events`, or a share outside 0 to 1.
    """

    hides: ClassVar[frozenset[str]] = frozenset({"events"})

    def __init__(
        self,
        model: SizedModel,
        *,
        variable_share: float = 0.25,
        event_share: float = 0.15,
        forecast_share: float = 0.25,
        forecast_hours: float = 12.0,
    ) -> None:
        super().__init__()
        sizes = sizes_of(model, "events", objective="values")
        self.n_variables = sizes["variables"]
        self.n_summaries = sizes["summary_variables"]
        self.variable_share = check_share("values.variable_share", variable_share)
        self.event_share = check_share("values.event_share", event_share)
        self.forecast_share = check_share("values.forecast_share", forecast_share)
        self.forecast_hours = forecast_hours
        width = model.encoder_widths["events"]
        self.event = nn.Sequential(nn.Linear(width, width), nn.GELU(), position_decoder(width, 1))
        self.level = position_decoder(model.width, self.n_summaries)
        self.presence = nn.Linear(model.width, self.n_summaries)

    def hide(
        self, batch: ClinicalBatch, generator: torch.Generator
    ) -> tuple[ClinicalBatch, HiddenValues]:
        """Hide values in the events and every summary that was computed from one of them."""
        events: TimeSeries = container_of(batch, "events", TimeSeries)
        hidden, variables = self._draw(events, generator)
        touched = variables | _any_by_variable(hidden, events.variable, self.n_variables)
        masked = events.replace(
            observed=events.observed & ~hidden,
            summary_observed=events.summary_observed & ~touched[:, : self.n_summaries],
        )
        kept = HiddenValues(
            event=hidden,
            value=events.value,
            level=events.summary[..., _MEAN],
            measured=events.summary_observed,
        )
        return batch.replace(events=masked), kept

    def _draw(self, events: TimeSeries, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Events [B, T] and variables [B, V] to hide."""
        size, steps = events.mask.shape
        hours = events.time_hours
        variables = uniform((size, self.n_variables), generator, hours) < self.variable_share
        few = uniform((size, 1), generator, hours) < _SINGLE_EVENT_SAMPLES
        single = few & (uniform((size, steps), generator, hours) < self.event_share)
        forecast = uniform((size, 1), generator, hours) < self.forecast_share
        since = self.forecast_hours * uniform((size, 1), generator, hours)
        hidden = variables.gather(1, events.variable) | single | (forecast & (hours < since))
        return hidden & events.mask & events.observed, variables

    def loss(self, outputs: ModelOutputs, hidden: HiddenValues) -> Loss:
        """Positions of hidden events, and of every variable's mean."""
        states = outputs.encodings["events"].states[hidden.event]
        event = position_distance(self.event(states)[:, 0], hidden.value[hidden.event])
        level = self.level(outputs.fused)
        presence = self.presence(outputs.fused)
        surprise = binary_cross_entropy_with_logits(
            presence, hidden.measured.to(presence.dtype), reduction="none"
        )
        parts = {
            "values/event": event.sum() / max(event.numel(), 1),
            "values/summary": masked_mean(position_distance(level, hidden.level), hidden.measured),
            "values/presence": masked_mean(
                surprise, hidden.measured.any(1, keepdim=True).expand_as(surprise)
            ),
        }
        return add_parts(parts, {"values/presence": _PRESENCE_WEIGHT})


def position_decoder(width: int, count: int) -> nn.Linear:
    """A decoder that starts in the middle of the train values, where a guess costs least."""
    decoder = nn.Linear(width, count)
    nn.init.normal_(decoder.weight, std=0.01)
    nn.init.constant_(decoder.bias, 0.5)
    return decoder


def _any_by_variable(hidden: Tensor, variable: Tensor, n_variables: int) -> Tensor:
    """[B, V] bool: some event of the variable is hidden."""
    count = torch.zeros(len(hidden), n_variables, device=hidden.device)
    return count.scatter_add(1, variable, hidden.to(count.dtype)) > 0


def position_distance(predicted: Tensor, position: Tensor) -> Tensor:
    """Smooth L1 between positions, in units of knowing nothing."""
    return smooth_l1_loss(predicted, position, reduction="none") / _KNOWS_NOTHING

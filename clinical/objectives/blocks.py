"""Hidden time: take all events of some hours away, predict what was measured in them."""

from clinical.batch import ClinicalBatch
from clinical.containers import TimeSeries
from clinical.errors import ConfigError
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
from clinical.objectives.values import position_decoder, position_distance

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

# What a coin costs, so that presence starts at about 1 as positions do.
_COIN = 0.6931


@dataclass(frozen=True)
class HiddenBlock:
    """The hours that were taken away, and what was measured in them.

    Attributes:
        chosen: [B] bool, the sample lost events.
        bounds: [B, 2] hours before the prediction time, the newer end first.
        measured: [B, V] bool, in those hours.
        level: [B, V] mean position in those hours; 0 where not measured.
    """

    chosen: Tensor
    bounds: Tensor
    measured: Tensor
    level: Tensor


class HiddenHours(Objective):
    """Take away all events of some hours, whether they are there or not being what is asked.

    Unlike a hidden value, whose variable and time stay, nothing of these events is left: staff
    measure what worries them, so when and what they measure is worth predicting too. Summaries
    are of the whole window and would tell, so the samples chosen lose all of theirs. Which
    variables were measured and at what level is read from the fused vector and the hours asked.
    A sample whose summaries are gone already lost hours to another objective and is left alone:
    what is missing from it can no longer be told apart from what was never measured.

    Args:
        model: of whose sizes the decoder is.
        share: of the samples that lose hours.
        hours: at most so many.

    Raises:
        ConfigError: no modality `events`, or an option out of range.
    """

    hides: ClassVar[frozenset[str]] = frozenset({"events"})
    name: ClassVar[str]

    def __init__(self, model: SizedModel, *, share: float = 0.3, hours: float = 12.0) -> None:
        super().__init__()
        sizes = sizes_of(model, "events", objective=self.name)
        if not 0 < hours < math.inf:
            raise ConfigError(
                f"pretrain.objectives.{self.name}.hours: {hours} should be above 0 and finite"
            )
        self.n_variables = sizes["summary_variables"]
        self.share = check_share(f"{self.name}.share", share)
        self.hours = hours
        width = model.width
        self.asked = nn.Linear(2, width)
        self.mixed = nn.Sequential(nn.Linear(width, width), nn.GELU())
        self.level = position_decoder(width, self.n_variables)
        self.presence = nn.Linear(width, self.n_variables)

    def start(self, span: Tensor, length: Tensor, generator: torch.Generator) -> Tensor:
        """[B] hours before the prediction time at which the hidden block ends.

        Args:
            span: [B] hours from the oldest event to the prediction time.
            length: [B] of the block.
            generator: of the draws.
        """
        raise NotImplementedError

    def hide(
        self, batch: ClinicalBatch, generator: torch.Generator
    ) -> tuple[ClinicalBatch, HiddenBlock]:
        """A batch without the events of the hours drawn."""
        events: TimeSeries = container_of(batch, "events", TimeSeries)
        hours = events.time_hours.masked_fill(~events.mask, 0.0)
        size = len(hours)
        span = nn.functional.pad(hours, (0, 1)).amax(1)
        drawn = uniform((size,), generator, hours) < self.share
        length = self.hours * (0.25 + 0.75 * uniform((size,), generator, hours))
        start = self.start(span, length, generator)
        bounds = torch.stack((start, start + length), 1)
        inside = (hours >= bounds[:, :1]) & (hours < bounds[:, 1:]) & events.mask
        # A block without events is asked about too: that nothing was measured is an answer.
        chosen = drawn & events.summary_observed.any(1)
        gone = inside & chosen[:, None]
        measured, level = self._found(events, gone)
        masked = events.replace(
            variable=events.variable.masked_fill(gone, 0),
            value=events.value.masked_fill(gone, 0.0),
            time_hours=events.time_hours.masked_fill(gone, 0.0),
            mask=events.mask & ~gone,
            observed=events.observed & ~gone,
            summary_observed=events.summary_observed & ~chosen[:, None],
        )
        return batch.replace(events=masked), HiddenBlock(chosen, bounds, measured, level)

    def _found(self, events: TimeSeries, gone: Tensor) -> tuple[Tensor, Tensor]:
        """[B, V] measured, and mean positions, of the events taken away."""
        counted = gone & (events.variable < self.n_variables)
        place = events.variable.masked_fill(~counted, self.n_variables)
        empty = events.value.new_zeros(len(gone), self.n_variables + 1)
        count = empty.scatter_add(1, place, counted.to(empty.dtype))[:, :-1]
        value = events.value.masked_fill(~counted, 0.0)
        total = empty.scatter_add(1, place, value)[:, :-1]
        return count > 0, total / count.clamp(min=1)

    def loss(self, outputs: ModelOutputs, hidden: HiddenBlock) -> Loss:
        """Presence and levels in the hidden hours, in units of knowing nothing."""
        state = self.mixed(outputs.fused + self.asked(hidden.bounds.log1p()))
        surprise = binary_cross_entropy_with_logits(
            self.presence(state), hidden.measured.to(state.dtype), reduction="none"
        )
        asked = hidden.chosen[:, None].expand_as(surprise)
        distance = position_distance(self.level(state), hidden.level)
        parts = {
            f"{self.name}/presence": masked_mean(surprise, asked) / _COIN,
            f"{self.name}/level": masked_mean(distance, hidden.measured),
        }
        return add_parts(parts)


class Forecast(HiddenHours):
    """The last hours are taken away: what comes next? See `HiddenHours`."""

    name = "forecast"

    def start(self, span: Tensor, length: Tensor, generator: torch.Generator) -> Tensor:
        return torch.zeros_like(length)


class Presence(HiddenHours):
    """Some hours are taken away, anywhere between a stay's ends. See `HiddenHours`."""

    name = "presence"

    def start(self, span: Tensor, length: Tensor, generator: torch.Generator) -> Tensor:
        # From before the newest hour to the oldest event, so that both ends are hidden as well.
        earliest = (span + length) * uniform(tuple(span.shape), generator, span) - length
        return earliest.clamp(min=0)

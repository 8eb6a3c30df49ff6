"""Judge a predictions table: a table of metrics with intervals, and its pictures."""

from __future__ import annotations

from clinical.errors import ConfigError
from clinical.evaluation.delong import delong_row
from clinical.evaluation.figures import Pictures
from clinical.evaluation.groups import SMALLEST, group_table, periods_of
from clinical.evaluation.judged import Judged
from clinical.evaluation.missing_inputs import forced
from clinical.evaluation.net_benefit import decision_curve
from clinical.evaluation.parts import WITHOUT_COSTS, format_costs
from clinical.evaluation.showing import metrics_html, table_html, without_heads
from clinical.evaluation.subgroups import Subgroups
from clinical.evaluation.table import HEADS, format_table, records, tidy
from clinical.evaluation.thresholds import format_thresholds
from clinical.evaluation.withholding import withhold_evaluation

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

INTERVALS = "95 % percentile bootstrap by subject"


@dataclass(frozen=True, repr=False)
class Evaluation(Pictures):
    """What `evaluate` found; shows itself as a table in a notebook.

    Attributes:
        table: one row a task and metric: task, metric, value, low, high (95 % interval), n,
            events (null where the kind has none), note; a `class` column where classes were
            scored, null for all together, and `horizon_hours` for time-to-event; with a baseline
            also baseline and difference (model − baseline), each with `_low` and `_high`. A
            value that is not defined is NaN, and the note says why.
        judged: the rows behind it, one entry a task (and class).
        resamples, seed: of the bootstrap.
        costs: where the predictions say in `left_out` what they lack, one row a task, part and
            metric: task, left_out, metric, whole, without, difference (whole − without, with a
            paired interval `_low` and `_high`), n, events, note; None otherwise.
        at_thresholds: where thresholds were given, one row a task, threshold and metric: task,
            at (its name), threshold, metric (sensitivity, specificity, PPV, NPV, alert rate,
            alerts per true alert), value, low, high, n, events, note; None otherwise.
    """

    table: pd.DataFrame
    judged: tuple[Judged, ...]
    resamples: int
    seed: int
    costs: pd.DataFrame | None = None
    at_thresholds: pd.DataFrame | None = None

    @property
    def counts(self) -> pd.DataFrame:
        """Per task: rows judged, subjects, events, and rows left out by reason."""
        rows = []
        for one in self.judged:
            row: dict[str, Any] = {"task": one.task, "class": one.label_class}
            row |= {"horizon_hours": one.horizon_hours}
            row |= {"n": len(one.labels), "subjects": len(np.unique(one.subjects))}
            row |= {"events": one.events, "without_score": one.without_score}
            row |= {"without_label": one.without_label}
            if one.baseline is not None:
                row["without_baseline"] = one.without_baseline
            rows.append(row)
        return tidy(pd.DataFrame(rows))

    def display_table(self, rows: pd.DataFrame | None = None) -> pd.DataFrame:
        """The table as text for a screen: intervals in brackets, a dash for what is not defined.

        Args:
            rows: of the table; by default all.
        """
        return format_table(self.table if rows is None else rows)

    def display_costs(self) -> pd.DataFrame:
        """The costs as text for a screen, in the same way.

        Raises:
            ConfigError: the predictions have no column left_out.
        """
        if self.costs is None:
            raise ConfigError(WITHOUT_COSTS)
        return format_costs(self.costs)

    def display_thresholds(self, rows: pd.DataFrame | None = None) -> pd.DataFrame:
        """A row a threshold as text for a screen, with a column for each metric.

        Args:
            rows: of `at_thresholds`; by default all.

        Raises:
            ConfigError: no thresholds were given.
        """
        if self.at_thresholds is None:
            raise ConfigError(
                "thresholds: evaluate was given none; choose_thresholds makes some on other "
                "patients, and a bundle has those of its calibrate half in thresholds.json"
            )
        return format_thresholds(self.at_thresholds if rows is None else rows)

    def net_benefit(
        self, *, task: str | None = None, risks: Sequence[float] | None = None
    ) -> pd.DataFrame:
        """The decision curve of a task as a table, with bands by the bootstrap.

        Args:
            task: may be left out where there is only one.
            risks: from which on one would act; by default every 1 % as far as it may matter.

        Returns:
            risk, model, model_low, model_high, with a baseline also baseline and difference with
            their bands, and act_on_all. Of time-to-event it is about the event by the horizon.

        Raises:
            ConfigError: there is no such task, it has no yes or no, or a risk is not in 0 to 1.
        """
        one = self._pick(task)
        if one.yes_or_no(one.scores) is None:
            raise ConfigError(f"task: {one.name} has no yes or no to act on")
        return decision_curve(one, risks, resamples=self.resamples, seed=self.seed)

    def delong(self) -> pd.DataFrame:
        """DeLong's test between model and baseline, one row a yes-or-no task (and class).

        Returns:
            task, class, model, baseline, difference (of AUROC), low, high, standard_error, z,
            p_value, method; rows of one subject are clustered (Obuchowski, 1997).

        Raises:
            ConfigError: there is no baseline, or no task in which both have an AUROC.
        """
        rows = [row for one in self.judged if (row := delong_row(one)) is not None]
        if not rows:
            raise ConfigError("delong: there is no AUROC beside a baseline's; give baseline=")
        table = pd.DataFrame(rows)
        return table.drop(columns="class") if table["class"].isna().all() else table

    def by(
        self,
        groups: pd.DataFrame,
        *,
        smallest: int = SMALLEST,
        resamples: int | None = None,
        alone: str | None = None,
    ) -> Subgroups:
        """How the model does in groups of patients.

        Args:
            groups: subject_id, prediction_time (left out where a group is for life), and a column
                for each way to group, of any type; null is a group of its own. Age bands and the
                like are put in order by an ordered category.
            smallest: number of people below which a group, or its people with one of the
                outcomes, is not shown, nor what would give it away.
            resamples: of the bootstrap; by default those of the evaluation.
            alone: a column of `groups` that is shown by itself elsewhere, as the model card does
                with the modalities present: rather others are hidden than what is known from there.

        Raises:
            SchemaError: the groups are not as described, or are of other samples.
            ConfigError: `smallest` or `resamples` is below 1.
        """
        for name, number in (("smallest", smallest), ("resamples", resamples)):
            if number is not None and number < 1:
                raise ConfigError(f"{name}: {number} should be at least 1")
        table = group_table(
            self.judged,
            groups,
            self._thresholds,
            smallest=smallest,
            resamples=self.resamples if resamples is None else resamples,
            seed=self.seed,
            alone=alone,
        )
        return Subgroups(tidy(table), smallest)

    def trend(
        self,
        every: str = "quarter",
        *,
        consistent_calendar: bool,
        smallest: int = SMALLEST,
        resamples: int | None = None,
    ) -> Subgroups:
        """How the model does over time, by the prediction times.

        Args:
            every: "week", "month", "quarter" or "year".
            consistent_calendar: what `dataset.json` of the extract says: that times of different
                patients may be compared. Most de-identified extracts shift dates by patient.
            smallest, resamples: as for `by`.

        Raises:
            ConfigError: the calendar is not consistent, or there is no such period.
        """
        if not consistent_calendar:
            raise ConfigError(
                "trend: dates that were shifted by patient have no common calendar; set "
                "consistent_calendar=True only where dataset.json of the extract says so"
            )
        groups = periods_of(self.judged, every)
        return self.by(groups, smallest=smallest, resamples=resamples)

    @property
    def _thresholds(self) -> dict[str, dict[str, float]]:
        """By task and name, those that could be chosen."""
        found: dict[str, dict[str, float]] = {}
        if self.at_thresholds is None:
            return found
        for one in self.judged:
            rows = self.rows_of(one, self.at_thresholds).dropna(subset=["threshold"])
            if len(rows):
                found[one.name] = dict(zip(rows["at"], rows["threshold"], strict=True))
        return found

    def to_json(self, *, smallest: int | None = None) -> dict[str, Any]:
        """A mapping for `json.dump`: counts and metrics by task; null where not defined.

        Args:
            smallest: number of people below which nothing is told: counts of fewer are null, and
                a task of which fewer have an outcome has no figures. None tells everything.
        """
        tasks = []
        for one, counts in zip(self.judged, records(self.counts), strict=True):
            metrics = {}
            for row in records(self.rows_of(one)):
                name = row.pop("metric")
                ignored = (*HEADS, "n", "events")
                metrics[name] = {key: cell for key, cell in row.items() if key not in ignored}
            tasks.append({**counts, "metrics": metrics})
        content: dict[str, Any] = {
            "interval": INTERVALS,
            "resamples": self.resamples,
            "seed": self.seed,
            "tasks": tasks,
        }
        for name in ("costs", "at_thresholds"):
            if (frame := getattr(self, name)) is not None:
                content[name] = records(frame)
        return content if smallest is None else withhold_evaluation(content, self.judged, smallest)

    @property
    def headlines(self) -> list[str]:
        """A line a task (and class): how many rows were judged, and how many could not be."""
        left_out = {
            "without_score": "without a score",
            "without_label": "without a label",
            "without_baseline": "without a baseline score",
        }
        lines = []
        for one, row in zip(self.judged, records(self.counts), strict=True):
            text = f"{one.name}: {row['n']:,} rows of {row['subjects']:,} subjects"
            if row["events"] is not None:
                text += f", {row['events']:,} events"
            absent = [f"{row[key]:,} {what}" for key, what in left_out.items() if row.get(key)]
            lines.append(text + (f"; left out: {', '.join(absent)}" if absent else ""))
        return lines

    def _repr_html_(self) -> str:
        parts = []
        for one, headline in zip(self.judged, self.headlines, strict=True):
            parts.append(f"<p><b>{html.escape(headline)}</b></p>")
            parts.append(metrics_html(self.display_table(self.rows_of(one))))
            if self.at_thresholds is not None and len(at := self.rows_of(one, self.at_thresholds)):
                parts.append("<p>At thresholds chosen elsewhere:</p>")
                parts.append(table_html(without_heads(self.display_thresholds(at))))
            if self.costs is not None and len(costs := self.rows_of(one, self.costs)):
                parts.append("<p>Without each part (difference: whole − without):</p>")
                parts.append(table_html(forced(records(costs))))
        caption = f"Intervals: {INTERVALS}, {self.resamples:,} resamples."
        return f"{''.join(parts)}<p>{caption}</p>"

    def __repr__(self) -> str:
        return self.display_table().to_string(index=False)

"""The report of a run: one self-contained HTML file about what the model is and how it did.

It has no value of a single patient: figures are of groups, counts below the smallest cell are
withheld, and a task or class of which too few people have an outcome is not shown at all.
"""

from __future__ import annotations

from clinical.errors import ConfigError
from clinical.evaluation import page
from clinical.evaluation.alerts import shown_alerts
from clinical.evaluation.card import NOT_A_DEVICE
from clinical.evaluation.delong import delong_row
from clinical.evaluation.evaluation import INTERVALS, Evaluation
from clinical.evaluation.groups import NOT_SHOWN
from clinical.evaluation.judged import Judged
from clinical.evaluation.missing_inputs import (
    HOW_TO_READ,
    NONE_LEFT_OUT,
    as_present,
    forced,
    not_shown,
)
from clinical.evaluation.patterns import PATTERN
from clinical.evaluation.report_facts import (
    answers,
    calibration_text,
    description,
    flow,
    meanings,
    members_table,
)
from clinical.evaluation.report_pictures import (
    picture_of_costs,
    pictures_of,
    pictures_of_groups,
)
from clinical.evaluation.subgroups import Subgroups
from clinical.evaluation.table import HEADS, counted, format_value, records
from clinical.evaluation.tripod import ITEMS
from clinical.evaluation.withholding import shown_tasks

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

AUTHORS = "for the authors to say"


@dataclass(frozen=True)
class Facts:
    """What a report is made of.

    Attributes:
        config: the resolved run, as plain mappings.
        metrics: of the run's `metrics.json`.
        evaluation: of its predictions, beside the baseline's.
        groups: of its patients, None where there are none to tell apart.
        trend: by period, None where the calendar is not consistent.
        about: item of TRIPOD+AI -> what the authors say of it.
        smallest: number of people below which nothing is shown.
    """

    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    evaluation: Evaluation
    groups: Subgroups | None
    trend: Subgroups | None
    about: Mapping[str, str]
    smallest: int


def report_page(facts: Facts) -> str:
    """Write the report.

    Raises:
        ConfigError: `about` names an item that TRIPOD+AI does not have.
    """
    if unknown := [item for item in facts.about if item not in ITEMS]:
        raise ConfigError(
            f"about: TRIPOD+AI has no item {', '.join(unknown)}; known are {', '.join(ITEMS)}"
        )
    tasks = ", ".join(facts.config["tasks"])
    sections = [
        ("In short", _summary(facts)),
        ("What the model does", page.bullets(description(facts.config))),
        ("Patients", _patients(facts)),
        *((f"Performance: {one.name}", _performance(facts, one)) for one in _shown(facts)),
        ("When inputs are missing", _missing(facts)),
        ("Calibration and members", _calibration(facts)),
        ("Limits and care", _limits(facts)),
        ("TRIPOD+AI", _tripod(facts)),
        ("How figures were computed", _methods(facts)),
    ]
    lead = f'<div class="warning">{page.paragraph(NOT_A_DEVICE)}</div>'
    return page.page(f"Prediction of {tasks}: report of a run", sections, lead=lead)


def _shown(facts: Facts) -> list[Judged]:
    return shown_tasks(facts.evaluation.judged, facts.smallest)


def _summary(facts: Facts) -> str:
    shown = _shown(facts)
    if not shown:
        return page.paragraph(
            f"Fewer than {facts.smallest} people, or with one of the outcomes, were judged: no "
            "figure of them is shown."
        )
    lines, named = [], list[str]()
    for one in shown:
        found = facts.evaluation.rows_of(one).to_dict("records")
        rows = {str(each["metric"]): {str(k): v for k, v in each.items()} for each in found}
        row: dict[str, Any] = {"task": one.name, "rows": f"{len(one.labels):,}"}
        row["events"] = "–" if one.events is None else counted(one.events, facts.smallest)
        main = [
            name for name in (*one.marked(one.scores).main, "calibration slope") if name in rows
        ]
        told = [_figure(name, rows[name]) for name in dict.fromkeys(main)]
        named += main
        lines.append(row | {"main figures (95 % interval)": "; ".join(told)})
    text = f"Judged on: {facts.metrics['split']}."
    table = page.table(pd.DataFrame(lines), "Main figures")
    return page.paragraph(text) + table + page.bullets(meanings(dict.fromkeys(named)))


def _figure(name: str, row: Mapping[str, float]) -> str:
    return f"{name} {format_value(row['value'], row['low'], row['high'], digits=2)}"


def _patients(facts: Facts) -> str:
    parts = [page.table(flow(facts.metrics, facts.smallest), "Samples by use")]
    lines, shown = [], {one.name for one in _shown(facts)}
    for one in facts.evaluation.judged:
        row: dict[str, Any] = {"task": one.name, "rows": counted(len(one.labels), facts.smallest)}
        row["people"] = counted(len(np.unique(one.subjects)), facts.smallest)
        is_shown = one.name in shown
        row["with the event"] = "–" if one.events is None or not is_shown else f"{one.events:,}"
        row["without a score"] = counted(one.without_score, facts.smallest)
        row["without a label"] = counted(one.without_label, facts.smallest)
        lines.append(row)
    parts.append(page.table(pd.DataFrame(lines), f"Judged: {facts.metrics['split']}"))
    parts.append(page.paragraph("A sample is a patient at one prediction time.", kind="small"))
    return "".join(parts)


def _performance(facts: Facts, one: Judged) -> str:
    evaluation = facts.evaluation
    shown = evaluation.display_table(evaluation.rows_of(one))
    plain = [name for name in (*HEADS, "n", "events") if name in shown]
    if (shown["note"] == "").all():
        plain.append("note")
    parts = [page.table(shown.drop(columns=plain), "Performance on patients not learned from")]
    if (test := delong_row(one)) is not None and np.isfinite(test["p_value"]):
        p = "below 0.001" if test["p_value"] < 0.001 else f"{test['p_value']:.3f}"
        text = f"Difference in AUROC from the baseline: p {p}, {test['method']}."
        parts.append(page.paragraph(text, kind="small"))
    pictures = "".join(pictures_of(evaluation, one, facts.smallest))
    parts.append(f'<div class="pictures">{pictures}</div>')
    if evaluation.at_thresholds is not None:
        parts.append(_alerts(facts, one, evaluation.rows_of(one, evaluation.at_thresholds)))
    groups = None if facts.groups is None else facts.groups.by_column(PATTERN, is_other=True)
    for table, caption in ((groups, "Groups of patients"), (facts.trend, "Over time")):
        own = None if table is None or not table.columns else table.of(one)
        if own is not None and len(own.table):
            parts.append(f"<h3>{caption}</h3>")
            parts.append(_groups(own, one, caption))
    return "".join(parts)


def _alerts(facts: Facts, one: Judged, rows: pd.DataFrame) -> str:
    known = rows.dropna(subset=["threshold"])
    told = shown_alerts(
        one, dict(zip(known["at"], known["threshold"], strict=True)), facts.smallest
    )
    kept = rows[rows["at"].isin(told) | rows["threshold"].isna()]
    text = ""
    if len(kept):
        at = facts.evaluation.display_thresholds(kept)
        at = at.drop(columns=[name for name in HEADS if name in at])
        text = page.table(at, "Alerts from thresholds frozen on other patients")
    if n_hidden := known["at"].nunique() - len(told):
        text += page.paragraph(
            f"Thresholds not shown: {n_hidden}, of few with or without an alert and the event, or "
            "of few more than another alerts.",
            kind="small",
        )
    return text


def _groups(own: Subgroups, one: Judged, caption: str) -> str:
    """Pictures and a table of the groups that are shown, and how many are not."""
    hidden = page.paragraph(not_shown(own.to_json()), kind="small")
    if own.shown.empty:
        return hidden
    told = own.display_table()
    told = told[told["group"] != NOT_SHOWN]
    told = told.drop(columns=["note", *(name for name in HEADS if name in told)])
    names = {"column": "by", "n": "rows", "subjects": "people"}
    table = page.table(told.rename(columns=names), caption)
    return pictures_of_groups(own, one) + table + hidden


def _missing(facts: Facts) -> str:
    """What taking a part away costs, and figures by what patients have."""
    parts = [page.paragraph(HOW_TO_READ)]
    present = None if facts.groups is None else facts.groups.by_column(PATTERN)
    for one in _shown(facts):
        parts.append(f"<h3>{html.escape(one.name)}</h3>")
        if facts.evaluation.costs is None:
            parts.append(page.paragraph(NONE_LEFT_OUT))
        else:
            costs = facts.evaluation.rows_of(one, facts.evaluation.costs)
            parts.append(picture_of_costs(costs, one))
            parts.append(page.table(forced(records(costs)), "With a part taken from everybody"))
        if present is not None and present.columns:
            own = present.of(one)
            parts.append(pictures_of_groups(own, one))
            rows = own.to_json()
            parts.append(page.table(as_present(rows), "By what patients have"))
            parts.append(page.paragraph(not_shown(rows), kind="small"))
    return "".join(parts)


def _calibration(facts: Facts) -> str:
    parts = [page.bullets(calibration_text(facts.metrics, facts.config, facts.smallest))]
    for name, rows in members_table(facts.metrics).items():
        if name in {one.task for one in _shown(facts)}:
            parts.append(page.table(rows, f"{name}: each member of the score by itself"))
    return "".join(parts)


def _limits(facts: Facts) -> str:
    return page.bullets(
        [
            "Figures are of the data at hand; another hospital has other patients, and practice "
            "changes. Validate the model where it is to be used and watch it over time.",
            "An interval tells the chance of the draw of patients, not that of other hospitals.",
            "Groups were not compared for cause: a lower figure may come of sicker patients, fewer "
            "measurements or fewer events.",
            f"Groups and counts of fewer than {facts.smallest} people are withheld, with others "
            "from which they could be computed.",
            "This page shows no value of a single patient.",
        ]
    )


def _tripod(facts: Facts) -> str:
    known = answers(facts.config, facts.metrics) | dict(facts.about)
    rows = pd.DataFrame(
        [
            {
                "item": item,
                "section": section,
                "what to say": what,
                "said": known.get(item, AUTHORS),
            }
            for item, (section, what) in ITEMS.items()
        ]
    )
    n_open = int((rows["said"] == AUTHORS).sum())
    text = (
        "Items of the TRIPOD+AI statement (Collins et al., BMJ 2024;385:e078378), in short. "
        f"{n_open} of {len(rows)} are for the authors to say (clinical report --about FILE)."
    )
    return page.paragraph(text) + page.table(rows, "Checklist", is_sortable=False)


def _methods(facts: Facts) -> str:
    evaluation = facts.evaluation
    lines = [
        f"Intervals: {INTERVALS}, {evaluation.resamples:,} resamples, seed {evaluation.seed}.",
        "AUPRC is the average precision. ECE is taken in ten groups of equal size by score; the "
        f"calibration picture has fewer where one has not {facts.smallest} people with and without "
        "the event. Its bars are Wilson's intervals.",
        "Brier = reliability − resolution + uncertainty (Murphy 1973; Stephenson et al. 2008).",
        "Net benefit: Vickers and Elkin (2006). Time-to-event figures at a horizon weigh known "
        "outcomes by the inverse probability of being observed (Graf et al., 1999).",
        f"Differences from the baseline ({facts.metrics['baseline']}) are paired.",
    ]
    if (found := facts.config.get("provenance")) is not None:
        lines.append(
            f"Made by clinical {found['clinical']} of an extract with the fingerprint "
            f"{found['extract_fingerprint'][:16]}."
        )
    return page.bullets(lines)

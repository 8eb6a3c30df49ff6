"""The model card: what a bundle is, how it did, and what to beware of, in Markdown."""

from __future__ import annotations

from clinical.evaluation.missing_inputs import (
    HOW_TO_READ,
    as_present,
    forced,
    not_shown,
    task_name,
)
from clinical.evaluation.table import format_value
from clinical.evaluation.withholding import LEFT_OUT

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

NOT_A_DEVICE = (
    "This is research software, not a medical device. Its scores have not been validated for the "
    "care of patients; validate them where they are to be used, and watch them over time."
)
PATIENT_LEVEL = (
    "Reference embeddings in this bundle are patient-level data: one vector for each training "
    "sample and network, and another in `pretrained_memory.safetensors` where that is there; where "
    "a relation is one in time, its prediction time; where one is about shared codes, its rarest "
    "codes, which may single a patient out. Subjects, also of bundles that this one began from, "
    "appear only as salted hashes, which are pseudonyms and not anonymous. "
    "Words and phrases that enough training subjects use can be read from its statistics. Treat "
    "the bundle as you treat the extract it was trained on."
)
PROTOTYPES = (
    "The weights hold class prototypes, each the mean representation of the train samples of a "
    "class. That of a class of a few people is near a patient's own representation, and of one "
    "person it is theirs: prototypes are patient-level data, as reference embeddings are."
)

UNCALIBRATED = ("regression", "time_to_event")
"""Kinds of task whose scores are what the network says."""


def model_card(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Write the card of a finished run.

    Args:
        config: the resolved run, as plain mappings.
        metrics: what the run writes to `metrics.json`: split, baseline, calibration and members
            (both by task), typicality, relations, patterns and evaluation, all without counts of
            few.
    """
    parts = ["# Model card", NOT_A_DEVICE, "## What it does", *_purpose(config)]
    parts += ["## How it did", f"Evaluated on: {metrics['split']}."]
    evaluation = metrics["evaluation"]
    smallest = evaluation["smallest"]
    for task in evaluation["tasks"]:
        parts += _performance(task, metrics.get("baseline"), smallest)
    parts.append(f"Intervals: {evaluation['interval']}, {evaluation['resamples']} resamples.")
    parts += _missing(evaluation, metrics.get("patterns", []))
    for name, members in metrics.get("members", {}).items():
        parts += _members(name, members)
    parts += _relations(metrics.get("relations", {}), config)
    fits = metrics.get("calibration", {})
    parts += ["## Calibration", *_calibration(fits, config)]
    parts += _typicality(metrics.get("typicality", {}))
    parts += ["## Handle with care", PATIENT_LEVEL]
    if config["finetune"].get("head") == "prototypical":
        parts.append(PROTOTYPES)
    parts += _class_names(config)
    return "\n\n".join(parts) + "\n"


def _purpose(config: Mapping[str, Any]) -> list[str]:
    tasks = [f"- `{name}`: {task['kind']}{_about(task)}" for name, task in config["tasks"].items()]
    modalities = ", ".join(config["modalities"])
    relations = ", ".join(config["graph"]["relations"]) or "none"
    window = config["window_hours"]
    recipe, teachers = config["finetune"]["recipe"], config["finetune"]["teachers"]
    by = "" if recipe == "full" else f" by recipe `{recipe}`"
    taught = f", and from {' and '.join(teachers)} fitted on other subjects" if teachers else ""
    reach = "all that came before" if window is None else f"the {window:g} hours before"
    return [
        "Predicts, for one sample (a patient at a prediction time):",
        "\n".join(tasks),
        f"Inputs: {modalities}, by default from {reach} the prediction time. "
        f"Relations between patients: {relations}. Seed: {config['seed']}.",
        f"Learned from labels{by}{taught}.",
    ]


def _about(task: Mapping[str, Any]) -> str:
    """The unit of values, or the hours by which risks are."""
    if task.get("unit") is not None:
        return f" (in {task['unit']})"
    hours = task.get("horizon_hours")
    if hours is None:
        return ""
    each = hours if isinstance(hours, list) else [hours]
    return f" (risk by {', '.join(f'{hour:g}' for hour in each)} hours)"


def _class_names(config: Mapping[str, Any]) -> list[str]:
    """What travels of the texts of the labels."""
    tasks = config["tasks"].items()
    named = {name: task["min_subjects"] for name, task in tasks if task["kind"] == "multiclass"}
    if not named:
        return []
    each = ", ".join(f"`{name}` (of {least} or more subjects)" for name, least in named.items())
    return [f"The names of the classes that train has travel in it and in predictions: {each}."]


def _performance(task: Mapping[str, Any], baseline: str | None, smallest: int) -> list[str]:
    name = task_name(task)
    if task["n"] is None:
        return [
            f"### {name}",
            f"Fewer than {smallest} people were judged, or with one of the outcomes: their figures "
            "are not shown here.",
        ]
    rows = list(task["metrics"].items())
    beside = any("baseline" in row for _, row in rows)
    header = ["metric", "value (95 % interval)", *(["baseline", "difference"] * beside), "note"]
    lines = [_line(header), _line(["---"] * len(header))]
    for metric, row in rows:
        cells = [metric, _cell(row, "value", "")]
        if beside:
            cells += [_cell(row, kind, f"{kind}_") for kind in ("baseline", "difference")]
        lines.append(_line([*cells, row["note"]]))
    left_out = [
        f"{'few' if task[key] is None else format(task[key], ',')} {key.replace('_', ' ')}"
        for key in LEFT_OUT
        if task.get(key, 0) != 0
    ]
    text = f"{task['n']:,} rows of {task['subjects']:,} subjects"
    text += "" if task["events"] is None else f", {task['events']:,} with the event"
    text += f"; left out: {', '.join(left_out)}." if left_out else "."
    if beside and baseline:
        text += f" Baseline: {baseline}."
    return [f"### {name}", text, "\n".join(lines)]


def _members(task: str, members: Mapping[str, Any]) -> list[str]:
    """What each network and expert ranks by itself; nothing where one network is all there is."""
    if len(members["ranking"]) < 2:
        return []
    text = "Each member of the score by itself, on the same rows"
    if members["expert_weight"] is not None:
        text += f"; the experts have a weight of {members['expert_weight']:.2f} in the whole"
    lines = [_line(["member", "AUROC", "AUPRC"]), _line(["---"] * 3)]
    for name, figures in members["ranking"].items():
        values = (figures["auroc"], figures["auprc"])
        lines.append(_line([name, *("–" if v is None else f"{v:.3f}" for v in values)]))
    return [f"### {task}: members", f"{text}.", "\n".join(lines)]


def _relations(relations: Mapping[str, Mapping[str, Any]], config: Mapping[str, Any]) -> list[str]:
    """Which relations are heard, and what they told when they were tried on train patients."""
    if not relations:
        return []
    header = ["relation", "with neighbours", "open in", "mean gate", "told when tried (nats)"]
    lines = [_line(header), _line(["---"] * len(header))]
    for name, figures in relations.items():
        told = [
            f"{task} {found['gain']:+.4f} (standard error {found['error']:.4f})"
            for task, found in figures["tried"].items()
        ]
        heard = f"{figures['open']} of {figures['networks']} networks"
        cells = [name, _linked(figures["linked"]), heard, f"{figures['gate']:.2f}"]
        lines.append(_line([*cells, "; ".join(told) or "not tried"]))
    text = (
        "A relation is closed where its neighbours told nothing of train patients, out of fold, "
        "that these did not tell themselves; the gate is the share of its message that is let in."
    )
    if others := [name for name, task in config["tasks"].items() if task["kind"] != "binary"]:
        text += f" Here none is closed: what they tell of {', '.join(others)} was not tried."
    return ["## Relations between patients", text, "\n".join(lines)]


def _typicality(typicality: Mapping[str, Any]) -> list[str]:
    """How many of the people that it was judged on it calls atypical, unless few were judged."""
    if not typicality:
        return []
    n, judged, atypical = (typicality[key] for key in ("calibrated_on", "judged", "atypical"))
    if n == 0:
        return [
            "## Typicality",
            "Too few people were left to calibrate it on: scores come without.",
        ]
    text = (
        "Each score says how typical its sample is of those trained on, as the share of "
        f"{'few' if n is None else format(n, ',')} calibration patients who were no more typical."
    )
    if n is not None and judged:
        told = "too few, or all but too few, to say how many" if atypical is None else ""
        text += f" At {typicality['level']:g} or less were "
        text += f"{told or format(atypical / judged, '.1%')} of {judged:,} judged patients, whose "
        text += "samples share one patient's weight."
    return ["## Typicality", text]


def _linked(share: float) -> str:
    """Shares are rounded down, so that nobody sees a few more or less."""
    if share in (0.0, 1.0):
        return "all" if share else "under 5%"
    return f"at least {share:.0%}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _cell(row: Mapping[str, Any], key: str, prefix: str) -> str:
    numbers = (row[key], row[f"{prefix}low"], row[f"{prefix}high"])
    value, low, high = (float("nan") if number is None else number for number in numbers)
    return format_value(value, low, high, signed=key == "difference")


def _missing(evaluation: Mapping[str, Any], by_pattern: Sequence[Mapping[str, Any]]) -> list[str]:
    """Figures without each part, and of patients by what they have."""
    parts, costs = [], evaluation.get("costs", [])
    for name in dict.fromkeys(task_name(task) for task in evaluation["tasks"]):
        without = [row for row in costs if task_name(row) == name]
        present = [row for row in by_pattern if task_name(row) == name]
        if without:
            parts += [f"### {name}: with a part taken away", _markdown(forced(without))]
        if present:
            parts += [f"### {name}: by what patients have", _markdown(as_present(present))]
            parts += list(filter(None, [not_shown(present)]))
    return ["## When inputs are missing", HOW_TO_READ, *parts] if parts else []


def _markdown(table: pd.DataFrame) -> str:
    lines = [_line([str(name) for name in table]), _line(["---"] * len(table.columns))]
    for row in table.itertuples(index=False, name=None):
        lines.append(_line([str(cell) for cell in row]))
    return "\n".join(lines)


def _calibration(
    calibration: Mapping[str, Mapping[str, Any]], config: Mapping[str, Any]
) -> list[str]:
    if not calibration:
        return ["Scores are uncalibrated."]
    tasks = config["tasks"]
    several = {name for name, task in tasks.items() if task["kind"] == "multiclass"}
    lines = [
        f"- `{name}`: uncalibrated, as every {task['kind']} task is"
        for name, task in tasks.items()
        if task["kind"] in UNCALIBRATED
    ]
    for task, fit in calibration.items():
        n = "few" if fit["n"] is None else f"{fit['n']:,}"
        text = f"- `{task}`: {fit['kind']}, fitted on {n} people of the calibrate half"
        if task not in several:
            is_few = fit["events"] is None
            text += ", few with or without the event" if is_few else f", {fit['events']:,} events"
        lines.append(text + (f" ({fit['reason']})" if fit["reason"] else ""))
    return ["\n".join(lines)]

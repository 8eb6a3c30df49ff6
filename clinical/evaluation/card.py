"""The model card: what a bundle is, how it did, and what to beware of, in Markdown."""

from __future__ import annotations

from clinical.evaluation.groups import SMALLEST
from clinical.evaluation.table import counted, format_value

import re
from collections.abc import Mapping
from typing import Any

NOT_A_DEVICE = (
    "This is research software, not a medical device. Its scores have not been validated for the "
    "care of patients; validate them where they are to be used, and watch them over time."
)
PATIENT_LEVEL = (
    "Reference embeddings in this bundle are patient-level data: one vector for each training "
    "sample and network, and another in `pretrained_memory.safetensors` where that is there; where "
    "a relation is one in time, its prediction time; where one is about shared codes, its rarest "
    "codes, which may single a patient out. Subjects appear only as salted hashes, which are "
    "pseudonyms and not anonymous. "
    "Words and phrases that enough training subjects use can be read from its statistics. Treat "
    "the bundle as you treat the extract it was trained on."
)

UNCALIBRATED = ("regression", "time_to_event")
"""Kinds of task whose scores are what the network says."""


def model_card(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Write the card of a finished run.

    Args:
        config: the resolved run, as plain mappings.
        metrics: what the run writes to `metrics.json`: split, baseline, calibration and members
            (both by task), typicality, relations and evaluation (`Evaluation.to_json()`).
    """
    parts = ["# Model card", NOT_A_DEVICE, "## What it does", *_purpose(config)]
    parts += ["## How it did", f"Evaluated on: {metrics['split']}."]
    for task in metrics["evaluation"]["tasks"]:
        parts += _performance(task, metrics.get("baseline"))
    evaluation = metrics["evaluation"]
    parts.append(f"Intervals: {evaluation['interval']}, {evaluation['resamples']} resamples.")
    for name, members in metrics.get("members", {}).items():
        parts += _members(name, members)
    parts += _relations(metrics.get("relations", {}), config)
    parts += ["## Calibration", *_calibration(metrics.get("calibration", {}), config)]
    parts += _typicality(metrics.get("typicality", {}))
    parts += ["## Handle with care", PATIENT_LEVEL, *_class_names(config)]
    return "\n\n".join(parts) + "\n"


def _purpose(config: Mapping[str, Any]) -> list[str]:
    tasks = [f"- `{name}`: {task['kind']}{_about(task)}" for name, task in config["tasks"].items()]
    modalities = ", ".join(config["modalities"])
    relations = ", ".join(config["graph"]["relations"]) or "none"
    window = config["window_hours"]
    teachers = config["finetune"]["teachers"]
    taught = f", and from {' and '.join(teachers)} fitted on other subjects" if teachers else ""
    reach = "all that came before" if window is None else f"the {window:g} hours before"
    return [
        "Predicts, for one sample (a patient at a prediction time):",
        "\n".join(tasks),
        f"Inputs: {modalities}, by default from {reach} the prediction time. "
        f"Relations between patients: {relations}. Seed: {config['seed']}.",
        f"Learned from labels{taught}.",
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


def _is_small(task: Mapping[str, Any]) -> bool:
    """Whether too few people, or rows with or without the event, are behind the figures."""
    cells = [task["subjects"]]
    if task["events"] is not None:
        cells += [task["events"], task["n"] - task["events"]]
    return bool(min(cells) < SMALLEST)


def _performance(task: Mapping[str, Any], baseline: str | None) -> list[str]:
    name = task["task"] if task.get("class") is None else f"{task['task']}/{task['class']}"
    if task.get("horizon_hours") is not None:
        name += f" by {task['horizon_hours']:g} h"
    if _is_small(task):
        return [
            f"### {name}",
            f"Fewer than {SMALLEST} people were judged, or rows with or without the event: their "
            "figures are not shown here.",
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
        f"{counted(task[key], SMALLEST)} {key.replace('_', ' ')}"
        for key in ("without_score", "without_label", "without_baseline")
        if task.get(key)
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
        cells = [name, f"{figures['linked']:.0%}", heard, f"{figures['gate']:.2f}"]
        lines.append(_line([*cells, "; ".join(told) or "not tried"]))
    text = (
        "A relation is closed where its neighbours told nothing of train patients, out of fold, "
        "that these did not tell themselves; the gate is the share of its message that is let in."
    )
    if others := [name for name, task in config["tasks"].items() if task["kind"] != "binary"]:
        text += f" Here none is closed: what they tell of {', '.join(others)} was not tried."
    return ["## Relations between patients", text, "\n".join(lines)]


def _typicality(typicality: Mapping[str, Any]) -> list[str]:
    """How many of the samples that it was judged on it calls atypical, unless few were judged."""
    if not typicality:
        return []
    n, judged = typicality["calibrated_on"], typicality["judged"]
    if not n:
        return ["## Typicality", "No samples were left to calibrate it on: scores come without."]
    text = (
        "Each score says how typical its sample is of those trained on, as the share of "
        f"{counted(n, SMALLEST)} calibration samples that were no more typical."
    )
    if min(judged, n) >= SMALLEST:
        level = typicality["level"]
        share = typicality["atypical"] / judged
        text += f" At {level:g} or less were {share:.1%} of {judged:,} judged samples."
    return ["## Typicality", text]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _cell(row: Mapping[str, Any], key: str, prefix: str) -> str:
    numbers = (row[key], row[f"{prefix}low"], row[f"{prefix}high"])
    value, low, high = (float("nan") if number is None else number for number in numbers)
    return format_value(value, low, high, signed=key == "difference")


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
        events = "" if task in several else f"with {counted(fit['events'], SMALLEST)} events "
        text = (
            f"- `{task}`: {fit['kind']}, fitted on {counted(fit['n'], SMALLEST)} samples {events}"
        )
        text += "of the calibrate half"
        # The reason counts either outcome.
        is_few = task not in several and min(fit["events"], fit["n"] - fit["events"]) < SMALLEST
        reason = re.sub(r"only [\d,]+ \w+ and [\d,]+ \w+", "few", fit["reason"] or "")
        shown = reason if is_few else fit["reason"]
        lines.append(text + (f" ({shown})" if shown else ""))
    return ["\n".join(lines)]

"""What is in a bundle, in a few lines: for a terminal, and for a notebook."""

from clinical.bundle import METRICS, Bundle
from clinical.cohort.fitted import Fitted
from clinical.config import RunConfig, TaskConfig

import json
from collections.abc import Mapping
from typing import Any

HEADLINES = ("macro AUROC", "AUROC", "R2", "concordance")
"""Of the metrics that a bundle carries, the first of these that a task has is shown."""

Facts = dict[str, str]
"""What -> what there is to say of it, in one line."""


def facts_of(bundle: Bundle) -> Facts:
    """Of a bundle that was read; nothing about any patient."""
    config, fitted = bundle.config, bundle.fitted
    facts = {"bundle": str(bundle.folder), "trained on": _trained_on(config, fitted)}
    judged = _judged(bundle)
    for name, task in config.tasks.items():
        facts[f"task {name}"] = "; ".join(filter(None, [_kind(task), *judged.get(name, [])]))
        facts[f"  scores of {name}"] = _scores(bundle, name)
    for name, modality in config.modalities.items():
        hours = config.modality_window(name)
        window = "all history" if hours is None else f"the last {hours:g} h"
        sizes = _sizes(fitted.modality_sizes[name])
        facts[f"modality {name}"] = f"{modality.encoder}, {window}{sizes}"
    for name, relation in config.graph.relations.items():
        facts[f"relation {name}"] = f"up to {relation.k} neighbours"
    facts["references"] = f"{len(fitted.reference_subject):,} train samples"
    facts["networks"] = _networks(bundle)
    facts["experts"] = ", ".join(bundle.experts) or "none"
    facts["typicality"] = _typicality(bundle)
    files = [path for path in bundle.folder.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    facts["files"] = f"{len(files)}, {size / 1e6:.1f} MB, all as their manifest says"
    return facts


def _trained_on(config: RunConfig, fitted: Fitted) -> str:
    calendar = "" if fitted.consistent_calendar else ", dates shifted per patient"
    return f"{fitted.dataset_name}{calendar}; seed {config.seed}"


def _kind(task: TaskConfig) -> str:
    if task.unit is not None:
        return f"{task.kind} in {task.unit}"
    if task.horizons:
        return f"{task.kind} by {', '.join(f'{hours:g}' for hours in task.horizons)} h"
    return task.kind.replace("_", " ")


def _scores(bundle: Bundle, task: str) -> str:
    """Whether they are calibrated, and with what sets they come."""
    fits = bundle.calibration_of(task)
    said = [
        f"{'' if name is None else f'{name} '}{fit.reason or f'{fit.kind} on {fit.n:,} people'}"
        for name, fit in fits.items()
    ]
    sets = bundle.conformal.get(task, {})
    cases = [each.n for each in sets.values()]
    counted = f"conformal sets, fewest people of a class {min(cases):,}" if cases else "no sets"
    if "residual" in sets:
        counted = f"intervals of {sets['residual'].n:,} people"
    return f"{'; '.join(said) or 'as the network gives them, not calibrated'}; {counted}"


def _sizes(sizes: Mapping[str, Any]) -> str:
    named = {"variables": "variables", "columns": "columns", "codes": "codes"}
    told = [f"{sizes[key]:,} {word}" for key, word in named.items() if key in sizes]
    return f", {', '.join(told)}" if told else ""


def _networks(bundle: Bundle) -> str:
    if not bundle.networks:
        return "none"
    weights = sum(weight.numel() for weight in bundle.networks[0].model.parameters())
    each = " each" if len(bundle.networks) > 1 else ""
    return f"{len(bundle.networks)}, {weights:,} weights{each}, width {bundle.config.fusion.width}"


def _typicality(bundle: Bundle) -> str:
    known = bundle.typicality
    if known is None or not known.n_calibrated:
        return "none: too few people were left to calibrate it on"
    tables = [name for name, each in known.modalities.items() if each.variables is not None]
    others = [name for name in known.modalities if name not in tables]
    said = [f"variables of {', '.join(tables)}"] * bool(tables)
    said += [f"what a network makes of {', '.join(others)}"] * bool(others)
    return f"by {' and '.join(said)}; p-values of {known.n_calibrated:,} people"


def _judged(bundle: Bundle) -> dict[str, list[str]]:
    """Task -> its headline metric on the samples that the run was judged on."""
    path = bundle.folder / METRICS
    if not path.is_file():
        return {}
    metrics = json.loads(path.read_text(encoding="utf-8"))
    split = str(metrics.get("split", "")).replace("_", "-").split(" (")[0]
    found: dict[str, list[str]] = {}
    for task in metrics.get("evaluation", {}).get("tasks", []):
        if task.get("class") is not None:
            continue  # the task as a whole says enough
        if task["n"] is None and task["task"] not in found:
            found[task["task"]] = ["judged on too few people to say how well"]
        known = [name for name in HEADLINES if name in task["metrics"]]
        row = task["metrics"][known[0]] if known else {}
        if row.get("value") is not None:
            interval = ""
            if row.get("low") is not None and row.get("high") is not None:
                interval = f" ({row['low']:.3f} to {row['high']:.3f})"
            by = "" if task.get("horizon_hours") is None else f" by {task['horizon_hours']:g} h"
            text = f"{known[0]}{by} {row['value']:.3f}{interval}, {split}, n {task['n']:,}"
            found.setdefault(task["task"], []).append(text)
    return found

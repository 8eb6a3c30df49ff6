"""What a run knows of itself, in words, for its report."""

from __future__ import annotations

from clinical.evaluation.card import UNCALIBRATED
from clinical.evaluation.table import counted

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

USES = {
    "train": "learned from",
    "select": "half of tuning: chooses epochs and weights",
    "calibrate": "half of tuning: fits calibration and thresholds",
    "held_out": "judged at the end",
}


MEANINGS = {
    "AUROC": "how often the model ranks one with the event above one without: 0.5 by chance, "
    "1 always",
    "AUPRC (average precision)": "the share of true alerts, averaged over all sensitivities: by "
    "chance the share with the event, at best 1",
    "scaled Brier": "how much closer risks are to what happened than one risk for all: 0 no "
    "closer, 1 always right",
    "calibration slope": "1 where risks differ as much as they should; below 1 they are too "
    "extreme",
    "observed / expected": "events that happened for each that was predicted: 1 at best",
    "concordance": "how often the one with the earlier event has the higher risk: 0.5 by chance",
    "MAE": "mean distance of the predicted value from the true one, in its unit",
    "R2": "share of the variance that is explained: 0 none, 1 all",
    "macro AUROC": "the mean AUROC of the classes, each against the rest: 0.5 by chance, 1 always",
}
"""Metric -> what it says, for who has not met it."""


def meanings(metrics: Iterable[str]) -> list[str]:
    """What some metrics say, for those of which there is something to say."""
    return [f"{name}: {MEANINGS[name]}." for name in MEANINGS if name in set(metrics)]


def flow(metrics: Mapping[str, Any], smallest: int) -> pd.DataFrame:
    """Samples by split; modalities only as shares, since their rest may be few."""
    counts = metrics["counts"].get("samples", {})
    order = [*(name for name in USES if name in counts), *(n for n in counts if n not in USES)]
    rows = [
        {"samples": name, "count": counted(counts[name], smallest), "use": USES.get(name, "")}
        for name in order
    ]
    for name, share in metrics.get("present", {}).items():
        rows.append({"samples": f"with {name}", "count": share, "use": "input"})
    return pd.DataFrame(rows, columns=["samples", "count", "use"])


def description(config: Mapping[str, Any]) -> list[str]:
    """What is predicted, from what, and how it was learned."""
    lines = []
    for name, task in config["tasks"].items():
        hours = task.get("horizon_hours")
        each = hours if isinstance(hours, list) else [hours]
        by = "" if hours is None else f", by {', '.join(f'{hour:g}' for hour in each)} hours"
        unit = "" if task.get("unit") is None else f", in {task['unit']}"
        lines.append(f"{name}: {task['kind'].replace('_', ' ')}{by}{unit}")
    window = config["window_hours"]
    reach = "all that came before" if window is None else f"the {window:g} hours before"
    encoders = [f"{name} ({one['encoder']})" for name, one in config["modalities"].items()]
    lines.append(f"Inputs: {', '.join(encoders)}, by default from {reach} the prediction time")
    relations = ", ".join(config["graph"]["relations"]) or "none"
    lines.append(f"Relations between patients: {relations}")
    n_networks, experts = config["ensemble"], ", ".join(config["experts"])
    members = f"{n_networks} network{'s' * (n_networks > 1)}"
    lines.append(f"Members: {members}{f' with {experts}' if experts else ''}")
    if config["pretrain"] is not None:
        objectives = ", ".join(config["pretrain"]["objectives"])
        is_balanced = config["pretrain"].get("balance") == "uncertainty"
        balance = "; balanced by what each one's loss usually is" if is_balanced else ""
        lines.append(f"Pretrained without labels by hiding and predicting: {objectives}{balance}")
    return lines


def answers(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, str]:
    """Item of TRIPOD+AI -> where this report answers it, for those that a run can answer."""
    window = config["window_hours"]
    reach = "all earlier data" if window is None else f"{window:g} hours"
    return {
        "1": "See the title; the population is for the authors to add",
        "7": "Values become positions in the distribution of train; what cannot be read is counted",
        "8a": "See What the model does",
        "9a": "All that the extract holds and enough of train have; none was chosen by hand",
        "9b": f"Codes of the extract, seen up to the prediction time ({reach})",
        "10": "Every sample of the extract was used; no size was calculated",
        "11": "What is absent is a state that the model learns; see When inputs are missing",
        "12a": "Split by subject into train, tuning (halved) and held_out; see Patients",
        "12b": "Learned from train alone: quantiles, vocabularies, scales",
        "12c": "See What the model does; settings are in the run's run.yaml",
        "12d": "Figures by unit and by the extract's other facts; see Performance",
        "12e": "See How figures were computed",
        "12f": "Recalibrated on half of tuning; see Calibration and members",
        "12g": "From the bundle as it is deployed, read back from disk",
        "13": "None: no class is drawn more often or weighed more than another",
        "14": "Figures by group of patients; no constraint in learning",
        "15": "See What the model does, and the thresholds under Performance",
        "16": "Split from one extract by subject: they differ by chance, unless `splits` says how",
        "18f": "The toolkit is open source (Apache-2.0)",
        "20a": "See Patients",
        "20b": "See Groups of patients under Performance, and Patients for what is missing",
        "21": "See Patients and Performance",
        "22": "The bundle holds the whole model and scores new extracts",
        "23a": f"See Performance, judged on {metrics['split']}",
        "23b": "See Groups of patients under Performance, by unit where the extract has units",
        "24": "See Calibration and members",
        "27a": "Any subset of the inputs gives a score, and predictions name those present; see "
        "When inputs are missing",
    }


def calibration_text(
    metrics: Mapping[str, Any], config: Mapping[str, Any], smallest: int
) -> list[str]:
    """How scores were made probabilities, by task."""
    lines = [
        f"{name}: uncalibrated, as every {task['kind'].replace('_', ' ')} task is"
        for name, task in config["tasks"].items()
        if task["kind"] in UNCALIBRATED
    ]
    for task, fit in metrics.get("calibration", {}).items():
        text = f"{task}: {fit['kind']}, fitted on {counted(fit['n'], smallest)} people"
        lines.append(f"{text} of the calibrate half")
    return lines or ["Scores are uncalibrated."]


def members_table(metrics: Mapping[str, Any]) -> dict[str, pd.DataFrame]:
    """Task -> what each network and expert ranks by itself, where there are several."""
    return {
        name: pd.DataFrame(
            [
                {"member": member, "AUROC": _text(found["auroc"]), "AUPRC": _text(found["auprc"])}
                for member, found in members["ranking"].items()
            ]
        )
        for name, members in metrics.get("members", {}).items()
        if len(members["ranking"]) > 1
    }


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"

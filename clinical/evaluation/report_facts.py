"""What a run knows of itself, in words, for its report."""

from __future__ import annotations

from clinical.evaluation.card import UNCALIBRATED
from clinical.evaluation.table import counted

from collections.abc import Mapping
from typing import Any

import pandas as pd

USES = {
    "train": "learned from",
    "select": "half of tuning: chooses epochs and weights",
    "calibrate": "half of tuning: fits calibration and thresholds",
    "held_out": "judged at the end",
}


def flow(counts: Mapping[str, Any], smallest: int) -> pd.DataFrame:
    """Samples by split; modalities only as shares, since their rest may be few."""
    samples = counts.get("samples", {})
    rows = [
        {"samples": name, "count": counted(int(count), smallest), "use": USES.get(name, "")}
        for name, count in samples.items()
    ]
    patterns = counts.get("modalities", {})
    total = sum(patterns.values())
    shares: dict[str, int] = {}
    for pattern, count in patterns.items():
        for name in filter(None, str(pattern).split("+")):
            shares[name] = shares.get(name, 0) + int(count)
    for name, count in shares.items():
        rows.append({"samples": f"with {name}", "count": _share(count, total), "use": "input"})
    return pd.DataFrame(rows, columns=["samples", "count", "use"])


def _share(count: int, total: int) -> str:
    """In steps of 5 %, the ends open: a few more or less are not seen."""
    percent = 100 * count / max(total, 1)
    if percent > 95:
        return "over 95 %"
    return "under 5 %" if percent < 5 else f"about {5 * round(percent / 5)} %"


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
        lines.append(f"Pretrained without labels by hiding and predicting: {objectives}")
    return lines


def answers(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, str]:
    """Item of TRIPOD+AI -> where this report answers it, for those that a run can answer."""
    window = config["window_hours"]
    reach = "all earlier data" if window is None else f"{window:g} hours"
    return {
        "1": "See the title; the population is for the authors to add",
        "7": "Values become positions in the distribution of train; what cannot be read is counted",
        "8a": "See What the model does",
        "9b": f"Codes of the extract, seen up to the prediction time ({reach})",
        "11": "What is absent is a state that the model learns; no sample is left out",
        "12a": "Split by subject into train, tuning (halved) and held_out; see Patients",
        "12b": "Learned from train alone: quantiles, vocabularies, scales",
        "12c": "See What the model does; settings are in the run's run.yaml",
        "12e": "See How figures were computed",
        "12f": "Recalibrated on half of tuning; see Calibration and members",
        "12g": "From the bundle as it is deployed, read back from disk",
        "13": "None: no class is drawn more often or weighed more than another",
        "14": "Figures by group of patients; no constraint in learning",
        "15": "See What the model does, and the thresholds under Performance",
        "18f": "The toolkit is open source (Apache-2.0)",
        "20a": "See Patients",
        "21": "See Patients and Performance",
        "22": "The bundle holds the whole model and scores new extracts",
        "23a": f"See Performance, judged on {metrics['split']}",
        "24": "See Calibration and members",
        "27a": "Any subset of the inputs gives a score; predictions name the modalities present",
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
        text = f"{task}: {fit['kind']}, fitted on {counted(fit['n'], smallest)} samples"
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

"""Lines of a cross-validation side by side: a table with paired differences, and a picture."""

from clinical.evaluation.bootstrap import bootstrap, percentile_interval
from clinical.evaluation.metrics import Scored, compute

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

METRICS = {"auroc": "AUROC", "auprc": "AUPRC (average precision)"}
CALIBRATION = {"slope": "calibration slope", "intercept": "calibration intercept"}


def judged(scores: pd.DataFrame, bars: list[str], *, resamples: int) -> Iterator[dict[str, object]]:
    """A row a share of the labels and model: means over its parts, and what sets it apart.

    Ranks are compared within a part, since each part's scores have a scale of their own, with the
    bar that is best in the metric at this share, in the parts that have one; calibration is that
    of all parts' scores together.

    Args:
        scores: a row a part, model and held-out subject: `model, share, part, fold, subject_id,
            score, label, core_minutes, peak_mb`.
        bars: models to compare with.
        resamples: behind the intervals.
    """
    barred = scores.loc[scores["model"].isin(bars), ["share", "part"]].drop_duplicates()
    for share, of_share in scores.merge(barred).groupby("share"):
        ranks = {
            metric: of_share.groupby(["model", "part"]).apply(partial(ranked, metric=name))
            for metric, name in METRICS.items()
        }
        for model, rows in of_share.groupby("model", sort=False):
            parts = rows["part"].unique()
            row = {"share": share, "model": model, "parts": len(parts)}
            for metric, name in METRICS.items():
                means = ranks[metric].groupby("model").mean()
                bar = means[[line for line in bars if line in means]].idxmax()
                beside = of_share[(of_share["model"] == bar) & of_share["part"].isin(parts)]
                differences = resampled(rows, beside, name, resamples=resamples)
                interval = percentile_interval(differences[1:])
                row |= {metric: means[model], f"{metric}_bar": bar}
                row |= {f"{metric}_difference": differences[0]}
                row |= {f"{metric}_low": interval.low, f"{metric}_high": interval.high}
            together = Scored.of(rows["score"].to_numpy(), rows["label"].to_numpy())
            found = compute(together, np.ones((1, len(rows))), CALIBRATION.values())
            row |= {short: found[metric][0] for short, metric in CALIBRATION.items()}
            yield row | {
                "core_minutes": rows["core_minutes"].mean(),
                "peak_mb": rows["peak_mb"].max(),
            }


def ranked(part: pd.DataFrame, *, metric: str) -> float:
    """How a part's scores rank."""
    scored = Scored.of(part["score"].to_numpy(), part["label"].to_numpy())
    return float(compute(scored, np.ones((1, len(part))), [metric])[metric][0])


def resampled(rows: pd.DataFrame, bar: pd.DataFrame, metric: str, *, resamples: int) -> np.ndarray:
    """[1 + resamples] mean difference from the bar: as it is, then with everything drawn anew.

    Drawn are the subjects, once for all parts that hold them out, and among a fold's parts, which
    differ by the labels that were seen, as many as there are.
    """
    subjects = np.unique(rows["subject_id"])
    computes, folds = [], []
    for name, here in rows.groupby("part"):
        for side in (here, bar[bar["part"] == name]):
            scored = Scored.of(side["score"].to_numpy(), side["label"].to_numpy())
            place = np.searchsorted(subjects, side["subject_id"])
            computes.append(partial(_weighed, scored, place, metric))
        folds.append(here["fold"].iloc[0])
    draws = np.random.default_rng(0)
    drawn = bootstrap(computes, subjects, resamples=resamples, generator=draws)
    whole = [compute(np.ones((1, len(subjects)))) for compute in computes]
    values = np.stack(
        [np.r_[one[metric], many[metric]] for one, many in zip(whole, drawn, strict=True)], axis=1
    )
    differences = values[:, 0::2] - values[:, 1::2]
    means = []
    for fold in sorted(set(folds)):
        own = differences[:, np.array(folds) == fold]
        n = own.shape[1]
        weights = draws.multinomial(n, [1 / n] * n, size=len(own))
        weights[0] = 1
        means.append((own * weights).mean(axis=1))
    return np.mean(means, axis=0)


def _weighed(
    scored: Scored, place: np.ndarray, metric: str, weights: np.ndarray
) -> dict[str, np.ndarray]:
    return compute(scored, weights[:, place], [metric])


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table for a screen: differences with their intervals in one column."""
    shown = table[["share", "model", "parts"]].copy()
    for metric in METRICS:
        shown[metric.upper()] = table[metric].map("{:.4f}".format)
        ends = (table[f"{metric}_{end}"] for end in ("difference", "low", "high", "bar"))
        shown[f"− bar's {metric.upper()}"] = [
            f"{middle:+.3f} ({low:+.3f} to {high:+.3f}) {bar}"
            for middle, low, high, bar in zip(*ends, strict=True)
        ]
    for column in ("slope", "intercept", "core_minutes"):
        shown[column] = table[column].map("{:.2f}".format)
    return shown.assign(MB=table["peak_mb"].map("{:.0f}".format)).replace("nan", "")


def draw_lines(table: pd.DataFrame, path: Path) -> None:
    """Differences from the best classical model with their intervals, a row a model."""
    from matplotlib.figure import Figure

    rows = table[(table["share"] == 1) & (table["model"] != table["auroc_bar"])]
    rows = rows.sort_values("auroc")
    figure = Figure(figsize=(10, 1.5 + 0.4 * len(rows)), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2, sharey=True), METRICS, strict=True):
        middle = rows[f"{metric}_difference"]
        low, high = rows[f"{metric}_low"], rows[f"{metric}_high"]
        axes.errorbar(middle, rows["model"], xerr=[middle - low, high - middle], fmt="o", capsize=3)
        axes.axvline(0, color="0.5", linewidth=1)
        axes.set_xlabel(f"{metric.upper()} − {rows[f'{metric}_bar'].iloc[0]}'s, 95 % interval")
        axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=150)


def draw_shares(table: pd.DataFrame, models: list[str], path: Path) -> None:
    """AUROC and AUPRC of some models by the share of the labels that was seen."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2), METRICS, strict=True):
        for model in models:
            rows = table[table["model"] == model].sort_values("share")
            axes.plot(100 * rows["share"], rows[metric], marker="o", markersize=4, label=model)
        shares = sorted(set(table["share"]))
        axes.set_xscale("log")
        axes.set_xticks([100 * share for share in shares], [f"{100 * s:g}" for s in shares])
        axes.minorticks_off()
        axes.set(xlabel="labels seen, %", ylabel=metric.upper())
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=150)

"""Cross-validation by subject on PhysioNet 2012 set-b, through the verbs that users run.

    python benchmarks/physionet2012.py ../shared/data/physionet2012 runs/benchmark-physionet2012

Every line sees the same folds: the network of configs/physionet2012.yaml and classical models on
the same inputs; with `--line` other networks, with `--members 5` their ensembles, with `--share`
a share of the labels (of train and tuning alike) in repeated draws. The stack of networks and
experts comes with every network. What is finished is not run again, so further lines may be added
later. Prints a table, and leaves it beside a picture as table.csv and lines.png.
"""

import clinical
from clinical.calibration import fit_calibration, sigmoid
from clinical.evaluation.bootstrap import bootstrap, percentile_interval
from clinical.evaluation.metrics import Scored, compute

import logging
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import polars as pl
import typer
from measuring import measured
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline

CONFIG = Path(__file__).parents[1] / "configs" / "physionet2012.yaml"
TASK = "in_hospital_mortality"
TUNING_SHARE = 0.15
FEWEST_POSITIVES = 2
BAR = "LightGBM"
METRICS = {"auroc": "AUROC", "auprc": "AUPRC (average precision)"}
CALIBRATION = {"slope": "calibration slope", "intercept": "calibration intercept"}

TWO_AXIS = ["encoder=two_axis", "blocks=8", "block_hours=6"]
NO_PRETRAINING, NO_TEACHERS = "pretrain=null", "finetune.teachers=[]"
NETWORKS: dict[str, list[str]] = {
    f"{encoder}{name}": [*(f"modalities.events.{option}" for option in options), *changes]
    for encoder, options in (("event_set", []), ("two_axis", TWO_AXIS))
    for name, changes in (
        ("", []),
        (", no pretraining", [NO_PRETRAINING]),
        (", no teachers", [NO_TEACHERS]),
        (", neither", [NO_PRETRAINING, NO_TEACHERS]),
        (", with a graph", ["graph.relations={similar: {k: 16}}"]),
    )
}
QUICK = ["pretrain.epochs=1", "finetune.epochs=2"]
# Of so few labels most stays have none, and all of them are taught in every epoch.
FEW_LABELS, FEW = 0.1, ["finetune.epochs=3"]


@dataclass(frozen=True)
class Part:
    """One fold, all of its labels or one draw of them.

    Attributes:
        folder: of the benchmark.
        repeat, fold: which.
        share: of the labels of train and tuning.
        draw: which, where the share is below 1.
    """

    folder: Path
    repeat: int
    fold: int
    share: float = 1.0
    draw: int = 0

    @property
    def name(self) -> str:
        """What its files and folders are called."""
        whole = f"{self.repeat}-{self.fold}"
        return whole if self.share == 1 else f"{whole}-{self.share:g}-{self.draw}"

    @property
    def splits(self) -> Path:
        """Its split file, which all draws share."""
        return self.folder / f"splits-{self.repeat}-{self.fold}.parquet"

    @property
    def labels(self) -> Path:
        """Its folder of labels."""
        return (self.folder / "labels" / self.name).resolve()

    def run_folder(self, line: str) -> Path:
        """Of a network."""
        return self.folder / "runs" / line.replace(", ", "-").replace(" ", "-") / self.name

    def scores(self, line: str) -> Path:
        """Its held-out scores."""
        return self.folder / "scores" / f"{self.name}-{line.replace(', ', '-').replace(' ', '-')}"


def import_set_b(source: Path, extract: Path) -> pd.DataFrame:
    """The extract of set-b, imported once, and its labels."""
    if not extract.exists():
        outcomes = source / "Outcomes-b.txt"
        clinical.import_extract(
            "physionet2012", source / "set-b.tar.gz", extract, outcomes=outcomes
        )
    labels = pl.read_parquet(extract / "tasks" / TASK / "**/*.parquet")
    return labels.sort("subject_id").to_pandas()


def write_parts(
    labels: pd.DataFrame, folder: Path, *, folds: int, repeats: int, shares: list[float], draws: int
) -> list[Part]:
    """The folds with their split files, and the labels that each part may see.

    Held-out is the fold, a share of the rest tunes. A draw is stratified, with at least two
    positives in it; its held-out labels are all there.
    """
    died = labels["boolean_value"].to_numpy()
    parts = []
    for repeat in range(repeats):
        splitter = StratifiedKFold(folds, shuffle=True, random_state=repeat)
        for fold, (rest, held_out) in enumerate(splitter.split(died, died)):
            split = np.full(len(labels), "train", dtype=object)
            split[held_out] = "held_out"
            inner = StratifiedKFold(round(1 / TUNING_SHARE), shuffle=True, random_state=repeat)
            _, tuning = next(inner.split(died[rest], died[rest]))
            split[rest[tuning]] = "tuning"
            own = [Part(folder, repeat, fold)]
            own += [Part(folder, repeat, fold, s, d) for s in shares for d in range(draws)]
            frame = pl.DataFrame({"subject_id": labels["subject_id"].to_numpy(), "split": split})
            frame.cast({"split": pl.String}).write_parquet(own[0].splits)
            for part in own:
                _write_labels(part, labels, split)
            parts += own
    return parts


def _write_labels(part: Part, labels: pd.DataFrame, split: np.ndarray) -> None:
    rng = np.random.default_rng([part.repeat, part.fold, part.draw, round(1000 * part.share)])
    died = labels["boolean_value"].to_numpy()
    seen = split == "held_out"
    for name in ("train", "tuning"):
        for outcome in (False, True):
            rows = np.flatnonzero((split == name) & (died == outcome))
            fewest = FEWEST_POSITIVES if outcome and name == "train" else 0
            n = min(len(rows), max(fewest, round(part.share * len(rows))))
            seen[rng.choice(rows, n, replace=False)] = True
    part.labels.mkdir(parents=True, exist_ok=True)
    labels[seen].to_parquet(part.labels / "0.parquet", index=False)


def configured(part: Part, line: str, extract: Path, overrides: list[str]) -> clinical.Run:
    """The run of a network on a part."""
    places = [f"extract={extract}", f"out={part.run_folder(line)}", f"splits={part.splits}"]
    labels = f"tasks.{TASK}.labels={part.labels}"
    return clinical.Run.read(
        CONFIG,
        [
            *places,
            labels,
            *overrides,
            *NETWORKS[line],
            *(FEW if part.share <= FEW_LABELS else []),
        ],
    )


def train(config: clinical.Run, pretrained: Path | None) -> None:
    """A whole run; with the weights of a run that was pretrained on the same patients, the rest."""
    if pretrained is None or config.pretrain is None:
        clinical.run(config.model_copy(update={"resume": (config.out / "run.yaml").exists()}))
        return
    for name in ("checkpoints/member-0/pretrain", "logs/member-0"):
        shutil.copytree(pretrained / name, config.out / name, dirs_exist_ok=True)
    shutil.copyfile(pretrained / "run.yaml", config.out / "run.yaml")
    clinical.finetune(config)


def network_scores(config: clinical.Run, line: str) -> dict[str, pd.Series]:
    """Held-out risks of the first network, of all together, and stacked with the experts.

    Each is calibrated on `calibrate` by itself, as a run does with what it gives out.
    """
    from clinical.cohort.store import Store
    from clinical.predictor import Predictor

    predictor, store = (
        Predictor.load(config.out / "bundle"),
        Store.open(config.out / "store"),
    )
    logits = {}
    for split in ("calibrate", "held_out"):
        opinions = predictor.opinions(store, store.rows(split))
        networks = opinions[TASK].networks
        logits[split] = {line: networks[0]}
        if len(networks) > 1:
            logits[split][f"{line}, {len(networks)} networks"] = networks.mean(axis=0)
        suffix = f", {len(networks)} networks" if len(networks) > 1 else ""
        logits[split][f"{line}{suffix} + experts"] = predictor.logits(opinions)[TASK]
    samples = {split: store.samples[store.rows(split)] for split in logits}
    truth = samples["calibrate"][f"label.{TASK}"].to_numpy().astype(np.float64)
    known = ~np.isnan(truth)
    found = {}
    for name, held_out in logits["held_out"].items():
        calibration = fit_calibration(logits["calibrate"][name][known], truth[known])
        index = samples["held_out"]["subject_id"].to_numpy()
        found[name] = pd.Series(calibration.apply(held_out), index=index)
    return found


def classical_scores(config: clinical.Run) -> dict[str, pd.Series]:
    """Held-out risks of models on flat features, fitted on train and tuning together."""
    from clinical.cohort.store import Store
    from clinical.datamodule import make_loader
    from clinical.experts.additive import Additive
    from clinical.experts.lightgbm import LightGBM
    from clinical.experts.tabular import Tabulator

    store = Store.open(config.out / "store")
    rows = store.rows(None)
    loader = make_loader(store.folder, config, rows, batch_size=256, workers=0, shuffle_seed=None)
    order, features = Tabulator.of(config, store.sizes).table(loader)
    features = features[np.argsort(order)]
    labels = store.samples[f"label.{TASK}"].to_numpy().astype(np.float64)
    held_out = store.rows("held_out")
    known = np.setdiff1d(np.flatnonzero(~np.isnan(labels)), held_out)
    filled = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    models = {
        "logistic regression": make_pipeline(filled, LogisticRegression(C=0.02, max_iter=2000)),
        "ExtraTrees": make_pipeline(
            filled, ExtraTreesClassifier(500, min_samples_leaf=3, random_state=config.seed)
        ),
    }
    risks = {
        name: model.fit(features[known], labels[known]).predict_proba(features[held_out])[:, 1]
        for name, model in models.items()
    }
    for name, expert in (("additive", Additive), (BAR, LightGBM)):
        fitted = expert.fit(features[known], labels[known], seed=config.seed, threads=1)
        risks[name] = sigmoid(fitted.logit(features[held_out]))
    index = store.samples[held_out]["subject_id"].to_numpy()
    return {name: pd.Series(risk, index=index) for name, risk in risks.items()}


def run_part(part: Part, line: str, extract: Path, overrides: list[str]) -> None:
    """Train a network on a part unless it is done, and leave its and the classical scores."""
    if part.scores(line).exists():
        return
    config = configured(part, line, extract, overrides)
    whole = Part(part.folder, part.repeat, part.fold).run_folder(line)
    cost = measured(train, config, None if part.share == 1 else whole)
    found = network_scores(config, line)
    classical = part.scores("classical")
    classical.parent.mkdir(parents=True, exist_ok=True)
    if not classical.exists():
        pd.DataFrame(classical_scores(config)).to_parquet(classical)
    pd.DataFrame(found).assign(**asdict(cost)).to_parquet(part.scores(line))
    if part.share < 1:
        shutil.rmtree(config.out)


def gathered(parts: list[Part], lines: list[str], labels: pd.DataFrame) -> pd.DataFrame:
    """One row a part, model and held-out subject."""
    truth = labels.set_index("subject_id")["boolean_value"].astype(float)
    frames = []
    for part in parts:
        for line in ["classical", *lines]:
            scores = pd.read_parquet(part.scores(line))
            costs = scores.reindex(columns=["seconds", "peak_mb"])
            for model in scores.columns.difference(["seconds", "core_seconds", "peak_mb"]):
                frame = pd.DataFrame({"subject_id": scores.index, "score": scores[model].values})
                frame["label"] = truth.loc[scores.index].values
                frame["minutes"], frame["peak_mb"] = (costs / [60, 1]).to_numpy().T
                fold = f"{part.repeat}-{part.fold}"
                frames.append(
                    frame.assign(model=model, share=part.share, part=part.name, fold=fold)
                )
    return pd.concat(frames, ignore_index=True)


def judged(scores: pd.DataFrame, *, resamples: int) -> Iterator[dict[str, object]]:
    """A row a share and model: means over the parts, and the paired difference with the trees.

    Ranks are compared within a part, since each part's scores have a scale of their own; the
    calibration is that of all parts' scores together.
    """
    for share, of_share in scores.groupby("share"):
        bar = of_share[of_share["model"] == BAR]
        for model, rows in of_share.groupby("model", sort=False):
            row = {"share": share, "model": model, "parts": rows["part"].nunique()}
            for short, metric in METRICS.items():
                row[short] = rows.groupby("part").apply(partial(ranked, metric=metric)).mean()
                differences = resampled(rows, bar, metric, resamples=resamples)
                interval = percentile_interval(differences[1:])
                row[f"{short}_difference"] = differences[0]
                row[f"{short}_difference_low"] = interval.low
                row[f"{short}_difference_high"] = interval.high
            together = Scored.of(rows["score"].to_numpy(), rows["label"].to_numpy())
            calibration = compute(together, np.ones((1, len(rows))), CALIBRATION.values())
            row |= {short: calibration[metric][0] for short, metric in CALIBRATION.items()}
            yield row | {"minutes": rows["minutes"].mean(), "peak_mb": rows["peak_mb"].max()}


def ranked(part: pd.DataFrame, *, metric: str) -> float:
    """How a part's scores rank."""
    scored = Scored.of(part["score"].to_numpy(), part["label"].to_numpy())
    return float(compute(scored, np.ones((1, len(part))), [metric])[metric][0])


def resampled(rows: pd.DataFrame, bar: pd.DataFrame, metric: str, *, resamples: int) -> np.ndarray:
    """[1 + resamples] mean difference from the trees: as it is, then of subjects drawn anew.

    The parts of one fold, which differ by their labels, have the same held-out subjects, and all
    of them see the same resamples.
    """
    of_folds = []
    for fold in sorted(set(rows["fold"])):
        here, there = (
            [
                part.sort_values("subject_id")
                for _, part in side[side["fold"] == fold].groupby("part")
            ]
            for side in (rows, bar)
        )
        computes = [
            partial(
                compute,
                Scored.of(part["score"].to_numpy(), part["label"].to_numpy()),
                metrics=[metric],
            )
            for part in (*here, *there)
        ]
        subjects = here[0]["subject_id"].to_numpy()
        drawn = bootstrap(
            computes, subjects, resamples=resamples, generator=np.random.default_rng(0)
        )
        whole = [each(np.ones((1, len(subjects)))) for each in computes]
        values = np.array(
            [[*one[metric], *many[metric]] for one, many in zip(whole, drawn, strict=True)]
        )
        of_folds.append(values[: len(here)].mean(axis=0) - values[len(here) :].mean(axis=0))
    return np.mean(of_folds, axis=0)


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """The table for a screen: differences from the trees with their intervals in one column."""
    shown = table[["share", "model", "parts"]].copy()
    for metric in ("auroc", "auprc"):
        shown[metric.upper()] = table[metric].map("{:.4f}".format)
        ends = (table[f"{metric}_difference{end}"] for end in ("", "_low", "_high"))
        shown[f"− {BAR}'s {metric.upper()}"] = [
            f"{middle:+.3f} ({low:+.3f} to {high:+.3f})"
            for middle, low, high in zip(*ends, strict=True)
        ]
    for column in ("slope", "intercept", "minutes"):
        shown[column] = table[column].map("{:.2f}".format)
    return shown.assign(MB=table["peak_mb"].map("{:.0f}".format))


def draw(table: pd.DataFrame, path: Path) -> None:
    """Differences from the trees with their intervals, one row a model, all labels."""
    from matplotlib.figure import Figure

    rows = table[(table["share"] == 1) & (table["model"] != BAR)].iloc[::-1]
    figure = Figure(figsize=(9, 1.5 + 0.4 * len(rows)), layout="constrained")
    for axes, metric in zip(figure.subplots(1, 2, sharey=True), ("auroc", "auprc"), strict=True):
        middle = rows[f"{metric}_difference"]
        low, high = rows[f"{metric}_difference_low"], rows[f"{metric}_difference_high"]
        axes.errorbar(middle, rows["model"], xerr=[middle - low, high - middle], fmt="o", capsize=3)
        axes.axvline(0, color="0.5", linewidth=1)
        axes.set_xlabel(f"{metric.upper()} − {BAR}'s, 95 % interval")
        axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=150)


def main(
    source: Path,
    out: Path,
    overrides: Annotated[list[str] | None, typer.Argument(help="of every network")] = None,
    folds: int = 5,
    repeats: int = 1,
    line: Annotated[list[str] | None, typer.Option(help=", ".join(NETWORKS))] = None,
    members: Annotated[int, typer.Option(help="networks of an ensemble")] = 1,
    share: Annotated[list[float] | None, typer.Option(help="of the labels, also")] = None,
    draws: Annotated[int, typer.Option(help="of each share below 1, in each fold")] = 4,
    resamples: int = 1000,
    quick: Annotated[bool, typer.Option(help="two folds, few epochs: does it run?")] = False,
) -> None:
    """Run what is not finished and print the table."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    lines = line or [next(iter(NETWORKS))]
    out.mkdir(parents=True, exist_ok=True)
    labels = import_set_b(source, out / "extract")
    parts = write_parts(
        labels, out, folds=2 if quick else folds, repeats=repeats, shares=share or [], draws=draws
    )
    own = [*(QUICK if quick else []), *(overrides or [])]
    for part in parts:
        for name in lines:
            networks = members if part.share == 1 else 1
            run_part(part, name, out / "extract", [f"ensemble={networks}", *own])
            typer.echo(f"{name}: {part.name}", err=True)
    table = pd.DataFrame(judged(gathered(parts, lines, labels), resamples=resamples))
    table.to_csv(out / "table.csv", index=False)
    draw(table, out / "lines.png")
    typer.echo(readable(table).to_string(index=False))


if __name__ == "__main__":
    typer.run(main)

"""Cross-validation by subject on PhysioNet 2012 set-b, through the verbs that users run.

    python benchmarks/physionet2012.py ../shared/data/physionet2012 runs/benchmark-physionet2012

Every line sees the same folds: the network of configs/physionet2012.yaml with its experts, and
classical models on the same inputs; with `--line` other networks, with `--members 5` ensembles,
with `--share` a share of the labels (of train and tuning alike) in repeated draws. What is finished
is not run again, so lines may be added later, and a killed benchmark goes on where it was. Prints
a table of all that is finished in OUT, and leaves it there as table.csv, lines.png and shares.png.
"""

import clinical
from clinical.calibration import fit_calibration, sigmoid
from clinical.run_folder import RUN_FILE, write_down

import json
import logging
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Self

import numpy as np
import pandas as pd
import polars as pl
import typer
from comparing import draw_lines, draw_shares, judged, readable
from folds import dealt, split_table
from measuring import Cost, measured
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

CONFIG = Path(__file__).parents[1] / "configs" / "physionet2012.yaml"
TASK = "in_hospital_mortality"
COST = "cost.json"
FEWEST_POSITIVES = 2
CLASSICAL = ["logistic regression", "ExtraTrees", "LightGBM"]
QUICK = ["pretrain.epochs=1", "finetune.epochs=2"]
FEW_LABELS = 0.1
"""Share of the labels up to which a network learns all of them, as the classical models do, since
a choice or a calibration by a few would be chance. One that teachers teach, which learns from all
stays in every epoch, needs fewer epochs, one that learns from the labelled ones alone more."""
FEW = ["finetune.learn_tuning=true", "experts=[]"]
FEW_TAUGHT = ["finetune.epochs=3"]
FEW_UNTAUGHT = ["finetune.epochs=40"]


@dataclass(frozen=True)
class Line:
    """A network of the benchmark.

    Attributes:
        name: in the table.
        trunk: what is overridden for pretraining and fine-tuning.
        is_pretrained, is_taught: whether it starts from pretrained weights; has teachers.
        members: networks that are averaged.
    """

    name: str
    trunk: tuple[str, ...] = ()
    is_pretrained: bool = True
    is_taught: bool = True
    members: int = 1

    @property
    def slug(self) -> str:
        """What its folders and files are called."""
        name = self.name.replace(", ", "-").replace(" ", "-")
        return f"{name}-x{self.members}" if self.members > 1 else name

    def overrides(self, share: float) -> list[str]:
        """Of the configuration, for a share of the labels."""
        found = [f"ensemble={self.members}", *self.trunk]
        if not self.is_pretrained:
            found.append("pretrain=null")
        if not self.is_taught:
            found.append("finetune.teachers=[]")
        if share <= FEW_LABELS:
            found += FEW + (FEW_TAUGHT if self.is_taught else FEW_UNTAUGHT)
        return found


PLAIN = str.maketrans(dict.fromkeys(".={}: ", "-"))
TWO_AXIS = (
    "modalities.events.encoder=two_axis",
    "modalities.events.blocks=8",
    "modalities.events.block_hours=6",
    "pretrain.epochs=4",
    "finetune.epochs=4",
)
LINES = [
    Line("event_set"),
    Line("event_set, no pretraining", is_pretrained=False),
    Line("event_set, no teachers", is_taught=False),
    Line("event_set, neither", is_pretrained=False, is_taught=False),
    Line("event_set, with a graph", ("graph.relations={similar: {k: 16}}",)),
    Line("two_axis", TWO_AXIS),
    Line("two_axis, no pretraining", TWO_AXIS, is_pretrained=False),
]
NETWORKS = {line.name: line for line in LINES}


@dataclass(frozen=True)
class Part:
    """One fold, with all of its labels or one draw of them.

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

    @classmethod
    def named(cls, folder: Path, name: str) -> Self:
        """The part of that `name`."""
        repeat, fold, *rest = name.split("-")
        share, draw = (float(rest[0]), int(rest[1])) if rest else (1.0, 0)
        return cls(folder, int(repeat), int(fold), share, draw)

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

    @property
    def extract(self) -> Path:
        """Of set-b."""
        return self.folder / "extract"

    def run_folder(self, slug: str) -> Path:
        """Of a line."""
        return self.folder / "runs" / slug / self.name

    def scores(self, slug: str) -> Path:
        """Held-out scores of a line, or of the classical models."""
        return self.folder / "scores" / self.name / f"{slug}.parquet"


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

    Held-out is the fold, a share of the rest tunes. A draw is stratified by outcome and by split,
    with at least two positives in train; its held-out labels are all there.
    """
    died = labels["boolean_value"].to_numpy()
    parts = []
    for repeat in range(repeats):
        for fold, split in enumerate(dealt(died, folds=folds, repeat=repeat)):
            whole = Part(folder, repeat, fold)
            write(split_table(labels["subject_id"].to_numpy(), split), whole.splits)
            own = [
                Part(folder, repeat, fold, share, draw)
                for share in shares
                for draw in range(draws if share < 1 else 1)
            ]
            for part in {whole, *own}:
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
    write(labels[seen].reset_index(drop=True), part.labels / "0.parquet")


def configured(
    part: Part, line: Line, out: Path, overrides: list[str], *, share: float
) -> clinical.Run:
    """The run of a line on a part; the user's overrides come last."""
    places = [f"extract={part.extract}", f"out={out}", f"splits={part.splits}"]
    labels = f"tasks.{TASK}.labels={part.labels}"
    own = [*places, labels, "resume=true", *line.overrides(share), *overrides]
    return clinical.Run.read(CONFIG, own)


def pretrained(part: Part, line: Line, overrides: list[str]) -> Path:
    """The folder of a network that was pretrained on the part's fold, once for all lines."""
    trunk = Line("-".join(["network", *line.trunk]).translate(PLAIN), line.trunk)
    whole = Part(part.folder, part.repeat, part.fold)
    out = part.folder / "pretrained" / trunk.name / whole.name
    if not (out / COST).exists():
        cost = measured(clinical.pretrain, configured(whole, trunk, out, overrides, share=1.0))
        write(json.dumps(asdict(cost)).encode(), out / COST)
        shutil.rmtree(out / "store")
    return out


def beginning(part: Part, line: Line, overrides: list[str]) -> Path | None:
    """The folder of a finished run that is the line's own beginning; None where it has none.

    An ensemble begins with the line by itself, which is its first network.
    """
    if line.members > 1 and part.share == 1:
        alone = replace(line, members=1)
        run_part(part, alone, overrides)
        return part.run_folder(alone.slug)
    return pretrained(part, line, overrides) if line.is_pretrained else None


def train(config: clinical.Run, begun: Path | None) -> None:
    """A whole run, or all that comes after its beginning, as where a killed run is resumed."""
    if begun is not None and not (config.out / RUN_FILE).exists():
        write_down(config, clinical.prepare(config).fingerprint)
        for name in ("checkpoints/member-0", "logs/member-0"):
            shutil.copytree(begun / name, config.out / name)
    clinical.run(config)


def network_scores(config: clinical.Run, name: str) -> dict[str, pd.Series]:
    """Held-out risks of the first network, of all together, and stacked with the experts.

    Each is calibrated on `calibrate` by itself, as a run does with what it gives out, unless that
    was learned from.
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
        together = f"{name}, {len(networks)} networks" if len(networks) > 1 else name
        logits[split] = {name: networks[0], together: networks.mean(axis=0)}
        if config.experts:
            logits[split][f"{together} + experts"] = predictor.logits(opinions)[TASK]
    samples = {split: store.samples[store.rows(split)] for split in logits}
    truth = samples["calibrate"][f"label.{TASK}"].to_numpy().astype(np.float64)
    known = ~np.isnan(truth) & (not config.finetune.learn_tuning)
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
    for name, expert in (("additive", Additive), ("LightGBM", LightGBM)):
        fitted = expert.fit(features[known], labels[known], seed=config.seed, threads=1)
        risks[name] = sigmoid(fitted.logit(features[held_out]))
    index = store.samples[held_out]["subject_id"].to_numpy()
    return {name: pd.Series(risk, index=index) for name, risk in risks.items()}


def run_part(part: Part, line: Line, overrides: list[str]) -> None:
    """Train a line on a part unless it is done, and leave its and the classical scores."""
    if part.scores(line.slug).exists():
        return
    out, begun = part.run_folder(line.slug), beginning(part, line, overrides)
    config = configured(part, line, out, overrides, share=part.share)
    cost = measured(train, config, begun)
    if begun is not None:
        cost = cost.after(Cost(**json.loads((begun / COST).read_text())))
    write(json.dumps(asdict(cost)).encode(), out / COST)
    found = network_scores(config, line.name)
    if not part.scores("classical").exists():
        write(pd.DataFrame(classical_scores(config)), part.scores("classical"))
    write(pd.DataFrame(found).assign(**asdict(cost)), part.scores(line.slug))
    if part.share < 1:
        shutil.rmtree(out)


def write(what: pd.DataFrame | bytes, path: Path) -> None:
    """A file that is either whole or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    if isinstance(what, bytes):
        draft.write_bytes(what)
    else:
        what.to_parquet(draft)
    draft.replace(path)


def check_recipe(out: Path, lines: list[Line], overrides: list[str]) -> None:
    """Refuse to mix scores of different settings in one folder."""
    for line in lines:
        recipe = json.dumps([CONFIG.read_text(), line.overrides(1.0), sorted(overrides)])
        path = out / "recipes" / f"{line.slug}.json"
        if path.exists() and path.read_text() != recipe:
            raise typer.BadParameter(
                f"{path} is of other settings of {line.name}; choose another OUT, or delete that "
                "file and the line's scores"
            )
        write(recipe.encode(), path)


def gathered(out: Path, labels: pd.DataFrame) -> pd.DataFrame:
    """All that is finished: one row a part, model and held-out subject."""
    truth = labels.set_index("subject_id")["boolean_value"].astype(float)
    frames = []
    for path in sorted(out.glob("scores/*/*.parquet"), key=lambda p: (p.parent.name, p.stem)):
        part, scores = Part.named(out, path.parent.name), pd.read_parquet(path)
        costs = scores.reindex(columns=["core_seconds", "peak_mb"])
        for model in scores.columns.difference(["seconds", "core_seconds", "peak_mb"]):
            frame = pd.DataFrame({"subject_id": scores.index, "score": scores[model].values})
            frame["label"] = truth.loc[scores.index].values
            frame["core_minutes"], frame["peak_mb"] = (costs / [60, 1]).to_numpy().T
            fold = f"{part.repeat}-{part.fold}"
            frame = frame.assign(model=model, share=part.share, part=part.name, fold=fold)
            frames.append(frame.assign(line=path.stem))
    found = pd.concat(frames, ignore_index=True)
    # The first network of an ensemble is the line by itself, which may have been run too.
    return found.drop_duplicates(["part", "model", "subject_id"])


def main(
    source: Path,
    out: Path,
    overrides: Annotated[list[str] | None, typer.Argument(help="of every network")] = None,
    folds: int = 5,
    repeats: int = 1,
    line: Annotated[list[str] | None, typer.Option(help=", ".join(NETWORKS))] = None,
    members: Annotated[int, typer.Option(help="networks of an ensemble")] = 1,
    share: Annotated[list[float] | None, typer.Option(help="of the labels, instead")] = None,
    draws: Annotated[int, typer.Option(help="of each share below 1, in each fold")] = 4,
    resamples: int = 1000,
    against: Annotated[str | None, typer.Option(help="a line, not the best classical")] = None,
    quick: Annotated[bool, typer.Option(help="two folds, few epochs: does it run?")] = False,
) -> None:
    """Run what is not finished and print the table."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    for name in [*(line or []), *([against] if against else [])]:
        if name not in NETWORKS:
            raise typer.BadParameter(f"there is no line {name}; known are {', '.join(NETWORKS)}")
    lines = [replace(NETWORKS[name], members=members) for name in line or ["event_set"]]
    own = [*(QUICK if quick else []), *(overrides or [])]
    out.mkdir(parents=True, exist_ok=True)
    check_recipe(out, lines, own)
    labels = import_set_b(source, out / "extract")
    parts = write_parts(
        labels,
        out,
        folds=2 if quick else folds,
        repeats=repeats,
        shares=share or [1.0],
        draws=draws,
    )
    for part in parts:
        for one in lines:
            run_part(part, one, own)
            typer.echo(f"{one.slug}: {part.name}", err=True)
    bars = [against] if against else CLASSICAL
    table = pd.DataFrame(judged(gathered(out, labels), bars, resamples=resamples))
    table.to_csv(out / "table.csv", index=False)
    draw_lines(table, out / "lines.png")
    draw_shares(table, ["event_set", *CLASSICAL], out / "shares.png")
    typer.echo(readable(table).to_string(index=False))


if __name__ == "__main__":
    typer.run(main)

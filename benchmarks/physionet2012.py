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
from clinical.cohort.store import Store
from clinical.few_shot.draws import Size, draw_rows, labelled_rows, labelled_store
from clinical.few_shot.lines import few_labels, network_risks
from clinical.places import replacing
from clinical.run_folder import RUN_FILE, write_down

import json
import logging
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import polars as pl
import typer
from comparing import draw_lines, draw_shares, judged, readable
from folds import dealt, split_table
from measuring import Cost, measured
from parts import FEW_LABELS, NETWORKS, PLAIN, Line, Part
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

CONFIG = Path(__file__).parents[1] / "configs" / "physionet2012.yaml"
TASK = "in_hospital_mortality"
DRAWN_BY = "clinical.few_shot"  # earlier scores were of other draws
COST, RISKS = "cost.json", "risks.parquet"
CLASSICAL = ["logistic regression", "ExtraTrees", "LightGBM"]
QUICK = ["pretrain.epochs=1", "finetune.epochs=2"]


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
    """The folds with their split files, and the draws of each.

    Held-out is the fold, a share of the rest tunes.
    """
    died = labels["boolean_value"].to_numpy()
    parts = []
    for repeat in range(repeats):
        for fold, split in enumerate(dealt(died, folds=folds, repeat=repeat)):
            whole = Part(folder, repeat, fold)
            write(split_table(labels["subject_id"].to_numpy(), split), whole.splits)
            parts += [
                Part(folder, repeat, fold, share, draw)
                for share in shares
                for draw in range(draws if share < 1 else 1)
            ]
    return parts


def configured(
    part: Part, line: Line, out: Path, overrides: list[str], *, share: float
) -> clinical.Run:
    """The run of a line on a part; the user's overrides come last."""
    places = [f"extract={part.extract}", f"out={out}", f"splits={part.splits}"]
    # Where there is no pretraining, an override of it would begin it again.
    others = [o for o in overrides if line.is_pretrained or not o.startswith("pretrain.")]
    own = [*places, "resume=true", *line.overrides(share), *others]
    return clinical.Run.read(CONFIG, own)


def fold_folder(part: Part, line: Line) -> tuple[Line, Path]:
    """What all lines of a trunk share on a fold, and where: its store and pretrained weights."""
    trunk = Line("-".join(["network", *line.trunk]).translate(PLAIN), line.trunk)
    return trunk, part.folder / "pretrained" / trunk.name / part.whole.name


def pretrained(part: Part, line: Line, overrides: list[str]) -> Path:
    """The folder of a network that was pretrained on the part's fold, once for all lines."""
    trunk, out = fold_folder(part, line)
    if not (out / COST).exists():
        config = configured(part.whole, trunk, out, overrides, share=1.0)
        cost = measured(clinical.pretrain, config)
        write(json.dumps(asdict(cost)).encode(), out / COST)
    return out


def beginning(part: Part, line: Line, overrides: list[str]) -> Path | None:
    """The folder of a finished run that is the line's own beginning; None where it has none.

    An ensemble begins with the line by itself, which is its first network.
    """
    if line.members > 1:
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

    Each is calibrated on `calibrate` by itself, as a run does with what it gives out.
    """
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
    known = ~np.isnan(truth)
    found = {}
    for name, held_out in logits["held_out"].items():
        calibration = fit_calibration(logits["calibrate"][name][known], truth[known])
        index = samples["held_out"]["subject_id"].to_numpy()
        found[name] = pd.Series(calibration.apply(held_out), index=index)
    return found


def flat_features(config: clinical.Run, store: Store) -> np.ndarray:
    """[N, F] of every sample, made once for all draws of a fold."""
    from clinical.datamodule import make_loader
    from clinical.experts.tabular import Tabulator

    path = store.folder.with_name("features.npy")
    if not path.exists():
        loader = make_loader(store.folder, config, store.rows(None), batch_size=256)
        order, features = Tabulator.of(config, store.sizes).table(loader)
        with replacing(path) as draft, draft.open("wb") as file:
            np.save(file, features[np.argsort(order)])
    found: np.ndarray = np.load(path)
    return found


def classical_scores(
    config: clinical.Run, store: Store, features: np.ndarray
) -> dict[str, pd.Series]:
    """Held-out risks of models on flat features, fitted on train and tuning together."""
    from clinical.experts.additive import Additive
    from clinical.experts.lightgbm import LightGBM

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
    if part.share < 1:
        run_draw(part, line, overrides)
        return
    out, begun = part.run_folder(line.slug), beginning(part, line, overrides)
    config = configured(part, line, out, overrides, share=1.0)
    cost = measured(train, config, begun)
    if begun is not None:
        cost = cost.after(Cost(**json.loads((begun / COST).read_text())))
    write(json.dumps(asdict(cost)).encode(), out / COST)
    found = network_scores(config, line.name)
    store = Store.open(out / "store")
    leave_classical(part, config, store, store)
    write(pd.DataFrame(found).assign(**asdict(cost)), part.scores(line.slug))


def run_draw(part: Part, line: Line, overrides: list[str]) -> None:
    """The same with a draw of the labels, as `clinical learning-curve` does it."""
    out = part.run_folder(line.slug)
    if line.is_pretrained:
        begun = pretrained(part, line, overrides)
        before = [Cost(**json.loads((begun / COST).read_text()))]
    else:
        (_, begun), before = fold_folder(part, line), []
    whole = configured(part.whole, line, begun, overrides, share=part.share)
    config = few_labels(whole).model_copy(update={"out": out})
    store = clinical.prepare(whole)
    there = labelled_rows(store, TASK)
    seed = (part.repeat, part.fold, part.draw)
    few = labelled_store(store, draw_rows(Size(share=part.share), there, seed=seed), out / "store")
    cost = measured(learn_draw, config, few, begun, line.name)
    for earlier in before:
        cost = cost.after(earlier)
    leave_classical(part, config, store, few)
    found = pd.read_parquet(out / RISKS)
    write(found.assign(**asdict(cost)), part.scores(line.slug))
    shutil.rmtree(out)


def learn_draw(config: clinical.Run, few: Store, begun: Path, name: str) -> None:
    """Fine-tune on the labels of a draw, and leave the held-out risks in the run's folder."""
    rows = few.rows("held_out")
    risks = network_risks(config, few, rows, pretrained_in=begun)
    index = few.samples[rows]["subject_id"].to_numpy()
    write(pd.DataFrame({name: risks}, index=index), config.out / RISKS)


def leave_classical(part: Part, config: clinical.Run, store: Store, few: Store) -> None:
    """The scores of the classical models on a part, by the labels of `few`; made once."""
    if not part.scores("classical").exists():
        found = classical_scores(config, few, flat_features(config, store))
        write(pd.DataFrame(found), part.scores("classical"))


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
        own = [line.overrides(1.0), line.overrides(FEW_LABELS), sorted(overrides)]
        recipe = json.dumps([CONFIG.read_text(), DRAWN_BY, *own])
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


def run_parts(parts: list[Part], lines: list[Line], overrides: list[str]) -> None:
    """All that is not finished, part by part."""
    for part in parts:
        for line in lines:
            run_part(part, line, overrides)
            typer.echo(f"{line.slug}: {part.name}", err=True)


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
    if members > 1 and min(share or [1.0]) < 1:
        raise typer.BadParameter("draws are of one network: leave out --members, or --share")
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
    run_parts(parts, lines, own)
    bars = [against] if against else CLASSICAL
    table = pd.DataFrame(judged(gathered(out, labels), bars, resamples=resamples))
    table.to_csv(out / "table.csv", index=False)
    if (table["share"] == 1).any():
        draw_lines(table, out / "lines.png")
    draw_shares(table, ["event_set", *CLASSICAL], out / "shares.png")
    typer.echo(readable(table).to_string(index=False))


if __name__ == "__main__":
    typer.run(main)

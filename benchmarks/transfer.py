"""Beginning from another unit's bundle: PhysioNet 2012 set-b, one ICU type left out.

    python benchmarks/transfer.py ../shared/data/physionet2012 runs/benchmark-transfer

Of each of the four ICU types the other three are the source: a network is pretrained and
fine-tuned on them. Of the fourth, the target, a quarter of the variables has other codes, without
a description, so that nothing tells what they are; in each of five folds 10 % of the labels of
train and tuning are seen. Every line sees the same folds and labels: a network from scratch, one
that is pretrained on the target's own stays, those that begin from the source's bundle, that bundle
as it is, and classical models. What is finished is not run again. Prints a table of what is
finished in OUT, over all types and for each, and leaves it there as table.csv.
"""

import clinical
from clinical.config_file import load_yaml
from clinical.extract.schema import Extract
from clinical.extract.write import draft_folder, write_extract

import json
import logging
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import polars as pl
import typer
from comparing import judged, readable
from folds import dealt, split_table
from measuring import measured
from physionet2012 import CONFIG, TASK, classical_scores, import_set_b, write

UNITS = {1: "coronary", 2: "cardiac surgery", 3: "medical", 4: "surgical"}
RENAMED = 0.25
SHARE = 0.1
FEWEST_POSITIVES = 2
FOLDS = 5
SCRATCH = "from scratch"
COMMON = ["ensemble=1", "experts=[]", "finetune.teachers=[]", "evaluate.resamples=20"]
SOURCE = [*COMMON, "finetune.keep=last"]
FEW = [*COMMON, "finetune.learn_tuning=true", "finetune.epochs=40"]
"""As in benchmarks/physionet2012.py: up to 10 % of the labels, all of them are learned."""
ALONE = "the source's bundle as it is"
BEGUN = "from the bundle"
KEPT = "from the bundle, heads too"
BRIEFLY = "from the bundle, heads too, 5 epochs"
LINES = {
    SCRATCH: ["pretrain=null"],
    BEGUN: ["pretrain=null"],
    KEPT: ["pretrain=null", "finetune.start=pretrained"],
    BRIEFLY: ["pretrain=null", "finetune.start=pretrained", "finetune.epochs=5"],
    "pretrained there": [],
    "from the bundle, pretrained there": [],
}


@dataclass(frozen=True)
class Part:
    """One fold of one target."""

    out: Path
    unit: int
    fold: int

    @property
    def name(self) -> str:
        return f"{self.unit}-{self.fold}"

    @property
    def splits(self) -> Path:
        return (self.out / f"splits-{self.name}.parquet").resolve()

    @property
    def labels(self) -> Path:
        return (self.out / "labels" / self.name).resolve()

    @property
    def target(self) -> Path:
        return self.out / f"target-{self.unit}"

    @property
    def bundle(self) -> Path:
        return self.out / f"source-run-{self.unit}" / "bundle"

    def scores(self, line: str) -> Path:
        return self.out / "scores" / self.name / f"{line.replace(' ', '-')}.parquet"


def unit_of(extract: Extract) -> pd.Series:
    """ICU type by subject."""
    rows = extract.scan().filter(pl.col("code") == "ICUType")
    found = rows.group_by("subject_id").agg(pl.col("numeric_value").first()).collect()
    return found.to_pandas().set_index("subject_id")["numeric_value"].astype(int)


def renamed_codes(codes: list[str], unit: int) -> dict[str, str]:
    """A quarter of the codes and what the target calls them."""
    rng = np.random.default_rng(unit)
    drawn = sorted(rng.choice(sorted(codes), round(RENAMED * len(codes)), replace=False).tolist())
    return {code: f"LOCAL//{number}" for number, code in enumerate(drawn)}


def write_part_of(whole: Extract, out: Path, subjects: list[int], names: dict[str, str]) -> None:
    """An extract of some subjects, some of its codes renamed and left without a word on them."""
    if out.exists():
        return
    mine = pl.col("subject_id").is_in(subjects)
    table = pl.read_parquet(whole.path / "metadata" / "codes.parquet")
    told = pl.when(~pl.col("code").is_in(list(names)))
    codes = table.with_columns(
        told.then("description").alias("description"),
        told.then("unit").alias("unit"),
        pl.col("code").replace(names),
    )
    shards = [whole.scan(shard).filter(mine).collect() for shard in whole.shards]
    columns = ["subject_id", "time", "code", "numeric_value"]
    with draft_folder(out) as root:
        write_extract(
            root,
            shards=[s.select(columns).with_columns(pl.col("code").replace(names)) for s in shards],
            codes=codes.sort("code"),
            dataset=dict(whole.metadata),
            splits=whole.splits().filter(mine),
            samples=whole.samples().filter(mine),
            labels={TASK: whole.labels(Path("tasks") / TASK).filter(mine)},
        )


def write_folds(part: Part, labels: pd.DataFrame, split: np.ndarray) -> None:
    """The part's split file, and the labels it may see: all held-out ones, and few others."""
    write(split_table(labels["subject_id"].to_numpy(), split), part.splits)
    rng = np.random.default_rng([part.unit, part.fold])
    died = labels["boolean_value"].to_numpy()
    seen = split == "held_out"
    for name in ("train", "tuning"):
        for outcome in (False, True):
            rows = np.flatnonzero((split == name) & (died == outcome))
            fewest = FEWEST_POSITIVES if outcome and name == "train" else 0
            n = min(len(rows), max(fewest, round(SHARE * len(rows))))
            seen[rng.choice(rows, n, replace=False)] = True
    write(labels[seen].reset_index(drop=True), part.labels / "0.parquet")


def train_source(part: Part, overrides: list[str]) -> None:
    """The bundle of the other three types, unless it is there."""
    if (part.bundle / "manifest.json").exists():
        return
    places = [f"extract={part.out / f'source-{part.unit}'}", f"out={part.bundle.parent}"]
    clinical.run(clinical.Run.read(CONFIG, [*places, "resume=true", *SOURCE, *overrides]))


def run_line(part: Part, line: str, overrides: list[str]) -> None:
    """Leave a line's held-out scores, and those of classical models on the same features."""
    out = part.out / "runs" / part.name / line.replace(" ", "-")
    places = [f"extract={part.target}", f"out={out}", f"splits={part.splits}"]
    own = [*places, f"tasks.{TASK}.labels={part.labels}", "resume=true", *FEW, *LINES[line]]
    if line.startswith(BEGUN):
        init = {"bundle": str(part.bundle), "heads": line.startswith(KEPT)}
        own.append(f"finetune.init={json.dumps(init)}")
    config = clinical.Run.read(CONFIG, [*own, *overrides])
    cost = measured(clinical.run, config)
    found = pd.read_parquet(out / "predictions.parquet").set_index("subject_id")["score"]
    if not part.scores("classical").exists():
        write(pd.DataFrame(classical_scores(config)), part.scores("classical"))
    write(pd.DataFrame({line: found}).assign(**asdict(cost)), part.scores(line))
    shutil.rmtree(out)


def score_alone(part: Part) -> None:
    """The source's bundle on the held-out stays of the target, without any of its labels."""
    if part.scores(ALONE).exists():
        return
    split = pd.read_parquet(part.splits).set_index("subject_id")["split"]
    scored = clinical.score(part.bundle, part.target).set_index("subject_id")["score"]
    write(pd.DataFrame({ALONE: scored[split[split == "held_out"].index]}), part.scores(ALONE))


def gathered(out: Path, labels: pd.DataFrame) -> pd.DataFrame:
    """All that is finished, in parts that have the line from scratch."""
    truth = labels.set_index("subject_id")["boolean_value"].astype(float)
    frames = []
    for path in sorted(out.glob("scores/*/*.parquet")):
        if not Part(out, *map(int, path.parent.name.split("-"))).scores(SCRATCH).exists():
            continue
        scores = pd.read_parquet(path)
        costs = scores.reindex(columns=["core_seconds", "peak_mb"])
        for model in scores.columns.difference(["seconds", "core_seconds", "peak_mb"]):
            frame = pd.DataFrame({"subject_id": scores.index, "score": scores[model].values})
            frame["label"] = truth.loc[scores.index].values
            frame["core_minutes"], frame["peak_mb"] = (costs / [60, 1]).to_numpy().T
            part = path.parent.name
            frames.append(frame.assign(model=model, share=SHARE, part=part, fold=part))
    return pd.concat(frames, ignore_index=True)


def tables(scores: pd.DataFrame, *, resamples: int) -> pd.DataFrame:
    """Over all units, and for each that has parts: differences are from the line from scratch."""
    found = []
    units = scores["part"].str.partition("-")[0].astype(int)
    for name, rows in [("all", scores), *((UNITS[u], scores[units == u]) for u in UNITS)]:
        if len(rows):
            table = pd.DataFrame(judged(rows, [SCRATCH], resamples=resamples))
            found.append(table.assign(unit=name))
    return pd.concat(found, ignore_index=True)


def main(
    source: Path,
    out: Path,
    overrides: Annotated[list[str] | None, typer.Argument(help="of every network")] = None,
    unit: Annotated[list[int] | None, typer.Option(help="ICU types; all by default")] = None,
    folds: Annotated[int, typer.Option(help="of the five, how many are run")] = FOLDS,
    line: Annotated[list[str] | None, typer.Option(help=", ".join(LINES))] = None,
    resamples: int = 1000,
) -> None:
    """Run what is not finished and print the table."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    own = overrides or []
    recipe = json.dumps([load_yaml(CONFIG), SOURCE, FEW, sorted(own)])
    if (path := out / "recipe.json").exists() and path.read_text() != recipe:
        raise typer.BadParameter(f"{path} is of other settings; choose another OUT")
    write(recipe.encode(), path)
    labels = import_set_b(source, out / "extract")
    whole = Extract.open(out / "extract")
    units = unit_of(whole)
    codes = whole.codes()["code"].to_list()
    for number in unit or UNITS:
        target = units.index[units == number]
        write_part_of(whole, out / f"source-{number}", units.index.difference(target).to_list(), {})
        names = renamed_codes(codes, number)
        write_part_of(whole, out / f"target-{number}", target.to_list(), names)
        mine = labels[labels["subject_id"].isin(target)].reset_index(drop=True)
        splits = dealt(mine["boolean_value"].to_numpy(), folds=FOLDS)
        for fold, split in enumerate(splits[:folds]):
            part = Part(out, number, fold)
            write_folds(part, mine, split)
            train_source(part, own)
            score_alone(part)
            for each in line or list(LINES)[:4]:
                if not part.scores(each).exists():
                    run_line(part, each, own)
                typer.echo(f"{part.name}: {each}", err=True)
    table = tables(gathered(out, labels), resamples=resamples)
    table.to_csv(out / "table.csv", index=False)
    for name, rows in table.groupby("unit", sort=False):
        typer.echo(f"\n{name}\n{readable(rows).to_string(index=False)}")


if __name__ == "__main__":
    typer.run(main)

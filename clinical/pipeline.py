"""The verbs, as functions: what the command line offers, for notebooks and scripts."""

from clinical.config import RunConfig
from clinical.errors import ConfigError
from clinical.places import check_no_file
from clinical.run_folder import (
    check_not_interrupted,
    check_pretrained,
    check_run_folder,
    clear,
    clear_finetuned,
    write_down,
)

import logging
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # each verb imports what it needs, so that importing an extract loads no torch
    from clinical.cohort.store import Store
    from clinical.evaluation import Evaluation
    from clinical.evaluation.thresholds import Thresholds
    from clinical.extract.findings import Validation
    from clinical.extract.importers import ImportReport
    from clinical.leak_audit import Audit
    from clinical.predictor import Prompts
    from clinical.transfer import Start

    import pandas as pd

logger = logging.getLogger(__name__)


def import_extract(
    name: str,
    source: str | Path,
    out: str | Path,
    *,
    outcomes: str | Path | None = None,
    acknowledge_identifiers: bool = False,
    workers: int = 1,
) -> "ImportReport":
    """Turn raw files into an extract.

    Args:
        name: of the importer, such as "physionet2012".
        source: folder or archive of the raw files.
        out: folder to write, which must not hold anything.
        outcomes: file of outcomes, where the source keeps them apart.
        acknowledge_identifiers: write it even if it has what looks like identifiers of people.
        workers: processes at most; the extract is the same with any number of them.
    """
    from clinical.extract.importers import IMPORTERS

    if name not in IMPORTERS:
        raise ConfigError(f"{name}: there is no such importer; known are {', '.join(IMPORTERS)}")
    return IMPORTERS[name](
        Path(source),
        Path(out),
        outcomes=None if outcomes is None else Path(outcomes),
        acknowledge_identifiers=acknowledge_identifiers,
        workers=workers,
    )


def prepare(config: RunConfig) -> "Store":
    """Cut, route and store the cohort's inputs; reuses a store of the same extract and keys."""
    from clinical.preparation import prepare as prepare_store

    check_no_file(config.out, what="out", remedy="choose another out=")
    return prepare_store(config, config.out / "store")


def pretrain(config: RunConfig, *, progress: bool = False) -> Path:
    """Pretrain on the train split; returns the folder of weights, with one of each network.

    Raises:
        ConfigError: nothing to pretrain by; `out` holds what may not be replaced.
    """
    if config.pretrain is None:
        raise ConfigError("pretrain: the configuration has no such section; add objectives")
    from clinical.transfer import begin

    store = _begin(config)
    return _pretrain(config, store, begin(config, store), progress=progress)


def finetune(config: RunConfig, *, progress: bool = False) -> "Evaluation":
    """Fine-tune, from the run's pretrained weights where it has pretraining, and evaluate.

    Raises:
        ConfigError: `out` holds what may not be replaced, or weights that were pretrained with
            other keys.
        LeakageError: other subjects are in train than when the weights were pretrained, or the
            bundle that they began from has learned from subjects whom this run is judged on.
    """
    from clinical.preflight import check_machine

    check_machine(config)
    check_run_folder(config)
    check_pretrained(config)
    store = prepare(config)
    start = _judged_start(config, store)
    if not config.resume:
        clear_finetuned(config.out)
    write_down(config, store.fingerprint)
    return _finetune(config, store, start, progress=progress)


def run(config: RunConfig, *, progress: bool = False) -> "Evaluation":
    """Prepare, pretrain, fine-tune, score the held-out split and evaluate.

    Raises:
        ConfigError: `out` holds a finished run or an interrupted one, and neither `resume` nor
            `overwrite` says what to do with it; or a run of other keys to resume.
        SchemaError: the extract or its labels break their schema.
    """
    store = _begin(config)
    start = _judged_start(config, store)
    if config.pretrain is not None:
        _pretrain(config, store, start, progress=progress)
    return _finetune(config, store, start, progress=progress)


def _begin(config: RunConfig) -> "Store":
    """The prepared store of a run that starts, or goes on, in a folder that it may write into."""
    from clinical.preflight import check_machine

    check_machine(config)
    check_run_folder(config)
    check_not_interrupted(config)
    store = prepare(config)
    if not config.resume:
        clear(config.out)
    write_down(config, store.fingerprint)
    return store


def _pretrain(config: RunConfig, store: "Store", start: "Start | None", *, progress: bool) -> Path:
    from clinical.training.build import build_model, pretrain_model
    from clinical.training.checkpoint import thread_limit
    from clinical.training.members import members

    with thread_limit(config.trainer.threads):
        for member in members(config):
            _announce("pretraining", member.number, config)
            model = build_model(member.config, store)
            if start is not None and config.is_pretrained:
                start.begin(member.number, model)
            pretrain_model(member, store, model, progress=progress)
    return config.out / "checkpoints"


def _finetune(
    config: RunConfig, store: "Store", start: "Start | None", *, progress: bool
) -> "Evaluation":
    from clinical.finishing import finish
    from clinical.training.build import (
        build_model,
        finetune_model,
        load_pretrained,
        with_edges_by_embedding,
    )
    from clinical.training.checkpoint import thread_limit
    from clinical.training.members import members

    models = []
    with thread_limit(config.trainer.threads):
        store = with_edges_by_embedding(config, store)
        for member in members(config):
            _announce("fine-tuning", member.number, config)
            model = build_model(member.config, store)
            if config.is_pretrained:
                load_pretrained(member, model)
            elif start is not None:  # else pretraining began from it
                start.begin(member.number, model)
            finetune_model(member, store, model, progress=progress)
            models.append(model)
        return finish(config, store, models, out=config.out)


def _announce(stage: str, number: int, config: RunConfig) -> None:
    if config.ensemble > 1:
        logger.info("%s: network %d of %d", stage, number + 1, config.ensemble)


def _judged_start(config: RunConfig, store: "Store") -> "Start | None":
    """Where networks begin that can be judged, on nobody whom the bundle they begin from knows.

    Also after pretraining that began from it, since who is held out may have changed meanwhile.
    """
    from clinical.finishing import Judged
    from clinical.transfer import begin

    Judged.of(config, store)
    return begin(config, store)


def embed(
    bundle: str | Path,
    extract: str | Path,
    *,
    aspect: str | None = None,
    out: str | Path | None = None,
    context: str | Path | None = None,
    threads: int | None = None,
) -> "pd.DataFrame":
    """One representation of each sample of an extract, for what is asked.

    Args:
        bundle, extract, out, context, threads: as for `clinical.score`.
        aspect: name of a task or of a relation; by default the summary of the patient's own data.

    Returns:
        What `Predictor.embed` does: one row a sample.
    """
    from clinical.scoring import embed_extract

    return embed_extract(bundle, extract, aspect=aspect, out=out, context=context, threads=threads)


def link(
    bundle: str | Path,
    extract: str | Path,
    *,
    relation: str | None = None,
    top: int | None = 10,
    out: str | Path | None = None,
    context: str | Path | None = None,
    threads: int | None = None,
) -> "pd.DataFrame":
    """Rank the codes that each sample of an extract likely has and does not show.

    Args:
        bundle: folder of a bundle that was pretrained with `edges`.
        extract: a MEDS folder; neither splits nor labels are needed.
        relation: the kind of edge; by default the one there is.
        top: codes a sample; None for every candidate.
        out: Parquet file to write, atomically.
        context: extract whose samples may serve as unlabelled contemporaries.
        threads: of torch.

    Returns:
        One row a sample and candidate, with its probability; see `Predictor.link`.
    """
    from clinical.scoring import link_extract

    return link_extract(
        bundle, extract, relation=relation, top=top, out=out, context=context, threads=threads
    )


def zero_shot(
    bundle: str | Path,
    extract: str | Path,
    prompts: "Prompts | str | Path",
    *,
    modality: str | None = None,
    out: str | Path | None = None,
    threads: int | None = None,
) -> "pd.DataFrame":
    """Score a concept that nobody labelled, from what texts say of it.

    Args:
        bundle: folder of a bundle that was pretrained with `alignment`.
        extract, out, threads: as for `clinical.score`.
        prompts: class -> texts, of two classes or more, or a YAML file of that.
        modality: that is compared with the prompts; by default all that notes are aligned with.

    Returns:
        One row a sample and class; see `Predictor.zero_shot`.
    """
    from clinical.scoring import zero_shot_extract

    return zero_shot_extract(bundle, extract, prompts, modality=modality, out=out, threads=threads)


def evaluate(
    predictions: "str | Path | pd.DataFrame",
    labels: "str | Path | pd.DataFrame | None" = None,
    *,
    baseline: "str | Path | pd.DataFrame | None" = None,
    thresholds: "str | Path | Thresholds | None" = None,
    resamples: int = 1000,
    seed: int = 0,
) -> "Evaluation":
    """Judge predictions, from this toolkit or any other.

    Args:
        predictions: frame or Parquet file of predictions.
        labels: frame, Parquet file or folder in the MEDS label schema; not needed where the
            predictions have a label column.
        baseline: other predictions of the same samples, to compare with.
        thresholds: scores from which on one would act, chosen on other patients: numbers, a
            mapping (by task) of names to numbers, or a JSON file of that, such as a bundle's
            thresholds.json.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    from clinical.evaluation import evaluate as judge
    from clinical.evaluation.files import read_labels, read_scores, read_thresholds

    return judge(
        read_scores(predictions),
        read_labels(labels),
        baseline=None if baseline is None else read_scores(baseline, "baseline"),
        thresholds=read_thresholds(thresholds),
        resamples=resamples,
        seed=seed,
    )


def synthesize(
    out: str | Path, *, subjects: int, seed: int = 0, outbreak: bool = True, ct: bool = False
) -> None:
    """Write a synthetic hospital: a valid extract with all modalities, labels and the truth.

    Args:
        out: folder to write, which must not hold anything.
        subjects: how many people.
        seed: another seed is another hospital of the same kind.
        outbreak: let an infection go round the units.
        ct: draw half of the X-rays as small CT series, in DICOM; needs `clinical[dicom]`.
    """
    from clinical.extract.synthetic import synthesize as write

    write(Path(out), subjects=subjects, seed=seed, outbreak=outbreak, ct=ct)


def validate(extract: str | Path) -> "Validation":
    """Check an extract; every problem is a finding, none stops the check."""
    from clinical.extract.validate import validate as check

    return check(Path(extract))


def audit(
    bundle: str | Path,
    extract: str | Path,
    *,
    samples: int = 200,
    context: str | Path | None = None,
    splits: str | Path | None = None,
    out: str | Path | None = None,
    seed: int = 0,
) -> "Audit":
    """Show on an extract that labels, the future and other patients reach no score of a bundle.

    Each check changes what must not matter in a copy of some samples' records, scores it again and
    counts the scores that moved; controls change what must matter.

    Args:
        bundle: folder of the bundle.
        extract: a MEDS folder; it is only read.
        samples: how many are drawn, each of another subject.
        context: extract whose samples may serve as unlabelled contemporaries.
        splits: file of the splits that the bundle was trained with, if not the extract's own.
        out: .json or .csv file for the table, written atomically.
        seed: of what is drawn.

    Returns:
        The audit, with its `table` and whether it `passed`.
    """
    from clinical.leak_audit import audit as look
    from clinical.leak_audit import check_out
    from clinical.predictor import Predictor

    if out is not None:
        check_out(Path(out))
    predictor = Predictor.load(bundle)
    found = look(predictor, extract, samples=samples, context=context, splits=splits, seed=seed)
    if out is not None:
        found.write(Path(out))
    return found

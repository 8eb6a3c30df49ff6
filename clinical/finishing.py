"""From trained weights to a finished bundle: stack, calibrate, score, evaluate, seal."""

from clinical.bundle import (
    CALIBRATION,
    CARD,
    CONFORMAL,
    METRICS,
    STACK,
    THRESHOLDS,
    Bundle,
    Network,
    calibration_name,
    write_draft,
    write_typicality,
)
from clinical.cohort.counts import fewest_people
from clinical.cohort.labels import label_array
from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.errors import ConfigError
from clinical.evaluation import (
    Evaluation,
    choose_thresholds,
    evaluate,
    model_card,
    save_training_curves,
)
from clinical.evaluation.groups import SMALLEST
from clinical.evaluation.patterns import patterns
from clinical.evaluation.withholding import withhold_facts
from clinical.experts.baseline import baseline_name
from clinical.experts.fitting import Flat, baseline_predictions, fit_experts, store_labels
from clinical.experts.stack import fit_weight, prior_weight
from clinical.links import learns_edges
from clinical.manifest import seal, write_json
from clinical.model import ClinicalModel
from clinical.objectives import travelling
from clinical.places import replacing
from clinical.prediction_table import TYPICALITY
from clinical.predictor import Predictor
from clinical.predictor.watching import typicality_of
from clinical.relations.embedded import by_embedding
from clinical.training.build import (
    build_model,
    load_pretrained,
    pretrained_objectives,
    scoring_memory,
)
from clinical.training.members import members
from clinical.training.relevance import relation_figures
from clinical.transfer import lineage_of

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

logger = logging.getLogger(__name__)

ATYPICAL = 0.05
"""The typicality from which on down a sample is counted as atypical."""

NOT_HELD_OUT = "tuning (not held out: what a run chooses was chosen on it)"


@dataclass(frozen=True)
class Judged:
    """The samples that a finished run is judged on.

    Attributes:
        rows: of the store.
        description: of the split, as the evaluation names it.
    """

    rows: np.ndarray
    description: str

    @classmethod
    def of(cls, config: RunConfig, store: Store) -> "Judged":
        """Held-out samples; where none has a label the tuning ones, and the name says so.

        Raises:
            ConfigError: no held-out sample has a label, and the tuning ones are learned from.
        """
        held_out = store.rows("held_out")
        if store.is_labelled[held_out].any():
            return cls(held_out, "held_out")
        if config.finetune.learn_tuning:
            raise ConfigError(
                "finetune.learn_tuning: no held-out sample has a label, so nothing would be left "
                "to judge by; add a held_out split, or leave it out"
            )
        tuning = np.concatenate([store.rows("select"), store.rows("calibrate")])
        return cls(np.sort(tuning), NOT_HELD_OUT)


def finish(
    config: RunConfig, store: Store, models: Sequence[ClinicalModel], *, out: Path
) -> Evaluation:
    """Leave bundle, predictions, metrics and figures in the run folder.

    Everything is computed from the reloaded bundle, so that its half precision is included.

    Args:
        config: of the run.
        store: what was prepared for it.
        models: the fine-tuned networks of the ensemble.
        out: the run folder.
    """
    bundle = out / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    cpu = torch.device("cpu")
    networks = [Network(m, scoring_memory(config, store, m, device=cpu)) for m in models]
    judged = Judged.of(config, store)
    flat = Flat.of(config, store, judged.rows)
    experts = fit_experts(config, store, flat)
    write_draft(
        bundle,
        config=config,
        fitted=replace(store.fitted, lineage=lineage_of(config, store)),
        networks=networks,
        experts=experts,
        pretrained=_pretrained(config, store),
    )
    _stack(bundle, store)
    _calibrate(bundle, store)
    write_typicality(bundle, typicality_of(Bundle.read(bundle, draft=True), store))
    predictor = Predictor(Bundle.read(bundle, draft=True))
    thresholds = _thresholds(predictor, store)
    write_json(bundle / THRESHOLDS, thresholds)
    scored = predictor.leave_out_store(store, judged.rows)
    whole = scored["left_out"].isna()
    predictions = scored[whole].drop(columns="left_out")
    _write_parquet(predictions, out / "predictions.parquet")
    _write_parquet(scored[~whole], out / "predictions_left_out.parquet")
    baseline = baseline_predictions(config, store, judged.rows, flat, experts)
    _write_parquet(baseline, out / "predictions_baseline.parquet")
    evaluation = evaluate(
        scored,
        baseline=baseline,
        # Where they were chosen, they look better than they are.
        thresholds=None if judged.description == NOT_HELD_OUT else thresholds or None,
        resamples=config.evaluate.resamples,
        seed=config.seed,
    )
    by_pattern = evaluation.by(patterns(predictions, list(config.modalities)))
    metrics = {
        "split": judged.description,
        "baseline": baseline_name(),
        "calibration": {
            name: fit.to_json() for name, fit in predictor.bundle.named_calibrations.items()
        },
        "epoch_chosen_by": _chosen_by(config, store),
        "members": _members(predictor, store, judged.rows),
        "typicality": _typical(predictor, predictions),
        "relations": relation_figures(
            config, store, [n.model for n in predictor.bundle.networks], judged.rows
        ),
        "counts": store.counts,
        "evaluation": evaluation.to_json(smallest=SMALLEST),
        "patterns": by_pattern.to_json(),
    }
    fewest = fewest_people(config, predictor.bundle.answers, store.samples)
    metrics = withhold_facts(metrics, fewest, SMALLEST)
    write_json(out / "metrics.json", metrics)
    shutil.copyfile(out / "metrics.json", bundle / METRICS)
    card = model_card(config.dump(), metrics)
    (bundle / CARD).write_text(card, encoding="utf-8")
    evaluation.save_figures(out / "figures")
    # Of one network: early stopping ends each at an epoch of its own.
    curves = [pd.read_csv(path) for path in sorted(members(config)[0].logs.glob("*.csv"))]
    if curves:  # there is no epoch where the linear start alone scores
        save_training_curves(pd.concat(curves), out / "figures" / "training.png")
    seal(bundle)
    return evaluation


def _pretrained(config: RunConfig, store: Store) -> list[Network]:
    """The networks before fine-tuning, if they judge edges, choose neighbours or are aligned.

    Fine-tuning asks nothing about edges and closes relations that tell nothing of its tasks, so
    that what the fine-tuned network says of them would be worth less the longer it was trained.
    Neighbours are chosen before it, by a network that has seen no label.
    """
    if not (learns_edges(config) or by_embedding(config) or travelling(config)):
        return []
    networks = []
    for member in members(config):
        model = build_model(member.config, store)
        load_pretrained(member, model)
        memory = scoring_memory(config, store, model, device=torch.device("cpu"))
        networks.append(Network(model, memory, pretrained_objectives(member, model)))
    return networks


def _stack(bundle: Path, store: Store) -> None:
    """Fit the experts' weight for each task on `select`, scored by the draft."""
    predictor = Predictor(Bundle.read(bundle, draft=True))
    if not predictor.bundle.experts:
        return
    rows, prior = store.rows("select"), prior_weight(predictor.bundle.config)
    weights = {}
    opinions = predictor.opinions(store, rows)
    for task in predictor.bundle.config.binary_tasks:
        said = opinions[task]
        network, expert = said.networks.mean(axis=0), said.experts.mean(axis=0)
        labels = store_labels(store, task)[rows]
        known = ~np.isnan(labels) & ~np.isnan(network)
        weights[task] = fit_weight(network[known], expert[known], labels[known], prior=prior)
    write_json(bundle / STACK, weights)


def _calibrate(bundle: Path, store: Store) -> None:
    """Fit calibrations and conformal sets on `calibrate`, scored by the draft; not if learned."""
    predictor = Predictor(Bundle.read(bundle, draft=True))
    config = predictor.bundle.config
    is_spent = config.finetune.learn_tuning
    rows = store.rows("calibrate")[: 0 if is_spent else None]
    subjects = store.samples[rows]["subject_id"].to_numpy()
    fitted, conformal = {}, {}
    for task, logits in predictor.logits(predictor.opinions(store, rows)).items():
        labels = label_array(store.samples[rows], task, config.tasks[task])
        answer = predictor.bundle.answers[task]
        sets = {} if is_spent else answer.conform(logits, labels, subjects=subjects)
        if sets:
            conformal[task] = {name: each.to_json() for name, each in sets.items()}
        found = answer.calibrate(logits, labels, subjects=subjects)
        for label_class, one in found.items():
            fitted[calibration_name(task, label_class)] = one.to_json()
    write_json(bundle / CALIBRATION, fitted)
    write_json(bundle / CONFORMAL, conformal)


def _chosen_by(config: RunConfig, store: Store) -> dict[str, str]:
    """By task: what the epoch was chosen by on `select`, as the fine-tuning stage does it."""
    if config.finetune.keep == "last":
        return dict.fromkeys(config.tasks, "nothing: the last epoch is kept")
    found = {}
    for task, settings in config.tasks.items():
        found[task] = "loss"
        if settings.kind == "binary":
            labels = store_labels(store, task)[store.rows("select")]
            n_known, events = int((~np.isnan(labels)).sum()), int(np.nansum(labels))
            one_class = "no label" if not n_known else "no positives" if not events else ""
            one_class = one_class or ("no negatives" if events == n_known else "")
            found[task] = f"loss: select has {one_class}" if one_class else "AUROC"
    return found


def _thresholds(predictor: Predictor, store: Store) -> dict[str, dict[str, float | None]]:
    """By task, from the calibrated scores of `calibrate`; nothing where nobody there is judged."""
    config = predictor.bundle.config
    rules = {str(goal): at for goal, at in config.evaluate.thresholds.items()}
    rows = store.rows("calibrate")
    if not len(rows) or not rules or config.finetune.learn_tuning:
        return {}
    scored = predictor.score_store(store, rows).dropna(subset=["score", "label"])
    return choose_thresholds(scored, rules=rules) if len(scored) else {}


def _members(predictor: Predictor, store: Store, rows: np.ndarray) -> dict[str, Any]:
    """By binary task: the experts' weight, and what each member ranks by itself."""
    bundle = predictor.bundle
    # A sample with nothing visible has no score, so the evaluation leaves it out too.
    rows = rows[store.samples[rows]["reason"].is_null().to_numpy()]
    opinions = predictor.opinions(store, rows)
    together = predictor.logits(opinions)
    found = {}
    for task in bundle.config.binary_tasks:
        said = opinions[task]
        logits = {f"network {i}": logit for i, logit in enumerate(said.networks, start=1)}
        if len(said.networks) > 1:
            logits["networks"] = said.networks.mean(axis=0)
        logits |= dict(zip(bundle.experts, said.experts, strict=True))
        if len(said.experts):
            logits["together"] = together[task]
        ranked = _ranked(store_labels(store, task)[rows], logits)
        found[task] = {"expert_weight": bundle.stack.get(task), "ranking": ranked}
    return found


def _ranked(
    labels: np.ndarray, logits: dict[str, np.ndarray]
) -> dict[str, dict[str, float | None]]:
    """AUROC and AUPRC of each, None where there are not both classes."""
    found: dict[str, dict[str, float | None]] = {}
    for name, logit in logits.items():
        known = ~np.isnan(labels) & ~np.isnan(logit)
        truth, score = labels[known], logit[known]
        both = len(np.unique(truth)) == 2
        found[name] = {
            "auroc": float(roc_auc_score(truth, score)) if both else None,
            "auprc": float(average_precision_score(truth, score)) if both else None,
        }
    return found


def _typical(predictor: Predictor, predictions: pd.DataFrame) -> dict[str, Any]:
    """How many of the people judged are called atypical, of whom 5 % would be at most.

    A person's samples share one person's weight.
    """
    known = predictor.bundle.typicality
    assert known is not None, "it was fitted by now"
    each = predictions.drop_duplicates(["subject_id", "prediction_time"]).dropna(subset=TYPICALITY)
    shares = (each[TYPICALITY] <= ATYPICAL).groupby(each["subject_id"]).mean()
    return {
        "calibrated_on": known.n_calibrated,
        "level": ATYPICAL,
        "judged": len(shares),
        "atypical": round(shares.sum()),
    }


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    with replacing(path) as draft:
        frame.to_parquet(draft, index=False)

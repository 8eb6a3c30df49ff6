"""The verb `score`: predictions of an extract, and how much of it the model knew."""

from clinical.cohort.counts import Recognised, recognised
from clinical.cohort.store import Store
from clinical.errors import ConfigError
from clinical.places import check_above
from clinical.predictor import Predictor
from clinical.training.checkpoint import thread_limit

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scored:
    """What scoring an extract gives.

    Attributes:
        predictions: one row a sample, task, class and horizon.
        recognised: how much of each modality of the extract the model knew.
    """

    predictions: pd.DataFrame
    recognised: list[Recognised]


def score_extract(
    bundle: str | Path,
    extract: str | Path,
    *,
    out: str | Path | None = None,
    context: str | Path | None = None,
    threads: int | None = None,
) -> Scored:
    """Score the samples of an extract, and warn where the model knows little of it.

    The arguments are those of `clinical.score`.
    """
    target = None if out is None else _checked(Path(out))
    with thread_limit(threads), tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary) / "store"
        predictions = Predictor.load(bundle).score(extract, context=context, work=work)
        found = recognised(Store.open(work))
    for one in found:
        _warn(extract, one)
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(target.name + ".draft")
        predictions.to_parquet(draft, index=False)
        draft.replace(target)
    return Scored(predictions, found)


def _checked(out: Path) -> Path:
    if out.is_dir():
        raise ConfigError(f"{out}: is a folder; name the Parquet file to write")
    check_above(out, what="out")
    return out


def _warn(extract: str | Path, one: Recognised) -> None:
    if not one.samples:
        logger.warning(
            "%s: nothing the model knows of %s is visible for any sample; are its codes, "
            "columns and files those of the extract it was trained on?",
            extract,
            one.modality,
        )
    elif 2 * one.unknown > one.events:
        logger.warning(
            "%s: %s of %s visible events of %s have a code that the model has not learned; are "
            "its codes spelt as in the extract it was trained on?",
            extract,
            f"{one.unknown:,}",
            f"{one.events:,}",
            one.modality,
        )

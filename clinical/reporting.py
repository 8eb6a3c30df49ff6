"""From a finished run's folder to its report."""

from clinical.bundle import METRICS, THRESHOLDS
from clinical.config_file import load_yaml
from clinical.errors import ConfigError, SchemaError
from clinical.evaluation import Evaluation, evaluate
from clinical.evaluation.files import read_scores, read_thresholds
from clinical.evaluation.gathering import SAMPLE
from clinical.evaluation.groups import PERIOD, SMALLEST, periods_of
from clinical.evaluation.patterns import PATTERN, patterns
from clinical.evaluation.report import Facts, report_page
from clinical.extract.schema import Extract
from clinical.grouping import groups
from clinical.places import check_no_file, replacing
from clinical.run_folder import RUN_FILE

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

logger = logging.getLogger(__name__)

REPORT = "report.html"
LEAST_DAYS = {"year": 4 * 365, "quarter": 365, "month": 120, "week": 28}
"""Period -> how long a time is told in such periods."""


def report(
    run: str | Path,
    *,
    extract: str | Path | None = None,
    about: str | Path | Mapping[str, str] | None = None,
    out: str | Path | None = None,
    smallest: int = SMALLEST,
) -> Path:
    """Write the report of a finished run: one HTML file that fetches nothing.

    Args:
        run: the run's folder.
        extract: whose facts group the patients; by default the run's own, if it is there.
        about: what the authors say to items of TRIPOD+AI, as {item: text} or a YAML file of that.
        out: file to write, by default report.html in the run's folder.
        smallest: number of people below which no count or group is shown.

    Returns:
        The file.

    Raises:
        ConfigError: it is no finished run, or `about` names an unknown item.
        SchemaError: a table of the run, or the extract, breaks its schema.
    """
    folder = Path(run)
    target = folder / REPORT if out is None else Path(out)
    _check_finished(folder)
    if smallest < 1:
        raise ConfigError(f"smallest: {smallest} should be at least 1")
    if target.is_dir():
        raise ConfigError(f"out: {target} is a folder; name a file such as {target / REPORT}")
    said = _said(about)
    config = load_yaml(folder / RUN_FILE)
    metrics = json.loads((folder / METRICS).read_text(encoding="utf-8"))
    predictions = read_scores(folder / "predictions.parquet")
    evaluation = _judged(folder, predictions, metrics)
    place = Path(config["extract"]) if extract is None else Path(extract)
    present = patterns(predictions, list(config["modalities"]))
    table = _groups(evaluation, present, place, extract is not None)
    found = evaluation.by(table, smallest=smallest, alone=PATTERN)
    facts = Facts(
        config=config,
        metrics=metrics,
        evaluation=evaluation,
        groups=found.by_column(PERIOD, is_other=True),
        trend=found.by_column(PERIOD) if PERIOD in table else None,
        about=said,
        smallest=smallest,
    )
    text = report_page(facts)
    with replacing(target) as draft:
        draft.write_text(text, encoding="utf-8")
    return target


def _check_finished(folder: Path) -> None:
    check_no_file(folder, what="run", remedy="give the folder of a run")
    needed = (RUN_FILE, METRICS, "predictions.parquet", "predictions_baseline.parquet")
    if missing := [name for name in needed if not (folder / name).is_file()]:
        raise ConfigError(
            f"run: {folder} has no {', '.join(missing)}, so it is no finished run; give the folder "
            "that `clinical run` wrote (its out=)"
        )


def _said(about: str | Path | Mapping[str, str] | None) -> dict[str, str]:
    content = load_yaml(Path(about)) if isinstance(about, str | Path) else dict(about or {})
    if wrong := [str(item) for item, text in content.items() if not isinstance(text, str)]:
        raise ConfigError(f"about: {', '.join(wrong)} should be text")
    return {str(item): text for item, text in content.items()}


def _judged(
    folder: Path, predictions: pd.DataFrame, metrics: Mapping[str, dict[str, int]]
) -> Evaluation:
    thresholds = folder / "bundle" / THRESHOLDS
    # Without a held-out label the run was judged on the patients they were chosen on.
    is_apart = "at_thresholds" in metrics["evaluation"]
    chosen = read_thresholds(thresholds) if is_apart and thresholds.is_file() else None
    less = folder / "predictions_left_out.parquet"
    if less.is_file():
        predictions = pd.concat([predictions, read_scores(less)], ignore_index=True)
    return evaluate(
        predictions,
        baseline=read_scores(folder / "predictions_baseline.parquet", "baseline"),
        thresholds=chosen or None,
        resamples=metrics["evaluation"]["resamples"],
        seed=metrics["evaluation"]["seed"],
    )


def _period(times: pd.Series) -> str | None:
    """The longest period of which there are several; None where all is within four weeks."""
    days = (times.max() - times.min()).days
    return next((every for every, least in LEAST_DAYS.items() if days >= least), None)


def _groups(
    evaluation: Evaluation, present: pd.DataFrame, extract: Path, is_asked: bool
) -> pd.DataFrame:
    """By what samples have, by the extract's facts and over time, as far as there are any.

    One table, since counts of few would follow from groups that are hidden table by table.
    """
    if not (is_asked or extract.is_dir()):
        logger.warning("%s: the run's extract is not there; patients are not grouped", extract)
        return present
    table = present
    try:
        table = groups(extract, present)
    except SchemaError as error:
        logger.warning("%s", error)
    every = _period(present["prediction_time"])
    if every is not None and Extract.open(extract).consistent_calendar:
        table = table.merge(periods_of(evaluation.judged, every), on=SAMPLE, how="left")
    return table

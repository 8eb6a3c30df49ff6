"""Leave-one-site-out: each site is judged by a model that has seen none of its patients."""

from clinical.cohort.labels import KEYS, read_labels
from clinical.cohort.split_grounds import sites_of
from clinical.cohort.splits import Splits, make_splits
from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.errors import ConfigError, SchemaError
from clinical.evaluation import Evaluation, evaluate
from clinical.extract.schema import Extract
from clinical.pipeline import prepare, run
from clinical.places import check_no_file, replacing
from clinical.preflight import check_machine
from clinical.run_folder import check_run_folder

import logging
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import polars as pl

logger = logging.getLogger(__name__)

TABLE = "sites.csv"
ALL = "all sites"
REMEDY = "label some, or merge sites by codes with a group in brackets"


@dataclass(frozen=True)
class SiteBySite:
    """What leave-one-site-out found.

    Attributes:
        evaluations: site -> how the model without it does there; last, under "all sites", all of
            these predictions together.
        folders: site -> the run's folder.
    """

    evaluations: dict[str, Evaluation]
    folders: dict[str, Path]

    @property
    def table(self) -> pd.DataFrame:
        """`Evaluation.table` of each site, one below the other, with a column `site`."""
        frames = [
            found.table.assign(site=site)[["site", *found.table.columns]]
            for site, found in self.evaluations.items()
        ]
        return pd.concat(frames, ignore_index=True)

    def display_table(self, metric: str | None = None) -> pd.DataFrame:
        """One metric as text for a screen, a row a site, task, class and horizon.

        Args:
            metric: its name in the table; by default each task's first.
        """
        frames = []
        for site, found in self.evaluations.items():
            heads = ["task", *(n for n in ("class", "horizon_hours") if n in found.table)]
            rows = found.table
            wanted = rows[rows["metric"] == metric] if metric else rows.drop_duplicates(heads)
            shown = found.display_table(wanted)
            frames.append(shown.assign(site=site)[["site", *shown.columns]])
        return pd.concat(frames, ignore_index=True)


def leave_one_site_out(
    config: RunConfig, *, site: str | None = None, progress: bool = False
) -> SiteBySite:
    """Train once for each site without it, and judge it there.

    In `out` there is a folder for each site with its splits and its run, and `sites.csv`. What is
    finished is not run again; after a kill the same call goes on. A subject of two sites is left
    out where one of them is held out.

    Args:
        config: of each run but for its `out` and its splits; sites of the others are cut at random
            into train and tuning, by its seed.
        site: a column that dataset.json names in site_id_columns, or codes (a regular expression;
            what a group in brackets matches is the site). By default the one such column.
        progress: show bars.

    Raises:
        ConfigError: the configuration names splits of its own, or `out` holds something of another
            configuration.
        SchemaError: there are fewer than two sites, or nothing could be judged at one of them; no
            model is trained then.
    """
    if config.splits is not None:
        raise ConfigError("splits: are made here, a site held out in each; leave the key out")
    check_no_file(config.out, what="out", remedy="choose another out=")
    names = _sites(config, site)
    runs = {
        name: _without(config, name, config.out / f"site-{number}", site=site)
        for number, name in enumerate(names, start=1)
    }
    for name, own in runs.items():
        if not _is_finished(own):
            check_machine(own)
            _check_seen(prepare(own), name)
    evaluations, folders, told = {}, {}, []
    for number, (name, own) in enumerate(runs.items(), start=1):
        logger.info("site %d of %d is held out: %s", number, len(names), name)
        if not _is_finished(own):
            run(own, progress=progress)
        found = tuple(pd.read_parquet(own.out / f"{file}.parquet") for file in _FILES)
        evaluations[name], folders[name] = _judged(config, *found), own.out
        told.append(found)
    together = (pd.concat(frames, ignore_index=True) for frames in zip(*told, strict=True))
    evaluations[ALL] = _judged(config, *together)
    found_all = SiteBySite(evaluations, folders)
    with replacing(config.out / TABLE) as draft:
        found_all.table.to_csv(draft, index=False)
    return found_all


_FILES = ("predictions", "predictions_baseline")


def _sites(config: RunConfig, site: str | None) -> list[str]:
    """Their names, each of which can be judged."""
    extract = Extract.open(config.extract)
    subjects = extract.subjects().select("subject_id")
    found = sites_of(extract, site, subjects)
    names = found["site"].unique().sort().to_list()
    if len(names) < 2:
        raise SchemaError(f"site: all subjects are of {names[0]}; one site can't be left out")
    if ALL in names:
        raise SchemaError(f"site: one is called {ALL}, as the whole is; rename it")
    labels = (read_labels(extract, name, task) for name, task in config.tasks.items())
    is_known = pl.any_horizontal(pl.exclude(KEYS).is_not_null())
    known = [frame.filter(is_known)["subject_id"] for frame in labels if frame is not None]
    # A subject of two sites is held out with neither.
    alone = found.filter(pl.len().over("subject_id") == 1)
    judged = alone.filter(pl.col("subject_id").is_in(pl.concat(known).to_list()))
    if silent := sorted(set(names) - set(judged["site"])):
        raise SchemaError(
            f"site: no subject of {', '.join(silent)} and no other site has a known label, so "
            f"nothing could be judged there; {REMEDY}"
        )
    return names


def _without(config: RunConfig, name: str, folder: Path, *, site: str | None) -> RunConfig:
    """The run of which a site is held out, in a folder that it may write into."""
    made = make_splits(config.extract, "site", site=site, held_out=[name], seed=config.seed)
    splits = folder / "splits.parquet"
    _keep(made, splits)
    own = config.model_copy(
        update={
            "out": folder / "run",
            "splits": splits.resolve(),
            "resume": not config.overwrite,
        }
    )
    check_run_folder(own)
    return own


def _is_finished(own: RunConfig) -> bool:
    return own.resume and (own.out / "bundle" / "manifest.json").exists()


def _check_seen(store: Store, name: str) -> None:
    """A site where nothing can be judged would be judged by the tuning subjects of the others.

    Raises:
        SchemaError: no labelled sample that is held out has anything visible.
    """
    rows = store.rows("held_out")
    seen = store.samples["reason"].is_null().to_numpy()
    if not (store.is_labelled & seen)[rows].any():
        raise SchemaError(
            f"site: nothing is visible of any labelled sample of {name}, so nothing could be "
            f"judged there; check window_hours and the modalities, {REMEDY}"
        )


def _keep(made: Splits, path: Path) -> None:
    """Write splits, or see that those that are there are the same.

    Raises:
        ConfigError: they are others.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        made.write(path)
    elif not pl.read_parquet(path).sort("subject_id").equals(made.frame.sort("subject_id")):
        raise ConfigError(
            f"{path}: is of other sites, another seed or another extract; choose another out="
        )


def _judged(config: RunConfig, predictions: pd.DataFrame, baseline: pd.DataFrame) -> Evaluation:
    return evaluate(
        predictions,
        baseline=baseline,
        resamples=config.evaluate.resamples,
        seed=config.seed,
    )

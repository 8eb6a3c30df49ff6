"""Whom a bundle has learned from, and that none of them is judged by what begins from it."""

from clinical.cohort.fitted import Fitted
from clinical.cohort.lineage import Learned, Lineage, is_known
from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.errors import BundleError, ConfigError, LeakageError
from clinical.experts.fitting import learned_rows
from clinical.extract.schema import UNNAMED

import logging

import numpy as np

logger = logging.getLogger(__name__)

WHERE = "finetune.init"
MANY = 0.1
"""Share of the subjects to be judged on whose numbers are known in a data set of another name from
which on that is told: numbers that were drawn at random have next to none in common."""


def lineage_of(config: RunConfig, store: Store) -> tuple[Learned, ...]:
    """From whom the networks of a run have learned: its own subjects, then the bundle's before it.

    Who is in train is learned from, with or without a label, and with `finetune.learn_tuning` the
    labelled rest of what is not held out.

    Raises:
        BundleError: the bundle that it began from is there no more.
    """
    is_train = np.flatnonzero((store.samples["split"] == "train").fill_null(False).to_numpy())
    rows = np.union1d(is_train, learned_rows(config, store))
    fitted, init = store.fitted, config.finetune.init
    own = Learned.of(
        store.samples["subject_id"].to_numpy()[rows],
        dataset_name=fitted.dataset_name,
        salt=fitted.salt,
    )
    return (own, *(() if init is None else Fitted.read(init.bundle).lineage))


def check_apart(store: Store, lineage: Lineage) -> None:
    """Refuse to be judged on, or to choose by, patients from whom the bundle has learned.

    It knows them by salted hashes of their data set's name and number, those of the bundles that it
    began from itself too. In a data set of another name they can only be guessed at, by number.

    Raises:
        BundleError: the bundle does not say from whom it learned.
        ConfigError: one of the data sets has no name to tell its subjects by.
        LeakageError: with their count.
    """
    if not lineage:
        raise BundleError(
            f"{WHERE}.bundle: does not say from whom it learned, so that nobody can tell whether "
            "they are judged here; train it again with this version"
        )
    name = store.fitted.dataset_name
    if UNNAMED in {name, *(each.dataset_name for each in lineage)}:
        whose = "this extract" if name == UNNAMED else "an extract that the bundle was trained on"
        raise ConfigError(
            f"{WHERE}: {whose} has no dataset_name, so that its subjects cannot be told from "
            "others of the same numbers; set dataset_name in its metadata/dataset.json"
            + ("" if name == UNNAMED else ", and train the bundle again")
        )
    rows = np.concatenate([store.rows(split) for split in ("select", "calibrate", "held_out")])
    subjects = np.unique(store.samples["subject_id"].to_numpy()[rows])
    if n_known := int(is_known(lineage, subjects, name).sum()):
        raise LeakageError(
            f"{WHERE}.bundle: was trained on {n_known:,} of the {len(subjects):,} tuning and "
            f"held-out subjects of {name}, itself or by a bundle that it began from; split so that "
            "they stay in train, or begin from another bundle"
        )
    for each in lineage:
        n_alike = int(each.shares_numbers(subjects).sum())
        if each.dataset_name != name and n_alike > MANY * len(subjects):
            logger.warning(
                "%s.bundle: %s of the %s tuning and held-out subjects of %s have the numbers of "
                "subjects of %s that it learned from; if these are the same people, this run is "
                "judged on what it has learned: give both extracts one dataset_name and train the "
                "bundle again",
                WHERE,
                f"{n_alike:,}",
                f"{len(subjects):,}",
                name,
                each.dataset_name,
            )

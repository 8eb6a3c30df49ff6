"""Nobody from whom a bundle has learned is judged by what begins from it."""

import clinical
from clinical.cohort.fitted import Fitted
from clinical.cohort.lineage import Learned, is_known
from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.errors import BundleError, ConfigError, LeakageError
from clinical.preparation import prepare
from clinical.sections import FinetuneConfig, InitConfig
from clinical.transfer.apart import check_apart, lineage_of

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

_spec = importlib.util.spec_from_file_location(
    "small_hospital", Path(clinical.__file__).parents[1] / "tests" / "small_hospital.py"
)
hospital = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hospital)

TURNS = {
    "tuning judged": {"tuning": "held_out", "held_out": "tuning"},
    "train judged": {"train": "held_out", "held_out": "train"},
}


@pytest.fixture(scope="module")
def configured(tmp_path_factory):
    """A small run on an extract of a name, its splits perhaps in turn."""
    root = tmp_path_factory.mktemp("apart")

    def call(name: str, *, turn: str = "", **finetune) -> tuple[RunConfig, Store]:
        extract = root / name
        if not extract.exists():
            hospital.build(extract, n_subjects=24, dataset_name=name)
            if name == "unnamed":
                path = extract / "metadata" / "dataset.json"
                said = json.loads(path.read_text())
                del said["dataset_name"]
                path.write_text(json.dumps(said))
        splits = None
        if turn:
            splits = root / f"{turn}.parquet"
            own = pl.read_parquet(extract / "metadata" / "subject_splits.parquet")
            own.with_columns(pl.col("split").replace(TURNS[turn])).write_parquet(splits)
        config = hospital.configure(
            extract,
            root / f"{name} {turn}",
            splits=splits,
            modalities={"events": {"encoder": "event_set"}},
            graph={},
            finetune=FinetuneConfig(**finetune),
        )
        return config, prepare(config, config.out / "store")

    return call


def bundled(lineage, store: Store, folder: Path) -> InitConfig:
    """A folder with what a bundle says of whom it learned from, and nothing else."""
    folder.mkdir()
    replace(store.fitted, lineage=tuple(lineage)).write(folder)
    return InitConfig(bundle=folder)


def test_what_learned_from_train_may_not_be_judged_on_it(configured):
    lineage = lineage_of(*configured("x"))
    check_apart(configured("x")[1], lineage)
    check_apart(configured("x", turn="tuning judged")[1], lineage)
    with pytest.raises(LeakageError, match=r"was trained on 15 of the 21 tuning and held-out"):
        check_apart(configured("x", turn="train judged")[1], lineage)


def test_tuning_subjects_whose_labels_were_learned_are_refused_too(configured):
    lineage = lineage_of(*configured("x", learn_tuning=True, keep="last"))
    with pytest.raises(LeakageError, match=r"was trained on 6 of the 9 tuning and held-out"):
        check_apart(configured("x", turn="tuning judged")[1], lineage)


def test_a_chain_of_bundles_remembers_the_first(configured, tmp_path):
    first = lineage_of(*configured("x"))
    second = lineage_of(*configured("y", init=bundled(first, configured("x")[1], tmp_path / "a")))
    assert [each.dataset_name for each in second] == ["y", "x"]
    config, _ = configured("x", init=bundled(second, configured("y")[1], tmp_path / "b"))
    assert [each.dataset_name for each in lineage_of(config, configured("x")[1])] == ["x", "y", "x"]
    with pytest.raises(LeakageError, match="itself or by a bundle that it began from"):
        check_apart(configured("x", turn="train judged")[1], second)


def test_a_bundle_that_says_not_from_whom_it_learned_is_refused(configured):
    with pytest.raises(BundleError, match="does not say from whom it learned"):
        check_apart(configured("x")[1], ())


def test_whom_a_bundle_knows_survives_a_round_trip_without_their_numbers(configured, tmp_path):
    _, store = configured("x")
    subjects = np.array([7_000_003, 7_000_001, 7_000_003])
    learned = Learned.of(subjects, dataset_name="x", salt="s")
    replace(store.fitted, lineage=(learned, learned)).write(tmp_path)
    _, read = Fitted.read(tmp_path).lineage
    asked = np.array([7_000_001, 7_000_002, 7_000_003])
    assert is_known([read], asked, "x").tolist() == [True, False, True]
    assert is_known([read], asked, "y").tolist() == [False] * 3
    assert read.shares_numbers(asked).tolist() == [True, False, True]
    assert len(read.subject) == len(read.number) == 2
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        assert not any(n.tobytes() in content or str(n).encode() in content for n in subjects)


# Names


@pytest.mark.parametrize(("bundle", "own"), [("unnamed", "x"), ("x", "unnamed")])
def test_extracts_without_a_name_are_refused_with_the_remedy(configured, bundle, own):
    lineage = lineage_of(*configured(bundle))
    with pytest.raises(ConfigError, match="set dataset_name in its metadata"):
        check_apart(configured(own)[1], lineage)


def test_the_same_numbers_under_another_name_are_told(configured, caplog):
    lineage = lineage_of(*configured("x"))
    check_apart(configured("y")[1], lineage)
    assert not caplog.records  # train there is train here
    check_apart(configured("y", turn="train judged")[1], lineage)
    (record,) = caplog.records
    assert "15 of the 21 tuning and held-out subjects of y have the numbers" in record.message
    assert "7000" not in record.message

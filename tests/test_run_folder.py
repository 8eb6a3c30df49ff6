"""What a run folder remembers of splits and labels, and who may go on in it when they change."""

import clinical
from clinical.config_file import load_yaml
from clinical.errors import ConfigError, LeakageError
from clinical.experiment import Run
from clinical.extract.schema import Extract
from clinical.run_folder import check_pretrained, check_run_folder, write_down

import importlib.util
from pathlib import Path

import polars as pl
import pytest

_spec = importlib.util.spec_from_file_location(
    "small_hospital", Path(__file__).with_name("small_hospital.py")
)
hospital = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hospital)


@pytest.fixture
def extract(tmp_path):
    return hospital.build(tmp_path / "extract", n_subjects=40)


@pytest.fixture
def splits(extract, tmp_path):
    """A file of splits beside the extract: all subjects, as the extract has them."""
    path = tmp_path / "splits.parquet"
    Extract.open(extract).splits().select("subject_id", "split").write_parquet(path)
    return path


def configured(extract: Path, out: Path, splits: Path | None, **changes) -> Run:
    raw = {
        "modalities": {"events": {"encoder": "event_set", "width": 16, "layers": 1}},
        "graph": {},
        "fusion": {"width": 16},
        "splits": splits,
        "pretrain": {"epochs": 1, "objectives": {"values": 1.0}},
        "finetune": {"epochs": 1, "teachers": []},
        "evaluate": {"resamples": 20},
        "trainer": {"accelerator": "cpu", "threads": 1},
    }
    plain = hospital.configure(extract, out, **(raw | changes)).dump()
    return Run.parse(plain, where="test")


def rename(path: Path, names: dict[str, str], *, first: int | None = None) -> None:
    """Put the subjects of some splits, or the first of each, in others."""
    frame = pl.read_parquet(path)
    place = pl.int_range(pl.len()).over("split")
    wanted = pl.lit(True) if first is None else place < first
    renamed = pl.when(wanted).then(pl.col("split").replace(names)).otherwise("split")
    frame.with_columns(renamed.alias("split")).write_parquet(path)


def swap_labels(extract: Path) -> None:
    (path,) = (extract / "tasks" / "death").rglob("*.parquet")
    frame = pl.read_parquet(path)
    frame.with_columns(~pl.col("boolean_value")).write_parquet(path)


@pytest.fixture(params=["a file of its own", "the extract's own"])
def begun(request, extract, splits, tmp_path):
    """The configuration of a pretrained run, and where its splits are."""
    own = extract / "metadata" / "subject_splits.parquet"
    is_own = request.param == "the extract's own"
    config = configured(extract, tmp_path / "run", None if is_own else splits)
    write_down(config, Extract.open(extract).fingerprint())
    return config, own if is_own else splits


@pytest.mark.parametrize(
    "names",
    [{"train": "held_out"}, {"train": "tuning"}, {"tuning": "train"}],
    ids=["train is held out", "train is tuned on", "tuning is learned from"],
)
def test_nothing_is_fine_tuned_where_others_are_in_train_than_when_pretraining(begun, names):
    config, path = begun
    check_pretrained(config)
    rename(path, names, first=3)
    with pytest.raises(LeakageError, match=r"splits\.parquet: puts other subjects in train than"):
        check_pretrained(config)


def test_labels_and_who_is_judged_may_change_after_pretraining(begun):
    config, path = begun
    rename(path, {"tuning": "held_out", "held_out": "tuning"})
    swap_labels(config.extract)
    check_pretrained(config)


def test_splits_in_another_order_are_the_same(begun):
    config, path = begun
    pl.read_parquet(path).sort("subject_id", descending=True).write_parquet(path)
    check_pretrained(config)


def test_a_run_is_resumed_with_its_own_labels_and_splits_only(extract, splits, tmp_path):
    config = configured(extract, tmp_path / "run", splits, resume=True)
    write_down(config, Extract.open(extract).fingerprint())
    labels, given = extract / "tasks" / "death", splits.read_bytes()
    (path,) = labels.rglob("*.parquet")
    before = path.read_bytes()
    check_run_folder(config)
    swap_labels(extract)
    with pytest.raises(ConfigError, match=r"the files of tasks\.death were changed since the run"):
        check_run_folder(config)
    rename(splits, {"tuning": "held_out"}, first=2)
    with pytest.raises(ConfigError, match=r"the files of splits, tasks\.death were changed"):
        check_run_folder(config)
    path.write_bytes(before)
    with pytest.raises(ConfigError, match=r"the files of splits were changed"):
        check_run_folder(config)
    splits.write_bytes(given)
    check_run_folder(config)
    (extract / "samples.parquet").unlink()
    with pytest.raises(ConfigError, match=r"the files of samples were changed"):
        check_run_folder(config)


def test_who_is_held_out_after_pretraining_is_held_against_the_bundle_again(
    extract, splits, tmp_path
):
    """The bundle's train was in no split when pretraining began from it."""
    every = pl.read_parquet(splits)
    first = configured(extract, tmp_path / "first", splits, pretrain=None)
    clinical.run(first)
    theirs = every.filter(pl.col("split") == "train").head(12)
    others = every.join(theirs, on="subject_id", how="anti")
    others.write_parquet(splits)
    init = {"bundle": str(first.out / "bundle")}
    finetune = {"epochs": 1, "teachers": [], "init": init}
    config = configured(extract, tmp_path / "run", splits, finetune=finetune)
    clinical.pretrain(config)
    saved = load_yaml(config.out / "run.yaml")
    held_out = theirs.with_columns(split=pl.lit("held_out"))
    pl.concat([others, held_out]).write_parquet(splits)
    with pytest.raises(LeakageError, match=r"was trained on 12 of the"):
        clinical.finetune(config)
    assert load_yaml(config.out / "run.yaml") == saved

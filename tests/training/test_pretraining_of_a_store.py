"""Pretraining from a prepared store: what is logged, and whose labels are read."""

from clinical.modalities import static
from clinical.preparation import prepare
from clinical.training.build import build_model, pretrain_model, pretraining_stage
from clinical.training.members import members

import importlib.util
import logging
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest


def _module(name: str) -> ModuleType:
    path = Path(__file__).parents[1] / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hospital = _module("small_hospital")
PRETRAIN = {
    "epochs": 2,
    "balance": "uncertainty",
    "probe_every": 2,
    "objectives": {"static": {"weight": 0.5, "share": 0.6}, "edges": 1.0, "alignment": 1.0},
}


@pytest.fixture
def configure(tmp_path):
    """A small hospital's run, and its store."""

    def call(**changes):
        extract = hospital.build(tmp_path / "extract", n_subjects=100)
        config = hospital.configure(
            extract, tmp_path / "run", trainer={"accelerator": "cpu"}, pretrain=PRETRAIN, **changes
        )
        return config, prepare(config, config.out / "store")

    return call


def test_a_run_logs_each_objective_its_weight_and_the_probe(configure, caplog):
    config, store = configure()
    (member,) = members(config)
    with caplog.at_level(logging.INFO):
        pretrain_model(member, store, build_model(config, store), progress=False)
    logged = pd.read_csv(member.logs / "pretrain.csv")
    epochs = logged.groupby("name")["epoch"].agg(list).to_dict()
    for name in PRETRAIN["objectives"]:
        for figure in ("train/objective", "tuning/objective", "train/weight"):
            assert epochs[f"{figure}/{name}"] == [1, 2]
    assert epochs["probe/death"] == epochs["probe/death/error"] == [0, 2]
    assert logged["value"].notna().all()
    lines = [line for line in caplog.messages if line.startswith("pretrain epoch")]
    assert ["probe/death" in line for line in lines] == [True, False, True]


def test_the_static_objective_knows_what_age_and_sex_are(configure):
    config, store = configure()
    (member,) = members(config)
    stage = pretraining_stage(member, store, build_model(config, store), settings=config.pretrain)
    columns = store.statistics["static"]["columns"]
    objective = stage.objectives["static"]
    asked = dict(zip(columns, objective.question.tolist(), strict=True))
    assert asked["GENDER//F"] == asked["GENDER//M"] >= 0
    assert asked[static.AGE_COLUMN] not in (-1, asked["GENDER//F"])
    assert objective.is_number.tolist() == [column == static.AGE_COLUMN for column in columns]


def test_the_probe_reads_labels_of_train_and_select_alone(configure):
    config, store = configure()
    (member,) = members(config)
    stage = pretraining_stage(member, store, build_model(config, store), settings=config.pretrain)
    split = store.samples["split"]
    read = {
        name: {row for batch in loader for row in batch.row.tolist()}
        for name, loader in (("train", stage.probe.train), ("select", stage.probe.select))
    }
    for name, rows in read.items():
        assert rows == set(store.rows(name))
        assert set(split.gather(sorted(rows))) == {name}

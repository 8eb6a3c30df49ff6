"""A run whose heads are prototypical, from labels to scores: what goes with a line goes here."""

import clinical
from clinical.bundle import CARD
from clinical.cohort.store import Store
from clinical.datamodule import StoreDataset
from clinical.errors import ConfigError
from clinical.training.build import build_model, finetune_model, load_pretrained
from clinical.training.members import members
from clinical.training.prototypes import prototypical

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

KEYS = ["subject_id", "prediction_time"]
FINETUNE = {"epochs": 6, "batch_size": 16, "learning_rate": 0.01, "head": "prototypical"}


@pytest.fixture(scope="module")
def configure(hospital, tmp_path_factory):
    """A configuration of a binary and a multiclass task; `changes` replace its keys."""
    path = Path(__file__).with_name("five_kinds.py")
    spec = importlib.util.spec_from_file_location("five_kinds", path)
    tools = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tools)
    root = tmp_path_factory.mktemp("prototypical")
    shutil.copytree(hospital, root / "extract")
    tools.write_labels(root / "extract")
    tasks = {name: tools.TASKS[name] for name in ("old", "group")}

    def read(out="run", **changes):
        keys = {"tasks": tasks, "finetune": FINETUNE} | changes
        return tools.configure(root / "extract", root / out, **keys)

    return read


@pytest.fixture(scope="module")
def config(configure):
    """Of a finished run."""
    clinical.run(configure())
    return configure()


@pytest.fixture(scope="module")
def predictor(config):
    return clinical.Predictor.load(config.out / "bundle")


@pytest.fixture(scope="module")
def scores(predictor, config):
    return predictor.score(config.extract)


def test_both_tasks_are_learned(config, scores):
    truth = pd.read_parquet(config.extract / "tasks" / "old").merge(scores, on=KEYS)
    truth = truth[truth["task"] == "old"]
    risk = truth.groupby("boolean_value")["score"].mean()
    assert risk[True] - risk[False] > 0.5
    groups = pd.read_parquet(config.extract / "tasks" / "group")
    of_group = scores[scores["task"] == "group"].reset_index(drop=True)
    likeliest = of_group.loc[of_group.groupby(KEYS)["score"].idxmax()].merge(groups, on=KEYS)
    assert (likeliest["class"] == likeliest["categorical_value"]).mean() > 0.7


def test_alone_or_in_any_batch_a_sample_has_the_same_scores(predictor, config, scores):
    for number in (3, 40):
        key = scores[KEYS].drop_duplicates().iloc[[number]]
        alone = predictor.score(config.extract, samples=key)
        both = alone.merge(scores, on=[*KEYS, "task", "class"], how="left", suffixes=("", "_among"))
        np.testing.assert_allclose(both["score"], both["score_among"], atol=1e-5)


def test_what_stands_beside_a_score_stands_there(config, scores):
    predictions = pd.read_parquet(config.out / "predictions.parquet")
    assert predictions["in_set"].notna().all()
    assert predictions["typicality"].between(0, 1).all()
    assert scores["score"].between(0, 1).all()
    total = scores[scores["task"] == "group"].groupby(KEYS)["score"].sum()
    np.testing.assert_allclose(total, 1, atol=1e-6)
    card = (config.out / "bundle" / CARD).read_text()
    assert "class prototypes" in card
    assert "`group`: temperature" in card


def test_a_score_is_read_off_the_representation_and_the_bundle_s_prototypes(predictor, config):
    store = Store.open(config.out / "store")
    (network,) = predictor.bundle.networks
    head = prototypical(network.model, "group")
    rows = store.rows("held_out")
    frame = predictor.embed(config.extract, aspect="group").merge(
        store.samples[rows].select(KEYS).to_pandas(), on=KEYS
    )
    aspect = torch.tensor(frame.filter(like="dim_").to_numpy())
    apart = (aspect[:, None] - head.prototype).square().sum(2)
    logits = head.share.log() - head.log_temperature.exp() * apart
    found = predictor.logits(predictor.opinions(store, rows))["group"]
    odds = (logits - logits[:, :1]).detach().numpy()
    np.testing.assert_allclose(found - found[:, :1], odds, atol=1e-3)


def test_the_bundle_holds_a_vector_for_each_class_and_no_more(config):
    weights = load_file(config.out / "bundle" / "model.safetensors")
    shapes = {k.partition("/")[2]: tuple(v.shape) for k, v in weights.items() if "heads." in k}
    assert shapes == {
        "heads.old.log_temperature": (),
        "heads.old.prototype": (2, 32),
        "heads.old.share": (2,),
        "heads.group.log_temperature": (),
        "heads.group.prototype": (3, 32),
        "heads.group.share": (3,),
    }


def test_scores_are_explained_by_neighbours_and_inputs(predictor, config):
    few = predictor.score(config.extract)[KEYS].drop_duplicates().head(3)
    told = clinical.explain_neighbours(predictor, config.extract, samples=few, top=1)
    assert set(told["task"]) == {"old"}
    explained = clinical.explain_inputs(predictor, config.extract, samples=few)
    assert np.isfinite(explained.modalities.select_dtypes("number").to_numpy()).any()


def test_two_positives_are_enough_and_their_prototype_is_their_mean(config, configure, tmp_path):
    whole = Store.open(config.out / "store")
    folder = tmp_path / "store"
    shutil.copytree(whole.folder, folder)
    train, label = whole.rows("train"), whole.samples["label.old"].to_numpy()
    positive = train[label[train] == 1][:2]
    hidden = np.setdiff1d(train[label[train] == 1], positive)
    unknown = pl.int_range(pl.len()).is_in(hidden.tolist())
    whole.samples.with_columns(
        pl.when(unknown).then(None).otherwise(pl.col("label.old")).alias("label.old")
    ).write_ipc(folder / "samples.arrow", compression="uncompressed")
    store = Store.open(folder)
    run = configure(out=str(tmp_path), finetune=FINETUNE | {"epochs": 1})
    model = build_model(run, store)
    finetune_model(members(run)[0], store, model, progress=False)
    head, negatives = prototypical(model, "old"), (label[train] == 0).sum()
    torch.testing.assert_close(head.share[1].item(), 2 / (2 + negatives), rtol=1e-5, atol=0)
    assert all(p.isfinite().all() for p in model.parameters())
    aspects = model.eval()(StoreDataset(store.folder, run)[positive]).aspects["old"]
    torch.testing.assert_close(head.prototype[1], aspects.mean(0), rtol=0, atol=1e-4)


def test_one_pretraining_serves_both_sorts_of_head(config, configure, tmp_path):
    store = Store.open(config.out / "store")
    pretrain = {"epochs": 1, "objectives": {"values": 1.0}}
    linear = configure(out=str(tmp_path), pretrain=pretrain, finetune={"start": "pretrained"})
    before = build_model(linear, store)
    folder = members(linear)[0].checkpoints / "pretrain"
    folder.mkdir(parents=True)
    save_file(before.state_dict(), folder / "model.safetensors")
    other = configure(out=str(tmp_path), pretrain=pretrain, seed=9)
    model = build_model(other, store)
    load_pretrained(members(other)[0], model)
    for name, tensor in model.state_dict().items():
        if not name.startswith("heads."):
            assert torch.equal(tensor, before.state_dict()[name])


def test_without_a_line_there_is_no_linear_start(configure):
    with pytest.raises(ConfigError, match=r"finetune: head: prototypical has no line"):
        configure(finetune=FINETUNE | {"start": "linear"})

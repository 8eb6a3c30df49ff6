"""Several networks and experts in one run: how they train, travel and score together."""

import clinical
from clinical import finishing
from clinical.bundle import Bundle
from clinical.cohort.store import Store
from clinical.errors import BundleError, ConfigError
from clinical.experiment import Run
from clinical.experts import EXPERTS
from clinical.experts.lightgbm import LightGBM
from clinical.experts.stack import stacked
from clinical.manifest import seal
from clinical.predictor import Predictor
from clinical.training import build

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score

pytest.importorskip("lightgbm")

KEYS = ["subject_id", "prediction_time"]
TASK = "in_hospital_mortality"
QUICK = ["ensemble=2", "experts=[lightgbm,additive]", "pretrain.epochs=1", "finetune.epochs=1"]


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def read(hospital_tools, hospital):
    def call(out: Path, *more: str) -> Run:
        return Run.read(hospital_tools.TINY, hospital_tools.overrides(hospital, out, *QUICK, *more))

    return call


@pytest.fixture(scope="module")
def together(hospital_tools, shared_folder, finished, read) -> Path:
    """A finished run of two networks and two experts; not to be written to."""

    def make(out: Path) -> None:
        shutil.copytree(finished.out / "store", out / "store")  # its making has tests of its own
        clinical.run(read(out))

    return hospital_tools.once(shared_folder, "together", make)


@pytest.fixture(scope="module")
def predictor(together) -> Predictor:
    """Uncalibrated: a calibration as flat as so few patients give would hide differences."""
    return Predictor(replace(Bundle.read(together / "bundle"), calibration={}))


@pytest.fixture(scope="module")
def scores(predictor, hospital) -> pd.DataFrame:
    return predictor.score(hospital, context=hospital)


@pytest.fixture
def bundle(together, tmp_path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(together / "bundle", tmp_path / "bundle"))


def logit(score: pd.Series) -> np.ndarray:
    return np.log(score.to_numpy()) - np.log1p(-score.to_numpy())


# What a run leaves


def test_each_network_has_checkpoints_and_figures_of_its_own(together):
    for name in ("member-0", "member-1"):
        for stage in ("pretrain", "finetune"):
            assert (together / "checkpoints" / name / stage / "model.safetensors").exists()
            assert (together / "logs" / name / f"{stage}.csv").exists()


def test_the_networks_differ_and_the_bundle_holds_their_weights_and_memories(together):
    weights = load_file(together / "bundle" / "model.safetensors")
    memories = load_file(together / "bundle" / "memory.safetensors")
    assert {memory.dtype for memory in memories.values()} == {torch.float16}
    assert not torch.equal(memories["member-0"], memories["member-1"])
    for name in ("member-0", "member-1"):
        own = load_file(together / "checkpoints" / name / "finetune" / "model.safetensors")
        assert own
        assert all(torch.equal(weights[f"{name}/{key}"], value) for key, value in own.items())
    assert any(
        not torch.equal(value, weights[key.replace("member-0", "member-1")])
        for key, value in weights.items()
        if key.startswith("member-0/")
    )


def test_the_first_network_is_the_one_of_a_run_by_itself(together, read, tmp_path):
    shutil.copytree(together / "store", tmp_path / "out" / "store")
    alone = read(tmp_path / "out", "ensemble=1", "experts=[]")
    clinical.pretrain(alone)
    name = "checkpoints/member-0/pretrain/model.safetensors"
    first, found = load_file(together / name), load_file(tmp_path / "out" / name)
    assert all(torch.equal(found[key], value) for key, value in first.items())


def test_the_expert_is_the_baseline_and_its_file_lightgbm_s_own(together):
    import lightgbm

    store = Store.open(together / "store")
    rows = store.rows("held_out")
    opened = Predictor(Bundle.read(together / "bundle"))
    expert = opened.opinions(store, rows)[TASK].experts[0]
    baseline = pd.read_parquet(together / "predictions_baseline.parquet")["score"]
    np.testing.assert_allclose(expert, logit(baseline), rtol=0, atol=1e-9)
    path = together / "bundle" / "lightgbm-0.txt"
    booster = lightgbm.Booster(model_file=str(path))
    assert booster.num_feature() == opened.bundle.tabulator.n_columns
    assert booster.model_to_string() == path.read_text()


def test_the_metrics_and_the_card_tell_what_each_brings(together):
    metrics = json.loads((together / "metrics.json").read_text())
    members = metrics["members"][TASK]
    assert (
        members["expert_weight"]
        == json.loads((together / "bundle" / "stack.json").read_text())[TASK]
    )
    assert set(members["ranking"]) == {
        "network 1",
        "network 2",
        "networks",
        "lightgbm",
        "additive",
        "together",
    }
    evaluated = metrics["evaluation"]["tasks"][0]["metrics"]["AUROC"]
    assert members["ranking"]["together"]["auroc"] == pytest.approx(evaluated["value"])
    assert members["ranking"]["lightgbm"]["auroc"] == pytest.approx(evaluated["baseline"])
    card = (together / "bundle" / "MODEL_CARD.md").read_text()
    assert "| network 2 | " in card
    assert "| lightgbm | " in card
    assert "| additive | " in card
    assert f"weight of {members['expert_weight']:.2f}" in card


def relabelled(folder: Path, predictor: Predictor, split: str, kind: str = "experts") -> Store:
    """The store with labels in one split that make the experts, or the networks, perfect there."""
    store = Store.open(folder / "store")
    rows = store.rows(split)
    logits = getattr(predictor.opinions(store, rows)[TASK], kind).mean(0)
    labels = store.samples[f"label.{TASK}"].to_numpy().copy()
    labels[rows] = logits > np.median(logits)
    column = pl.Series(f"label.{TASK}", labels)
    store.__dict__["samples"] = store.samples.with_columns(column)
    return store


@pytest.mark.parametrize(
    ("split", "moves_stack", "moves_calibration"),
    [("train", False, False), ("held_out", False, False), ("calibrate", False, True)],
)
def test_only_its_own_split_moves_the_stack_and_the_calibration(
    together, predictor, bundle, split, moves_stack, moves_calibration
):
    before = {name: (bundle / name).read_text() for name in ("stack.json", "calibration.json")}
    store = relabelled(together, predictor, split)
    finishing._stack(bundle, store)
    finishing._calibrate(bundle, store)
    assert ((bundle / "stack.json").read_text() != before["stack.json"]) == moves_stack
    moved = (bundle / "calibration.json").read_text() != before["calibration.json"]
    assert moved == moves_calibration


def test_the_stack_is_fitted_on_select(together, predictor, bundle):
    weights = []
    for kind in ("networks", "experts"):
        finishing._stack(bundle, relabelled(together, predictor, "select", kind))
        weights.append(json.loads((bundle / "stack.json").read_text())[TASK])
    assert weights[0] < weights[1]


def test_members_are_ranked_on_the_samples_that_have_a_score(predictor, together):
    store = Store.open(together / "store")
    rows = store.rows("held_out")
    unseen = rows[: len(rows) // 2]
    is_unseen = pl.int_range(store.n_samples).is_in(unseen.tolist())
    store.__dict__["samples"] = store.samples.with_columns(
        reason=pl.when(is_unseen).then(pl.lit("nothing is visible")).otherwise("reason")
    )
    kept = rows[len(rows) // 2 :]
    said = predictor.opinions(store, kept)[TASK]
    labels = store.samples[kept][f"label.{TASK}"].to_numpy()
    ranking = finishing._members(predictor, store, rows)[TASK]["ranking"]
    assert ranking["lightgbm"]["auroc"] == pytest.approx(roc_auc_score(labels, said.experts[0]))


# Scores


def test_the_score_is_the_stack_of_the_mean_network_and_the_mean_expert(predictor, together):
    store = Store.open(together / "store")
    rows = store.rows("held_out")
    said = predictor.opinions(store, rows)[TASK]
    weight = predictor.bundle.stack[TASK]
    expected = (1 - weight) * said.networks.mean(0) + weight * said.experts.mean(0)
    found = predictor.score_store(store, rows)["score"]
    np.testing.assert_allclose(logit(found), expected, rtol=0, atol=1e-9)
    assert np.array_equal(stacked(said.networks, said.experts, weight), expected)


def test_the_logit_of_networks_alone_is_the_mean_of_each_by_itself(predictor, together):
    store = Store.open(together / "store")
    rows = store.rows("held_out")
    bundle = replace(predictor.bundle, experts={}, stack={})
    both = Predictor(bundle).score_store(store, rows)["score"]
    each = [
        Predictor(replace(bundle, networks=(network,))).score_store(store, rows)["score"]
        for network in bundle.networks
    ]
    assert (each[0] - each[1]).abs().max() > 1e-4
    np.testing.assert_allclose(logit(both), np.mean([logit(e) for e in each], axis=0), atol=1e-9)


@pytest.mark.parametrize("with_context", [False, True])
def test_the_score_of_a_sample_is_the_same_alone_and_in_batches_of_any_size(
    predictor, scores, hospital, monkeypatch, with_context
):
    context = hospital if with_context else None
    expected = scores if with_context else predictor.score(hospital)
    monkeypatch.setattr("clinical.predictor.panel.BATCH_SIZE", 7)
    found = predictor.score(hospital, context=context)
    np.testing.assert_allclose(found["score"], expected["score"], rtol=0, atol=1e-5)
    one = expected[KEYS].iloc[[17]]
    alone = predictor.score(hospital, samples=one, context=context)
    assert abs(alone["score"].iloc[0] - expected["score"].iloc[17]) < 1e-5


def test_the_experts_too_go_without_a_modality_that_is_left_out(
    predictor, together, hospital, hospital_tools, tmp_path
):
    bare = hospital_tools.alter(
        hospital,
        tmp_path / "bare",
        lambda frame: frame.filter(frame["text_value"].is_null()),
    )
    only_experts = Predictor(replace(predictor.bundle, stack={TASK: 1.0}))
    less = only_experts.leave_out(hospital, ["notes", "events", "graph"])
    whole, notes, events, graph = (
        less[less["left_out"].fillna("") == part]["score"].to_numpy()
        for part in ("", "notes", "events", "graph")
    )
    found = only_experts.score(bare)["score"]
    np.testing.assert_allclose(found, notes, rtol=0, atol=1e-9)
    assert (np.abs(events - whole) > 1e-5).sum() > 10
    assert np.array_equal(graph, whole)


def test_scoring_needs_no_lightgbm(predictor, scores, hospital, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    found = predictor.score(hospital, context=hospital)
    pd.testing.assert_frame_equal(found, scores)


# Interruptions


def test_a_run_stopped_between_its_networks_goes_on_where_it_stopped(
    together, read, tmp_path, monkeypatch
):
    out = tmp_path / "out"
    shutil.copytree(together / "store", out / "store")

    for stage in ("pretrain_model", "finetune_model"):
        train = getattr(build, stage)

        def stopped(member, *arguments, train=train, **options):
            if member.number == 1:
                raise Killed
            return train(member, *arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(build, stage, stopped)
            with pytest.raises(Killed):
                clinical.run(read(out, "resume=true"))
    kept = [
        out / "checkpoints" / name / "model.safetensors"
        for name in ("member-0/pretrain", "member-1/pretrain", "member-0/finetune")
    ]
    before = [path.stat().st_mtime_ns for path in kept]
    assert not (out / "checkpoints" / "member-1" / "finetune" / "model.safetensors").exists()
    clinical.run(read(out, "resume=true"))
    assert [path.stat().st_mtime_ns for path in kept] == before
    expected = pd.read_parquet(together / "predictions.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(out / "predictions.parquet"), expected)


# What is refused


def test_a_missing_library_is_told_before_anything_is_prepared(read, tmp_path, monkeypatch):
    monkeypatch.setattr(LightGBM, "is_installed", lambda: False)
    for verb in (clinical.run, clinical.pretrain, clinical.finetune):
        with pytest.raises(ConfigError, match=r"pip install 'clinical\[trees\]'"):
            verb(read(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "part", "other", "message"),
    [
        ("lightgbm", "split_feature=", "split_feature=9999999 ", "the trees of an expert are"),
        ("additive", '"intercept": ', '"intercept": 1e999', "additive: its text is"),
    ],
)
def test_a_bundle_whose_expert_is_damaged_is_refused(bundle, name, part, other, message):
    path = bundle / f"{name}-0.txt"
    path.write_text(path.read_text().replace(part, other, 1))
    seal(bundle)
    with pytest.raises(BundleError, match=f"{message} damaged"):
        Bundle.read(bundle)


@pytest.mark.parametrize(
    ("name", "told"), [("lightgbm", "feature_idx={}"), ("additive", '"n_features": {}')]
)
def test_a_bundle_whose_expert_reads_other_features_is_refused(bundle, name, told):
    path = bundle / f"{name}-0.txt"
    text = path.read_text()
    n_features = EXPERTS[name].read(text).n_features
    last = n_features - 1 if name == "lightgbm" else n_features
    assert told.format(last) in text
    path.write_text(text.replace(told.format(last), told.format(last + 1), 1))
    seal(bundle)
    with pytest.raises(BundleError, match="its parts do not fit together"):
        Bundle.read(bundle)


@pytest.mark.parametrize("name", ["lightgbm-0.txt", "additive-0.txt", "stack.json"])
def test_a_bundle_without_its_expert_or_its_weight_is_refused(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(BundleError, match="is missing"):
        Bundle.read(bundle)
    seal(bundle)
    with pytest.raises(BundleError, match="cannot be opened"):
        Bundle.read(bundle)


@pytest.mark.parametrize("text", ["{}", '{"x": 0.5}', f'{{"{TASK}": 1.5}}', f'{{"{TASK}": NaN}}'])
def test_a_bundle_with_another_stack_is_refused(bundle, text):
    (bundle / "stack.json").write_text(text)
    seal(bundle)
    with pytest.raises(BundleError, match="its parts do not fit together"):
        Bundle.read(bundle)


@pytest.mark.parametrize("name", ["model.safetensors", "memory.safetensors"])
def test_a_bundle_that_lacks_a_network_is_refused(bundle, name):
    kept = {k: v for k, v in load_file(bundle / name).items() if k.startswith("member-0")}
    save_file(kept, bundle / name)
    seal(bundle)
    with pytest.raises(BundleError, match="its parts do not fit together"):
        Bundle.read(bundle)


@pytest.mark.parametrize("change", ["ensemble: 1", "ensemble: 1000000000000"])
def test_a_bundle_of_another_number_of_networks_is_refused(bundle, change):
    path = bundle / "config.yaml"
    path.write_text(path.read_text().replace("ensemble: 2", change))
    seal(bundle)
    with pytest.raises(BundleError, match="its parts do not fit together"):
        Bundle.read(bundle)


def test_a_bundle_with_an_expert_that_is_none_is_refused(bundle):
    path = bundle / "config.yaml"
    path.write_text(path.read_text().replace("- lightgbm", "- ../lightgbm"))
    seal(bundle)
    with pytest.raises(BundleError, match="cannot be opened"):
        Bundle.read(bundle)

"""Neighbours by embedding: chosen by the pretrained network alone, once, the same everywhere."""

import clinical
from clinical import pipeline
from clinical.bundle import Bundle
from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.datamodule import StoreDataset
from clinical.encoders import ENCODERS
from clinical.errors import BundleError, ConfigError
from clinical.leak_audit import audit
from clinical.predictor import Predictor
from clinical.preparation import prepare
from clinical.training import build
from clinical.training.build import build_model, with_edges_by_embedding
from clinical.training.keys import key_embedding
from clinical.training.members import members

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

_spec = importlib.util.spec_from_file_location(
    "small_hospital", Path(__file__).parents[1] / "small_hospital.py"
)
hospital = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hospital)

KEYS = ["subject_id", "prediction_time"]
BY_EMBEDDING = {"similar": {"k": 4, "by": "embedding", "width": 6}, "same_unit": {"k": 3}}


def configure(extract: Path, out: Path, **changes) -> RunConfig:
    quick = {
        "graph": {"relations": BY_EMBEDDING},
        "pretrain": {"epochs": 1, "objectives": {"values": 1.0, "edges": 0.5}},
        "finetune": {"epochs": 1, "try_relations": False},
        "evaluate": {"resamples": 5},
        "trainer": {"accelerator": "cpu", "threads": 1},
    }
    return hospital.configure(extract, out, **(quick | changes))


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> RunConfig:
    """Of a finished run on a small hospital; not to be written to."""
    folder = tmp_path_factory.mktemp("embedded")
    config = configure(hospital.build(folder / "extract", n_subjects=60), folder / "run")
    pipeline.run(config)
    return config


@pytest.fixture(scope="module")
def predictor(config) -> Predictor:
    return Predictor.load(config.out / "bundle")


@pytest.fixture
def interrupted(config, tmp_path) -> RunConfig:
    """The same run, killed between pretraining and fine-tuning; to be gone on with."""
    shutil.copytree(config.out, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "bundle")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "member-0" / "finetune")
    return config.model_copy(update={"out": tmp_path / "run", "resume": True})


def edges(store: Store, relation: str = "similar") -> np.ndarray:
    columns = store.neighbours(relation)
    return columns["rows"].take(np.arange(columns.n_rows))


def embedded(config: RunConfig) -> Store:
    return Store.open(config.out / "store" / "embedded")


def naive_neighbours(config: RunConfig, weights: Path) -> list[list[int]]:
    """By the fused summaries of the network with those weights, every pair compared."""
    store = Store.open(config.out / "store")
    model = build_model(config, store)
    model.load_state_dict(load_file(weights))
    rows, reference = np.arange(store.n_samples), store.reference_rows
    with torch.no_grad():
        batch = StoreDataset(store.folder, config)[rows]
        fused = model.eval().embed(batch).double().numpy()
    centred = fused - fused[reference].mean(0)
    sd = fused[reference].std(0)
    scaled = centred / np.maximum(sd, 0.1 * sd.max())
    _, vectors = np.linalg.eigh(np.cov(scaled[reference].T, bias=True))
    key = scaled @ vectors[:, ::-1][:, :6]
    key /= np.linalg.norm(key, axis=1, keepdims=True)
    subject = store.samples["subject_id"].to_numpy()
    found = []
    for row in rows:
        distance = np.linalg.norm(key[reference] - key[row], axis=1)
        distance[subject[reference] == subject[row]] = np.inf
        found.append(np.argsort(distance, kind="stable")[:4].tolist())
    return found


# Who chooses


def test_the_neighbours_are_those_of_the_pretrained_network(config):
    checkpoints = config.out / "checkpoints" / "member-0"
    found = edges(embedded(config)).tolist()
    assert found == naive_neighbours(config, checkpoints / "pretrain" / "model.safetensors")
    assert found != naive_neighbours(config, checkpoints / "finetune" / "model.safetensors")


def test_no_label_and_no_further_network_reaches_a_key(config, tmp_path):
    extract = tmp_path / "extract"
    shutil.copytree(config.extract, extract)
    path = extract / "tasks" / "death" / "0.parquet"
    labels = pl.read_parquet(path)
    labels.with_columns(~pl.col("boolean_value")).write_parquet(path)
    other = configure(extract, tmp_path / "run", ensemble=2)
    pipeline.run(other)
    fitted, before = (Bundle.read(c.out / "bundle").fitted for c in (other, config))
    for kind in ("reference", "parameters"):
        found, expected = (getattr(each, kind)["similar"] for each in (fitted, before))
        assert set(found) == set(expected)
        assert all(np.array_equal(found[name], expected[name]) for name in found)
    assert np.array_equal(edges(embedded(other)), edges(embedded(config)))
    with Predictor.load(other.out / "bundle").prepared(config.extract) as (store, _):
        assert np.array_equal(edges(store), edges(embedded(config)))


def test_nobody_has_such_neighbours_while_the_network_is_pretrained(config):
    store = Store.open(config.out / "store")
    assert (edges(store) == -1).all()
    assert (edges(store, "same_unit") >= 0).any()
    assert np.array_equal(edges(embedded(config), "same_unit"), edges(store, "same_unit"))
    assert store.fitted.reference["similar"] == {}
    assert store.counts["neighbours"]["similar"] == 0
    assert embedded(config).counts["neighbours"]["similar"] == store.n_samples


def test_the_scales_are_those_of_train(config, predictor):
    store = Store.open(config.out / "store")
    model = predictor.bundle.pretrained_networks()[0].model
    embedding = key_embedding(config, store, model)
    learned = predictor.bundle.fitted.parameters["similar"]
    np.testing.assert_allclose(learned["mean"], embedding[store.reference_rows].mean(0), atol=1e-9)
    assert abs(learned["mean"] - embedding.mean(0)).max() > 1e-4


@pytest.mark.parametrize("events", [name for name in ENCODERS if name in ("event_set", "two_axis")])
def test_what_a_network_makes_of_a_sample_is_exactly_that_in_any_batch(
    config, tmp_path, monkeypatch, events
):
    modalities = {**config.dump()["modalities"], "events": {"encoder": events}}
    store = Store.open(config.out / "store")
    config = configure(config.extract, tmp_path, modalities=modalities)
    torch.manual_seed(0)
    model = build_model(config, store)
    together = key_embedding(config, store, model)
    monkeypatch.setattr("clinical.training.keys.BATCH_SIZE", 1)
    alone = key_embedding(config, store, model)
    assert together.dtype == np.float64
    np.testing.assert_allclose(alone, together, rtol=0, atol=1e-12)
    assert next(model.parameters()).dtype == torch.float32


# Wherever it is asked


def test_a_scored_extract_has_the_neighbours_it_had_in_training(config, predictor):
    with predictor.prepared(config.extract) as (store, _):
        assert np.array_equal(edges(store), edges(embedded(config)))
        assert store.counts["neighbours"]["similar"] == store.n_samples


def test_scores_embeddings_and_explanations_are_the_same_alone(config, predictor):
    scores = predictor.score(config.extract, context=config.extract)
    asked = scores[KEYS].sample(3, random_state=0)
    few = predictor.score(config.extract, samples=asked, context=config.extract)
    both = few.merge(scores, on=KEYS, suffixes=("", "_all"))
    np.testing.assert_allclose(both["score"], both["score_all"], rtol=0, atol=1e-6)
    aspect = predictor.embed(config.extract, aspect="death", samples=asked)
    everyone = predictor.embed(config.extract, aspect="death").merge(aspect[KEYS], how="right")
    np.testing.assert_allclose(everyone["dim_0"], aspect["dim_0"], atol=1e-5)
    explained = clinical.explain_neighbours(predictor, config.extract, samples=asked, top=9)
    assert (explained["relation"] == "similar").sum() == 3 * 5


def test_the_neighbours_reach_the_scores(config, predictor):
    without = predictor.leave_out(config.extract, ["similar", "notes"])
    scores = {name: each["score"].to_numpy() for name, each in without.groupby("left_out")}
    whole = without[without["left_out"].isna()]["score"].to_numpy()
    assert abs(scores["similar"] - whole).max() > 1e-6
    # Without notes the key would be another one: nobody is looked at.
    beside = predictor.score(config.extract, without=["notes", "similar"])["score"]
    np.testing.assert_array_equal(scores["notes"], beside)


def test_the_audit_passes(config, predictor):
    found = audit(predictor, config.extract, samples=10, context=config.extract)
    assert found.passed, found.table


def test_links_are_ranked_without_them(config, predictor, tmp_path):
    assert len(predictor.link(config.extract, top=1)) > 0
    plain = config.model_copy(
        update={"pretrain": config.pretrain.model_copy(update={"objectives": {}})}
    )
    bundle = Bundle(**{**vars(predictor.bundle), "config": plain})
    with pytest.raises(ConfigError, match="has not learned links"):
        Predictor(bundle).link(config.extract)


def test_a_bundle_without_the_network_that_chooses_is_refused(config, tmp_path):
    bundle = Path(shutil.copytree(config.out / "bundle", tmp_path / "bundle"))
    (bundle / "pretrained_model.safetensors").unlink()
    with pytest.raises(BundleError, match="do not fit together"):
        Bundle.read(bundle, draft=True)


# When it is asked


def refuse(*_arguments) -> None:
    raise AssertionError("the keys were computed once more")


def test_a_resumed_run_chooses_once(interrupted, config, monkeypatch):
    monkeypatch.setattr(build, "key_embedding", refuse)
    pipeline.run(interrupted)
    assert np.array_equal(edges(embedded(interrupted)), edges(embedded(config)))
    bundles = [c.out / "bundle" / "reference.safetensors" for c in (interrupted, config)]
    assert bundles[0].read_bytes() == bundles[1].read_bytes()


def test_a_choice_that_was_interrupted_is_made_anew(interrupted, config, monkeypatch):
    shutil.rmtree(interrupted.out / "store" / "embedded")
    before = {path.name for path in (interrupted.out / "store").iterdir()}
    store = Store.open(interrupted.out / "store")
    with monkeypatch.context() as patch:
        patch.setattr("clinical.relations.embedded.add_edges", refuse)
        with pytest.raises(AssertionError):
            with_edges_by_embedding(interrupted, store)
    assert {path.name for path in store.folder.iterdir()} == before
    found = with_edges_by_embedding(interrupted, store)
    assert np.array_equal(edges(found), edges(embedded(config)))


def test_other_pretrained_weights_choose_anew(interrupted, config):
    store = Store.open(interrupted.out / "store")
    (member,) = members(interrupted)
    file = member.checkpoints / "pretrain" / "model.safetensors"
    weights = load_file(file)
    draws = torch.Generator().manual_seed(0)
    noise = {name: torch.randn(each.shape, generator=draws) for name, each in weights.items()}
    save_file({name: each + 0.05 * noise[name] for name, each in weights.items()}, file)
    found = with_edges_by_embedding(interrupted, store)
    assert not np.array_equal(edges(found), edges(embedded(config)))
    assert edges(found).tolist() == naive_neighbours(interrupted, file)


@pytest.mark.parametrize("pretrain", [None, {"epochs": 0, "objectives": {"values": 1.0}}])
def test_without_pretraining_nobody_could_choose(config, tmp_path, pretrain):
    other = configure(config.extract, tmp_path / "run", pretrain=pretrain)
    with pytest.raises(ConfigError, match=r"graph\.relations\.similar: .* no pretraining; give"):
        prepare(other, other.out / "store")
    assert not other.out.exists()


def test_fine_tuning_without_the_pretrained_weights_is_refused(interrupted):
    shutil.rmtree(interrupted.out / "checkpoints")
    with pytest.raises(ConfigError, match="there are no pretrained weights; run"):
        pipeline.finetune(interrupted)


def test_only_features_have_a_weight_of_static_columns():
    from clinical.relations import RELATIONS

    with pytest.raises(ConfigError, match="only features have a static_weight"):
        RELATIONS["similar"](by="embedding", static_weight=2.0)

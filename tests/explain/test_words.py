"""Pieces find their words in the real text."""

from clinical.explain.words import REST, Pieces, by_word, word_spans
from clinical.modalities.notes import Notes, ReadChunk
from clinical.modalities.phrases import Phrases, Spelling
from clinical.modalities.topics import Topics

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_matrix

TEXT = "Café: no  fever,\nT 38.1 unbelievablelongword. The end"


@pytest.fixture(scope="module")
def statistics():
    words = "fever cafe the end no t"
    frame = pl.DataFrame(
        {
            "subject": range(9),
            "event": range(9),
            "code": "NOTE",
            "text_value": words,
            "sample": range(9),
        }
    )
    return Notes(vocabulary=220, min_subjects=1, phrases=0).fit(lambda: [frame], seed=0)


def read(texts, statistics, **options):
    notes = Notes(**options)
    limit = {"sizes": {**statistics["sizes"], "max_tokens": notes.max_tokens}}
    chunks = notes.read(texts, {**statistics, **limit})
    return chunks, Pieces.of(texts, chunks)


def test_each_word_of_the_text_is_found_where_it_stands(statistics):
    _, (pieces,) = read([TEXT], statistics)
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


@pytest.mark.parametrize("limit", [3, 8, 20])
def test_a_word_stands_in_one_place_however_chunks_cut_it(statistics, limit):
    texts = ["no fever", TEXT]
    chunks, pieces = read(texts, statistics, max_tokens=limit, max_chunks=99)
    _, (first, whole) = read(texts, statistics)
    assert len(chunks) == len(pieces) > 2
    known = {(w, s, e) for w, s, e in zip(whole.word, whole.start, whole.end, strict=True)}
    met = set()
    for chunk, found in zip(chunks, pieces, strict=True):
        np.testing.assert_array_equal(found.ids, chunk.ids)
        assert len(found.word) == len(found.start) == len(found.end) == len(chunk.ids)
        assert found.word[0] == found.word[-1] == REST
        assert (found.word[1:-1] != REST).all()
        if chunk.note == 1:
            met |= set(zip(found.word, found.start, found.end, strict=True))
    assert met == known
    assert first.word.tolist() == [REST, 0, 1, REST]


def test_the_bytes_of_a_letter_belong_to_its_word():
    spans = np.array([[0, 0], [0, 3], [3, 4], [3, 4], [4, 5], [0, 0]], dtype=np.int32)
    (pieces,) = Pieces.of(["cafés"], [ReadChunk(0, 0, np.arange(6, dtype=np.int32), spans)])
    assert pieces.word.tolist() == [REST, 0, 0, 0, 0, REST]


def test_a_piece_that_brings_its_blank_begins_a_word():
    text = "no fever2 x"
    spans = np.array([[0, 2], [2, 6], [6, 9], [9, 11], [0, 0]])
    word, start, end = word_spans(text, spans)
    assert word.tolist() == [0, 1, 1, 2, REST]
    assert [text[s:e] for s, e in zip(start[:4], end[:4], strict=True)] == ["no", "fev", "er2", "x"]


def test_words_and_the_rest_add_up(statistics):
    _, (pieces,) = read([TEXT], statistics)
    rng = np.random.default_rng(0)
    values, slope = rng.normal(size=len(pieces.ids)), np.array([2.0, -1.0])
    nothing = Phrases(
        np.empty(0, np.int64),
        np.empty((0, 2), np.float32),
        np.array([0.5, 0.25], np.float32),
        Spelling([], [], statistics["special_pieces"]),
        Topics.fit(csr_matrix((0, 0)), width=0, seed=0),
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

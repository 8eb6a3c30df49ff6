from clinical.errors import ConfigError
from clinical.modalities.chunks import Chunker, NotePieces, overlap_of
from clinical.modalities.sentences import Wordings
from clinical.modalities.tokenizer import plain
from clinical.modalities.wordpiece import train, words

import gzip
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import Tokenizer

SHARED_DATA = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
COUNTS = dict.fromkeys(["pain", "no", "mild", "oedema", "today"], 50)


@cache
def trained() -> Tokenizer:
    return train(COUNTS, vocabulary=400)


def chunker(max_tokens: int, overlap: int | None = None, tokenizer: Tokenizer | None = None):
    return Chunker(tokenizer or trained(), cls=2, sep=3, max_tokens=max_tokens, overlap=overlap)


def read(made: Chunker, text: str) -> NotePieces:
    (note,) = made.read([text], lines=Wordings())
    return note


def cut(made: Chunker, text: str) -> list[NDArray[np.int64]]:
    note = read(made, text)
    return made.cut(note, np.arange(len(note.ids)))


def texts_of(made: Chunker, text: str) -> list[str]:
    spans = made.spans(text)
    return [text[spans[places[0], 0] : spans[places[-1], 1]] for places in cut(made, text)]


def test_chunks_end_with_sentences_and_share_one() -> None:
    text = "Mild pain today. No oedema. Pain mild. No pain. Mild oedema today."
    assert texts_of(chunker(14, 3), text) == [
        "Mild pain today. No oedema. Pain mild.",
        "Pain mild. No pain. Mild oedema today.",
    ]


def test_successive_chunks_share_what_was_asked_for() -> None:
    places = cut(chunker(34, 8), "mild " * 80)
    assert [(p[0], p[-1] + 1) for p in places] == [(0, 32), (24, 56), (48, 80)]
    # Sentences of six pieces: two of them are nearer to eight than one.
    places = cut(chunker(34, 8), "mild pain mild pain today. " * 10)
    assert [(p[0], p[-1] + 1) for p in places] == [(0, 30), (24, 54), (48, 60)]


def test_a_line_end_is_as_good_as_a_full_stop() -> None:
    lines = "pain mild today no\noedema\nno pain no pain no"
    assert texts_of(chunker(8, 0), lines) == ["pain mild today no\noedema", "no pain no pain no"]


def test_without_a_sentence_end_near_chunks_end_with_words() -> None:
    text = "zyqx " * 10  # four pieces a word
    found = texts_of(chunker(12, 2), text)
    assert all(chunk.split() == ["zyqx"] * len(chunk.split()) for chunk in found)
    # And an endless word is cut where it must be.
    places = cut(chunker(12, 2), "zyqx" * 10)
    assert [len(p) for p in places[:-1]] == [10] * (len(places) - 1)


def test_a_chunk_is_no_more_than_a_quarter_empty_for_the_sake_of_a_sentence() -> None:
    text = "Pain. " + "mild " * 30
    assert [len(places) for places in cut(chunker(18, 0), text)] == [16, 16]


@given(
    text=st.text("aé. \n\t[!中b", max_size=120),
    max_tokens=st.integers(3, 20),
    share=st.floats(0, 1),
)
def test_chunks_fit_move_on_and_miss_nothing(text: str, max_tokens: int, share: float) -> None:
    made = chunker(max_tokens, int(share * ((max_tokens - 2) // 4)))
    note = read(made, text)
    places = made.cut(note, np.arange(len(note.ids)))
    assert all(len(p) <= max_tokens - 2 for p in places)
    assert all(np.array_equal(p, np.arange(p[0], p[0] + len(p))) for p in places if len(p))
    assert np.array_equal(np.unique(np.concatenate(places)), np.arange(len(note.ids)))
    for before, after in pairwise(places):
        assert before[0] < after[0] <= before[-1] + 1
        assert before[-1] < after[-1]
        assert before[-1] + 1 - after[0] <= 2 * made.overlap
    # The whole text, and nothing else, as the tokenizer alone reads it.
    assert note.ids.tolist() == trained().encode(text, add_special_tokens=False).ids


def test_a_short_note_is_one_chunk_as_the_tokenizer_writes_it() -> None:
    made = chunker(256)
    note = read(made, "Mild pain, no oedema.")
    (places,) = made.cut(note, np.arange(len(note.ids)))
    expected = trained().encode("Mild pain, no oedema.").ids
    assert made.with_ends(note.ids[places]).tolist() == expected
    (whole,) = made.whole(["Mild pain, no oedema."])
    assert whole.tolist() == expected


def test_a_note_is_read_the_same_beside_others_and_without_asking_for_copies() -> None:
    made, text = chunker(14), "Mild pain today. No oedema. " * 5
    beside = list(made.read(["no " * 500, text, "x"] * 60, lines=Wordings()))[1::3]
    (plain,) = made.read([text], lines=None)
    alone = read(made, text)
    for note in (*beside, plain):
        assert np.array_equal(note.ids, alone.ids)
        assert np.array_equal(note.line, alone.line)


def test_bytes_are_cut_like_pieces_of_words(byte_level) -> None:
    text = "Mild dyspnoea, no oedema. Pain today.\nA café visit; no pain. " * 3
    made = chunker(24, 4, byte_level)
    found = texts_of(made, text)
    assert len(found) > 2
    assert all(chunk.rstrip()[-1] in ".;" for chunk in found)
    assert all(chunk.split()[0] in {"Mild", "Pain", "A", "no"} for chunk in found)


@pytest.mark.parametrize(("max_tokens", "overlap"), [(32, 8), (32, -1), (3, 1)])
def test_an_overlap_that_leaves_little_new_is_refused(max_tokens, overlap) -> None:
    with pytest.raises(ConfigError, match=r"notes.overlap: -?\d does not lie between 0 and"):
        overlap_of(max_tokens, overlap)


def test_an_eighth_is_shared_by_default() -> None:
    assert [overlap_of(n, None) for n in (3, 8, 256, 512)] == [0, 1, 32, 64]


def real_texts(n: int) -> Sequence[str]:
    with gzip.open(SHARED_DATA / "mtsamples" / "mtsamples.csv.gz") as file:
        texts = pl.read_csv(file.read(), columns=["transcription"]).to_series().drop_nulls()
    return texts.unique(maintain_order=True).head(n).to_list()


@pytest.mark.shared_data("mtsamples")
def test_chunks_of_real_notes_cover_them_and_mostly_end_with_sentences() -> None:
    texts = real_texts(200)
    counts = sum((words(text) for text in texts), Counter())
    made = chunker(128, tokenizer=(tokenizer := train(counts, vocabulary=4000)))
    n_ends, n_good = 0, 0
    for text in texts:
        spans, places = made.spans(text), cut(made, text)
        pieces = [plain(tokenizer.id_to_token(i)) for i in read(made, text).ids.tolist()]
        written = [text[start:end].lower() for start, end in spans.tolist()]
        assert all(p == w for p, w in zip(pieces, written, strict=True) if w.isascii())
        is_read = np.zeros(len(text), dtype=bool)
        for start, end in spans[np.unique(np.concatenate(places))].tolist():
            is_read[start:end] = True
        assert all(c.isspace() for c, seen in zip(text, is_read, strict=True) if not seen)
        ends = [text[spans[chunk[-1], 1] - 1] for chunk in places[:-1]]
        n_ends += len(ends)
        n_good += sum(end in ".!?;," for end in ends)
    assert n_ends > 500
    # The rest lies in sentences longer than a quarter of a chunk.
    assert n_good / n_ends > 0.8

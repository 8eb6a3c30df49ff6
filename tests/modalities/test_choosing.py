from clinical.modalities.choosing import Chooser
from clinical.modalities.chunk_table import ChunkTable
from clinical.modalities.chunks import Chunker, NotePieces
from clinical.modalities.sentences import Wordings, sentence_starts
from clinical.modalities.wordpiece import train

from collections import Counter
from functools import cache

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

OXYGEN = "He needs two litres of oxygen. "
WALKS = "She walks with help to the bathroom. "
NEW = "Now the lungs are clear again today. "
PAIN = "No pain. "


@cache
def chunker(max_tokens: int = 64) -> Chunker:
    words = " ".join((OXYGEN, WALKS, NEW, PAIN)).lower().replace(".", " .").split()
    tokenizer = train(dict.fromkeys(words, 50), vocabulary=400)
    return Chunker(tokenizer, cls=2, sep=3, max_tokens=max_tokens, overlap=0)


def notes_of(*texts: str, max_tokens: int = 64) -> list[NotePieces]:
    return list(chunker(max_tokens).read(texts, lines=Wordings()))


def read(
    *texts: str, max_chunks: int = 100, max_tokens: int = 64, drop_copied: bool = True
) -> tuple[list[list[str]], dict[str, int]]:
    """The text of each chunk of each note, and the counts above 0."""
    chooser = Chooser(chunker(max_tokens), max_chunks, drop_copied)
    choice = chooser.choose(notes_of(*texts, max_tokens=max_tokens))
    spans = [chunker().spans(text) for text in texts]
    chunks = [
        [" ".join(text[a:b] for a, b in span[places]) for places in found]
        for text, span, found in zip(texts, spans, choice.chunks, strict=True)
    ]
    return chunks, {name: count for name, count in choice.counts.items() if count}


def spaced(text: str) -> str:
    return text.strip().replace(".", " .")


def test_a_line_of_an_earlier_note_is_left_out_of_later_ones() -> None:
    chunks, counts = read(OXYGEN + PAIN, "HE NEEDS  two\nlitres of oxygen. " + PAIN, PAIN + OXYGEN)
    # Broken anew, the second one's line is no copy; the third one's is, and short ones stay.
    assert [len(found) for found in chunks] == [1, 1, 1]
    assert chunks[2] == [spaced(PAIN)]
    assert counts == {"copied_lines": 1}


def test_blanks_and_case_make_no_difference() -> None:
    chunks, counts = read(OXYGEN, NEW + OXYGEN.upper().replace(" ", "\t "))
    assert chunks[1] == [spaced(NEW)]
    assert counts == {"copied_lines": 1}


def test_what_a_note_says_twice_itself_is_no_copy() -> None:
    chunks, counts = read(OXYGEN + OXYGEN)
    assert chunks == [[spaced(OXYGEN) + " " + spaced(OXYGEN)]]
    assert counts == {}


def test_a_note_of_copies_alone_is_left_out_and_counted() -> None:
    chunks, counts = read(OXYGEN + NEW, OXYGEN, PAIN)
    assert [len(found) for found in chunks] == [1, 0, 1]
    assert counts == {"copied_lines": 1, "copied_notes": 1}


def test_copies_stay_unless_asked_for() -> None:
    chunks, counts = read(OXYGEN, OXYGEN, drop_copied=False)
    assert chunks[0] == chunks[1] == [spaced(OXYGEN)]
    assert counts == {}


def test_the_newest_notes_are_whole_and_the_one_before_has_its_beginning() -> None:
    long = OXYGEN + WALKS + NEW  # three chunks
    chunks, counts = read(PAIN, long, PAIN, NEW, max_chunks=4, max_tokens=10, drop_copied=False)
    assert chunks == [[], [spaced(OXYGEN), spaced(WALKS)], [spaced(PAIN)], [spaced(NEW)]]
    assert counts == {"left_out_notes": 1, "left_out_chunks": 1}
    chunks, counts = read(long, max_chunks=2, max_tokens=10)
    assert chunks == [[spaced(OXYGEN), spaced(WALKS)]]
    assert counts == {"left_out_chunks": 1}
    chunks, counts = read(long, long, max_chunks=3, max_tokens=10, drop_copied=False)
    assert [len(found) for found in chunks] == [0, 3]
    assert counts == {"left_out_notes": 1}


def test_what_is_not_read_whole_takes_nothing_with_it() -> None:
    long = OXYGEN + WALKS + NEW
    chunks, counts = read(long, NEW, max_chunks=3, max_tokens=10)
    # Reading the first note whole leaves nothing of the second: both fit.
    assert [len(found) for found in chunks] == [3, 0]
    chunks, counts = read(long, NEW, max_chunks=2, max_tokens=10)
    # Its end is cut off, so the line stays where it stands again.
    assert chunks == [[spaced(OXYGEN)], [spaced(NEW)]]
    assert counts == {"left_out_chunks": 2}


LINES = st.sampled_from([OXYGEN, WALKS, NEW, PAIN, "\n"])
TEXT = st.lists(LINES, min_size=1, max_size=5).map("".join).filter(str.strip)


@given(st.lists(TEXT, min_size=1, max_size=5), st.integers(1, 8), st.booleans())
def test_whatever_is_read_whole_is_read_once_at_least(texts, max_chunks, drop_copied) -> None:
    notes = notes_of(*texts, max_tokens=12)
    choice = Chooser(chunker(12), max_chunks, drop_copied).choose(notes)
    assert 1 <= sum(map(len, choice.chunks)) <= max_chunks
    counts, copied = choice.counts, set[int]()
    first = counts["left_out_notes"] + bool(counts["left_out_chunks"])
    assert all(not found for found in choice.chunks[: counts["left_out_notes"]])
    wordings = Wordings()
    for text, note, chunks in zip(texts[first:], notes[first:], choice.chunks[first:], strict=True):
        kept = set(np.concatenate([np.empty(0, int), *chunks]).tolist())
        said = wordings.of(text, sentence_starts(text))
        for line in range(len(said)):
            places = set(np.flatnonzero(note.line == line).tolist())
            is_copy = drop_copied and said[line] in copied
            assert places <= kept or (is_copy and not places & kept)
            assert not (is_copy and places & kept)
        copied |= set(said[said >= 0].tolist())
    # Notes of which nothing is read make no difference to what is read of the others.
    read = [n for n, found in enumerate(choice.chunks) if found]
    again = Chooser(chunker(12), max_chunks, drop_copied).choose([notes[n] for n in read])
    expected = [[c.tolist() for c in choice.chunks[n]] for n in read]
    assert [[c.tolist() for c in found] for found in again.chunks] == expected


def naive(notes: list[NotePieces], made: Chunker, max_chunks: int, drop_copied: bool):
    """Where reading begins is tried from the oldest note on, and all are cut each time."""
    for first in range(len(notes) + 1):
        earlier, found, n_lines = set[int](), [], 0
        for note in notes[first:]:
            is_copy = np.array([drop_copied and w in earlier for w in note.wording.tolist()])
            places = np.flatnonzero(~is_copy[note.line])
            found.append(made.cut(note, places) if len(places) or not len(note.ids) else [])
            n_lines += int(is_copy.sum())
            earlier |= set(note.wording.tolist()) - {-1}
        if (room := max_chunks - sum(map(len, found))) >= 0:
            break
    begun = made.cut(notes[first - 1], np.arange(len(notes[first - 1].ids))) if first else []
    before = [[] for _ in notes[: max(first - 1, 0)]]
    counts = {
        "left_out_notes": first - bool(begun[:room]),
        "left_out_chunks": len(begun[room:]) if begun[:room] else 0,
        "copied_lines": n_lines,
        "copied_notes": sum(not chunks for chunks in found),
    }
    return [*before, *([begun[:room]] if first else []), *found], counts


# Read whole, the older note makes room by taking its line from the newer one.
@example([OXYGEN, OXYGEN * 3], 2, 10, True)
@given(st.lists(TEXT, max_size=9), st.integers(1, 8), st.integers(8, 14), st.booleans())
def test_what_is_read_is_what_trying_every_beginning_finds(
    texts, max_chunks, max_tokens, drop_copied
) -> None:
    notes = notes_of(*texts, max_tokens=max_tokens)
    choice = Chooser(chunker(max_tokens), max_chunks, drop_copied).choose(notes)
    chunks, counts = naive(notes, chunker(max_tokens), max_chunks, drop_copied)
    assert [[c.tolist() for c in f] for f in choice.chunks] == [
        [c.tolist() for c in f] for f in chunks
    ]
    assert choice.counts == counts


@pytest.fixture
def n_cuts(monkeypatch) -> Counter[int]:
    """How often each note is cut, by its number of pieces."""
    counts, bounds = Counter[int](), Chunker.bounds

    def counting(made: Chunker, note: NotePieces, kept: np.ndarray) -> list[tuple[int, int]]:
        counts[len(note.ids)] += 1
        return bounds(made, note, kept)

    monkeypatch.setattr(Chunker, "bounds", counting)
    return counts


@pytest.mark.parametrize("drop_copied", [False, True])
def test_predictions_that_roll_on_cut_a_note_once(n_cuts, drop_copied) -> None:
    notes = dict(enumerate(notes_of(*(NEW + PAIN * n for n in range(1, 31)), max_tokens=12)))
    table = ChunkTable(Chooser(chunker(12), 20, drop_copied), notes)
    seen = [(sample, event, 1.0) for sample in range(30) for event in range(sample + 1)]
    table.add(pl.DataFrame(seen, schema=["sample", "event", "hours"], orient="row"))
    # A second time without the line that all have, and there the first one never.
    assert set(n_cuts.values()) <= {1, 2} if drop_copied else set(n_cuts.values()) == {1}


def test_notes_that_do_not_fit_are_not_cut(n_cuts) -> None:
    notes = notes_of(*(NEW + PAIN * n for n in range(1, 31)), max_tokens=12)
    Chooser(chunker(12), 5, drop_copied=False).choose(notes)
    assert sum(n_cuts.values()) <= 2

from clinical.modalities.phrases import LONGEST_SENTENCE, Phrases, cut

import json
from itertools import chain

import numpy as np
import pytest

END, FIRST_WORD = 5, 6
LIKES, NOT, HATES = 6, 7, 8
THINGS = np.arange(10, 30)


def sentence(*pieces: int) -> list[int]:
    return [*pieces, END]


def note(*sentences: list[int]) -> np.ndarray:
    return np.array([2, *chain.from_iterable(sentences), 3], dtype=np.int32)


def draw_notes(n: int, *, seed: int, same_mind: bool) -> tuple[list[np.ndarray], np.ndarray]:
    """Notes of four sentences each: a cheerful writer likes, or does not hate, things.

    Every single word is as frequent with one kind of writer as with the other. Without the same
    mind a note's sentences have each a writer of their own.
    """
    rng = np.random.default_rng(seed)
    cheerful = rng.random(n) < 0.5
    notes = []
    for mood in cheerful:
        moods = np.full(4, mood) if same_mind else rng.random(4) < 0.5
        negated = rng.random(4) < 0.5
        verbs = np.where(moods != negated, LIKES, HATES)
        things = rng.choice(THINGS, 4)
        pairs = zip(negated, verbs, things, strict=True)
        notes.append(note(*(sentence(*[NOT] * int(no), int(v), int(t)) for no, v, t in pairs)))
    return notes, cheerful


def fit(notes: list[np.ndarray], **options: object) -> Phrases:
    rows = np.arange(len(notes))
    settings = {"record": rows, "subject": rows, "width": 8, "min_subjects": 5, "seed": 0}
    return Phrases.fit(notes, ends=(END,), first_word=FIRST_WORD, **{**settings, **options})


@pytest.fixture(scope="module")
def fitted() -> Phrases:
    return fit(draw_notes(800, seed=0, same_mind=True)[0])


def test_what_the_sentences_of_a_record_share_comes_first(fitted) -> None:
    notes, cheerful = draw_notes(300, seed=1, same_mind=True)
    said = fitted.apply(notes)
    assert abs(np.corrcoef(said[:, 0], cheerful)[0, 1]) > 0.9
    assert np.argmax(said.std(0)) == 0


def test_sentences_that_share_nothing_say_next_to_nothing(fitted) -> None:
    notes = draw_notes(800, seed=2, same_mind=False)[0]
    alone = fit(notes).apply(notes)
    shared = fitted.apply(draw_notes(300, seed=1, same_mind=True)[0])
    assert alone.std(0).max(initial=0.0) < 0.2 * shared.std(0).max()


def test_notes_of_one_record_are_taken_together() -> None:
    whole, cheerful = draw_notes(800, seed=0, same_mind=True)
    halves = [half for n in whole for half in (note(list(n[1:7])), note(list(n[7:-1])))]
    rows = np.repeat(np.arange(len(whole)), 2)
    found = fit(halves, record=rows, subject=rows)
    said = found.apply(whole)
    assert abs(np.corrcoef(said[:, 0], cheerful)[0, 1]) > 0.9


def test_a_phrase_of_few_subjects_is_not_counted() -> None:
    notes, _ = draw_notes(800, seed=0, same_mind=True)
    name = note(sentence(99), sentence(99), sentence(99))
    one = np.r_[np.arange(len(notes)), [0] * 30]
    found = fit([*notes, *[name] * 30], subject=one, record=np.arange(len(one)))
    hashed, _, _ = cut([name], ends=(END,), first_word=FIRST_WORD)
    assert not np.isin(hashed, found.hashes).any()
    assert found.width


def test_a_note_says_the_same_alone_and_among_others(fitted) -> None:
    notes, _ = draw_notes(20, seed=3, same_mind=True)
    together = fitted.apply(notes)
    alone = np.concatenate([fitted.apply([n]) for n in notes])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_a_note_without_a_word_says_nothing(fitted) -> None:
    said = fitted.apply([note(), note(sentence(), sentence()), note(sentence(LIKES, 10))])
    assert not said[:2].any()
    assert said[2].any()
    assert fitted.apply([]).shape == (0, fitted.width)


@pytest.mark.parametrize("n", [0, 1, 10])
def test_too_few_records_give_no_direction(n: int) -> None:
    notes = draw_notes(n, seed=0, same_mind=True)[0]
    found = fit(notes)
    assert found.width == 0
    assert found.apply(notes).shape == (n, 0)


def test_survives_json(fitted) -> None:
    again = Phrases.from_json(json.loads(json.dumps(fitted.to_json())))
    notes, _ = draw_notes(50, seed=3, same_mind=True)
    np.testing.assert_allclose(again.apply(notes), fitted.apply(notes), atol=2e-3)


def test_the_same_seed_learns_the_same() -> None:
    notes, _ = draw_notes(200, seed=0, same_mind=True)
    assert fit(notes).to_json() == fit(notes).to_json()


def test_phrases_do_not_cross_a_sentence_or_a_note() -> None:
    hashed, where, note_of = cut(
        [note(sentence(10, 11), sentence(12)), note(sentence(13))], ends=(END,), first_word=6
    )
    assert np.bincount(where).tolist() == [3, 1, 1]
    assert note_of.tolist() == [0, 0, 1]
    assert len(np.unique(hashed)) == 5


def test_long_sentences_are_cut() -> None:
    _, where, _ = cut([np.full(3 * LONGEST_SENTENCE, 9)], ends=(END,), first_word=6)
    assert where.max() == 2

from clinical.modalities.phrases import LONGEST_SENTENCE, Phrases, Spelling, cut
from clinical.modalities.topics import Topics

import json
from itertools import chain

import numpy as np
import pytest
from scipy.sparse import csr_matrix

END = 5
SPELLING = Spelling(ends=[END], digits=[40, 41], special=[*range(6)])
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


def sentences_of(whole: np.ndarray) -> list[list[int]]:
    ends = np.flatnonzero(whole == END)
    return [[*part[part >= 6], END] for part in np.split(whole, ends + 1)[:-1]]


def fit(notes: list[np.ndarray], **options: object) -> Phrases:
    rows = np.arange(len(notes))
    settings = {
        "record": rows,
        "subject": rows,
        "width": 8,
        "topics": 0,
        "min_subjects": 5,
        "seed": 0,
    }
    return Phrases.fit(notes, spelling=SPELLING, **{**settings, **options})


def draw_noise(n: int, *, seed: int) -> list[np.ndarray]:
    """Notes of six sentences of words drawn at random, more phrases than notes."""
    rng = np.random.default_rng(seed)
    words = rng.zipf(1.3, (n, 6, 5)).clip(max=400) + 50
    return [note(*(sentence(*map(int, row)) for row in own)) for own in words]


@pytest.fixture(scope="module")
def fitted() -> Phrases:
    return fit(draw_notes(800, seed=0, same_mind=True)[0])


def test_what_the_sentences_of_a_record_share_comes_first(fitted) -> None:
    notes, cheerful = draw_notes(300, seed=1, same_mind=True)
    said = fitted.apply(notes)
    assert abs(np.corrcoef(said[:, 0], cheerful)[0, 1]) > 0.9
    assert np.argmax(said.std(0)) == 0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sentences_that_share_nothing_say_next_to_nothing(seed) -> None:
    for notes in (draw_noise(400, seed=seed), draw_notes(800, seed=seed, same_mind=False)[0]):
        said = fit(notes, width=32).apply(notes)
        assert said.std(0).max(initial=0.0) < 0.05


def test_a_direction_is_trusted_as_far_as_it_holds_for_others(fitted) -> None:
    fresh = [sentences_of(n) for n in draw_notes(3000, seed=9, same_mind=True)[0]]
    first = fitted.apply([note(*own[:2]) for own in fresh])[:, 0]
    second = fitted.apply([note(*own[2:]) for own in fresh])[:, 0]
    alike = np.corrcoef(first, second)[0, 1]
    # Four sentences are more reliable than the two of a half (Spearman and Brown).
    reliability = 2 * alike / (1 + alike)
    claimed = fitted.apply(draw_notes(800, seed=0, same_mind=True)[0])[:, 0].std()
    assert claimed == pytest.approx(reliability, abs=0.1)


def test_notes_of_one_record_are_taken_together() -> None:
    whole, cheerful = draw_notes(800, seed=0, same_mind=True)
    parts = [sentences_of(n) for n in whole]
    single = [note(one) for own in parts for one in own]
    rows = np.repeat(np.arange(len(whole)), [len(own) for own in parts])
    assert fit(single, record=np.arange(len(single)), subject=rows).width == 0
    said = fit(single, record=rows, subject=rows).apply(whole)
    assert abs(np.corrcoef(said[:, 0], cheerful)[0, 1]) > 0.9


def test_a_line_copied_within_a_record_is_no_agreement() -> None:
    notes = [np.concatenate([n, n[1:-1]]) for n in draw_noise(400, seed=0)]
    assert fit(notes, width=32).apply(notes).std(0).max(initial=0.0) < 0.05


@pytest.mark.parametrize("words", [[], [10], [10, 11]])
def test_next_to_no_phrase_gives_no_direction(words) -> None:
    notes = [note(*(sentence(w) for w in words))] * 200
    found = fit(notes)
    assert found.width == 0


def test_a_phrase_of_few_subjects_is_not_counted() -> None:
    notes, _ = draw_notes(800, seed=0, same_mind=True)
    name = note(sentence(99), sentence(99), sentence(99))
    one = np.r_[np.arange(len(notes)), [0] * 30]
    found = fit([*notes, *[name] * 30], subject=one, record=np.arange(len(one)))
    hashed, _, _ = cut([name], SPELLING)
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


def test_survives_json() -> None:
    fitted = fit(draw_notes(800, seed=0, same_mind=True)[0], topics=6)
    again = Phrases.from_json(json.loads(json.dumps(fitted.to_json())))
    notes, _ = draw_notes(50, seed=3, same_mind=True)
    np.testing.assert_allclose(again.apply(notes), fitted.apply(notes), atol=2e-3)


def test_the_same_seed_learns_the_same() -> None:
    notes, _ = draw_notes(200, seed=0, same_mind=True)
    assert fit(notes).to_json() == fit(notes).to_json()


def test_phrases_do_not_cross_a_sentence_or_a_note() -> None:
    notes = [note(sentence(10, 11), sentence(12)), note(sentence(13))]
    hashed, where, note_of = cut(notes, SPELLING)
    assert np.bincount(where).tolist() == [3, 1, 1]
    assert note_of.tolist() == [0, 0, 1]
    assert len(np.unique(hashed)) == 5


def test_long_sentences_are_cut() -> None:
    _, where, _ = cut([np.full(3 * LONGEST_SENTENCE, 9)], SPELLING)
    assert where.max() == 2


def test_a_point_between_digits_ends_nothing() -> None:
    _, where, _ = cut([np.array([10, 40, END, 41, 11, END, 12])], SPELLING)
    assert where.max() == 1


def test_a_phrase_does_not_reach_over_a_special_piece() -> None:
    hashed, _, _ = cut([np.array([10, 1, 11])], SPELLING)
    assert len(hashed) == 2


@pytest.mark.parametrize("topics", [0, 6])
def test_what_a_note_says_is_shared_out_among_its_pieces(topics) -> None:
    fitted = fit(draw_notes(800, seed=0, same_mind=True)[0], topics=topics)
    assert fitted.width > topics
    gradient = np.random.default_rng(0).normal(size=fitted.width)
    for words in draw_notes(20, seed=4, same_mind=True)[0]:
        shares = fitted.share_out(words, gradient)
        assert shares.sum() == pytest.approx(fitted.apply([words])[0] @ gradient, abs=1e-5)
        assert (shares[np.isin(words, SPELLING.special)] == 0).all()
        assert np.abs(shares).max() > 1e-3


def test_a_phrase_that_a_sentence_repeats_is_shared_out_once() -> None:
    hashes = np.sort(np.unique(cut([note([10, 11])], SPELLING)[0]))
    one = cut([note([10])], SPELLING)[0]
    vectors = np.where(
        hashes == one, 1.0, np.where(np.isin(hashes, cut([note([11])], SPELLING)[0]), 0.0, 4.0)
    )
    topics = Topics.fit(csr_matrix((0, len(hashes))), width=0, seed=0)
    column = vectors[:, None].astype(np.float32)
    known = Phrases(hashes, column, np.ones(1, np.float32), SPELLING, topics)
    # Twice "10", worth 1 together, and twice "10 11", worth 4 together, a quarter at each piece; an
    # average sentence says 1, a quarter of which is taken off each piece.
    shares = known.share_out(note(sentence(10, 11, 10, 11)), np.ones(1))
    assert shares.tolist() == [0, 1.25, 0.75, 1.25, 0.75, 0, 0]
    assert not known.share_out(note(), np.ones(1)).any()

"""Topics of notes: rare phrases count more, in notes of any length, as few labels as there are."""

from clinical.modalities.topics import Topics, weigh

import json

import numpy as np
import pytest
from scipy.sparse import csr_matrix


def draw(n: int, *, seed: int) -> tuple[csr_matrix, np.ndarray]:
    """Counts of 60 phrases of which every note has many; the last ten are of one subject alone."""
    rng = np.random.default_rng(seed)
    about = rng.random(n) < 0.3
    rate = np.full((n, 60), 0.8)
    rate[:, 50:] = np.where(about, 0.6, 0.02)[:, None]
    return csr_matrix(rng.poisson(rate).astype(np.float32)), about


def test_weights_are_those_of_the_textbook() -> None:
    counts = csr_matrix(np.array([[1.0, 0, 4], [2, 0, 0]]))
    weight = Topics.fit(counts, width=1, seed=0).weight
    # One more note than there are, over one more than have the phrase; 1 for one that all have.
    assert weight == pytest.approx([1.0, 1 + np.log(3), 1 + np.log(1.5)])
    long = np.hypot(1.0, (1 + np.log(4)) * weight[2])
    expected = [[1 / long, 0, (1 + np.log(4)) * weight[2] / long], [1, 0, 0]]
    assert weigh(counts, weight).toarray() == pytest.approx(np.array(expected))


def test_what_some_notes_are_about_comes_first() -> None:
    topics = Topics.fit(draw(600, seed=0)[0], width=4, seed=0)
    counts, about = draw(300, seed=1)
    said = topics.apply(counts)
    assert np.abs(np.corrcoef(said.T, about)[-1, :4]).max() > 0.9


def test_a_note_that_says_everything_twice_says_no_more() -> None:
    counts, _ = draw(100, seed=0)
    topics = Topics.fit(counts, width=4, seed=0)
    once = csr_matrix((counts > 0).astype(np.float32))
    repeated = csr_matrix((np.ones(once.nnz), once.indices, once.indptr), once.shape) * 5
    np.testing.assert_allclose(topics.apply(once), topics.apply(repeated), atol=1e-5)


def test_an_average_note_says_nothing_and_neither_does_an_empty_one() -> None:
    counts, _ = draw(200, seed=0)
    topics = Topics.fit(counts, width=4, seed=0)
    assert np.abs(topics.apply(counts).mean(0)).max() < 1e-3
    assert not topics.apply(csr_matrix((2, 60))).any()


def test_there_are_no_more_topics_than_notes_or_phrases_tell_apart() -> None:
    counts, _ = draw(5, seed=0)
    assert Topics.fit(counts, width=30, seed=0).width == 4
    nothing = Topics.fit(csr_matrix((0, 3)), width=30, seed=0)
    assert nothing.apply(csr_matrix((2, 3))).shape == (2, 0)


def test_what_phrases_are_worth_adds_up() -> None:
    counts, _ = draw(200, seed=0)
    topics = Topics.fit(counts, width=4, seed=0)
    gradient = np.array([1.0, -2.0, 0.5, 3.0])
    for row in range(20):
        worth, usual = topics.worth(counts[row], gradient)
        assert worth.sum() - usual == pytest.approx(
            topics.apply(counts[row])[0] @ gradient, abs=1e-5
        )


def test_survives_json() -> None:
    counts, _ = draw(200, seed=0)
    topics = Topics.fit(counts, width=4, seed=0)
    again = Topics.from_json(json.loads(json.dumps(topics.to_json())))
    np.testing.assert_array_equal(topics.apply(counts), again.apply(counts))

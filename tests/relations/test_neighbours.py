import clinical  # noqa: F401
from clinical.relations import neighbours
from clinical.relations.neighbours import GRID, edges, latest, nearest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st


def _naive_nearest(query, reference, query_subject, reference_subject, reference_row, k):
    rows = []
    for key, subject in zip(query, query_subject, strict=True):
        order = sorted(
            (round(float(np.sqrt(round(float(np.square(key - other).sum()), 9))) / GRID), row)
            for other, whose, row in zip(reference, reference_subject, reference_row, strict=True)
            if whose != subject
        )
        rows.append([row for _, row in order][:k])
    return rows


def _drop_missing(rows):
    return [[row for row in line if row >= 0] for line in rows.tolist()]


small = st.integers(0, 3)


@given(
    st.lists(st.tuples(small, small, small), max_size=12),
    st.lists(st.tuples(small, small, small), max_size=12),
    st.integers(1, 5),
    st.integers(0, 100),
)
def test_the_nearest_are_those_of_a_loop_with_ties_by_row(queries, references, k, seed):
    query = np.array([q[:2] for q in queries], dtype=float).reshape(-1, 2)
    reference = np.array([r[:2] for r in references], dtype=float).reshape(-1, 2)
    subjects = {
        "query_subject": np.array([q[2] for q in queries], dtype=np.int64),
        "reference_subject": np.array([r[2] for r in references], dtype=np.int64),
        "reference_row": np.random.default_rng(seed).permutation(len(references)),
    }
    rows, distance = nearest(query, reference, **subjects, k=k)
    assert rows.shape == distance.shape == (len(queries), k)
    assert _drop_missing(rows) == _naive_nearest(query, reference, *subjects.values(), k)
    assert np.array_equal(np.isinf(distance), rows < 0)


def test_a_query_has_the_same_neighbours_alone_in_any_block_and_in_any_order(monkeypatch):
    generator = np.random.default_rng(0)
    base = np.round(generator.normal(size=(40, 16)), 6)
    reference = base[generator.integers(0, 40, 300)]  # many exact duplicates
    query = np.round(base[generator.integers(0, 40, 60)] + 1e-3, 6)
    nobody = np.full(60, -1)
    given = {
        "reference_subject": np.arange(300),
        "reference_row": np.arange(300),
        "k": 9,
    }
    together, _ = nearest(query, reference, query_subject=nobody, **given)
    alone = [
        nearest(query[i : i + 1], reference, query_subject=nobody[:1], **given)[0][0]
        for i in range(60)
    ]
    assert np.array_equal(together, alone)
    monkeypatch.setattr(neighbours, "_BLOCK", 2100)
    monkeypatch.setattr(neighbours, "_FEWEST", 1)
    assert np.array_equal(nearest(query, reference, query_subject=nobody, **given)[0], together)
    order = generator.permutation(60)
    assert np.array_equal(
        nearest(query[order], reference, query_subject=nobody, **given)[0], together[order]
    )


def _naive_latest(samples, references, rows, k, window):
    found = []
    for group, time, subject in samples:
        fitting = [
            (time - then, row)
            for (other, then, whose), row in zip(references, rows, strict=True)
            if group != 0 and other == group and whose != subject and 0 <= time - then <= window
        ]
        found.append([row for _, row in sorted(fitting)][:k])
    return found


timed = st.tuples(st.integers(0, 3), st.integers(-6, 6), st.integers(0, 3))


@given(
    st.lists(timed, max_size=10),
    st.lists(timed, max_size=20),
    st.integers(1, 4),
    st.integers(0, 5),
    st.integers(0, 100),
)
def test_the_latest_are_those_of_a_loop(samples, references, k, window, seed):
    row = np.random.default_rng(seed).permutation(len(references))
    asked = np.array(samples, dtype=np.int64).reshape(-1, 3)
    known = np.array(references, dtype=np.int64).reshape(-1, 3)
    rows, gaps = latest(
        asked[:, 0],
        asked[:, 1],
        known[:, 0],
        known[:, 1],
        query_subject=asked[:, 2],
        reference_subject=known[:, 2],
        reference_row=row,
        k=k,
        window=window,
    )
    assert _drop_missing(rows) == _naive_latest(samples, references, row, k, window)
    time_of = {int(r): int(t) for r, t in zip(row, known[:, 1], strict=True)}
    for line, gap, (_, time, _) in zip(rows.tolist(), gaps.tolist(), samples, strict=True):
        assert [time - time_of[r] for r in line if r >= 0] == gap[: sum(r >= 0 for r in line)]


def test_a_weight_is_positive_exactly_where_there_is_an_edge():
    made = edges(np.array([[3, 2, -1]]), np.array([[1.0, 0.0, 0.5]]))
    assert made.weight.tolist() == [[1.0, pytest.approx(1e-6), 0.0]]
    assert made.weight.dtype == np.float32

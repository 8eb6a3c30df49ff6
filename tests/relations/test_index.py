import clinical  # noqa: F401
from clinical.cohort.fitted import Fitted
from clinical.errors import BundleError
from clinical.relations import Keyed, probing, similar
from clinical.relations.index import Index, build
from clinical.relations.neighbours import nearest, ordered
from clinical.relations.probing import Points

import dataclasses
import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

K = 8


def points(key, subject=None, *, first_subject=0):
    key = np.asarray(key, dtype=np.float64)
    if subject is None:
        subject = first_subject + np.arange(len(key))
    return Points(key, np.asarray(subject, dtype=np.int64), np.arange(len(key)))


def clustered(generator, n, *, spread=0.3, width=16, centres=30):
    middle = np.random.default_rng(99).normal(size=(centres, width))
    key = middle[generator.integers(0, centres, n)] + spread * generator.normal(size=(n, width))
    return np.round(key, 6)


def uniform(generator, n, *, width=6):
    return np.round(generator.random((n, width)), 6)


def unit_length(generator, n):
    key = clustered(generator, n) + 1
    return np.round(key / np.sqrt(np.square(key).sum(1, keepdims=True)), 6)


def index_of(reference, *, k=K, among=None):
    among = np.arange(len(reference)) if among is None else among
    return build(reference.key, reference.subject, among, k=k)


def exact(query, reference, *, k=K):
    return nearest(
        query.key,
        reference.key,
        query_subject=query.subject,
        reference_subject=reference.subject,
        reference_row=reference.row,
        k=k,
    )


def recall(found, wanted):
    return np.mean([np.isin(line, there) for line, there in zip(wanted, found, strict=True)])


@pytest.mark.parametrize("keys", [clustered, uniform, unit_length])
def test_most_of_the_nearest_are_found_in_a_part_of_the_lists(keys, caplog):
    generator = np.random.default_rng(0)
    reference = points(keys(generator, 4000))
    query = points(keys(generator, 500), first_subject=10_000)
    with caplog.at_level(logging.INFO):
        index = index_of(reference)
    rows, distance = index.nearest(query, reference, k=K)
    wanted, shortest = exact(query, reference)
    measured = recall(rows, wanted)
    assert 0.95 < measured <= 1
    assert abs(index.recall - measured) < 0.025
    assert f"finds {index.recall:.3f} of the {K} nearest" in caplog.text
    assert index.n_probe < len(index.lists) / 2
    # What is found in its place is never closer, and in places alike equally far.
    assert (distance >= shortest).all()
    assert np.array_equal(distance[rows == wanted], shortest[rows == wanted])


def test_fewer_lists_are_enough_where_keys_lie_in_clusters():
    generator = np.random.default_rng(1)
    apart = index_of(points(clustered(generator, 3000)))
    even = index_of(points(np.round(generator.normal(size=(3000, 16)), 6)))
    assert apart.n_probe < even.n_probe


small = st.integers(0, 3)


@given(
    st.lists(st.tuples(small, small, small), max_size=12),
    st.lists(st.tuples(small, small, small), min_size=1, max_size=30),
    st.integers(1, 5),
    st.booleans(),
)
def test_in_all_lists_the_neighbours_are_those_of_exact_search(queries, references, k, in_parts):
    query = points(np.reshape([q[:2] for q in queries], (-1, 2)), [q[2] for q in queries])
    reference = points([r[:2] for r in references], [r[2] for r in references])
    index = index_of(reference, k=k)
    index = dataclasses.replace(index, n_probe=len(index.lists))
    with pytest.MonkeyPatch.context() as patch:
        if in_parts:
            for name, size in (("_QUERIES", 5), ("_MEMBERS", 2), ("_ENTRIES", 4), ("_HELD", 3)):
                patch.setattr(probing, name, size)
            patch.setattr(probing, "_PAIRS", 2)
        rows, distance = index.nearest(query, reference, k=k)
    wanted, shortest = exact(query, reference, k=k)
    assert np.array_equal(rows, wanted)
    assert np.array_equal(distance, shortest)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize(("scale", "spread"), [(1e-4, 0.3), (1.0, 0.3), (1.0, 1e-3), (300.0, 1e-4)])
def test_rounding_to_float32_loses_no_neighbour(scale, spread, offset):
    generator = np.random.default_rng(2)
    key, asked = (
        np.round(scale * clustered(generator, n, spread=spread) + offset, 6) for n in (2000, 50)
    )
    reference, query = points(key), points(asked, first_subject=10_000)
    index = index_of(reference)
    index = dataclasses.replace(index, n_probe=len(index.lists))
    square = np.square(query.key[:, None] - reference.key).sum(2)
    wanted = np.sort(ordered(square, reference.row), axis=1)[:, :K] & 0xFFFFFFFF
    assert np.array_equal(index.nearest(query, reference, k=K)[0], wanted)


def test_queries_beyond_the_grid_get_the_first_rows_as_in_exact_search():
    reference = points(clustered(np.random.default_rng(3), 500))
    query = points(np.full((2, 16), 1e5), first_subject=10_000)
    index = index_of(reference)
    index = dataclasses.replace(index, n_probe=len(index.lists))
    rows, _ = index.nearest(query, reference, k=K)
    assert rows.tolist() == exact(query, reference)[0].tolist() == [list(range(K))] * 2


def test_a_query_has_the_same_neighbours_alone_in_any_batch_and_in_any_order(monkeypatch):
    generator = np.random.default_rng(4)
    base = unit_length(generator, 400)
    reference = points(base[generator.integers(0, 400, 3000)])  # many exact duplicates
    near = base[generator.integers(0, 400, 80)] + 1e-6 * generator.integers(-2, 3, (80, 16))
    query = points(near, generator.integers(0, 3000, 80))
    index = dataclasses.replace(index_of(reference), n_probe=3)
    together, distance = index.nearest(query, reference, k=K)
    for row in range(80):
        alone, gap = index.nearest(query.take(np.array([row])), reference, k=K)
        assert np.array_equal(alone[0], together[row])
        assert np.array_equal(gap[0], distance[row])
    order = generator.permutation(80)
    assert np.array_equal(index.nearest(query.take(order), reference, k=K)[0], together[order])
    for name, size in (("_QUERIES", 7), ("_MEMBERS", 13), ("_ENTRIES", 50), ("_HELD", 20)):
        monkeypatch.setattr(probing, name, size)
    assert np.array_equal(index.nearest(query, reference, k=K)[0], together)


def test_no_reference_of_the_own_subject_and_further_lists_where_those_were_all():
    generator = np.random.default_rng(5)
    key = clustered(generator, 2000)
    subject = np.arange(2000)
    crowd = np.argsort(np.square(key - key[0]).sum(1))[:150]
    subject[crowd] = 0  # all that is near
    reference = points(key, subject)
    index = dataclasses.replace(index_of(reference), n_probe=1)
    rows, distance = index.nearest(reference.take(crowd), reference, k=K)
    assert not np.isin(rows, crowd).any()
    assert (rows >= 0).all()
    assert np.isfinite(distance).all()


def test_references_left_out_have_no_edges():
    generator = np.random.default_rng(6)
    reference, among = points(clustered(generator, 900)), np.arange(0, 900, 3)
    index = index_of(reference, among=among)
    rows, _ = index.nearest(reference, reference, k=K)
    assert np.isin(rows, among).all()


def test_of_equal_keys_the_first_rows_are_the_neighbours_and_the_index_stays_small():
    reference = points(np.ones((3000, 4)), np.arange(3000) // 2)
    index = index_of(reference)
    assert len(index.lists) == 1
    assert len(index.lists.rows) == K + 2
    assert index.recall == 1
    rows, distance = index.nearest(reference, reference, k=K)
    assert rows[0].tolist() == list(range(2, K + 2))
    assert rows[2].tolist() == [0, 1, *range(4, K + 2)]
    assert (rows[K + 2 :] == np.arange(K)).all()
    assert not distance.any()


def test_negative_zero_is_zero():
    reference = points([[0.0], [-0.0]] * 50)
    assert len(index_of(reference).lists.rows) == K + 1


def test_few_references_are_all_found_and_the_rest_is_missing():
    reference = points([[0.0, 0.0], [1.0, 0.0], [5.0, 5.0]])
    index = index_of(reference)
    rows, distance = index.nearest(reference, reference, k=K)
    assert rows[:, :3].tolist() == [[1, 2, -1], [0, 2, -1], [1, 0, -1]]
    assert (rows[:, 3:] == -1).all()
    assert np.array_equal(np.isinf(distance), rows < 0)
    alone = points(np.zeros((1, 2)))
    assert (index_of(alone).nearest(alone, alone, k=K)[0] == -1).all()
    nobody = reference.take(np.arange(0))
    assert index.nearest(nobody, reference, k=K)[0].shape == (0, K)


def test_building_twice_gives_the_same_bytes():
    reference = points(clustered(np.random.default_rng(7), 2000))
    first, again = (index_of(reference).arrays() for _ in range(2))
    assert {name: array.tobytes() for name, array in first.items()} == {
        name: array.tobytes() for name, array in again.items()
    }


# As `similar` uses it


def keyed(generator, n, *, first_subject=0):
    known = (generator.random(n) < 0.9).astype(np.uint8)
    subject = first_subject + np.arange(n) // 2
    return Keyed({"key": clustered(generator, n), "known": known}, subject, np.arange(n))


@pytest.fixture
def known():
    return keyed(np.random.default_rng(8), 1500)


@pytest.fixture
def asked():
    return keyed(np.random.default_rng(9), 60, first_subject=5000)


@pytest.fixture
def parameters(known, monkeypatch):
    monkeypatch.setattr(similar, "MOST_EXACT", 1000)
    typical = {"typical_distance": np.array([1.0])}
    return typical | similar.Similar().index(known, typical, k=K)


def test_few_references_need_no_index(known, monkeypatch):
    n_known = int(known.keys["known"].sum())
    monkeypatch.setattr(similar, "MOST_EXACT", n_known)
    assert similar.Similar().index(known, {}, k=K) == {}
    monkeypatch.setattr(similar, "MOST_EXACT", n_known - 1)
    assert Index.read(similar.Similar().index(known, {}, k=K)).k == K


def test_an_index_comes_from_the_bundle_and_is_never_built_again(
    known, asked, parameters, tmp_path, monkeypatch
):
    relation = similar.Similar()
    before = relation.neighbours(asked, known, parameters, k=K)
    monkeypatch.setattr(similar, "build", None)
    fitted = Fitted(
        statistics={},
        parameters={"similar": parameters},
        reference={"similar": known.keys},
        reference_subject=known.subject,
        reference_sample=known.row,
        modality_sizes={},
        salt="s",
        dataset_name="d",
        consistent_calendar=False,
    )
    fitted.write(tmp_path)
    there = Fitted.read(tmp_path)
    reference = Keyed(there.reference["similar"], there.reference_subject, known.row)
    after = relation.neighbours(asked, reference, there.parameters["similar"], k=K)
    assert np.array_equal(after.rows, before.rows)
    assert np.array_equal(after.weight, before.weight)
    index = Index.read(there.parameters["similar"])
    assert index.recall == Index.read(parameters).recall > 0.95


def test_similar_ones_by_the_index_are_mostly_those_of_exact_search(known, asked, parameters):
    relation = similar.Similar()
    found = relation.neighbours(asked, known, parameters, k=K)
    plain = {"typical_distance": parameters["typical_distance"]}
    wanted = relation.neighbours(asked, known, plain, k=K)
    assert recall(found.rows, wanted.rows) > 0.95
    assert ((found.rows >= 0).all(1) == (asked.keys["known"] > 0)).all()
    same = found.rows == wanted.rows
    assert np.array_equal(found.weight[same], wanted.weight[same])


def _without(name):
    return lambda arrays: arrays.pop(name)


def _put(name, at, value):
    def damage(arrays):
        arrays[name][at] = value

    return damage


def _replace(name, made_of):
    def damage(arrays):
        arrays[name] = made_of(arrays[name])

    return damage


@pytest.mark.parametrize(
    "damage",
    [
        _without("index_centroids"),
        _without("index_recall"),
        _put("index_rows", 0, 1500),
        _put("index_rows", 0, -1),
        _put("index_rows", slice(0, 2), 7),
        _put("index_offsets", -1, 10**9),
        _put("index_offsets", 0, -1),
        _put("index_offsets", slice(1, 3), [2**63 - 1, -(2**63)]),
        _put("index_offsets", 3, 0),
        _put("index_centroids", (2, 3), np.nan),
        _put("index_centre", 0, np.inf),
        _put("index_n_probe", 0, 0),
        _put("index_n_probe", 0, 10**6),
        _put("index_k", 0, K - 1),
        _put("index_k", 0, -1),
        _replace("index_n_probe", lambda array: array[:0]),
        _replace("index_packed", lambda array: array[1:]),
        _replace("index_packed", lambda array: array[:, 1:]),
        _replace("index_centroids", lambda array: array[:, 1:]),
        _replace("index_centroids", lambda array: array.ravel()),
        _replace("index_offsets", lambda array: array.astype(np.float64)),
        _replace("index_offsets", lambda array: array[:0]),
        _replace("index_rows", lambda array: array[0]),
    ],
)
def test_a_damaged_index_is_refused(known, asked, parameters, damage):
    arrays = {name: array.copy() for name, array in parameters.items()}
    damage(arrays)
    with pytest.raises(
        BundleError, match=r"the index of the references .*; write the bundle again"
    ):
        similar.Similar().neighbours(asked, known, arrays, k=K)


def test_keys_of_another_number_or_that_are_not_finite_are_refused(known, asked, parameters):
    relation = similar.Similar()
    for key in (known.keys["key"][:, 1:], known.keys["key"][:-200], known.keys["key"] * np.nan):
        damaged = Keyed(
            {"key": key, "known": known.keys["known"][: len(key)]},
            known.subject[: len(key)],
            known.row[: len(key)],
        )
        with pytest.raises(BundleError, match="the index of the references"):
            relation.neighbours(asked, damaged, parameters, k=K)


def test_what_float32_cannot_say_is_computed_exactly(known, asked, parameters):
    relation = similar.Similar()
    before = relation.neighbours(asked, known, parameters, k=K)
    packed = np.full_like(parameters["index_packed"], np.nan)
    after = relation.neighbours(asked, known, {**parameters, "index_packed": packed}, k=K)
    assert np.array_equal(after.rows, before.rows)

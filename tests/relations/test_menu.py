import clinical  # noqa: F401
from clinical.containers import CodeSet, TimeSeries, Vector
from clinical.errors import ConfigError
from clinical.relations import RELATIONS, Given, Inputs, Keyed, similar

import numpy as np
import pytest
import torch

HOUR = 3_600_000_000
N_CODES = 12
STATISTICS = {"codes": {"vocabulary": [f"DX//{code}" for code in range(N_CODES)]}}
MODALITIES = ("events", "static", "codes")
OPTIONS = {"shares_code": {"max_share": 0.6}}


def _containers(generator, n):
    events, statics = 3, 2
    observed = generator.random((n, events)) < 0.7
    known = generator.random((n, statics)) < 0.8
    zero = torch.zeros(n, 0)
    return {
        "events": TimeSeries(
            variable=zero.long(),
            value=zero,
            time_hours=zero,
            mask=zero.bool(),
            observed=zero.bool(),
            summary=torch.from_numpy(generator.random((n, events, 9), dtype=np.float32)),
            summary_observed=torch.from_numpy(observed),
        ),
        "static": Vector(
            value=torch.from_numpy(generator.random((n, statics), dtype=np.float32)),
            observed=torch.from_numpy(known),
        ),
        "codes": _codes(generator, n),
    }


def _codes(generator, n):
    """Up to six of twelve codes, the first ones being the most frequent."""
    drawn = np.argsort(generator.random((n, N_CODES)) ** (1 + np.arange(N_CODES)), axis=1)
    code = torch.from_numpy(drawn[:, ::-1][:, :6].copy())
    mask = torch.arange(6) < torch.from_numpy(generator.integers(0, 7, (n, 1)))
    return CodeSet(code * mask, torch.ones(n, 6) * mask, mask)


def _cut(container, index):
    changes = {name: getattr(container, name)[index] for name in vars(container)}
    return type(container)(**changes)


def _given(generator, n, subject):
    """Some six edges into each sample, a few to its own subject, every third to one sample."""
    sample = np.sort(generator.integers(0, n, 6 * n))
    named = generator.integers(0, n, 6 * n)
    other = np.where(generator.random(6 * n) < 0.3, named + 1, 0)
    weight = generator.integers(1, 5, 6 * n) / np.float32(4)
    return Given("edges/given.parquet", sample, subject[named], other, weight.astype(np.float32))


class Group:
    """Random samples, and any choice of them, as relations read them."""

    def __init__(self, n, seed):
        generator = np.random.default_rng(seed)
        self.containers = _containers(generator, n)
        self.time = generator.integers(0, 300, n) * HOUR
        self.code = generator.integers(0, 4, n)
        self.subject = generator.integers(0, n // 2, n)
        self.given = _given(generator, n, self.subject)
        self.embedding = generator.normal(size=(n, 9)) * np.arange(9)
        self.embedding[::10] = np.nan  # nothing visible

    def inputs(self, rows, *, block=7):
        def blocks(names):
            for start in range(0, len(rows), block):
                part = rows[start : start + block]
                yield {name: _cut(self.containers[name], part) for name in names}

        sample = np.asarray(rows) + 1
        return Inputs(
            self.time[rows],
            self.code[rows],
            MODALITIES,
            blocks,
            STATISTICS,
            sample,
            embedding=self.embedding[rows],
        )

    def keyed(self, relation, parameters, rows, **options):
        keys = relation.keys(self.inputs(rows, **options), parameters)
        return Keyed(keys, self.subject[rows], np.asarray(rows), self.given.take(rows))


@pytest.fixture(params=[*sorted(RELATIONS), "similar, by its index", "similar, by embedding"])
def relation(request, monkeypatch):
    name, _, how = request.param.partition(", ")
    if how == "by its index":
        monkeypatch.setattr(similar, "MOST_EXACT", 0)
    if how == "by embedding":
        return RELATIONS[name](by="embedding")
    return RELATIONS[name](**OPTIONS.get(name, {}))


def _edges(relation, group, everyone, reference):
    parameters = relation.fit(group.inputs(reference))
    known = group.keyed(relation, parameters, reference)
    parameters |= relation.index(known, parameters, k=5)
    return relation.neighbours(group.keyed(relation, parameters, everyone), known, parameters, k=5)


def test_edges_lead_only_to_references_and_never_to_the_own_subject(relation):
    group, reference = Group(60, seed=1), np.arange(0, 60, 2)
    found = _edges(relation, group, np.arange(60), reference)
    real = found.rows >= 0
    assert real.any()
    assert np.isin(found.rows[real], reference).all()
    own = group.subject[:, None] == group.subject[np.maximum(found.rows, 0)]
    assert not (own & real).any()
    assert np.array_equal(found.weight > 0, real)
    assert (found.weight <= 1).all()
    # The closest come first, those that are missing last.
    assert (np.diff(found.weight, axis=1) <= 0).all()


@pytest.mark.parametrize("name", [name for name in RELATIONS if RELATIONS[name].in_time])
def test_a_relation_in_time_never_looks_ahead(name):
    group, everyone = Group(80, seed=2), np.arange(80)
    found = _edges(RELATIONS[name](), group, everyone, everyone)
    assert (found.rows >= 0).any()
    ahead = group.time[np.maximum(found.rows, 0)] > group.time[:, None]
    assert not (ahead & (found.rows >= 0)).any()


def test_neighbours_do_not_depend_on_who_else_is_asked_for(relation):
    group, reference = Group(50, seed=3), np.arange(25)
    parameters = relation.fit(group.inputs(reference))
    known = group.keyed(relation, parameters, reference)
    parameters |= relation.index(known, parameters, k=4)
    asked = np.arange(50)
    together = relation.neighbours(group.keyed(relation, parameters, asked), known, parameters, k=4)
    order = np.random.default_rng(0).permutation(50)
    mixed = relation.neighbours(
        group.keyed(relation, parameters, order, block=11), known, parameters, k=4
    )
    assert np.array_equal(mixed.rows, together.rows[order])
    assert np.array_equal(mixed.weight, together.weight[order])
    for row in range(0, 50, 7):
        one = np.array([row])
        alone = relation.neighbours(group.keyed(relation, parameters, one), known, parameters, k=4)
        assert np.array_equal(alone.rows[0], together.rows[row])


def test_without_references_nobody_has_neighbours(relation):
    group, everyone = Group(20, seed=4), np.arange(20)
    parameters = relation.fit(group.inputs(everyone))
    asked = group.keyed(relation, parameters, everyone)
    found = relation.neighbours(asked, asked.take(np.arange(0)), parameters, k=3)
    assert found.rows.tolist() == [[-1] * 3] * 20
    assert not found.weight.any()


def test_similar_prefers_a_twin_to_everybody_else():
    group = Group(30, seed=5)
    for container in group.containers.values():
        for name in ("summary", "summary_observed", "value", "observed"):
            tensor = getattr(container, name, None)
            if tensor is not None and len(tensor):
                tensor[7] = tensor[22]
    group.subject = np.arange(30)
    relation = RELATIONS["similar"]()
    found = _edges(relation, group, np.arange(30), np.arange(30))
    assert found.rows[7, 0] == 22
    assert found.weight[7, 0] == 1


def test_a_sample_that_nothing_is_known_of_has_no_similar_ones_and_is_nobodys():
    group = Group(30, seed=6)
    group.containers["events"].summary_observed[4] = False
    group.containers["static"].observed[4] = False
    found = _edges(RELATIONS["similar"](), group, np.arange(30), np.arange(30))
    assert (found.rows[4] == -1).all()
    assert not (found.rows == 4).any()


def test_an_unobserved_value_has_no_say_in_the_key():
    group, everyone = Group(30, seed=7), np.arange(30)
    relation = RELATIONS["similar"]()
    before = relation.keys(group.inputs(everyone), relation.fit(group.inputs(everyone)))
    hidden = ~group.containers["events"].summary_observed
    group.containers["events"].summary[hidden] = 123.0
    after = relation.keys(group.inputs(everyone), relation.fit(group.inputs(everyone)))
    assert np.array_equal(before["key"], after["key"])


def test_similar_refuses_a_run_with_nothing_to_compare():
    with pytest.raises(ConfigError, match="neither is configured"):
        RELATIONS["similar"]().check(["notes"])
    RELATIONS["similar"]().check(["notes", "static"])
    RELATIONS["same_unit"]().check(["notes"])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("similar", {"metric": "manhattan"}),
        ("similar", {"width": 0}),
        ("same_unit", {"window_hours": 0}),
    ],
)
def test_senseless_options_are_refused(name, options):
    with pytest.raises(ConfigError, match=r"graph\.relations: "):
        RELATIONS[name](**options)


def test_the_weight_of_a_contemporary_falls_linearly_over_the_window():
    relation = RELATIONS["same_unit"](window_hours=10)
    keys = {"unit": np.array([5, 5, 5]), "time": np.array([0, 5, 10]) * HOUR}
    asked = Keyed(
        {"unit": np.array([5]), "time": np.array([10 * HOUR])}, np.array([9]), np.array([0])
    )
    known = Keyed(keys, np.array([1, 2, 3]), np.array([7, 8, 9]))
    found = relation.neighbours(asked, known, {}, k=4)
    assert found.rows.tolist() == [[9, 8, 7, -1]]
    assert found.weight[0].tolist() == pytest.approx([1.0, 0.5, 1e-6, 0.0])

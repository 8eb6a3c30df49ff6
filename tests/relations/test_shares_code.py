"""Who shares rare codes: exactly, by nobody's batch, and never through a code that is hidden."""

import clinical  # noqa: F401
from clinical.batch import ClinicalBatch, Neighbours
from clinical.containers import CodeSet
from clinical.errors import ConfigError
from clinical.objectives import drop_edges_by_hidden_codes, drop_fed_relations
from clinical.relations import Inputs, Keyed
from clinical.relations.neighbours import GRID
from clinical.relations.overlap import Postings, heaviest_overlap, shared_codes
from clinical.relations.shares_code import SharesCode

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

N_CODES = 30


def rows_of(lists, width=8):
    """Lists of codes as an array [N, width], -1 where there is none."""
    rows = np.full((len(lists), width), -1, dtype=np.int32)
    for row, codes in zip(rows, lists, strict=True):
        row[: len(codes)] = codes
    return rows


def naive(query, reference, weight, typical, whose, theirs, k):
    """Positions and scores, by a loop over pairs of sets."""
    found = []
    for own, subject in zip(query, whose, strict=True):
        scored = []
        for position, (other, owner) in enumerate(zip(reference, theirs, strict=True)):
            both = sum(weight[code] for code in set(own) & set(other) - {-1})
            score = round(both / (typical + sum(weight[c] for c in other if c >= 0)) / GRID)
            if owner != subject and both:
                scored.append((-score, position))
        found.append(sorted(scored)[:k])
    return found


def assert_same(position, score, expected):
    for places, scores, line in zip(position.tolist(), score, expected, strict=True):
        assert [place for place in places if place >= 0] == [place for _, place in line]
        np.testing.assert_allclose(scores[: len(line)], [-steps * GRID for steps, _ in line])


codes = st.lists(st.integers(0, 9), unique=True, max_size=6)


@given(
    st.lists(st.tuples(codes, st.integers(0, 3)), max_size=8),
    st.lists(st.tuples(codes, st.integers(0, 3)), max_size=16),
    st.lists(st.sampled_from([0, 1, 2, 5, 400]), min_size=10, max_size=10),
    st.integers(1, 4),
)
def test_the_heaviest_overlaps_are_those_of_a_loop_with_ties_by_place(
    queries, references, weights, k
):
    weight = np.array(weights)
    query = rows_of([sorted(q, key=lambda code: -weights[code]) for q, _ in queries])
    reference = rows_of([r for r, _ in references])
    given = {
        "query_subject": np.array([s for _, s in queries], dtype=np.int64),
        "reference_subject": np.array([s for _, s in references], dtype=np.int64),
    }
    postings = Postings.of(reference, weight)
    expected = naive(query, reference, weight, 7, *given.values(), k)
    position, score = heaviest_overlap(query, postings, weight=weight, typical=7, **given, k=k)
    assert_same(position, score, expected)


def test_a_sample_walks_no_further_than_the_lists_of_its_codes_which_are_bounded():
    relation = SharesCode(max_share=1.0, max_references=3)
    references = [[0, 1], [0, 1], [0, 1, 2], [0], [3]]
    parameters = relation.fit(inputs_of(references))
    known = keyed(relation, parameters, references)
    parameters |= relation.index(known, parameters, k=2)
    assert np.diff(parameters["offset"])[:4].tolist() == [0, 3, 1, 1]
    assert parameters["rarity"][0] == 0 < parameters["rarity"][1]
    found = linked(relation, [[0, 1], [0, 3]], references, k=2)
    assert found.rows.tolist() == [[0, 1], [4, -1]]


def test_neighbours_are_the_same_by_an_index_and_without():
    relation, references, samples = SharesCode(max_share=1.0), crowd(50, seed=3), crowd(9, seed=4)
    parameters = relation.fit(inputs_of(references))
    known = keyed(relation, parameters, references)
    asked = keyed(relation, parameters, samples, range(9))
    plain = relation.neighbours(asked, known, parameters, k=5).columns
    parameters |= relation.index(known, parameters, k=5)
    for name, array in relation.neighbours(asked, known, parameters, k=5).columns.items():
        assert np.array_equal(array, plain[name])


def test_shared_codes_are_the_first_of_the_query_that_the_neighbour_has():
    query = rows_of([[5, 2, 7, 1], [3]], 5)
    reference = rows_of([[1, 2, 3, 7], [9], [5]], 5)
    position = np.array([[0, 2, 1], [0, -1, 2]])
    found = shared_codes(query, reference, position, n_kept=2)
    assert found[0].tolist() == [[2, 7], [5, -1], [-1, -1]]
    assert found[1].tolist() == [[3, -1], [-1, -1], [-1, -1]]
    wide = shared_codes(query, reference, position, n_kept=7)
    assert wide[0, 0].tolist() == [2, 7, 1, -1, -1, -1, -1]


def code_set(lists):
    longest = max(map(len, lists))
    mask = torch.arange(longest) < torch.tensor([[len(x)] for x in lists])
    code = torch.tensor([[*x, *[0] * (longest - len(x))] for x in lists], dtype=torch.int64)
    return CodeSet(code, torch.zeros(code.shape), mask)


def inputs_of(lists, *, n_codes=N_CODES):
    names = [f"DX//{code}" for code in range(n_codes)]

    def blocks(_names):
        for start in range(0, len(lists), 4):
            yield {"codes": code_set(lists[start : start + 4])}

    nobody = np.zeros(len(lists), dtype=np.int64)
    return Inputs(nobody, nobody, ("codes",), blocks, {"codes": {"vocabulary": names}})


def keyed(relation, parameters, lists, subjects=None):
    keys = relation.keys(inputs_of(lists), parameters)
    subjects = np.arange(1000, 1000 + len(lists)) if subjects is None else np.array(subjects)
    return Keyed(keys, subjects, np.arange(len(lists)))


def linked(relation, samples, references, k=4):
    """Edges of samples, of other subjects than the references."""
    parameters = relation.fit(inputs_of(references))
    known = keyed(relation, parameters, references)
    asked = keyed(relation, parameters, samples, np.arange(len(samples)))
    return relation.neighbours(asked, known, parameters, k=k)


REFERENCES = [[0, 1, 2], [0, 3], [0, 1], [0], [4, 5], [6]]


def test_the_weight_is_the_rarity_of_what_is_shared_over_that_of_the_list_and_the_typical_one():
    relation = SharesCode(max_share=1.0)
    found = linked(relation, [[1, 2, 9]], REFERENCES)
    rarity = np.log(7 / (1 + np.array([4, 2, 1, 1, 1, 1, 1])))
    total = np.array([sum(rarity[codes]) for codes in REFERENCES])
    expected = [
        (rarity[1] + rarity[2]) / (total.mean() + total[0]),
        rarity[1] / (total.mean() + total[2]),
    ]
    assert found.rows.tolist() == [[0, 2, -1, -1]]
    assert found.weight[0, :2] == pytest.approx(expected, abs=2e-6)
    assert found.codes[0, :2, :2].tolist() == [[2, 1], [1, -1]]
    assert found.parts.sum(2) == pytest.approx(found.weight, abs=2e-6)
    assert found.codes.shape == found.parts.shape == (1, 4, 8)


def test_a_code_that_nearly_everybody_has_relates_nobody():
    found = linked(SharesCode(max_share=0.5), [[0, 3], [0]], REFERENCES)
    assert found.rows.tolist() == [[1, -1, -1, -1], [-1] * 4]
    assert not (found.codes == 0).any()


def test_only_codes_that_fit_the_pattern_count():
    relation = SharesCode(codes="DX//[35]", max_share=1.0)
    found = linked(relation, [[0, 1, 2, 3], [4]], REFERENCES)
    assert found.rows.tolist() == [[1, -1, -1, -1], [-1] * 4]


def test_of_a_long_list_the_rarest_codes_count():
    relation = SharesCode(max_share=1.0, max_codes=2)
    parameters = relation.fit(inputs_of(REFERENCES))
    key = relation.keys(inputs_of([[0, 1, 2], [5, 0], [0], []]), parameters)["code"]
    assert key.tolist() == [[2, 1], [5, 0], [0, -1], [-1, -1]]
    assert key.dtype == np.int32


def test_a_vocabulary_without_codes_relates_nobody():
    relation = SharesCode()
    inputs = inputs_of([[], []], n_codes=0)
    parameters = relation.fit(inputs)
    known = Keyed(relation.keys(inputs, parameters), np.arange(2), np.arange(2))
    assert (relation.neighbours(known, known, parameters, k=2).rows == -1).all()


def test_more_shared_codes_than_are_kept_weigh_more_than_those_kept():
    everything = list(range(12))
    others = [[code] for code in range(12)]
    found = linked(SharesCode(max_share=1.0), [everything], [everything, *others], k=1)
    assert (found.codes[0, 0] >= 0).all()
    assert found.weight[0, 0] == pytest.approx(1.5 * found.parts[0, 0].sum(), rel=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"max_codes": 0},
        {"max_codes": 65},
        {"max_share": 0.0},
        {"max_share": 1.1},
        {"max_references": 0},
    ],
)
def test_senseless_options_are_refused(options):
    with pytest.raises(ConfigError, match=r"graph\.relations: shares_code needs"):
        SharesCode(**options)


def test_a_run_without_codes_or_with_a_broken_pattern_is_refused():
    with pytest.raises(ConfigError, match="codes, which are not configured"):
        SharesCode().check(["events"])
    with pytest.raises(ConfigError, match="is not a regular expression"):
        SharesCode(codes="(").check(["codes"])
    SharesCode().check(["codes"])


# Hidden codes


def batch_of(lists, found):
    edges = Neighbours(**{name: torch.from_numpy(array) for name, array in found.columns.items()})
    plain = Neighbours(edges.rows.clone(), edges.weight.clone())
    return ClinicalBatch(
        torch.arange(len(lists)),
        {"codes": code_set(lists)},
        {"shares_code": edges, "similar": plain},
        {},
    )


def hide(batch, code):
    kept = batch.inputs["codes"]
    return batch.replace(codes=kept.replace(mask=kept.mask & (kept.code != code)))


def crowd(n, seed):
    generator = np.random.default_rng(seed)
    return [
        generator.choice(12, generator.integers(1, 6), replace=False).tolist() for _ in range(n)
    ]


@pytest.mark.parametrize("code", range(0, 12, 3))
def test_an_edge_without_a_hidden_code_is_the_edge_of_a_sample_that_never_had_it(code):
    relation, references = SharesCode(max_share=1.0), crowd(40, seed=1)
    samples = crowd(12, seed=2)
    batch = batch_of(samples, linked(relation, samples, references, k=40))
    after = drop_edges_by_hidden_codes(hide(batch, code), batch, {}).neighbours["shares_code"]
    poorer = [[other for other in codes if other != code] for codes in samples]
    expected = linked(relation, poorer, references, k=40)
    for row in range(12):
        left = after.rows[row] >= 0
        found = dict(zip(after.rows[row, left].tolist(), after.weight[row, left], strict=True))
        real = expected.rows[row] >= 0
        want = zip(expected.rows[row, real].tolist(), expected.weight[row, real], strict=True)
        assert found == {place: pytest.approx(weight, abs=3e-6) for place, weight in want}
    assert not (after.codes == code).any()
    assert (after.parts > 0).equal(after.codes >= 0)
    assert (after.weight > 0).equal(after.rows >= 0)
    others = ~torch.tensor([code in codes for codes in samples])
    for name in ("rows", "weight", "codes", "parts"):
        before = getattr(batch.neighbours["shares_code"], name)
        assert getattr(after, name)[others].equal(before[others])


def hidden_one_each(samples, found, seed, *, lost=0):
    """The edges of samples of which one code each is hidden, and which; the first `lost` gone."""
    batch, generator = batch_of(samples, found), np.random.default_rng(seed)
    hidden = [int(generator.choice(codes)) for codes in samples]
    own = batch.inputs["codes"]
    masked = batch.replace(codes=own.replace(mask=own.mask & (own.code != tensor_of(hidden))))
    edges = batch.neighbours["shares_code"]
    fewer = edges.keep((torch.arange(edges.rows.shape[1]) >= lost).expand_as(edges.rows))
    masked = replace(masked, neighbours={"shares_code": fewer})
    return drop_edges_by_hidden_codes(masked, batch, {}).neighbours["shares_code"], hidden


def tensor_of(codes):
    return torch.tensor(codes)[:, None]


@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize("seed", range(4))
def test_of_a_full_list_every_edge_left_is_one_of_a_sample_that_never_had_the_code(k, seed):
    relation, references = SharesCode(max_share=1.0), crowd(60, seed=seed)
    samples = crowd(40, seed=10 + seed)
    found = linked(relation, samples, references, k=k)
    after, hidden = hidden_one_each(samples, found, seed)
    poorer = [
        [code for code in codes if code != gone]
        for codes, gone in zip(samples, hidden, strict=True)
    ]
    expected = linked(relation, poorer, references, k=k)
    n_untouched = 0
    for row, gone in enumerate(hidden):
        want = dict(zip(expected.rows[row].tolist(), expected.weight[row], strict=True))
        for place, weight in zip(after.rows[row].tolist(), after.weight[row], strict=True):
            assert place < 0 or want[place] == pytest.approx(float(weight), abs=3e-6)
        # What owes the code nothing stays.
        untouched = (found.codes[row] != gone).all(1) & (found.rows[row] >= 0)
        assert set(found.rows[row, untouched]) <= set(after.rows[row].tolist())
        n_untouched += untouched.sum()
    assert n_untouched > 0
    assert (after.rows >= 0).sum() > n_untouched or k < 6


def test_a_full_list_that_lost_another_edge_besides_still_was_a_full_one():
    relation, references, samples = SharesCode(max_share=1.0), crowd(60, seed=0), crowd(40, seed=10)
    found = linked(relation, samples, references, k=3)
    whole, _ = hidden_one_each(samples, found, 0)
    after, _ = hidden_one_each(samples, found, 0, lost=1)
    assert after.rows[:, 1:].equal(whole.rows[:, 1:])
    assert (after.rows[:, 0] == -1).all()


def test_neighbours_that_are_left_have_a_hidden_code_no_oftener_than_by_chance():
    generator = np.random.default_rng(0)
    share = np.geomspace(0.01, 0.2, 40)
    everyone = [np.flatnonzero(row).tolist() for row in generator.random((2400, 40)) < share]
    references, samples = everyone[:2000], [codes for codes in everyone[2000:] if len(codes) > 1]
    relation = SharesCode()
    parameters = relation.fit(inputs_of(references, n_codes=40))
    known = Keyed(
        relation.keys(inputs_of(references, n_codes=40), parameters),
        np.arange(2000),
        np.arange(2000),
    )

    def neighbours(lists):
        keys = relation.keys(inputs_of(lists, n_codes=40), parameters)
        asked = Keyed(keys, np.arange(5000, 5000 + len(lists)), np.arange(len(lists)))
        return relation.neighbours(asked, known, parameters, k=12)

    found = neighbours(samples)
    after, hidden = hidden_one_each(samples, found, 1)
    share = np.array([sum(code in codes for codes in references) / 2000 for code in range(40)])

    def counted(rows):
        """Neighbours that have the hidden code, and how many would if it were by chance."""
        pairs = [(c, p) for c, places in zip(hidden, rows.tolist(), strict=True) for p in places]
        left = [(code, place) for code, place in pairs if place >= 0]
        n_with = sum(code in references[place] for code, place in left)
        return n_with, sum(share[code] for code, _ in left), len(left)

    n_with, by_chance, n_left = counted(after.rows)
    before, before_by_chance, n_before = counted(found.rows)
    assert n_with < 1.3 * by_chance
    assert before > 5 * before_by_chance
    assert n_left > 0.3 * n_before


def test_an_edge_that_exists_only_through_hidden_codes_is_dropped_and_no_other():
    relation, samples = SharesCode(max_share=1.0), [[1, 2], [1, 2]]
    batch = batch_of(samples, linked(relation, samples, REFERENCES))
    masked = batch.inputs["codes"]
    mask = torch.tensor([[False, True], [True, True]])
    masked = batch.replace(codes=masked.replace(mask=mask))
    left = drop_edges_by_hidden_codes(masked, batch, {}).neighbours
    assert left["shares_code"].rows.tolist() == [[0, -1, -1, -1], [0, 2, -1, -1]]
    assert left["shares_code"].codes[0, 0].tolist() == [2, *[-1] * 7]
    assert left["shares_code"].weight[0, 0] < batch.neighbours["shares_code"].weight[0, 0]
    assert left["similar"].rows.equal(batch.neighbours["similar"].rows)
    assert batch.neighbours["shares_code"].rows[0].tolist() == [0, 2, -1, -1]


def test_codes_that_are_not_kept_behind_an_edge_count_no_longer_once_one_is_hidden():
    everything = list(range(12))
    samples = [everything, everything]
    found = linked(SharesCode(max_share=1.0), samples, [everything, [0]], k=3)
    batch = batch_of(samples, found)
    kept = set(found.codes[0, 0].tolist())
    unkept = min(set(everything) - kept)
    mask = batch.inputs["codes"].mask.clone()
    mask[0, unkept] = False
    masked = batch.replace(codes=batch.inputs["codes"].replace(mask=mask))
    after = drop_edges_by_hidden_codes(masked, batch, {}).neighbours["shares_code"]
    assert after.weight[0, 0] == pytest.approx(found.parts[0, 0].sum())
    assert after.weight[1, 0] == found.weight[1, 0] > after.weight[0, 0]


def test_hiding_codes_leaves_the_relation_and_hiding_another_key_does_not():
    relation, samples = SharesCode(max_share=1.0), [[1, 2]]
    batch = batch_of(samples, linked(relation, samples, REFERENCES))
    feeds = {"shares_code": relation.feeds, "similar": frozenset({"codes"})}
    kept = drop_fed_relations(batch, {"codes"}, feeds).neighbours
    assert kept["shares_code"].rows.equal(batch.neighbours["shares_code"].rows)
    assert (kept["similar"].rows == -1).all()
    feeds = {"shares_code": relation.feeds | {"events"}}
    dropped = drop_fed_relations(batch, {"events"}, feeds).neighbours["shares_code"]
    assert (dropped.rows == -1).all()
    assert (dropped.codes == -1).all()
    assert not dropped.parts.any()


def test_edges_with_codes_but_without_their_parts_are_refused():
    rows = torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match="one is there without the other"):
        Neighbours(rows, torch.ones(2, 3), codes=torch.zeros(2, 3, 1, dtype=torch.int32))
    with pytest.raises(ValueError, match="parts: shape"):
        Neighbours(
            rows, torch.ones(2, 3), torch.zeros(2, 3, 1, dtype=torch.int32), torch.ones(2, 3, 2)
        )

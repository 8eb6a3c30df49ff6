"""Hidden codes take their descendants along; absent codes are truly absent."""

import clinical  # noqa: F401
from clinical.batch import ClinicalBatch, CodeSet
from clinical.objectives import drop_edges_by_hidden_codes, drop_fed_relations
from clinical.objectives.edges import MaskedEdges

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

# 0 is above 1 and 2, 2 above 3, 4 above 3 too; the others stand alone.
PARENTS = [[], [0], [0], [2, 4], [], *[[] for _ in range(10)]]
ANCESTORS = {1: {0}, 2: {0}, 3: {0, 2, 4}}


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_of(rows: list[list[int]]) -> ClinicalBatch:
    longest = max(map(len, rows))
    code = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows])
    codes = CodeSet(code, torch.ones(code.shape) * mask, mask)
    return ClinicalBatch(torch.arange(len(rows)), {"codes": codes}, {}, {})


def owned(code: torch.Tensor, mask: torch.Tensor) -> set[int]:
    return set(code[mask].tolist())


@pytest.fixture(scope="module")
def objective(synthetic) -> MaskedEdges:
    objective = MaskedEdges(synthetic.make_model(), share=0.4)
    objective.use_statistics({"codes": {"parents": PARENTS}})
    return objective


@given(
    rows=st.lists(
        st.lists(st.integers(0, 14), unique=True, max_size=8), min_size=2, max_size=6
    ).filter(lambda rows: any(rows)),
    seed=st.integers(0, 1000),
)
def test_hiding_and_drawing_agree_with_sets(objective, rows, seed):
    batch = batch_of(rows)
    masked, hidden = objective.hide(batch, draws(seed))
    left = masked.inputs["codes"]
    steps = left.mask.shape[1]
    for i, row in enumerate(rows):
        seen = owned(left.code[i], left.mask[i])
        gone = owned(hidden.code[i], hidden.exists[i])
        assert seen | gone == set(row)
        assert seen.isdisjoint(gone)
        assert gone == owned(hidden.code[i, :steps], hidden.counts[i, :steps])
        lacking = owned(hidden.code[i, steps:], hidden.counts[i, steps:])
        assert lacking.isdisjoint(row)
        assert lacking.isdisjoint(set().union(*(ANCESTORS.get(code, set()) for code in row)))
        assert gone or not lacking
    assert not left.code[~left.mask].any()
    assert not left.time_hours[~left.mask].any()


def test_a_chosen_code_takes_its_descendants_along(objective):
    code = torch.tensor([[0, 3, 7], [2, 3, 1], [0, 2, 1]])
    chosen = torch.tensor([[True, False, False], [True, False, False], [False, True, False]])
    expected = [[False, True, False], [False, True, False], [False, False, False]]
    assert objective._descend(code, chosen).tolist() == expected


def test_no_descendant_of_a_code_hidden_by_choice_is_left(objective):
    rows = [[0, 1, 2, 3, 4]] * 200
    masked, hidden = objective.hide(batch_of(rows), draws())
    left = masked.inputs["codes"]
    seen_alone = 0
    for i in range(200):
        seen = owned(left.code[i], left.mask[i])
        # Were 0 chosen, all below it would be gone: so with 0 gone and 1 seen, 0 was let go.
        if 0 not in seen:
            assert seen <= {4}
        if 2 not in seen or 4 not in seen:
            assert 3 not in seen
        seen_alone += seen == {4}
    assert seen_alone > 0
    assert hidden.exists.any()


def test_an_ontology_with_a_circle_is_walked_once(synthetic):
    objective = MaskedEdges(synthetic.make_model())
    objective.set_ontology([[1], [0], [1], *[[] for _ in range(12)]])
    above = [set(row.tolist()) - {-1} for row in objective.ancestors[:4]]
    assert above == [{1}, {0}, {0, 1}, set()]


def test_an_ontology_of_another_vocabulary_is_refused(synthetic):
    with pytest.raises(ValueError, match="2 rows for 15 codes"):
        MaskedEdges(synthetic.make_model()).set_ontology([[], [0]])


def test_codes_without_an_ontology_stand_for_themselves(synthetic):
    objective = MaskedEdges(synthetic.make_model())
    objective.use_statistics({"codes": {"vocabulary": []}})
    assert not objective._descend(torch.tensor([[0, 1]]), torch.tensor([[True, False]])).any()


def test_half_of_the_lacking_codes_are_as_popular_as_in_the_batch(synthetic):
    objective = MaskedEdges(synthetic.make_model(), share=1.0, negatives=40)
    rows = [[0, 1]] * 150 + [[2, 3]] * 50
    _, hidden = objective.hide(batch_of(rows), draws())
    lacking = hidden.code[150:][hidden.counts[150:] & ~hidden.exists[150:]]
    share = float((lacking <= 1).float().mean())
    # Of the codes that the last fifty lack: 0.75 of the popular half is 0 or 1, 2/15 of the rest.
    expected = (0.75 + 2 / 15) / (0.75 + 13 / 15)
    assert share == pytest.approx(expected, abs=0.03)


def test_the_loss_is_the_mean_surprise_at_existing_and_at_lacking_codes(synthetic):
    model = synthetic.make_model()
    objective = MaskedEdges(model, share=0.5)
    torch.nn.init.normal_(objective.bias)
    masked, hidden = objective.hide(synthetic.make_batch(), draws())
    outputs = model(masked)
    table = model.embedding_table("codes") or objective.own_embedding
    surprise = {True: [], False: []}
    for i, j in torch.nonzero(hidden.counts).tolist():
        code, exists = hidden.code[i, j], bool(hidden.exists[i, j])
        patient = objective.project(outputs.fused[i])
        logit = patient @ table.weight[code] / table.embedding_dim**0.5 + objective.bias[code]
        surprise[exists].append(-torch.nn.functional.logsigmoid(logit if exists else -logit))
    parts = objective.loss(outputs, hidden).parts
    torch.testing.assert_close(parts["edges/existing"], torch.stack(surprise[True]).mean())
    torch.testing.assert_close(parts["edges/lacking"], torch.stack(surprise[False]).mean())


def test_nothing_hidden_in_a_sample_asks_nothing_of_it(synthetic):
    objective = MaskedEdges(synthetic.make_model(), share=0.0)
    _, hidden = objective.hide(synthetic.make_batch(), draws())
    assert not hidden.counts.any()


def test_relations_chosen_with_what_is_hidden_are_dropped(synthetic):
    batch = synthetic.make_batch()
    feeds = {"similar": frozenset({"events", "static"}), "same_unit": frozenset()}
    kept = drop_fed_relations(batch, {"events"}, feeds)
    assert (kept.neighbours["similar"].rows == -1).all()
    assert not kept.neighbours["similar"].weight.any()
    assert torch.equal(kept.neighbours["same_unit"].rows, batch.neighbours["same_unit"].rows)
    untouched = drop_fed_relations(batch, {"notes"}, feeds)
    for edges in (untouched.neighbours["similar"], batch.neighbours["similar"]):
        assert (edges.codes, edges.parts) == (None, None)
    assert torch.equal(untouched.neighbours["similar"].rows, batch.neighbours["similar"].rows)


def test_hiding_the_code_behind_an_edge_drops_the_edge_of_that_sample_alone(synthetic):
    before = synthetic.make_batch()
    codes = before.inputs["codes"]
    mask = codes.mask.clone()
    mask[0, 0] = False
    after = before.replace(codes=codes.replace(mask=mask))
    key = codes.code[0, :1]
    kept = drop_edges_by_hidden_codes(after, before, {"same_unit": key}).neighbours
    assert codes.mask[0, 0]
    assert (kept["same_unit"].rows[0] == -1).all()
    assert torch.equal(kept["same_unit"].rows[1:], before.neighbours["same_unit"].rows[1:])
    assert torch.equal(kept["similar"].rows, before.neighbours["similar"].rows)
    other = {"same_unit": key + synthetic.SIZES["codes"]["codes"]}
    untouched = drop_edges_by_hidden_codes(after, before, other).neighbours["same_unit"]
    assert torch.equal(untouched.rows, before.neighbours["same_unit"].rows)

"""Hidden codes take their descendants along; absent codes are truly absent."""

import clinical  # noqa: F401
from clinical.batch import ClinicalBatch
from clinical.containers import CodeSet
from clinical.objectives import drop_edges_by_hidden_codes, drop_fed_relations
from clinical.objectives.code_edges import MaskedCodes

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

# 0 is above 1 and 2, 2 above 3, 4 above 3 too; the others stand alone.
ANCESTORS = {1: [0], 2: [0], 3: [0, 2, 4]}
CODES = {
    "parents": [ANCESTORS.get(code, []) for code in range(15)],
    "subjects": [*range(30, 58, 2), 0],
    "n_subjects": 60,
}


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


def marked(row: torch.Tensor) -> set[int]:
    return set(torch.nonzero(row)[:, 0].tolist())


@pytest.fixture(scope="module")
def objective() -> MaskedCodes:
    objective = MaskedCodes(15, share=0.4)
    objective.use_statistics(CODES)
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
    for i, row in enumerate(rows):
        seen = owned(left.code[i], left.mask[i])
        gone = set(row) - seen
        assert seen <= set(row)
        implied = {above for code in row for above in ANCESTORS.get(code, [])}
        # The last is a class that no one has as such.
        assert marked(hidden.exists[i]) == gone - {14}
        lacking = set(range(14)) - set(row) - implied if row else set()
        assert marked(hidden.lacking[i]) == lacking
    assert not left.code[~left.mask].any()
    assert not left.time_hours[~left.mask].any()


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


def test_the_loss_is_the_surprise_in_units_of_popularity(synthetic, objective):
    model = synthetic.make_model()
    masked, hidden = objective.hide(synthetic.make_batch(), draws())
    links = model(masked).links
    share = [(30 + 2 * code + 0.5) / (30.5 - 2 * code) for code in range(14)]
    nats = {True: [0.0, 0.0], False: [0.0, 0.0]}
    for i, code in torch.nonzero(hidden.exists | hidden.lacking).tolist():
        exists = bool(hidden.exists[i, code])
        for place, odds in enumerate((links[i, code].exp().item(), share[code])):
            # A share of 0.4 is hidden of what exists, so these are the odds of it being so.
            chance = 0.4 * odds / (1 + 0.4 * odds)
            nats[exists][place] -= math.log(chance if exists else 1 - chance)
    parts = objective.parts(model(masked), hidden)
    expected = nats[True][1] + nats[False][1]
    assert parts["existing"].item() == pytest.approx(nats[True][0] / expected, rel=1e-4)
    assert parts["lacking"].item() == pytest.approx(nats[False][0] / expected, rel=1e-4)


def test_popularity_alone_costs_one(synthetic, objective):
    model = synthetic.make_model()
    masked, hidden = objective.hide(synthetic.make_batch(), draws())
    outputs = replace(model(masked), links=objective.popularity.expand(8, 15))
    assert float(sum(objective.parts(outputs, hidden).values())) == pytest.approx(1.0)


def test_log_odds_of_the_truth_cost_least_whatever_the_share(synthetic):
    """Of two kinds of patients, the one has code 1 in nine of ten cases, the other in one."""
    generator = draws(3)
    chance = torch.tensor([0.9, 0.1])[torch.arange(40_000) % 2]
    has = torch.rand(40_000, generator=generator) < chance
    code = torch.tensor([[0, 1]]).expand(40_000, 2)
    codes = CodeSet(code, torch.zeros(code.shape), torch.stack([torch.ones_like(has), has], 1))
    batch = ClinicalBatch(torch.arange(40_000), {"codes": codes}, {}, {})
    objective = MaskedCodes(15, share=0.3)
    _, hidden = objective.hide(batch, generator)
    outputs = synthetic.make_model()(synthetic.make_batch())

    def cost(shift: float) -> float:
        links = torch.zeros(40_000, 15)
        links[:, 1] = torch.logit(chance) + shift
        parts = objective.parts(replace(outputs, links=links), hidden)
        return float(sum(parts.values()))

    assert cost(0.0) < min(cost(-0.15), cost(0.15))


def test_nothing_hidden_asks_nothing(synthetic):
    objective = MaskedCodes(15, share=0.0)
    _, hidden = objective.hide(synthetic.make_batch(), draws())
    assert not (hidden.exists | hidden.lacking).any()


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

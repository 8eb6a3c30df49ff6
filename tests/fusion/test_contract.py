"""What every fusion of the menu promises."""

import clinical  # noqa: F401
from clinical.config import keywords
from clinical.errors import ConfigError
from clinical.fusion import FUSIONS

import inspect

import pytest
import torch
from torch import Tensor, nn

M, WIDTH = 3, 16
PRESENT = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0]]).bool()


@pytest.fixture(params=list(FUSIONS))
def entry(request: pytest.FixtureRequest) -> type[nn.Module]:
    return FUSIONS[request.param]


@pytest.fixture
def fusion(entry: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return entry(M, WIDTH).eval()


@pytest.fixture
def summaries() -> Tensor:
    return torch.randn(5, M, WIDTH, generator=torch.Generator().manual_seed(1))


def test_it_gives_one_finite_vector_a_sample(fusion, summaries):
    fused = fusion(summaries, PRESENT)
    assert fused.shape == (5, WIDTH)
    assert fused.isfinite().all()


def test_what_stands_in_an_absent_modality_changes_nothing(fusion, summaries):
    garbage = torch.where(PRESENT[..., None], summaries, torch.nan)
    assert torch.equal(fusion(garbage, PRESENT), fusion(summaries, PRESENT))


def test_gradients_stay_finite_beside_garbage(fusion, summaries):
    garbage = torch.where(PRESENT[..., None], summaries, torch.nan).requires_grad_()
    fusion(garbage, PRESENT).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in fusion.parameters())
    assert garbage.grad.isfinite().all()
    assert not garbage.grad[~PRESENT].any()


def test_every_parameter_and_every_present_summary_learns(fusion, summaries):
    weight = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(2))
    (fusion(summaries.requires_grad_(), PRESENT) * weight).sum().backward()
    assert [n for n, p in fusion.named_parameters() if not p.grad.any()] == []
    assert summaries.grad[PRESENT].any(-1).all()


def test_absence_itself_is_seen(fusion, summaries):
    fewer = PRESENT.clone()
    fewer[0, 1] = False
    changed = (fusion(summaries, fewer) - fusion(summaries, PRESENT)).abs().amax(1) > 1e-4
    assert changed.tolist() == [True, False, False, False, False]


def test_modalities_are_told_apart(fusion):
    same = torch.ones(M, M, WIDTH)
    fused = fusion(same, torch.eye(M).bool())
    assert (torch.pdist(fused) > 1e-3).all()


def test_permuting_the_batch_permutes_the_result(fusion, summaries):
    order = torch.tensor([4, 2, 0, 3, 1])
    torch.testing.assert_close(
        fusion(summaries[order], PRESENT[order]),
        fusion(summaries, PRESENT)[order],
        rtol=0,
        atol=1e-6,
    )


def test_a_sample_is_fused_the_same_alone_and_in_a_batch(fusion, summaries):
    alone = torch.cat([fusion(summaries[[i]], PRESENT[[i]]) for i in range(5)])
    torch.testing.assert_close(alone, fusion(summaries, PRESENT), rtol=0, atol=1e-6)


def test_scoring_equals_evaluating_with_gradients(fusion, summaries):
    # torch has a fast path of its own for layers that need no gradient.
    with torch.no_grad():
        scored = fusion(summaries, PRESENT)
    torch.testing.assert_close(scored, fusion(summaries, PRESENT), rtol=0, atol=1e-5)


def test_mixed_precision_trains_and_stays_near(fusion, summaries):
    exact = fusion(summaries, PRESENT)
    with torch.autocast("cpu", torch.bfloat16):
        fused = fusion(summaries, PRESENT)
    fused.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in fusion.parameters())
    assert (fused.float() - exact).norm() < 0.1 * exact.norm()


def test_inputs_are_not_written_to(fusion, summaries):
    before, present = summaries.clone(), PRESENT.clone()
    fusion.train()(summaries, present)
    assert torch.equal(summaries, before)
    assert torch.equal(present, PRESENT)


def test_training_drops_out_and_evaluation_does_not(fusion, summaries):
    assert torch.equal(fusion(summaries, PRESENT), fusion(summaries, PRESENT))
    fusion.train()
    assert not torch.equal(fusion(summaries, PRESENT), fusion(summaries, PRESENT))


def test_a_state_dict_brings_the_fusion_back(entry, fusion, summaries):
    torch.manual_seed(9)
    other = entry(M, WIDTH).eval()
    assert not torch.equal(other(summaries, PRESENT), fusion(summaries, PRESENT))
    other.load_state_dict(fusion.state_dict())
    assert torch.equal(other(summaries, PRESENT), fusion(summaries, PRESENT))


def test_one_modality_is_enough(entry):
    fusion = entry(1, WIDTH).eval()
    fused = fusion(torch.randn(2, 1, WIDTH), torch.tensor([[True], [False]]))
    assert fused.isfinite().all()


def test_it_learns_which_of_two_modalities_to_trust(entry):
    torch.manual_seed(0)
    fusion, head = entry(2, WIDTH), nn.Linear(WIDTH, 1)
    truth = torch.tensor([0.0, 1, 1, 0, 1, 0, 0, 1])
    summaries = torch.randn(8, 2, WIDTH)
    summaries[:, 1, 0] = 3 * truth
    present = torch.ones(8, 2, dtype=torch.bool)
    optimizer = torch.optim.Adam([*fusion.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        logits = head(fusion(summaries, present))[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, truth)
        loss.backward()
        optimizer.step()
    logits = head(fusion.eval()(summaries, present))[:, 0]
    assert nn.functional.binary_cross_entropy_with_logits(logits, truth) < 0.1


def test_its_keys_are_plain_and_have_defaults(entry):
    known = keywords(entry)
    assert all(p.default is not inspect.Parameter.empty for p in known.values())
    assert list(inspect.signature(entry).parameters) == ["n_modalities", "width", *known]


def test_attention_refuses_a_width_that_its_heads_cannot_share():
    with pytest.raises(ConfigError, match="width 16 is no multiple of heads 3"):
        FUSIONS["attention"](M, WIDTH, heads=3)


def test_the_gates_weights_add_up_to_one_over_what_is_present():
    torch.manual_seed(0)
    fusion = FUSIONS["gated"](M, WIDTH).eval()
    with torch.no_grad():  # every modality says the same, so that the weights alone matter
        fusion.project[:] = torch.eye(WIDTH)
        fusion.missing.zero_()
        fusion.norm = nn.Identity()
    same = torch.randn(5, 1, WIDTH).expand(-1, M, -1)
    fused = fusion(same, PRESENT)
    some = PRESENT.any(1)
    torch.testing.assert_close(fused[some], same[some, 0])
    assert not fused[~some].any()

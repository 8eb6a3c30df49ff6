"""What every fusion of the menu promises."""

import clinical  # noqa: F401
from clinical.config import keywords
from clinical.errors import ConfigError
from clinical.fusion import FUSIONS, Parts

import inspect
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

WIDTHS, WIDTH = (8, 16, 6), 16
PRESENT = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 0]]).bool()


def draw(present: Tensor, *, widths: tuple[int, ...] = WIDTHS, steps: int = 4) -> Parts:
    """Random summaries, and up to so many tokens of each modality that is present."""
    draws = torch.Generator().manual_seed(1)
    size, n_modalities = present.shape
    masks = []
    for modality in range(n_modalities):
        length = torch.randint(1, steps + 1, (size, 1), generator=draws)
        masks.append((torch.arange(steps) < length) & present[:, modality, None])
    return Parts(
        summaries=torch.randn(size, n_modalities, WIDTH, generator=draws),
        present=present,
        tokens=[torch.randn(size, steps, width, generator=draws) for width in widths],
        masks=masks,
    )


def take(parts: Parts, samples: Tensor) -> Parts:
    """The samples [n], with no more steps than the longest of them has."""
    masks = [mask[samples] for mask in parts.masks]
    longest = [int(mask.sum(1).max()) for mask in masks]
    return Parts(
        parts.summaries[samples],
        parts.present[samples],
        [t[samples, :n] for t, n in zip(parts.tokens, longest, strict=True)],
        [mask[:, :n] for mask, n in zip(masks, longest, strict=True)],
    )


def spoilt(parts: Parts, *, by: float = torch.nan) -> Parts:
    """Garbage wherever nothing should be read: of absent modalities, and beside the tokens."""
    return replace(
        parts,
        summaries=torch.where(parts.present[..., None], parts.summaries, by),
        tokens=[
            torch.where((mask & present[:, None])[..., None], tokens, by)
            for tokens, mask, present in zip(
                parts.tokens, parts.masks, parts.present.unbind(1), strict=True
            )
        ],
    )


@pytest.fixture(params=list(FUSIONS))
def entry(request: pytest.FixtureRequest) -> type[nn.Module]:
    return FUSIONS[request.param]


@pytest.fixture
def fusion(entry: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return entry(WIDTHS, WIDTH).eval()


@pytest.fixture
def parts() -> Parts:
    return draw(PRESENT)


def test_it_gives_one_finite_vector_a_sample(fusion, parts):
    fused = fusion(parts)
    assert fused.shape == (5, WIDTH)
    assert fused.isfinite().all()


def test_what_stands_where_nothing_is_changes_nothing(fusion, parts):
    assert torch.equal(fusion(spoilt(parts)), fusion(parts))


def test_of_a_modality_that_is_taken_away_no_token_is_seen(fusion, parts):
    # As modality dropout and leaving out do: the tokens and their masks stay where they are.
    present = PRESENT.clone()
    present[0, 1] = present[4, 0] = False
    less = replace(parts, present=present)
    gone = replace(
        less, masks=[m & p[:, None] for m, p in zip(parts.masks, present.T, strict=True)]
    )
    assert torch.equal(fusion(spoilt(less)), fusion(gone))


def test_gradients_stay_finite_beside_garbage(fusion, parts):
    garbage = spoilt(parts)
    read = [garbage.summaries.requires_grad_(), *(t.requires_grad_() for t in garbage.tokens)]
    fusion(garbage).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in fusion.parameters())
    assert all(part.grad is None or part.grad.isfinite().all() for part in read)
    assert not read[0].grad[~PRESENT].any()


def test_every_parameter_and_every_present_summary_learns(fusion, parts):
    weight = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(2))
    summaries = parts.summaries.requires_grad_()
    (fusion(parts) * weight).sum().backward()
    assert [n for n, p in fusion.named_parameters() if not p.grad.any()] == []
    assert summaries.grad[PRESENT].any(-1).all()


def test_absence_itself_is_seen(fusion, parts):
    fewer = PRESENT.clone()
    fewer[0, 1] = False
    changed = fusion(replace(parts, present=fewer)) - fusion(parts)
    assert (changed.abs().amax(1) > 1e-4).tolist() == [True, False, False, False, False]


def test_modalities_are_told_apart(entry):
    torch.manual_seed(0)
    fusion = entry((WIDTH,) * 3, WIDTH).eval()
    present = torch.eye(3).bool()
    one = torch.ones(3, 2, WIDTH)
    same = Parts(torch.ones(3, 3, WIDTH), present, [one] * 3, [one[..., 0].bool()] * 3)
    assert (torch.pdist(fusion(same)) > 1e-3).all()


def test_permuting_the_batch_permutes_the_result(fusion, parts):
    order = torch.tensor([4, 2, 0, 3, 1])
    expected = fusion(parts)[order]
    torch.testing.assert_close(fusion(take(parts, order)), expected, rtol=0, atol=1e-6)


def test_a_sample_is_fused_the_same_alone_and_in_a_batch(fusion, parts):
    alone = torch.cat([fusion(take(parts, torch.tensor([i]))) for i in range(5)])
    torch.testing.assert_close(alone, fusion(parts), rtol=0, atol=1e-6)


def test_scoring_equals_evaluating_with_gradients(fusion, parts):
    # torch has a fast path of its own for layers that need no gradient.
    with torch.no_grad():
        scored = fusion(parts)
    torch.testing.assert_close(scored, fusion(parts), rtol=0, atol=1e-5)


def test_mixed_precision_trains_and_stays_near(fusion, parts):
    exact = fusion(parts)
    with torch.autocast("cpu", torch.bfloat16):
        fused = fusion(parts)
    fused.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in fusion.parameters())
    assert (fused.float() - exact).norm() < 0.1 * exact.norm()


def test_inputs_are_not_written_to(fusion, parts):
    before = draw(PRESENT)
    fusion.train()(parts)
    assert torch.equal(parts.summaries, before.summaries)
    assert torch.equal(parts.present, before.present)
    for name in ("tokens", "masks"):
        pairs = zip(getattr(parts, name), getattr(before, name), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_training_drops_out_and_evaluation_does_not(fusion, parts):
    assert torch.equal(fusion(parts), fusion(parts))
    fusion.train()
    assert not torch.equal(fusion(parts), fusion(parts))


def test_a_state_dict_brings_the_fusion_back(entry, fusion, parts):
    torch.manual_seed(9)
    other = entry(WIDTHS, WIDTH).eval()
    assert not torch.equal(other(parts), fusion(parts))
    other.load_state_dict(fusion.state_dict())
    assert torch.equal(other(parts), fusion(parts))


def test_one_modality_is_enough(entry):
    fusion = entry((5,), WIDTH).eval()
    assert fusion(draw(torch.tensor([[True], [False]]), widths=(5,))).isfinite().all()


def test_it_learns_which_of_two_modalities_to_trust(entry):
    torch.manual_seed(0)
    fusion, head = entry((4, 4), WIDTH), nn.Linear(WIDTH, 1)
    truth = torch.tensor([0.0, 1, 1, 0, 1, 0, 0, 1])
    parts = draw(torch.ones(8, 2, dtype=torch.bool), widths=(4, 4))
    parts.summaries[:, 1, 0] = 3 * truth
    optimizer = torch.optim.Adam([*fusion.parameters(), *head.parameters()], lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(head(fusion(parts))[:, 0], truth)
        loss.backward()
        optimizer.step()
    logits = head(fusion.eval()(parts))[:, 0]
    assert nn.functional.binary_cross_entropy_with_logits(logits, truth) < 0.1


def test_its_keys_are_plain_and_have_defaults(entry):
    known = keywords(entry)
    assert all(p.default is not inspect.Parameter.empty for p in known.values())
    assert list(inspect.signature(entry).parameters) == ["widths", "width", *known]


@pytest.mark.parametrize("name", ["attention", "cross_attention"])
def test_attention_refuses_a_width_that_its_heads_cannot_share(name):
    with pytest.raises(ConfigError, match="width 16 is no multiple of heads 3"):
        FUSIONS[name](WIDTHS, WIDTH, heads=3)


def test_the_gates_weights_add_up_to_one_over_what_is_present():
    torch.manual_seed(0)
    fusion = FUSIONS["gated"](WIDTHS, WIDTH).eval()
    with torch.no_grad():  # every modality says the same, so that the weights alone matter
        fusion.project[:] = torch.eye(WIDTH)
        fusion.missing.zero_()
        fusion.norm = nn.Identity()
    same = layer_norm(torch.randn(5, 1, WIDTH), (WIDTH,)).expand(-1, 3, -1)
    fused = fusion(replace(draw(PRESENT), summaries=same))
    some = PRESENT.any(1)
    torch.testing.assert_close(fused[some], same[some, 0], rtol=0, atol=1e-4)
    assert not fused[~some].any()


def test_a_loud_modality_does_not_drown_a_quiet_one(fusion, parts):
    # Encoders end without a norm: one may speak a thousand times as loud as another.
    loudness = torch.tensor([100.0, 1e-4, 0.1])[:, None]
    loud = replace(parts, summaries=parts.summaries * loudness)
    shuffled = loud.summaries.clone()
    shuffled[:, 1] = shuffled[:, 1].roll(1, dims=-1)
    before, after = fusion(loud), fusion(replace(loud, summaries=shuffled))
    moved = (after - before).norm(dim=1) / before.norm(dim=1)
    heard = PRESENT[:, 1]
    assert (moved[heard] > 0.1).all()
    assert (moved[~heard] == 0).all()

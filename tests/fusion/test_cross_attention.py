"""Attention over the tokens: which of them are read, and that they are."""

import clinical  # noqa: F401
from clinical.errors import ConfigError
from clinical.fusion import Parts
from clinical.fusion.cross_attention import CrossAttentionFusion, newest

from dataclasses import replace

import pytest
import torch
from torch import nn

WIDTH = 16


def drawn(size: int, steps: int, *, seed: int = 0) -> Parts:
    """One modality, whose tokens stand anywhere among the steps."""
    draws = torch.Generator().manual_seed(seed)
    mask = torch.rand(size, steps, generator=draws) < 0.5
    return Parts(
        summaries=torch.zeros(size, 1, WIDTH),
        present=torch.ones(size, 1, dtype=torch.bool),
        tokens=[torch.randn(size, steps, 4, generator=draws)],
        masks=[mask],
    )


@pytest.fixture
def fusion() -> CrossAttentionFusion:
    torch.manual_seed(0)
    return CrossAttentionFusion((4,), WIDTH, max_tokens=3).eval()


@pytest.mark.parametrize("most", [1, 3, 9, 20])
def test_the_last_tokens_are_kept_in_their_order(most):
    parts = drawn(6, 12)
    (tokens,), (mask,) = parts.tokens, parts.masks
    kept, kept_mask = newest(tokens, mask, most=most)
    assert kept.shape == (6, min(most, 12), 4)
    for i in range(6):
        assert torch.equal(kept[i][kept_mask[i]], tokens[i][mask[i]][-most:])


def test_what_is_beyond_the_cap_is_not_read_and_the_newest_are(fusion):
    parts = drawn(1, 10)
    (tokens,), everywhere = parts.tokens, torch.ones(1, 10, dtype=torch.bool)
    parts = replace(parts, masks=[everywhere])
    older, newer = tokens.clone(), tokens.clone()
    older[:, :7] += 1
    newer[:, 7] += torch.randn(4, generator=torch.Generator().manual_seed(3))
    assert torch.equal(fusion(replace(parts, tokens=[older])), fusion(parts))
    assert not torch.allclose(fusion(replace(parts, tokens=[newer])), fusion(parts), atol=1e-4)


def test_the_order_of_the_tokens_does_not_matter():
    torch.manual_seed(0)
    fusion = CrossAttentionFusion((4,), WIDTH).eval()
    parts = drawn(3, 6)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    moved = replace(parts, tokens=[parts.tokens[0][:, order]], masks=[parts.masks[0][:, order]])
    torch.testing.assert_close(fusion(moved), fusion(parts), rtol=0, atol=1e-6)


def test_it_finds_one_token_among_many_that_no_summary_tells():
    torch.manual_seed(0)
    fusion, head = CrossAttentionFusion((4,), WIDTH, dropout=0.0), nn.Linear(WIDTH, 1)
    optimizer = torch.optim.Adam([*fusion.parameters(), *head.parameters()], lr=1e-2)

    def planted(seed: int) -> tuple[Parts, torch.Tensor]:
        """Fourteen tokens, of which the one with a one in front says the truth."""
        draws = torch.Generator().manual_seed(seed)
        parts = drawn(64, 14, seed=seed)
        truth = (torch.rand(64, generator=draws) < 0.5).float()
        tokens, place = parts.tokens[0], torch.randint(14, (64,), generator=draws)
        tokens[..., 0] = 0.0
        marked = torch.stack((torch.full((64,), 3.0), 6 * truth - 3), 1)
        tokens[torch.arange(64), place, :2] = marked
        return replace(parts, masks=[torch.ones(64, 14, dtype=torch.bool)]), truth

    for step in range(150):
        parts, truth = planted(step)
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(head(fusion(parts))[:, 0], truth)
        loss.backward()
        optimizer.step()
    parts, truth = planted(1000)
    told = head(fusion(parts))[:, 0] > 0
    assert (told == truth.bool()).float().mean() > 0.9


def test_a_cap_below_one_is_refused():
    with pytest.raises(ConfigError, match=r"fusion\.max_tokens: 0 should be at least 1"):
        CrossAttentionFusion((4,), WIDTH, max_tokens=0)

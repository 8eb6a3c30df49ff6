"""Messages depend on a sample and its neighbours alone, and find what only a mean shows."""

import clinical  # noqa: F401
from clinical.batch import Neighbours
from clinical.graph import EmbeddingMemory, MessagePassing

import math

import pytest
import torch
from torch import Tensor, nn

WIDTH = 8


def memory_of(embedding: Tensor) -> EmbeddingMemory:
    memory = EmbeddingMemory(*embedding.shape)
    memory.replace_all(embedding)
    return memory


@pytest.fixture
def passing() -> MessagePassing:
    torch.manual_seed(1)
    module = MessagePassing(WIDTH).eval()
    # Away from the start, so that every path carries something.
    with torch.no_grad():
        for tensor in (*module.parameters(), module.directions):
            tensor.add_(0.3 * torch.randn_like(tensor))
    return module


@pytest.fixture
def fused() -> Tensor:
    return torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def memory() -> EmbeddingMemory:
    return memory_of(torch.randn(10, WIDTH, generator=torch.Generator().manual_seed(3)))


@pytest.fixture
def edges() -> Neighbours:
    rows = torch.tensor([[0, 1, 2], [3, -1, -1], [-1, -1, -1], [4, 5, -1], [1, 0, 9]])
    weight = torch.rand(5, 3, generator=torch.Generator().manual_seed(4)).clamp_min(0.05)
    return Neighbours(rows, weight.masked_fill(rows < 0, 0.0))


def naive_content(passing: MessagePassing, fused: Tensor, rows: Tensor, weight: Tensor) -> Tensor:
    """One sample's message, neighbour by neighbour; `rows` [n, D] of those it has."""
    trunk = passing.norm(fused)
    queries = [torch.zeros(WIDTH), *passing.query(trunk).view(-1, WIDTH)]
    pooled = []
    for head, query in enumerate(queries):
        logits = [passing.null_logit[head]]
        for row, w in zip(rows, weight, strict=True):
            near = passing.closeness[head] * math.log(w)
            logits.append(query @ row / math.sqrt(WIDTH) + near)
        shares = torch.stack(logits).exp()
        shares = shares / shares.sum()
        pooled.append(sum((s * row for s, row in zip(shares[1:], rows, strict=True))))
    counts = torch.tensor([math.log1p(len(rows)) / 3, math.log1p(weight.sum()) / 3])
    agreed = torch.cat([*(one @ passing.directions for one in pooled), counts])
    gate = torch.sigmoid(passing.gate(torch.cat([trunk, counts])))
    word = passing.agreed(agreed) + passing.whole(torch.cat([*pooled, counts]))
    return passing.no_neighbour + gate * word


def test_messages_equal_those_of_a_plain_loop(passing, fused, memory, edges):
    content = passing(fused, memory, edges).content
    rows = memory.read(edges.rows)
    for sample in (0, 1, 3, 4):
        has = edges.rows[sample] >= 0
        naive = naive_content(passing, fused[sample], rows[sample, has], edges.weight[sample, has])
        torch.testing.assert_close(content[sample], naive)


def test_the_first_head_is_a_mean_by_closeness_shrunken_by_the_null_row():
    module = MessagePassing(WIDTH, heads=2)
    nn.init.normal_(module.query.weight)
    rows, weight = torch.randn(1, 3, WIDTH), torch.tensor([[0.5, 0.25, 1.0]])
    linked = torch.tensor([[True, True, False]])
    shares = module._attention(torch.randn(1, WIDTH), rows, weight, linked)
    expected = torch.tensor([0.5, 0.25, 0.0]) / (4 + 0.75)
    torch.testing.assert_close(shares[0, 0], expected)
    assert (shares[0, 1] - expected).abs().max() > 0.01


def test_a_sample_without_neighbours_gets_the_learned_state_and_a_closed_gate(
    passing, fused, memory, edges
):
    message = passing(fused, memory, edges)
    assert message.linked.tolist() == [True, True, False, True, True]
    assert torch.equal(message.content[2], passing.no_neighbour)
    assert message.gate[2] == 0
    assert (message.gate[message.linked] > 0).all()


def test_a_closed_gate_leaves_the_state_of_having_no_neighbour(passing, fused, memory, edges):
    nn.init.zeros_(passing.gate.weight)
    nn.init.constant_(passing.gate.bias, -100.0)
    content = passing(fused, memory, edges).content
    torch.testing.assert_close(content, passing.no_neighbour.expand(5, WIDTH))


def test_a_new_gate_is_half_open(fused, memory, edges):
    message = MessagePassing(WIDTH)(fused, memory, edges)
    assert torch.equal(message.gate[message.linked], torch.full((4,), 0.5))


def test_empty_places_and_the_order_of_neighbours_change_nothing(passing, fused, memory, edges):
    content = passing(fused, memory, edges).content
    rows = torch.cat([torch.full((5, 4), -1), edges.rows.flip(1)], 1)
    weight = torch.cat([torch.zeros(5, 4), edges.weight.flip(1)], 1)
    again = passing(fused, memory, Neighbours(rows, weight)).content
    torch.testing.assert_close(again, content, rtol=0, atol=1e-6)


def test_a_message_is_the_same_alone_and_in_a_batch(passing, fused, memory, edges):
    together = passing(fused, memory, edges).content
    for i in range(5):
        one = slice(i, i + 1)
        alone = passing(fused[one], memory, Neighbours(edges.rows[one], edges.weight[one])).content
        torch.testing.assert_close(alone, together[one], rtol=0, atol=1e-6)


def test_a_memory_row_reaches_only_the_samples_that_point_to_it(passing, fused, memory, edges):
    before = passing(fused, memory, edges).content
    changed = memory.embedding.clone()
    changed[1] += 1.0
    after = passing(fused, memory.holding(changed), edges).content
    moved = (before != after).any(1)
    assert moved.tolist() == [True, False, False, False, True]


def test_gradients_reach_the_trunk_and_every_parameter_but_not_the_memory(
    passing, fused, memory, edges
):
    fused = fused.clone().requires_grad_()
    passing(fused, memory, edges).content.square().sum().backward()
    assert fused.grad is not None
    assert fused.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in passing.parameters())
    assert memory.embedding.grad is None


def wards(n_wards: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of 12 patients a ward whose first number is 0.6 higher in an outbreak."""
    generator = torch.Generator().manual_seed(seed)
    outbreak = (torch.rand(n_wards, generator=generator) < 0.4).float()
    rows = torch.randn(n_wards, 12, 16, generator=generator)
    rows[..., 0] += 0.6 * outbreak[:, None]
    return rows, outbreak, torch.randn(n_wards, 16, generator=generator)


def auroc(score: Tensor, label: Tensor) -> float:
    positive, negative = score[label > 0], score[label == 0]
    return float((positive[:, None] > negative).float().mean())


def test_what_hardly_shows_in_one_neighbour_is_found_in_their_mean():
    torch.manual_seed(0)
    rows, outbreak, fused = wards(1500, 0)
    test_rows, test_outbreak, test_fused = wards(600, 1)
    memory = memory_of(rows.flatten(0, 1))
    everyone = Neighbours(torch.arange(1500 * 12).view(1500, 12), torch.ones(1500, 12))
    passing, head = MessagePassing(16), nn.Linear(16, 1)
    optimizer = torch.optim.AdamW([*passing.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(6):
        for part in torch.randperm(1500).split(64):
            edges = Neighbours(everyone.rows[part], everyone.weight[part])
            logits = head(passing(fused[part], memory, edges).content)[:, 0]
            loss = nn.functional.binary_cross_entropy_with_logits(logits, outbreak[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    new = memory.holding(torch.cat([memory.embedding, test_rows.flatten(0, 1)]))
    edges = Neighbours(1500 * 12 + torch.arange(600 * 12).view(600, 12), torch.ones(600, 12))
    passing.eval()
    with torch.no_grad():
        found = auroc(head(passing(test_fused, new, edges).content)[:, 0], test_outbreak)
    best = auroc(test_rows[..., 0].mean(1), test_outbreak)
    single = auroc(test_rows[:, 0, 0], test_outbreak)
    assert single < 0.72
    assert found > best - 0.04

"""Rows find their sample; pooling weighs what is there."""

import clinical  # noqa: F401
from clinical.encoders.pooling import AttentionPooling, TimeEmbedding, stack_rows

import torch


def test_rows_are_stacked_by_sample_in_their_order():
    rows = torch.tensor([[1.0], [2.0], [3.0]])
    stacked, mask = stack_rows(rows, torch.tensor([1, 3, 3]), 4)
    assert stacked[..., 0].tolist() == [[0, 0], [1, 0], [0, 0], [2, 3]]
    assert mask.tolist() == [[False, False], [True, False], [False, False], [True, True]]


def test_no_rows_make_no_steps():
    stacked, mask = stack_rows(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), 4)
    assert stacked.shape == (4, 0, 3)
    assert mask.shape == (4, 0)


def test_gradients_go_back_to_each_row():
    rows = torch.randn(3, 2, requires_grad=True)
    stacked, _ = stack_rows(rows, torch.tensor([0, 0, 2]), 3)
    (stacked * torch.arange(1, 13).view(3, 2, 2)).sum().backward()
    assert rows.grad.tolist() == [[1, 2], [3, 4], [9, 10]]


def test_pooling_equals_a_loop_over_samples_and_heads():
    torch.manual_seed(0)
    pool = AttentionPooling(4, heads=2)
    tokens, length = torch.randn(3, 5, 4), [5, 2, 1]
    mask = torch.arange(5) < torch.tensor(length)[:, None]
    for row, n in enumerate(length):
        parts = tokens[row, :n]
        pooled = [
            sum(w * part for w, part in zip((parts @ query).softmax(0), parts, strict=True))
            for query in pool.score.weight
        ]
        expected = pool.merge.weight @ torch.cat(pooled) + pool.merge.bias
        torch.testing.assert_close(pool(tokens, mask)[row], expected)


def test_samples_without_parts_pool_to_one_constant():
    torch.manual_seed(0)
    pool = AttentionPooling(4, heads=2)
    nothing = pool(torch.randn(2, 3, 4), torch.zeros(2, 3, dtype=torch.bool))
    no_steps = pool(torch.randn(2, 0, 4), torch.zeros(2, 0, dtype=torch.bool))
    torch.testing.assert_close(nothing, pool.merge.bias.expand(2, -1))
    torch.testing.assert_close(no_steps, nothing)


def test_times_minutes_and_weeks_apart_are_told_apart():
    torch.manual_seed(0)
    time = TimeEmbedding(8, shortest_hours=0.5, longest_hours=2000.0)
    embedded = time(torch.tensor([0.0, 0.1, 1.0, 24.0, 48.0, 168.0, 20_000.0]))
    assert embedded.isfinite().all()
    assert torch.pdist(embedded).min() > 0.01

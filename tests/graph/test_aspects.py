"""Each aspect asks the same sources a question of its own; absent sources have no say."""

import clinical  # noqa: F401
from clinical.graph import AspectReadout

import pytest
import torch
from torch import Tensor, nn

WIDTH = 8
Sources = tuple[Tensor, Tensor, Tensor, list[Tensor]]


@pytest.fixture
def readout() -> AspectReadout:
    torch.manual_seed(0)
    return AspectReadout(["mortality", "similar"], 3, n_relations=1, width=WIDTH)


def sources(seed: int = 0, size: int = 4) -> Sources:
    generator = torch.Generator().manual_seed(seed)
    fused = torch.randn(size, WIDTH, generator=generator)
    summaries = torch.randn(size, 3, WIDTH, generator=generator)
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]]).bool()[:size]
    return fused, summaries, present, [torch.randn(size, WIDTH, generator=generator)]


def test_every_aspect_has_a_representation_of_its_own(readout):
    aspects = readout(*sources())
    assert list(aspects) == ["mortality", "similar"]
    assert aspects["mortality"].shape == (4, WIDTH)
    assert ((aspects["mortality"] - aspects["similar"]).abs().sum(1) > 1e-3).all()


def test_what_stands_in_an_absent_modality_changes_nothing(readout):
    fused, summaries, present, messages = sources()
    before = readout(fused, summaries, present, messages)
    garbage = torch.where(present[..., None], summaries, torch.tensor(torch.nan))
    after = readout(fused, garbage, present, messages)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_presence_itself_is_seen(readout):
    fused, summaries, present, messages = sources()
    before = readout(fused, summaries, present, messages)["mortality"]
    fewer = present.clone()
    fewer[0, 1] = False
    after = readout(fused, summaries, fewer, messages)["mortality"]
    assert (before != after).any(1).tolist() == [True, False, False, False]


def test_a_representation_is_the_same_alone_and_in_a_batch(readout):
    fused, summaries, present, messages = sources()
    together = readout(fused, summaries, present, messages)["similar"]
    for i in range(4):
        one = slice(i, i + 1)
        alone = readout(fused[one], summaries[one], present[one], [messages[0][one]])["similar"]
        torch.testing.assert_close(alone, together[one], rtol=0, atol=1e-6)


def test_beside_the_attention_the_sources_add_up_linearly(readout):
    nn.init.zeros_(readout.out.weight)
    everyone = torch.ones(4, 3, dtype=torch.bool)

    def answer(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
        return readout(first, second, everyone, [third])["mortality"]

    fused, summaries, _, (message,) = sources()
    nothing = answer(0 * fused, 0 * summaries, 0 * message)
    apart = [
        answer(fused, 0 * summaries, 0 * message) - nothing,
        answer(0 * fused, summaries, 0 * message) - nothing,
        answer(0 * fused, 0 * summaries, message) - nothing,
    ]
    assert all(change.abs().sum() > 0.1 for change in apart)
    torch.testing.assert_close(answer(fused, summaries, message) - nothing, sum(apart))


def test_without_relations_no_parameter_belongs_to_them(readout):
    alone = AspectReadout(["mortality"], 3, n_relations=0, width=WIDTH)
    fused, summaries, present, _ = sources()
    assert alone(fused, summaries, present, [])["mortality"].shape == (4, WIDTH)
    assert len(alone.linear) == len(readout.linear) - 1


def test_gradients_reach_every_parameter(readout):
    torch.stack(list(readout(*sources()).values())).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in readout.parameters())


def test_what_summaries_add_linearly_is_told_apart_from_the_rest(readout):
    fused, summaries, present, messages = sources()
    told = readout.of_summaries(summaries, present)
    before = readout(fused, summaries, present, messages)
    with torch.no_grad():
        for number in range(3):
            readout.linear_map(number).weight.zero_()
    after = readout(fused, summaries, present, messages)
    for aspect in readout.aspects:
        torch.testing.assert_close(before[aspect] - after[aspect], told[aspect])


def test_the_scale_of_an_aspect_is_its_own(readout):
    with torch.no_grad():
        readout.share[1, 2] = 7.0
    assert readout.scale("mortality").tolist() == pytest.approx([5**-0.5] * 3)
    assert readout.scale("similar")[1].item() == pytest.approx(7 * 5**-0.5)

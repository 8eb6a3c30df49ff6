"""Prototypical heads: distances worked out by hand, classes nobody has, episodes' losses."""

import clinical  # noqa: F401
from clinical.answers import Binary, Multiclass
from clinical.batch import Target
from clinical.config import RunConfig
from clinical.heads import HEADS_OF
from clinical.heads.prototypical import (
    BEHIND,
    PrototypicalBinaryHead,
    PrototypicalMulticlassHead,
    classes_of,
)

import math

import pytest
import torch

THREE = Multiclass(("a", "b", "c"))
CORNERS = torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 2.0]])


def three_classes(counts=(1.0, 1.0, 1.0), temperature=0.5) -> PrototypicalMulticlassHead:
    head, counts = PrototypicalMulticlassHead(2, THREE), torch.tensor(counts)
    head.remember(CORNERS * counts[:, None], counts)
    head.set_temperature(temperature)
    return head


def known(*places: float) -> Target:
    return Target(
        torch.tensor(places, dtype=torch.float32), torch.ones(len(places), dtype=torch.bool)
    )


def test_a_logit_is_the_temperature_times_minus_the_squared_distance():
    logits = three_classes()(torch.tensor([[1.0, 0.0]]))
    # Squared distances 1, 9 and 1 + 4, halved.
    expected = torch.tensor([[-0.5, -4.5, -2.5]]) + math.log(1 / 3)
    torch.testing.assert_close(logits, expected)


def test_a_class_that_train_has_more_of_is_as_much_likelier():
    same, more = three_classes(), three_classes(counts=(1.0, 6.0, 1.0))
    aspect = torch.randn(5, 2)
    odds = [(logits[:, 1] - logits[:, 0]).detach() for logits in (same(aspect), more(aspect))]
    torch.testing.assert_close(odds[1] - odds[0], torch.full((5,), math.log(6)))


def test_a_binary_logit_is_how_much_nearer_yes_is():
    head = PrototypicalBinaryHead(2, Binary())
    head.remember(torch.tensor([[0.0, 0.0], [6.0, 0.0]]), torch.tensor([1.0, 3.0]))
    head.set_temperature(2.0)
    # No is at 0 and yes at 2, three times as frequent: 2 * (1 - 1), and 2 * (4 - 0).
    logits = head(torch.tensor([[1.0, 5.0], [2.0, 0.0]]))
    torch.testing.assert_close(logits, torch.tensor([0.0, 8.0]) + math.log(3))


def test_a_class_that_train_lacks_is_never_predicted_however_near_its_place():
    head = three_classes(counts=(2.0, 0.0, 2.0))
    head.prototype[1] = torch.tensor([100.0, 100.0])
    logits = head(torch.tensor([[100.0, 100.0], [0.0, 0.0], [-1e4, 1e4]]))
    assert logits.isfinite().all()
    others = logits[:, [0, 2]].amin(1)
    torch.testing.assert_close(logits[:, 1], others - BEHIND)
    assert (logits.softmax(1)[:, 1] < 1e-12).all()


@pytest.mark.parametrize(("counts", "logit"), [((3, 0), -BEHIND), ((0, 3), BEHIND), ((0, 0), 0)])
def test_of_one_class_or_none_the_logit_is_the_same_for_all(counts, logit):
    head = PrototypicalBinaryHead(2, Binary())
    head.remember(torch.ones(2, 2), torch.tensor(counts, dtype=torch.float32))
    torch.testing.assert_close(head(3 * torch.randn(4, 2)), torch.full((4,), float(logit)))


def test_what_a_new_head_says_is_finite():
    assert torch.equal(PrototypicalMulticlassHead(2, THREE)(torch.randn(4, 2)), torch.zeros(4, 3))


def test_the_temperature_is_positive_whatever_is_learned():
    head = three_classes()
    with torch.no_grad():
        head.log_temperature.sub_(5.0)
    apart = head(torch.tensor([[0.0, 0.0]]))[0]
    assert apart[0] > apart[1]


def test_an_episode_s_loss_is_of_those_who_ask_against_those_who_support():
    head = PrototypicalBinaryHead(1, Binary())
    head.set_temperature(1.0)
    aspect = torch.tensor([[0.0], [2.0], [4.0], [1.0], [1.0], [3.0]])
    supports = torch.tensor([True, True, True, False, False, False])
    target = known(0, 0, 1, 0, 0, 1)
    # Prototypes 1 and 4. Those at 1 are no, 0 away from it and 9 from yes; the one at 3 is yes,
    # 4 away from no and 1 from yes. Each class counts alike, whoever is more.
    expected = (math.log(1 + math.exp(-9)) + math.log(1 + math.exp(-3))) / 2
    assert head.episode_loss(aspect, target, supports).item() == pytest.approx(expected, abs=1e-6)


def test_the_prototypes_of_train_have_no_part_in_an_episode():
    head, target = three_classes(), known(0, 0, 1, 1, 2, 2)
    aspect, supports = torch.randn(6, 2), torch.arange(6) % 2 == 0
    before = head.episode_loss(aspect, target, supports)
    head.remember(torch.randn(3, 2), torch.tensor([5.0, 0.0, 1.0]))
    assert torch.equal(head.episode_loss(aspect, target, supports), before)


def test_who_is_of_a_class_that_nobody_supports_asks_nothing():
    head, aspect = three_classes(), torch.randn(4, 2)
    supports = torch.tensor([True, True, False, False])
    both = head.episode_loss(aspect, known(0, 1, 0, 2), supports)
    one = head.episode_loss(aspect[:3], known(0, 1, 0), supports[:3])
    torch.testing.assert_close(both, one)


def test_an_absent_label_neither_supports_nor_asks():
    head, aspect = three_classes(), torch.randn(6, 2, requires_grad=True)
    supports = torch.tensor([True, True, False, False, True, False])
    observed = torch.tensor([True, True, True, True, False, False])
    target = Target(torch.tensor([0.0, 1, 0, 1, math.nan, math.nan]), observed)
    loss = head.episode_loss(aspect, target, supports)
    torch.testing.assert_close(loss, head.episode_loss(aspect[:4], known(0, 1, 0, 1), supports[:4]))
    loss.backward()
    assert not aspect.grad[4:].any()
    assert aspect.grad[:4].any(1).all()


@pytest.mark.parametrize("size", [0, 3])
def test_an_episode_of_nobody_gives_zero_and_a_gradient_of_zero(size):
    head, aspect = three_classes(), torch.randn(size, 2, requires_grad=True)
    nobody = Target(torch.zeros(size), torch.zeros(size, dtype=torch.bool))
    loss = head.episode_loss(aspect, nobody, torch.zeros(size, dtype=torch.bool))
    assert loss.item() == 0
    loss.backward()
    assert not aspect.grad.any()
    assert not head.log_temperature.grad.any()


@pytest.mark.parametrize("answer", [Binary(), THREE])
def test_eight_samples_are_learned_by_episodes(answer):
    torch.manual_seed(0)
    kind = "multiclass" if answer.shape else "binary"
    head, trunk = HEADS_OF["prototypical"][kind](8, answer), torch.nn.Linear(8, 8)
    patients, target = torch.randn(8, 8), known(*(torch.arange(8) % head.n_classes).float())
    optimizer = torch.optim.Adam([*trunk.parameters(), *head.parameters()], lr=0.02)
    for step in range(300):
        supports = torch.randperm(8, generator=torch.Generator().manual_seed(step)) < 4
        loss = head.episode_loss(trunk(patients), target, supports)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    aspect, is_class = trunk(patients), classes_of(target, head.n_classes).float()
    head.remember(is_class.T @ aspect, is_class.sum(0))
    logits = head(aspect)
    assert logits.shape == (8, *answer.shape)
    assert head.loss(logits, target) < 0.05


def test_prototypes_are_part_of_the_weights():
    head, other = three_classes(counts=(1.0, 6.0, 1.0)), PrototypicalMulticlassHead(2, THREE)
    other.load_state_dict(head.state_dict())
    aspect = torch.randn(4, 2)
    assert torch.equal(other(aspect), head(aspect))


@pytest.mark.parametrize(("kind", "answer"), [("binary", Binary()), ("multiclass", THREE)])
def test_a_line_would_be_asked_the_same_of_either_sort_of_head(kind, answer):
    target = Target(torch.tensor([1.0, 0.0, 0.0]), torch.tensor([True, True, False]))
    linear, prototypical = (
        heads[kind](2, answer).wanted(target)
        for heads in (HEADS_OF["linear"], HEADS_OF["prototypical"])
    )
    known = linear[1]
    assert torch.equal(prototypical[1], known)
    assert torch.equal(prototypical[0][known], linear[0][known])


def read(finetune: dict, **task: object) -> RunConfig:
    tasks = {"target": {"kind": "binary", "labels": "t"} | task}
    events = {"events": {"encoder": "event_set"}}
    return RunConfig.model_validate(
        {"extract": "e", "out": "o", "tasks": tasks, "modalities": events}
        | {"finetune": {"head": "prototypical"} | finetune}
    )


def test_a_prototypical_head_starts_as_pretrained_also_when_written_down_and_read_again():
    config = read({})
    assert config.finetune.start == "pretrained"
    assert RunConfig.model_validate(config.dump()) == config
    assert read({"epochs": 0}).finetune.epochs == 0


@pytest.mark.parametrize(
    ("finetune", "task", "message"),
    [
        ({"start": "linear"}, {}, "no line to start with; set start: pretrained"),
        ({"teachers": ["additive"]}, {}, "take teachers out, or set head: linear"),
        ({"batch_size": 3}, {}, "needs batch_size: 4 or more"),
        ({"init": {"bundle": "b", "heads": True}}, {}, "prototypes anew; leave heads out"),
        ({}, {"kind": "regression", "unit": "days"}, "target is regression; set head: linear"),
        ({}, {"kind": "multilabel", "labels": ["a", "b"]}, "target is multilabel"),
        ({}, {"kind": "time_to_event", "horizon_hours": 9}, "target is time_to_event"),
    ],
)
def test_what_does_not_go_with_prototypes_is_refused(finetune, task, message):
    with pytest.raises(ValueError, match=message):
        read(finetune, **task)

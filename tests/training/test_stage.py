"""The embedding memory in training, and what the two stages make of a batch."""

from clinical.batch import Target
from clinical.objectives import OBJECTIVES, Loss, Objective
from clinical.sections import PretrainConfig
from clinical.training.pretrain import PretrainStage

from dataclasses import replace

import pytest
import torch


@pytest.fixture
def figures(monkeypatch):
    """What a stage logs, without a trainer."""
    found = []
    monkeypatch.setattr(
        "clinical.training.stage.Stage.log_figures",
        lambda self, split, figures, *, size: found.append((split, figures, size)),
    )
    monkeypatch.setattr("clinical.training.stage.Stage.current_epoch", 0)
    return found


def test_a_refresh_embeds_each_reference_as_alone_with_nothing_dropped(workshop, synthetic):
    stage = workshop.finetune()
    model = stage.model.train()
    stage.refresh_memory()
    assert model.training
    model.eval()
    for row in range(synthetic.N_REFERENCE):
        one = synthetic.take(workshop.reference_batch, torch.tensor([row]))
        with torch.no_grad():
            alone = model.embed(one)[0]
        # Reference i is row N - 1 - i of the store here.
        memory = model.memory[synthetic.N_REFERENCE - 1 - row]
        torch.testing.assert_close(memory, alone, rtol=0, atol=1e-5)


def test_a_refresh_draws_no_random_number(workshop):
    stage = workshop.finetune()
    stage.model.train()
    state = torch.random.get_rng_state()
    stage.refresh_memory()
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("kind", ["finetune", "pretrain"])
def test_training_batches_never_write_the_memory_nor_send_it_a_gradient(workshop, figures, kind):
    stage = getattr(workshop, kind)()
    stage.model.train()
    before = stage.model.memory.clone()
    assert before.abs().sum() > 0
    optimizer = torch.optim.SGD(stage.parameters(), lr=0.1)
    stage.training_step(workshop.train[0], 0).backward()
    optimizer.step()
    assert torch.equal(stage.model.memory, before)
    assert not stage.model.memory.requires_grad


def test_an_absent_label_teaches_nothing(workshop, figures):
    stage = workshop.finetune()
    batch = workshop.train[0]
    nobody = Target(torch.zeros(6), torch.zeros(6, dtype=torch.bool))
    unknown = replace(batch, targets=dict.fromkeys(batch.targets, nobody))
    stage.training_step(unknown, 0).backward()
    assert all(p.grad is None or not p.grad.any() for p in stage.parameters())


def test_finetuning_chooses_by_the_mean_auroc_and_by_the_loss_of_a_task_with_one_class(
    workshop, figures
):
    stage = workshop.finetune()
    stage.model.eval()
    batch = workshop.tuning[0]
    everyone = torch.ones(6, dtype=torch.bool)
    targets = {
        "mortality": Target(torch.tensor([0.0, 1, 0, 1, 0, 1]), everyone),
        "readmission": Target(torch.ones(6), everyone),
    }
    batch = replace(batch, targets=targets)
    stage.validation_step(batch, 0)
    stage.on_validation_epoch_end()
    ((split, logged, _),) = figures
    logits = stage.model(batch).logits["mortality"].detach()
    died, lived = logits[1::2], logits[0::2]
    auroc = (died[:, None] > lived).float().mean()
    loss = torch.nn.functional.softplus(-stage.model(batch).logits["readmission"]).mean()
    assert split == "tuning"
    assert "auroc/readmission" not in logged
    torch.testing.assert_close(logged["auroc/mortality"], auroc)
    torch.testing.assert_close(logged["choice"], (auroc - loss.detach()) / 2)


class Spy(Objective):
    """Keeps what it was given and changes nothing."""

    def __init__(self, *, own_pass: bool) -> None:
        super().__init__()
        self.own_pass = own_pass
        self.given = []

    def hide(self, batch, generator):
        self.given.append((batch, generator.initial_seed()))
        return batch, None

    def loss(self, outputs, hidden):
        self.linked = outputs.linked
        return Loss(outputs.fused.sum() * 0, {})


def spied(workshop, synthetic, *, own_pass: bool):
    model = synthetic.make_model()
    spy = Spy(own_pass=own_pass)
    config = PretrainConfig(objectives={"tokens": 1.0, "spy": 1.0})
    stage = PretrainStage(
        model,
        None,
        config=config,
        objectives={"tokens": OBJECTIVES["tokens"](model), "spy": spy},
        feeds={"similar": frozenset({"notes"}), "same_unit": frozenset({"codes"})},
        key_codes={},
        seed=1,
    )
    return stage, spy


def test_an_objective_with_a_pass_of_its_own_gets_the_batch_as_it_came(
    workshop, synthetic, figures
):
    stage, spy = spied(workshop, synthetic, own_pass=True)
    stage.training_step(workshop.train[0], 0)
    assert spy.given[0][0] is workshop.train[0]
    assert spy.linked["similar"].any()


def test_objectives_with_passes_of_their_own_alone_need_no_joint_one(workshop, synthetic, figures):
    stage, spy = spied(workshop, synthetic, own_pass=True)
    del stage.objectives["tokens"]
    passes, model = [], stage.model.forward
    stage.model.forward = lambda batch: (passes.append(batch), model(batch))[1]
    stage.training_step(workshop.train[0], 0)
    assert len(passes) == len(spy.given) == 1


def test_objectives_about_whole_samples_share_one_pass_beside_the_joint_one(workshop, figures):
    stage = workshop.pretrain(names=("tokens", "patches", "masked_modality", "alignment"))
    stage.model.eval()
    passes, model = [], stage.model.forward
    stage.model.forward = lambda batch: (passes.append(batch), model(batch))[1]
    stage.training_step(workshop.train[0], 0)
    assert len(passes) == 2
    together = dict(figures.pop()[1])
    for name in ("masked_modality", "alignment"):
        stage.objectives = {name: stage.objectives[name]} | {
            k: v for k, v in stage.objectives.items() if k != name
        }
        alone = {n: o for n, o in stage.objectives.items() if n == name}
        whole, stage.objectives = stage.objectives, alone
        stage.training_step(workshop.train[0], 0)
        found = figures.pop()[1][f"objective/{name}"]
        torch.testing.assert_close(found, together[f"objective/{name}"])
        stage.objectives = whole


def test_an_objective_of_the_joint_pass_gets_what_the_others_left(workshop, synthetic, figures):
    stage, spy = spied(workshop, synthetic, own_pass=False)
    stage.training_step(workshop.train[0], 0)
    given = spy.given[0][0].inputs["notes"].ids
    assert not torch.equal(given, workshop.train[0].inputs["notes"].ids)


def test_a_relation_chosen_with_what_is_hidden_is_dropped_and_others_stay(
    workshop, synthetic, figures
):
    stage, spy = spied(workshop, synthetic, own_pass=False)
    stage.model.eval()
    stage.training_step(workshop.train[0], 0)
    assert not spy.linked["similar"].any()
    assert spy.linked["same_unit"].any()


def test_masks_depend_on_the_epoch_and_step_in_training_and_are_fixed_in_validation(
    workshop, synthetic, figures, monkeypatch
):
    stage, spy = spied(workshop, synthetic, own_pass=True)
    for epoch in (0, 1):
        monkeypatch.setattr("clinical.training.stage.Stage.current_epoch", epoch)
        for index in (0, 1):
            stage.training_step(workshop.train[0], index)
            stage.validation_step(workshop.train[0], index)
    seeds = [seed for _, seed in spy.given]
    training, validation = seeds[0::2], seeds[1::2]
    assert len(set(training)) == 4
    assert validation[:2] == validation[2:]
    assert len(set(validation)) == 2


def test_the_total_is_the_weighted_sum_and_what_is_chosen_is_its_negative(workshop, figures):
    stage = workshop.pretrain(names=("tokens", "edges"))
    stage.model.eval()
    stage.weights = {"tokens": 2.0, "edges": 0.5}
    total = stage.training_step(workshop.train[0], 0).item()
    single = []
    for name, weight in (("tokens", 2.0), ("edges", 0.5)):
        stage.weights = {"tokens": 0.0, "edges": 0.0, name: weight}
        single.append(stage.training_step(workshop.train[0], 0).item())
    assert total == pytest.approx(sum(single), rel=1e-5)
    figures.clear()
    stage.validation_step(workshop.train[0], 0)
    (_, losses, _), (_, choice, _) = figures
    assert choice["choice"].item() == -losses["loss"].item()
    each = [losses[f"objective/{name}"].item() for name in ("tokens", "edges")]
    assert losses["loss"].item() == pytest.approx(0.5 * each[1], rel=1e-5)
    parts = sum(value.item() for name, value in losses.items() if name.startswith("edges/"))
    assert each[1] == pytest.approx(parts, rel=1e-5)


def test_what_is_chosen_by_is_the_same_however_the_objectives_are_balanced(workshop, figures):
    chosen = []
    for uncertain in (None, 0.05, 20.0):
        stage = workshop.pretrain(balance="fixed" if uncertain is None else "uncertainty")
        stage.model.eval()
        if uncertain is not None:
            stage.balance.weight.fill_(1.0)
            stage.balance.total.fill_(uncertain)
        figures.clear()
        stage.validation_step(workshop.tuning[0], 0)
        chosen.append(figures[-1][1]["choice"].item())
    assert chosen[0] == chosen[1] == chosen[2]


def test_balanced_weights_follow_the_losses_and_are_logged(workshop, figures):
    stage = workshop.pretrain(balance="uncertainty")
    stage.weights = {"tokens": 2.0, "edges": 0.5}
    optimizer = torch.optim.SGD([p for m in stage.trained_modules() for p in m.parameters()], 0.1)
    logged = []
    for _ in range(3):
        figures.clear()
        total = stage.training_step(workshop.train[0], 0)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        (_, losses, _), (split, weights, _) = figures
        assert split == "train"
        logged.append((losses, weights))
    (losses, weights), _, (_, later) = logged
    for name, own in (("tokens", 2.0), ("edges", 0.5)):
        # The first loss counts as usual: each objective adds its configured weight.
        usual = losses[f"objective/{name}"] * weights[f"weight/{name}"]
        assert usual.item() == pytest.approx(own, rel=1e-5)
        assert later[f"weight/{name}"] > weights[f"weight/{name}"]  # as the loss fell

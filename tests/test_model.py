"""The whole model: any subset of modalities scores, and nobody depends on batch-mates."""

import clinical  # noqa: F401
from clinical.answers import Binary, Multiclass, Multilabel, Regression, TimeToEvent
from clinical.batch import ClinicalBatch, Neighbours, Target
from clinical.config import RunConfig
from clinical.model import ClinicalModel, Outputs, drop_modalities

import copy
import dataclasses
import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

MODALITIES = ("events", "static", "notes", "images", "codes")


@pytest.fixture(scope="module")
def synthetic() -> ModuleType:
    """The module of small random batches, loaded by path."""
    path = Path(__file__).resolve().parent / "clinical_batches.py"
    spec = importlib.util.spec_from_file_location("clinical_batches", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", params=["attention", "cross_attention"])
def config(synthetic, request) -> RunConfig:
    """Of a model that fuses summaries, and of one that fuses tokens."""
    return synthetic.make_config(fusion=request.param)


@pytest.fixture(scope="module")
def model(synthetic, config) -> ClinicalModel:
    return synthetic.make_model(config)


@pytest.fixture
def batch(synthetic) -> ClinicalBatch:
    return synthetic.make_batch()


@torch.no_grad()
def run(model: ClinicalModel, batch: ClinicalBatch, *, memory: Tensor | None = None) -> Outputs:
    return model(batch, memory=memory)


def assert_same_scores(outputs: Outputs, expected: Outputs, samples: Tensor | slice) -> None:
    for task, logits in expected.logits.items():
        torch.testing.assert_close(outputs.logits[task], logits[samples], rtol=0, atol=1e-6)


def moved(outputs: Outputs, expected: Outputs) -> list[bool]:
    """Which samples' aspects differ."""
    first, second = (torch.cat(list(o.aspects.values()), 1) for o in (outputs, expected))
    return (first != second).any(1).tolist()


def with_edges(batch: ClinicalBatch, **changes: Neighbours) -> ClinicalBatch:
    return dataclasses.replace(batch, neighbours={**batch.neighbours, **changes})


def test_shapes_are_those_of_the_contract(model, batch):
    outputs = run(model, batch)
    assert set(outputs.encodings) == set(MODALITIES)
    assert outputs.fused.shape == (8, 16)
    assert outputs.summaries.shape == (8, 5, 16)
    assert outputs.present.shape == (8, 5)
    assert set(outputs.messages) == set(outputs.gates) == {"similar", "same_unit"}
    assert outputs.gates["similar"].shape == (8,)
    assert list(outputs.aspects) == ["mortality", "readmission", "similar", "same_unit", "codes"]
    assert outputs.links.shape == (8, 15)
    assert all(aspect.shape == (8, 16) for aspect in outputs.aspects.values())
    assert {task: tuple(logits.shape) for task, logits in outputs.logits.items()} == {
        "mortality": (8,),
        "readmission": (8,),
    }


def test_the_same_score_alone_and_in_a_batch(synthetic, model, batch):
    together = run(model, batch)
    for i in range(8):
        alone = run(model, synthetic.take(batch, torch.tensor([i])))
        assert_same_scores(alone, together, slice(i, i + 1))


def test_the_same_score_in_any_order(synthetic, model, batch):
    order = torch.tensor([3, 0, 7, 5, 1, 2, 6, 4])
    assert_same_scores(run(model, synthetic.take(batch, order)), run(model, batch), order)


def garbage(container: object, samples: Tensor) -> object:
    """The values of some samples replaced by noise, without a mask saying that they are there."""
    noisy = {}
    for name in ("value", "summary", "code", "variable"):
        if (field := getattr(container, name, None)) is not None:
            noise = 77 * torch.rand(field.shape) if field.is_floating_point() else field * 0 + 3
            where = samples.view(-1, *[1] * (field.dim() - 1))
            noisy[name] = torch.where(where, noise, field)
    return container.replace(**noisy)


@pytest.mark.parametrize("modality", ["events", "static", "codes"])
def test_what_stands_in_an_absent_modality_changes_nothing(model, batch, modality):
    gone = torch.tensor([True, False, True, False, False, False, False, True])
    dropped = batch.inputs[modality].drop(gone)
    expected = run(model, batch.replace(**{modality: dropped}))
    outputs = run(model, batch.replace(**{modality: garbage(dropped, gone)}))
    assert_same_scores(outputs, expected, slice(None))
    here = batch.inputs[modality].present & ~gone
    assert torch.equal(outputs.present[:, MODALITIES.index(modality)], here)


def test_what_is_withheld_is_encoded_and_otherwise_as_if_it_were_not_there(model, batch):
    some = torch.tensor([True, False, True, False, False, True, False, False])
    kept = dataclasses.replace(batch, withheld={"events": some})
    outputs = run(model, kept)
    gone = run(model, batch.replace(events=batch.inputs["events"].drop(some)))
    assert_same_scores(outputs, gone, slice(None))
    torch.testing.assert_close(outputs.fused, gone.fused, rtol=0, atol=1e-6)
    assert torch.equal(outputs.present, gone.present)
    whole = run(model, batch).encodings["events"].summary
    assert torch.equal(outputs.encodings["events"].summary, whole)
    assert torch.equal(kept.to("cpu").withheld["events"], some)


def test_whatever_is_missing_there_is_a_score(model, batch):
    everyone = torch.ones(8, dtype=torch.bool)
    for kept in range(len(MODALITIES) + 1):
        gone = {name: batch.inputs[name].drop(everyone) for name in MODALITIES[kept:]}
        outputs = run(model, batch.replace(**gone))
        assert all(torch.isfinite(logits).all() for logits in outputs.logits.values())


def test_only_samples_that_point_to_a_memory_row_change_with_it(model, batch):
    expected = run(model, batch)
    for row in range(4):
        changed = model.memory.clone()
        changed[row] += 5.0
        outputs = run(model, batch, memory=changed)
        points = torch.stack([(e.rows == row).any(1) for e in batch.neighbours.values()]).any(0)
        assert moved(outputs, expected) == points.tolist()


def test_no_neighbour_is_a_state_of_its_own(model, batch):
    nobody = batch.without_relation("similar").without_relation("same_unit")
    outputs = run(model, nobody)
    assert not any(outputs.gates[name].any() for name in model.relations)
    assert not any(outputs.linked[name].any() for name in model.relations)
    states = outputs.messages["similar"]
    assert torch.equal(states, states[:1].expand_as(states))
    assert states.abs().sum() > 0
    assert any(moved(outputs, run(model, batch)))
    unfilled = copy.deepcopy(model)
    unfilled.reference_memory.is_filled = False
    assert_same_scores(run(unfilled, nobody), outputs, slice(None))


def test_a_closed_relation_is_as_if_nobody_had_neighbours_by_it(model, batch):
    model = copy.deepcopy(model)
    model.keep_open(["same_unit"])
    assert model.open_relations == {"same_unit"}
    expected = run(model, batch.without_relation("similar"))
    assert_same_scores(run(model, batch), expected, slice(None))
    assert any(moved(run(model, batch.without_relation("same_unit")), expected))
    reopened = copy.deepcopy(model)
    reopened.keep_open(model.relations)
    assert any(moved(run(reopened, batch), expected))
    reopened.load_state_dict(model.state_dict())
    assert reopened.open_relations == {"same_unit"}
    assert_same_scores(run(reopened, batch), expected, slice(None))


def test_training_never_opens_what_is_closed(model, batch):
    model = copy.deepcopy(model).train()
    model.keep_open([])
    outputs = model(batch)
    assert not any(linked.any() for linked in outputs.linked.values())
    assert not any(gate.any() for gate in outputs.gates.values())


def test_contemporaries_behind_the_references_are_read_without_touching_the_model(
    synthetic, model, batch
):
    before = model.memory.clone()
    extra = torch.randn(4, model.width)
    memory = torch.cat([model.memory, extra])
    assert_same_scores(run(model, batch, memory=memory), run(model, batch), slice(None))
    edges = Neighbours(torch.tensor([[12, 15, -1]] * 8), torch.tensor([[0.5, 1.0, 0.0]] * 8))
    outputs = run(model, with_edges(batch, same_unit=edges), memory=memory)
    assert all(moved(outputs, run(model, batch)))
    assert torch.equal(model.memory, before)


def test_the_memory_holds_what_was_there_before_any_message(model, batch):
    with torch.no_grad():
        embedding = model.embed(batch)
    assert torch.equal(embedding, run(model, batch).fused)
    strangers = batch.without_relation("similar").without_relation("same_unit")
    assert torch.equal(embedding, run(model, strangers).fused)


def test_reading_a_memory_that_was_never_written_is_refused(synthetic, batch):
    model = ClinicalModel(synthetic.make_config(), synthetic.SIZES, n_reference=12)
    with pytest.raises(AssertionError, match="before replace_all"):
        model(batch)


def test_the_memory_gets_no_gradient_and_everything_else_does(synthetic, batch):
    model = synthetic.make_model()
    outputs = model(batch)
    losses = [
        model.heads[task].loss(logits, batch.targets[task])
        for task, logits in outputs.logits.items()
    ]
    torch.stack(losses).sum().backward()
    assert not model.memory.requires_grad
    assert not any("memory" in name for name, _ in model.named_parameters())
    parts = ["encoders", "project", "fusion", "message_passing", "readout", "heads"]
    reached = {
        name.partition(".")[0]
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }
    assert reached == set(parts)


def test_statistics_of_another_vocabulary_are_refused(synthetic):
    model = synthetic.make_model()
    statistics = {name: {} for name in MODALITIES}
    statistics["codes"] = {"parents": [[]] * 15, "subjects": [9] * 14, "n_subjects": 20}
    with pytest.raises(ValueError, match="14 counts are of another vocabulary"):
        model.use_statistics(statistics)


def test_without_relations_the_graph_has_no_parameter(synthetic, batch):
    model = synthetic.make_model(synthetic.make_config(relations=()))
    assert not list(model.message_passing.parameters())
    assert len(model.memory) == 0
    outputs = run(model, batch)
    assert outputs.messages == {}
    assert list(outputs.aspects) == ["mortality", "readmission", "codes"]


def test_a_modality_that_is_not_configured_is_not_read(synthetic, batch):
    model = synthetic.make_model(synthetic.make_config(modalities=("events", "static")))
    expected = run(model, batch)
    fewer = {name: batch.inputs[name] for name in ("events", "static")}
    assert_same_scores(run(model, dataclasses.replace(batch, inputs=fewer)), expected, slice(None))


def test_a_loader_that_forgets_a_relation_is_not_taken_for_having_no_neighbours(model, batch):
    with pytest.raises(KeyError, match="similar"):
        model(dataclasses.replace(batch, neighbours={}))


def test_weights_and_memory_give_the_same_scores_in_another_model(synthetic, config, model, batch):
    other = synthetic.make_model(config, seed=99)
    other.load_state_dict(model.state_dict())
    other.set_memory(model.memory)
    assert_same_scores(run(other, batch), run(model, batch), slice(None))
    assert not any("memory" in name for name in model.state_dict())


def test_modalities_are_dropped_at_random_but_never_the_last():
    torch.manual_seed(0)
    present = torch.tensor([[1, 1, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 1, 0]]).bool()
    kept = torch.stack([drop_modalities(present, 0.5) for _ in range(1000)])
    # 0.5 each, and one more where all four would be gone.
    assert float(kept[:, 0].float().mean()) == pytest.approx(0.5 + 0.5**4 / 4, abs=0.02)
    kept = torch.stack([drop_modalities(present, 0.9) for _ in range(100)])
    assert not (kept & ~present).any()
    assert (kept.any(2) == torch.tensor([True, True, False, True])).all()
    assert torch.equal(drop_modalities(present, 0.0), present)


def test_relations_are_dropped_sample_by_sample_in_training_only(synthetic):
    torch.manual_seed(0)
    model = synthetic.make_model(synthetic.make_config(modalities=("static",)))
    batch = synthetic.make_batch(1500)
    edges = [batch.neighbours[name].rows >= 0 for name in model.relations]
    linked = torch.stack([has.any(1) for has in edges])
    seen = run(model, batch).linked
    assert torch.equal(torch.stack([seen[name] for name in model.relations]), linked)
    seen = run(model.train(), batch).linked
    kept = torch.stack([seen[name] for name in model.relations])
    assert not (kept & ~linked).any()
    assert float(kept[linked].float().mean()) == pytest.approx(0.7, abs=0.03)
    assert not torch.equal(kept[0], kept[1])


def test_the_global_generator_decides_what_training_drops(synthetic, batch):
    model = synthetic.make_model().train()
    torch.manual_seed(3)
    first = run(model, batch)
    torch.manual_seed(3)
    assert_same_scores(run(model, batch), first, slice(None))
    assert any(moved(run(model, batch), first))


def test_eight_samples_with_everything_are_learned_by_heart(synthetic, batch):
    model = synthetic.make_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        logits = model(batch).logits
        losses = [model.heads[task].loss(logits[task], batch.targets[task]) for task in logits]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
    for task, target in batch.targets.items():
        score = run(model, batch).logits[task].sigmoid()
        assert ((score - target.value).abs()[target.observed] < 0.05).all()


FIVE_KINDS = {
    "binary": {"kind": "binary", "labels": "b"},
    "multiclass": {"kind": "multiclass", "labels": "c"},
    "multilabel": {"kind": "multilabel", "labels": ["l", "m"]},
    "regression": {"kind": "regression", "labels": "r", "unit": "days"},
    "time_to_event": {"kind": "time_to_event", "labels": "t", "horizon_hours": 20},
}
FIVE_ANSWERS = {
    "binary": Binary(),
    "multiclass": Multiclass(("a", "b", "c")),
    "multilabel": Multilabel(("l", "m")),
    "regression": Regression(50.0, 10.0),
    "time_to_event": TimeToEvent((10.0, 20.0, 40.0), (20.0,)),
}


def five_targets(absent: float) -> dict[str, Target]:
    """Of eight samples; each kind lacks the labels of another two, where `absent` stands."""
    draws = torch.arange(8)
    values = {
        "binary": draws % 2,
        "multiclass": draws % 3,
        "multilabel": torch.stack([draws % 2, draws // 4 % 2], 1),
        "regression": 50 + 10 * torch.linspace(-1.5, 1.5, 8),
        "time_to_event": torch.stack([5 + 10 * (draws % 4), torch.ones(8)], 1),
    }
    targets = {}
    for number, (name, value) in enumerate(values.items()):
        observed = torch.ones(value.shape, dtype=torch.bool)
        observed[[number, number + 3]] = False
        targets[name] = Target(value.float().masked_fill(~observed, absent), observed)
    return targets


def five_kinds(synthetic: ModuleType) -> ClinicalModel:
    raw = synthetic.make_config().dump() | {"tasks": FIVE_KINDS}
    torch.manual_seed(0)
    model = ClinicalModel(
        RunConfig.model_validate(raw), synthetic.SIZES, n_reference=12, answers=FIVE_ANSWERS
    )
    model.set_memory(torch.randn(12, model.width))
    return model.eval()


def test_all_five_kinds_at_once_are_learned_by_heart_on_one_trunk(synthetic, batch):
    model, targets = five_kinds(synthetic), five_targets(absent=0.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(120):
        logits = model(batch).logits
        losses = [model.head(task).loss(logits[task], targets[task]) for task in logits]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
    logits = run(model, batch).logits
    for task in ("binary", "multilabel"):
        truth = targets[task]
        assert ((logits[task].sigmoid() - truth.value).abs()[truth.observed] < 0.1).all()
    truth = targets["multiclass"]
    assert torch.equal(logits["multiclass"].argmax(1)[truth.observed], truth.value[truth.observed])
    truth = targets["regression"]
    value = 50 + 10 * logits["regression"]
    assert ((value - truth.value).abs()[truth.observed] < 2).all()
    truth, survival = targets["time_to_event"], (1 - logits["time_to_event"].sigmoid()).cumprod(1)
    known = truth.observed.all(1)
    is_late = truth.value[:, 0] > 20
    assert (survival[known & is_late, 1] > 0.8).all()
    assert (survival[known & ~is_late, 1] < 0.2).all()


@pytest.mark.parametrize("task", FIVE_KINDS)
def test_what_stands_in_a_task_s_absent_label_moves_no_weight_of_the_trunk(synthetic, batch, task):
    gradients = []
    for absent in (0.0, math.nan):
        model = five_kinds(synthetic)
        targets = five_targets(0.0) | {task: five_targets(absent)[task]}
        logits = model(batch).logits
        losses = [model.head(name).loss(logits[name], targets[name]) for name in logits]
        torch.stack(losses).sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[1][name], grad) for name, grad in gradients[0].items())

"""Recipes of fine-tuning: what learns, when and how fast, and what stays as it was."""

from clinical.preparation import prepare
from clinical.sections import FinetuneConfig, TrainerConfig
from clinical.training.build import build_model, finetune_model
from clinical.training.checkpoint import fit
from clinical.training.finetune import FinetuneStage
from clinical.training.members import members
from clinical.training.recipes import NEVER, RECIPES, parts_of

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
import torch
from torch import nn

EPOCHS = 4
HEADS, TRUNK, ENCODERS = range(3)
NEEDS_PEFT = pytest.mark.skipif(not importlib.util.find_spec("peft"), reason="needs the extra lora")


def train(stage: FinetuneStage, workshop, folder: Path, *, epochs: int = EPOCHS) -> None:
    fit(
        stage,
        **workshop.loaders(),
        epochs=epochs,
        decay=0.5,
        patience=None,
        folder=folder,
        logs=folder / "logs",
        trainer=TrainerConfig(accelerator="cpu"),
        resume=False,
    )


def weights_of(stage: FinetuneStage) -> list[dict[str, torch.Tensor]]:
    """What each part holds, running statistics included, but for what is rewritten anyway."""
    return [
        {
            f"{number}.{name}": value.clone()
            for number, module in enumerate(modules)
            for name, value in module.state_dict().items()
            if name not in ("embedding", "similar.directions", "same_unit.directions")
        }
        for modules in parts_of(stage.model)
    ]


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(after[name], value) for name, value in before.items())


def watch_epochs(stage: FinetuneStage) -> list[tuple[list[dict[str, torch.Tensor]], list[bool]]]:
    """For each training step the weights before it, and which parts are in training mode."""
    step, seen = stage.training_step, []

    def training_step(batch, batch_idx):
        modes = [
            {m.training for module in modules for m in module.modules()}
            for modules in parts_of(stage.model)
        ]
        assert all(len(mode) == 1 for mode in modes)
        seen.append((weights_of(stage), [mode.pop() for mode in modes]))
        return step(batch, batch_idx)

    stage.training_step = training_step
    return seen


def test_patience_counts_no_epoch_in_which_a_part_is_yet_to_open():
    assert [RECIPES[name].patience(2) for name in ("full", "frozen", "gradual")] == [2, 2, 4]
    assert RECIPES["gradual"].patience(None) is None


def test_the_menu_and_the_configuration_name_the_same_recipes():
    annotation = FinetuneConfig.model_fields["recipe"].annotation
    assert set(get_args(annotation)) == set(RECIPES)


@pytest.mark.parametrize("relations", [(), ("similar", "same_unit")])
def test_every_parameter_is_in_exactly_one_part(synthetic, relations):
    model = synthetic.make_model(synthetic.make_config(relations=relations))
    held = [p for modules in parts_of(model) for module in modules for p in module.parameters()]
    assert sorted(map(id, held)) == sorted(map(id, model.parameters()))


def test_the_optimizer_holds_each_parameter_that_ever_learns_once(
    workshop, tmp_path, monkeypatch, recipe
):
    stage, held = workshop.finetune(recipe=recipe), []
    configure = FinetuneStage.configure_optimizers

    def configured(self):
        made = configure(self)
        held.extend(p for group in made["optimizer"].param_groups for p in group["params"])
        return made

    monkeypatch.setattr(FinetuneStage, "configure_optimizers", configured)
    learns = [
        parameter
        for modules, opens in zip(parts_of(stage.model), RECIPES[recipe].opens, strict=True)
        for module in modules
        for parameter in module.parameters()
        if opens < NEVER and parameter.requires_grad
    ]
    train(stage, workshop, tmp_path, epochs=0 if recipe == "linear_probe" else 1)
    assert sorted(map(id, held)) == sorted(map(id, learns))


def test_discriminative_rates_fall_from_the_heads_to_the_encoders(workshop, tmp_path, monkeypatch):
    stage, rates = workshop.finetune(recipe="discriminative", learning_rate=0.0676), {}
    configure = FinetuneStage.configure_optimizers

    def configured(self):
        made = configure(self)
        for group in made["optimizer"].param_groups:
            rates.update(dict.fromkeys(map(id, group["params"]), group["initial_lr"]))
        return made

    monkeypatch.setattr(FinetuneStage, "configure_optimizers", configured)
    train(stage, workshop, tmp_path, epochs=1)
    model = stage.model
    for module, rate in [
        (model.heads, 0.0676),
        (model.readout, 0.0676),
        (model.fusion, 0.026),
        (model.message_passing, 0.026),
        (model.encoders, 0.01),
    ]:
        assert [rates[id(p)] for p in module.parameters()] == pytest.approx(
            [rate] * len(list(module.parameters()))
        )


def test_a_frozen_trunk_stays_as_it_was_and_drops_nothing_out(workshop, synthetic, tmp_path):
    model = synthetic.make_model()
    # Its statistics would move in training mode, gradient or not.
    model.project["static"] = nn.Sequential(nn.BatchNorm1d(16), model.project["static"])
    stage = workshop.finetune(recipe="frozen", model=model)
    before = weights_of(stage)
    assert any("running_mean" in name for name in before[TRUNK])
    seen = watch_epochs(stage)
    train(stage, workshop, tmp_path)
    after = weights_of(stage)
    assert [changed(*pair) for pair in zip(before, after, strict=True)] == [True, False, False]
    assert {tuple(modes) for _, modes in seen} == {(True, False, False)}
    for held, _ in seen:  # nor was it ever something else in between
        assert not changed(before[TRUNK], held[TRUNK])
        assert not changed(before[ENCODERS], held[ENCODERS])


def test_what_is_frozen_still_meets_missing_modalities_and_neighbours(workshop, tmp_path):
    stage = workshop.finetune(recipe="frozen")
    forward, drawn = stage.model.forward, []

    def noted(batch):
        outputs = forward(batch)
        if stage.model.training:
            seen = torch.stack([batch.seen(name) for name in stage.model.modalities], 1)
            drawn.append(int((seen & ~outputs.present).sum()))
        return outputs

    stage.model.forward = noted
    train(stage, workshop, tmp_path)
    assert len(drawn) == EPOCHS * len(workshop.train)
    assert sum(drawn) > 0


def test_gradual_unfreezing_opens_one_more_part_each_epoch(workshop, tmp_path):
    stage = workshop.finetune(recipe="gradual")
    seen = watch_epochs(stage)
    train(stage, workshop, tmp_path)
    n_steps = len(workshop.train)
    assert [modes for _, modes in seen[::n_steps]] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
        [True, True, True],
    ]
    starts = [weights for weights, _ in seen[::n_steps]]
    moved = [
        [changed(*pair) for pair in zip(starts[e], starts[e + 1], strict=True)]
        for e in range(EPOCHS - 1)
    ]
    assert moved == [[True, False, False], [True, True, False], [True, True, True]]


@pytest.mark.parametrize("recipe", ["frozen", "gradual"])
def test_what_the_configuration_froze_never_learns_and_the_rest_can_afterwards(
    workshop, synthetic, tmp_path, recipe
):
    model = synthetic.make_model()
    model.encoders["static"].requires_grad_(False)
    stage = workshop.finetune(recipe=recipe, model=model)
    could_learn = {name for name, p in model.named_parameters() if p.requires_grad}
    before = weights_of(stage)[ENCODERS]
    train(stage, workshop, tmp_path)
    after = weights_of(stage)[ENCODERS]
    assert all(torch.equal(after[n], v) for n, v in before.items() if n.startswith("0.static."))
    assert {name for name, p in model.named_parameters() if p.requires_grad} == could_learn
    assert all(module.training for module in model.modules())


# On the small hospital


@pytest.fixture(scope="module")
def small_hospital() -> ModuleType:
    path = Path(__file__).parents[1] / "small_hospital.py"
    spec = importlib.util.spec_from_file_location("small_hospital", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def fine_tuned(small_hospital, recipes_here, tmp_path_factory):
    """Recipe -> by part, the weights that score after three epochs on the small hospital."""
    folder = tmp_path_factory.mktemp("recipes")
    extract = small_hospital.build(folder / "extract", n_subjects=24)
    notes = {"encoder": "bert", "codes": ["NOTE//.*"], "min_subjects": 1, "layers": 1}
    modalities = {"events": {"encoder": "event_set", "layers": 1}, "notes": notes}
    config = small_hospital.configure(
        extract, folder, modalities=modalities, graph={"relations": {"similar": {"k": 4}}}
    )
    store = prepare(config, folder / "store")
    found = {}
    for recipe in recipes_here:
        finetune = {"recipe": recipe, "keep": "last"}
        if recipe != "linear_probe":
            finetune["epochs"] = 3
        of_recipe = config.model_copy(
            update={
                "out": folder / recipe,
                "finetune": FinetuneConfig.model_validate(finetune),
                "trainer": TrainerConfig(accelerator="cpu", threads=1),
            }
        )
        model = build_model(of_recipe, store)
        finetune_model(members(of_recipe)[0], store, model, progress=False)
        model.settle()
        found[recipe] = [
            {f"{n}.{k}": v for n, m in enumerate(modules) for k, v in m.named_parameters()}
            for modules in parts_of(model)
        ]
    return found


@pytest.mark.parametrize(
    ("recipe", "moved"),
    [
        ("full", [True, True, True]),
        ("linear_probe", [False, False, False]),
        ("frozen", [True, False, False]),
        ("gradual", [True, True, True]),
        ("discriminative", [True, True, True]),
        pytest.param("lora", [True, True, True], marks=NEEDS_PEFT),
    ],
)
def test_a_recipe_goes_on_from_the_linear_start_with_what_it_lets_learn(fine_tuned, recipe, moved):
    start, after = fine_tuned["linear_probe"], fine_tuned[recipe]
    assert [changed(*pair) for pair in zip(start, after, strict=True)] == moved
    assert all(p.isfinite().all() for part in after for p in part.values())


def test_recipes_differ(fine_tuned):
    assert changed(fine_tuned["full"][HEADS], fine_tuned["discriminative"][HEADS])


@NEEDS_PEFT
def test_adapters_move_the_attention_of_a_bert_and_nothing_else_in_it(fine_tuned):
    start, after = fine_tuned["linear_probe"][ENCODERS], fine_tuned["lora"][ENCODERS]
    assert start.keys() == after.keys()  # merged: nothing is left of them
    moved = {name for name, value in start.items() if not torch.equal(after[name], value)}
    of_bert = {name for name in moved if ".bert." in name}
    assert of_bert
    assert all(".attention." in name and name.endswith(".weight") for name in of_bert)
    assert any(name.startswith("0.events.") for name in moved)

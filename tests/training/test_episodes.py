"""Episodes: who supports and who asks, who is drawn, and a stage that learns by them."""

from clinical.answers import Binary, Multiclass
from clinical.batch import Target
from clinical.sections import TrainerConfig
from clinical.training.checkpoint import fit
from clinical.training.episodes import EpisodeSampler, EpisodicStage, supporters
from clinical.training.prototypes import Labelled, Moments, prototypical

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.nn.functional import one_hot

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(-1, 2)), min_size=1, max_size=20),
    st.integers(0, 99),
)
def test_a_subject_is_on_one_side_and_each_class_with_enough_of_its_own_on_both(samples, seed):
    subject, place = (torch.tensor(column) for column in zip(*samples, strict=True))
    is_class = one_hot(place.clamp_min(0), 3).bool() & (place >= 0)[:, None]
    supports = supporters(is_class, subject, generator(seed))
    asking = set(subject[~supports & (place >= 0)].tolist())
    assert not asking & set(subject[supports].tolist())
    own = [set(subject[is_class[:, c]].tolist()) for c in range(3)]
    for c, people in enumerate(own):
        others = set.union(*own[:c], *own[c + 1 :])
        if people and not people & others:
            n_support = len(set(subject[supports & is_class[:, c]].tolist()))
            assert n_support == (len(people) + 1) // 2


def test_the_sides_are_drawn():
    is_class, subject = one_hot(torch.arange(12) % 2).bool(), torch.arange(12)
    sides = torch.stack([supporters(is_class, subject, generator(seed)) for seed in range(200)])
    assert torch.equal(sides[3], supporters(is_class, subject, generator(3)))
    assert ((sides.float().mean(0) - 0.5).abs() < 0.15).all()


def make_sampler(places, subject=None, *, batch_size: int = 8, seed: int = 1) -> EpisodeSampler:
    classes = {name: np.asarray(place, dtype=np.float64) for name, place in places.items()}
    n = len(next(iter(classes.values())))
    subject = np.arange(n) if subject is None else np.asarray(subject)
    return EpisodeSampler(classes, subject, rows=np.arange(n), batch_size=batch_size, seed=seed)


def test_rare_positives_are_in_every_episode():
    place = np.zeros(400)
    place[[7, 390]] = 1
    episodes = list(make_sampler({"task": place}))
    assert len(episodes) == 50
    for rows in episodes:
        assert {7, 390} <= set(rows)
        assert len(set(rows)) == 8


def test_classes_that_have_enough_are_balanced_and_each_subject_is_there_once():
    place = np.repeat([0, 1], [300, 100])
    subject = np.arange(400) // 5  # five samples each
    for rows in make_sampler({"task": place}, subject):
        assert np.bincount(place[rows]).tolist() == [4, 4]
        assert len(set(subject[rows])) == 8


def test_of_more_classes_than_there_is_room_for_some_are_drawn_with_two_samples_each():
    place = np.arange(60) % 10
    sampler, seen = make_sampler({"task": place}, batch_size=6), set()
    for epoch in range(5):
        sampler.set_epoch(epoch)
        for rows in sampler:
            assert sorted(np.bincount(place[rows], minlength=10))[-3:] == [2, 2, 2]
            seen |= set(place[rows])
    assert seen == set(range(10))


def test_tasks_take_turns_and_draw_from_their_own_labels_alone():
    first, second = np.full(40, np.nan), np.full(40, np.nan)
    first[:20], second[20:] = np.arange(20) % 2, np.arange(20) % 2
    nobody = np.full(40, np.nan)
    sampler = make_sampler({"first": first, "nobody": nobody, "second": second})
    of_first = [(rows < 20).all() for rows in sampler]
    assert of_first == [True, False, True, False, True]
    sampler.set_epoch(1)
    assert [(rows >= 20).all() for rows in sampler] == [True, False, True, False, True]


def test_episodes_are_a_function_of_seed_and_epoch():
    def drawn(seed: int, epoch: int) -> list[list[int]]:
        sampler = make_sampler({"task": np.arange(60) % 2}, seed=seed)
        sampler.set_epoch(epoch)
        return [rows.tolist() for rows in sampler]

    assert drawn(1, 0) == drawn(1, 0)
    assert len({str(drawn(seed, epoch)) for seed in (1, 2) for epoch in (0, 1)}) == 4


def test_without_a_label_there_is_no_episode():
    assert len(make_sampler({"task": np.full(9, np.nan)})) == 0


def test_the_temperature_is_one_over_twice_the_variance_within_a_class():
    draws = torch.randn(2, 4000, 3, generator=generator(), dtype=torch.float64)
    aspects = 2.0 * draws + torch.tensor([0.0, 9.0])[:, None, None]
    flat = aspects.flatten(0, 1)
    found = Moments(torch.tensor([4000.0, 4000.0]).double(), aspects.sum(1), flat.T @ flat)
    assert found.temperature() == pytest.approx(1 / (2 * 2.0**2), rel=0.05)


def test_where_each_class_has_one_sample_the_classes_distance_is_the_scale():
    aspects = torch.tensor([[0.0, 0.0], [3.0, 4.0]], dtype=torch.float64)
    found = Moments(torch.ones(2).double(), aspects, aspects.T @ aspects)
    assert found.temperature() == pytest.approx(1 / 25)
    same = Moments(torch.ones(2).double(), aspects[[1, 1]], 2 * aspects[[1]].T @ aspects[[1]])
    assert same.temperature() is None


TASKS = {
    "mortality": {"kind": "binary", "labels": "m"},
    "readmission": {"kind": "multiclass", "labels": "r"},
}
ANSWERS = {"mortality": Binary(), "readmission": Multiclass(("a", "b", "c"))}


@pytest.fixture
def episodic(workshop):
    """A stage of a binary and a multiclass task, whose third class nobody has."""
    synthetic = workshop.synthetic

    def make(*, seed: int = 1, model=None, recipe: str = "full", **more) -> EpisodicStage:
        raw = synthetic.make_config().dump()
        finetune = {"head": "prototypical", "learning_rate": 1e-2, "recipe": recipe, **more}
        raw |= {"tasks": TASKS, "finetune": finetune}
        config = type(synthetic.make_config()).model_validate(raw)
        model = model or synthetic.make_model(config, seed=seed, answers=ANSWERS)
        stage = EpisodicStage(
            model.train(),
            workshop.references(),
            config=config.finetune,
            tasks=config.tasks,
            seed=seed,
            labelled=Labelled(workshop.train),
            subject=torch.arange(50) // 2,
        )
        stage.begin(device=CPU)
        return stage

    return make


def train(stage, workshop, folder, *, epochs: int = 3, resume: bool = False):
    fit(
        stage,
        **workshop.loaders(),
        epochs=epochs,
        decay=0.9,
        patience=None,
        folder=folder,
        logs=folder / "logs",
        trainer=TrainerConfig(accelerator="cpu"),
        resume=resume,
    )
    return stage


def means(model, batches, task: str) -> torch.Tensor:
    """[C, D] of a naive loop over labelled samples."""
    by_class: dict[int, list[torch.Tensor]] = {}
    with torch.no_grad():
        for batch in batches:
            target, aspects = batch.targets[task], model(batch).aspects[task]
            for place, seen, aspect in zip(target.value, target.observed, aspects, strict=True):
                if seen:
                    by_class.setdefault(int(place), []).append(aspect)
    head = prototypical(model, task)
    zero = torch.zeros(model.width)
    each = [by_class.get(c, [zero]) for c in range(head.n_classes)]
    return torch.stack([torch.stack(own).mean(0) for own in each])


def test_what_is_kept_are_the_means_of_train_by_the_weights_that_are_kept(
    episodic, workshop, tmp_path
):
    model = train(episodic(), workshop, tmp_path).model.eval()
    kept = load_file(tmp_path / "model.safetensors")
    for task in TASKS:
        found = prototypical(model, task)
        expected = means(model, workshop.train, task)
        torch.testing.assert_close(found.prototype, expected, rtol=0, atol=1e-5)
        assert torch.equal(kept[f"heads.{task}.prototype"], found.prototype)
    assert prototypical(model, "readmission").share[2] == 0
    assert not (model(workshop.tuning[0]).logits["readmission"].argmax(1) == 2).any()


def test_each_validation_scores_by_prototypes_of_the_averaged_weights(episodic, workshop, tmp_path):
    stage = episodic()
    step, seen = stage.validation_step, []

    def validation_step(batch, batch_idx):
        head = prototypical(stage.model, "mortality")
        expected = means(stage.model, workshop.train, "mortality")
        seen.append((head.prototype - expected).abs().max().item())
        return step(batch, batch_idx)

    stage.validation_step = validation_step
    train(stage, workshop, tmp_path, epochs=2)
    assert len(seen) == 3 * len(workshop.tuning)  # the start and both epochs
    assert max(seen) < 1e-5


def test_a_stage_killed_within_an_epoch_ends_as_an_undisturbed_one(episodic, workshop, tmp_path):
    whole = train(episodic(), workshop, tmp_path / "whole").model.state_dict()
    halved = episodic()
    step = halved.training_step

    def training_step(batch, batch_idx):
        if (halved.current_epoch, batch_idx) == (1, 2):
            raise RuntimeError
        return step(batch, batch_idx)

    halved.training_step = training_step
    with pytest.raises(RuntimeError):
        train(halved, workshop, tmp_path / "halved")
    resumed = train(episodic(), workshop, tmp_path / "halved", resume=True).model.state_dict()
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=1e-6)


def test_without_an_epoch_the_prototypes_of_the_weights_as_they_are_score(
    episodic, workshop, tmp_path
):
    stage = episodic()
    before = {name: p.clone() for name, p in stage.model.named_parameters()}
    model = train(stage, workshop, tmp_path, epochs=0).model.eval()
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    expected = means(model, workshop.train, "mortality")
    found = prototypical(model, "mortality").prototype
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_recipe_freezes_what_it_does_under_lines(episodic, workshop, tmp_path):
    stage, modes = episodic(recipe="frozen", keep="last"), []
    before = {name: p.clone() for name, p in stage.model.named_parameters()}
    step = stage.training_step

    def training_step(batch, batch_idx):
        modes.append((stage.model.readout.training, stage.model.encoders.training))
        return step(batch, batch_idx)

    stage.training_step = training_step
    model = train(stage, workshop, tmp_path, epochs=2).model
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert {name.split(".")[0] for name in moved} == {"heads", "readout"}
    # Prototypes are looked at between the steps, in evaluation, which opens nothing again.
    assert set(modes) == {(True, False)}


def test_classes_that_train_lacks_are_told(episodic, caplog):
    episodic()
    assert "tasks.readmission: no sample that is learned from has 1 of its 3 classes" in caplog.text
    assert "tasks.mortality" not in caplog.text


def test_a_step_needs_no_label_of_every_task(episodic, workshop):
    stage = episodic()
    stage.log_figures = lambda *_, **__: None
    batch = workshop.train[0]
    nobody = Target(torch.zeros(6), torch.zeros(6, dtype=torch.bool))
    batch = replace(batch, targets=dict(batch.targets) | {"readmission": nobody})
    stage.training_step(batch, 0).backward()
    assert stage.model.heads["readmission"].log_temperature.grad.item() == 0
    assert stage.model.heads["mortality"].log_temperature.grad.item() != 0

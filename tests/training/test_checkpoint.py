"""A stage may be killed at any step: resumed, it ends as if undisturbed."""

from clinical.errors import ConfigError
from clinical.sections import TrainerConfig
from clinical.training.checkpoint import fit, load_weights, thread_limit
from clinical.training.finetune import FinetuneStage

import signal
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

EPOCHS = 3


class Killed(Exception):
    """Stands for the end of the process."""


def train(stage, workshop, folder: Path, *, resume: bool = False, patience: int | None = None):
    fit(
        stage,
        **workshop.loaders(),
        epochs=EPOCHS,
        decay=0.9,
        patience=patience,
        folder=folder,
        logs=folder / "logs",
        trainer=TrainerConfig(accelerator="cpu"),
        resume=resume,
    )
    return stage


def kill_at(stage, *, epoch: int, index: int) -> None:
    step = stage.training_step

    def training_step(batch, batch_idx):  # Lightning goes by the second name
        if (stage.current_epoch, batch_idx) == (epoch, index):
            raise Killed
        return step(batch, batch_idx)

    stage.training_step = training_step


def count_steps(stage) -> list[tuple[int, int]]:
    step, seen = stage.training_step, []

    def training_step(batch, batch_idx):
        seen.append((stage.current_epoch, batch_idx))
        return step(batch, batch_idx)

    stage.training_step = training_step
    return seen


def assert_equal_weights(first: Path, second: Path, *, file: str = "model.safetensors") -> None:
    expected, found = load_file(first / file), load_file(second / file)
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"balance": "uncertainty", "probe_every": 2}])
def test_pretraining_killed_within_an_epoch_ends_as_an_undisturbed_one(workshop, tmp_path, options):
    check_resuming(partial(workshop.pretrain, **options), workshop, tmp_path)


def test_fine_tuning_killed_within_an_epoch_ends_as_an_undisturbed_one(workshop, tmp_path, recipe):
    if recipe != "linear_probe":  # without epochs
        check_resuming(partial(workshop.finetune, recipe=recipe), workshop, tmp_path)


def check_resuming(make, workshop, tmp_path):
    whole = train(make(), workshop, tmp_path / "whole")
    for epoch, index in [(0, 1), (2, 2)]:
        halved = make()
        kill_at(halved, epoch=epoch, index=index)
        with pytest.raises(Killed):
            train(halved, workshop, tmp_path / "halved")
        assert not (tmp_path / "halved" / "model.safetensors").exists()
    resumed = make()
    seen = count_steps(resumed)
    train(resumed, workshop, tmp_path / "halved", resume=True)
    assert seen == [(2, 0), (2, 1), (2, 2)]  # the interrupted epoch again, none before it
    assert_equal_weights(tmp_path / "whole", tmp_path / "halved")
    logs = f"logs/{whole.name}.csv"
    assert (tmp_path / "whole" / logs).read_text() == (tmp_path / "halved" / logs).read_text()


def test_a_probe_changes_neither_weights_nor_the_epoch_chosen_nor_other_figures(workshop, tmp_path):
    train(workshop.pretrain(), workshop, tmp_path / "without", patience=1)
    probed = train(workshop.pretrain(probe_every=2), workshop, tmp_path / "with", patience=1)
    expected = load_file(tmp_path / "without" / "model.safetensors")
    found = load_file(tmp_path / "with" / "model.safetensors")
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    logs = [pd.read_csv(tmp_path / one / "logs" / "pretrain.csv") for one in ("without", "with")]
    is_probe = logs[1]["name"].str.startswith("probe/")
    pd.testing.assert_frame_equal(logs[1][~is_probe].reset_index(drop=True), logs[0])
    assert sorted(logs[1][is_probe]["epoch"].unique()) == [0, 2]
    figures = {"probe/mortality", "probe/readmission"}
    assert set(logs[1][is_probe]["name"]) == figures | {f"{name}/error" for name in figures}
    # That of the last epoch is about the averaged weights, which score.
    stage = workshop.pretrain(probe_every=2)
    untrained = stage.look_closer(0)
    first = logs[1][is_probe & (logs[1]["epoch"] == 0)].set_index("name")["value"].to_dict()
    assert first == pytest.approx(untrained)
    assert probed.look_closer(1) == {}


def test_the_same_stage_twice_gives_the_same_weights_and_another_seed_others(workshop, tmp_path):
    first = train(workshop.finetune(), workshop, tmp_path / "1").model.state_dict()
    second = train(workshop.finetune(), workshop, tmp_path / "2").model.state_dict()
    other = train(workshop.finetune(seed=2), workshop, tmp_path / "3").model.state_dict()
    assert all(torch.equal(second[name], value) for name, value in first.items())
    assert not all(torch.equal(other[name], value) for name, value in first.items())


def test_a_finished_stage_is_loaded_and_not_trained_again(workshop, tmp_path):
    train(workshop.finetune(), workshop, tmp_path)
    again = workshop.finetune()
    seen = count_steps(again)
    train(again, workshop, tmp_path, resume=True)
    assert seen == []
    for name, value in load_file(tmp_path / "model.safetensors").items():
        assert torch.equal(again.model.state_dict()[name], value)


def test_weights_of_another_network_are_told_with_what_to_do(tmp_path):
    save_file(nn.Linear(3, 2).state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match=r"model\.safetensors: weights of .* overwrite=true"):
        load_weights(nn.Linear(2, 2), tmp_path / "model.safetensors")


def test_without_resume_a_stage_starts_anew(workshop, tmp_path):
    train(workshop.finetune(), workshop, tmp_path)
    again = workshop.finetune()
    seen = count_steps(again)
    train(again, workshop, tmp_path)
    assert len(seen) == EPOCHS * len(workshop.train)


# So small a rate improves nothing: with a patience of 1 it stops after one epoch.
@pytest.mark.parametrize(("patience", "learning_rate"), [(1, 1e-30), (None, 0.05)])
def test_an_exhausted_stage_killed_before_it_was_written_trains_no_further(
    workshop, tmp_path, monkeypatch, patience, learning_rate
):
    def make():
        return workshop.finetune(learning_rate=learning_rate)

    def killed(*_):
        raise Killed

    whole = make()
    seen = count_steps(whole)
    train(whole, workshop, tmp_path / "whole", patience=patience)
    assert len(seen) == (1 if patience else EPOCHS) * len(workshop.train)
    with monkeypatch.context() as patch:
        patch.setattr("clinical.training.checkpoint.save_file", killed)
        with pytest.raises(Killed):
            train(make(), workshop, tmp_path / "halved", patience=patience)
    resumed = make()
    seen = count_steps(resumed)
    train(resumed, workshop, tmp_path / "halved", patience=patience, resume=True)
    assert seen == []
    assert_equal_weights(tmp_path / "whole", tmp_path / "halved")


def test_after_a_stage_the_memory_is_that_of_its_best_weights(workshop, tmp_path):
    model = train(workshop.finetune(), workshop, tmp_path).model
    found = model.memory.clone()
    workshop.references().refresh(model, device=torch.device("cpu"))
    torch.testing.assert_close(model.memory, found, rtol=0, atol=1e-6)


def test_validation_reads_a_memory_made_with_the_averaged_weights(workshop, tmp_path):
    stage = workshop.finetune()
    step, gaps = stage.validation_step, []

    def validation_step(batch, batch_idx):
        found = stage.model.memory.clone()
        stage.refresh_memory()
        gaps.append(float((stage.model.memory - found).abs().max()))
        return step(batch, batch_idx)

    stage.validation_step = validation_step
    train(stage, workshop, tmp_path)
    assert len(gaps) == (1 + EPOCHS) * len(workshop.tuning)
    assert max(gaps) < 1e-6


def test_an_interruption_by_the_user_reaches_the_caller(workshop, tmp_path):
    stage = workshop.finetune()

    def interrupted(batch, batch_idx):
        raise KeyboardInterrupt

    stage.training_step = interrupted
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(stage, workshop, tmp_path)
    assert signal.getsignal(signal.SIGINT) is before  # or a notebook could not be stopped again
    assert not (tmp_path / "model.safetensors").exists()


def test_a_finished_stage_leaves_its_weights_and_curves_alone(workshop, tmp_path):
    train(workshop.finetune(), workshop, tmp_path)
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert files == {"model.safetensors", "logs", "logs/finetune.csv"}


def kill_within_limit(threads: int) -> None:
    with thread_limit(threads):
        raise Killed


def test_the_number_of_threads_is_given_back():
    before = torch.get_num_threads()
    with thread_limit(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    with pytest.raises(Killed):
        kill_within_limit(before + 1)
    assert torch.get_num_threads() == before
    with thread_limit(None):
        assert torch.get_num_threads() == before


def test_the_last_epoch_scores_where_that_is_asked_for(workshop, tmp_path, monkeypatch):
    def worse_each_epoch(head, logits, target):
        return torch.tensor(1.0 - 0.1 * stage.current_epoch)

    monkeypatch.setattr("clinical.heads.linear.BinaryHead.auroc", worse_each_epoch)
    averages = []  # what was judged, the start first where it may remain
    judge = FinetuneStage.on_validation_epoch_end

    def watched(self):
        averages.append({k: v.clone() for k, v in self.model.state_dict().items()})
        judge(self)

    monkeypatch.setattr(FinetuneStage, "on_validation_epoch_end", watched)
    for keep, judged, kept_one in (("best", 1 + EPOCHS, 0), ("last", EPOCHS, EPOCHS - 1)):
        averages.clear()
        stage = workshop.finetune(keep=keep)
        train(stage, workshop, tmp_path / keep)
        assert len(averages) == judged
        kept = stage.model.state_dict()
        same = [all(torch.equal(kept[k], v) for k, v in some.items()) for some in averages]
        assert same == [number == kept_one for number in range(judged)]
        curves = (tmp_path / keep / "logs" / "finetune.csv").read_text()
        assert ("tuning/choice" in curves) == (keep == "best")


def test_what_is_asked_again_later_is_averaged_and_kept_as_the_model_is(workshop, tmp_path):
    stage, seen = workshop.pretrain(names=("tokens", "alignment")), {"train": [], "tuning": []}
    projection = stage.objectives["alignment"].project["notes"][1].weight

    def noting(step, split):
        def noted(batch, batch_idx):
            seen[split].append(projection.detach().clone())
            return step(batch, batch_idx)

        return noted

    stage.training_step = noting(stage.training_step, "train")
    stage.validation_step = noting(stage.validation_step, "tuning")
    train(stage, workshop, tmp_path / "whole")
    kept = load_file(tmp_path / "whole" / "objectives.safetensors")
    # No numbers of patients among them.
    assert {".".join(name.split(".")[:2]) for name in kept} == {
        "alignment.project",
        "alignment.scales",
    }
    own = kept["alignment.project.notes.1.weight"]
    assert any(torch.equal(own, validated) for validated in seen["tuning"])
    assert not any(torch.equal(own, trained) for trained in seen["train"])

    halved = workshop.pretrain(names=("tokens", "alignment"))
    kill_at(halved, epoch=2, index=1)
    with pytest.raises(Killed):
        train(halved, workshop, tmp_path / "halved")
    assert not (tmp_path / "halved" / "objectives.safetensors").exists()
    train(
        workshop.pretrain(names=("tokens", "alignment")), workshop, tmp_path / "halved", resume=True
    )
    assert_equal_weights(tmp_path / "whole", tmp_path / "halved", file="objectives.safetensors")


def test_a_stage_that_nothing_is_asked_of_later_leaves_its_model_alone(workshop, tmp_path):
    train(workshop.pretrain(), workshop, tmp_path)
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["model.safetensors"]

"""The weights that score, against a naive average, and the epoch they are kept from."""

from clinical.training.averaging import ScoringWeights

from types import SimpleNamespace

import pytest
import torch
from torch import nn


class Training:
    """Plays the trainer: each step sets the weights to a number, each epoch has a figure."""

    def __init__(self, folder, *, decay, patience=None) -> None:
        self.model = nn.Linear(1, 1)
        self.weights = ScoringWeights(
            self.model, decay=decay, patience=patience, curves=folder / "finetune.csv"
        )
        self.trainer = SimpleNamespace(
            global_step=0,
            current_epoch=0,
            should_stop=False,
            callback_metrics={},
            sanity_checking=False,
        )
        self.set(0.0)
        self.weights.on_fit_start(self.trainer, None)
        self.weights.on_train_start(self.trainer, None)

    def set(self, value: float) -> None:
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.fill_(value)

    @property
    def value(self) -> float:
        values = {parameter.item() for parameter in self.model.parameters()}
        assert len(values) == 1
        return values.pop()

    def steps(self, values) -> None:
        for value in values:
            self.set(value)
            self.trainer.global_step += 1
            self.weights.on_train_batch_end(self.trainer, None, None, None, 0)

    def validate(self, figure: float) -> float:
        """Gives the weights that were validated."""
        self.weights.on_validation_epoch_start(self.trainer, None)
        validated = self.value
        self.trainer.callback_metrics = {"tuning/choice": torch.tensor(figure)}
        self.weights.on_validation_end(self.trainer, None)
        self.weights.on_train_epoch_end(self.trainer, None)
        self.trainer.current_epoch += 1
        return validated


def naive(values, decay: float) -> float:
    average = 0.0
    for step, value in enumerate(values, start=1):
        share = min(decay, (1 + step) / (10 + step))
        average = share * average + (1 - share) * value
    return average


@pytest.mark.parametrize("decay", [0.3, 0.9, 0.999])
def test_the_average_is_exponential_with_a_short_memory_at_first(tmp_path, decay):
    training = Training(tmp_path, decay=decay)
    values = [float(value) for value in torch.randn(40)]
    training.steps(values)
    assert training.validate(0.5) == pytest.approx(naive(values, decay), abs=1e-5)


def test_the_first_step_weighs_nine_elevenths():
    assert naive([1.0], 0.99) == pytest.approx(9 / 11)


def test_without_a_decay_the_last_weights_score(tmp_path):
    training = Training(tmp_path, decay=None)
    training.steps([3.0, 7.0])
    assert training.validate(0.5) == 7.0


def test_validation_gives_the_trained_weights_back(tmp_path):
    training = Training(tmp_path, decay=0.9)
    training.steps([1.0, 2.0, 5.0])
    assert training.validate(0.5) != 5.0
    assert training.value == 5.0


def test_the_best_epoch_s_average_is_what_remains(tmp_path):
    training = Training(tmp_path, decay=0.5)
    validated = []
    for value, figure in [(1.0, 0.2), (2.0, 0.8), (3.0, 0.8), (4.0, 0.5)]:
        training.steps([value])
        validated.append(training.validate(figure))
    training.weights.on_train_end(training.trainer, None)
    assert training.value == validated[1]  # the earliest of equals


def test_a_first_figure_of_minus_infinity_or_nan_still_leaves_an_average(tmp_path):
    training = Training(tmp_path, decay=0.5)
    training.steps([1.0])
    validated = training.validate(float("nan"))
    training.steps([2.0])
    training.weights.on_train_end(training.trainer, None)
    assert training.value == validated


def test_training_stops_after_so_many_epochs_without_a_better_one(tmp_path):
    training = Training(tmp_path, decay=None, patience=2)
    stopped = []
    for figure in (0.5, 0.4, 0.6, 0.6, 0.1):
        training.steps([1.0])
        training.validate(figure)
        stopped.append(training.trainer.should_stop)
    assert stopped == [False, False, False, False, True]


def test_a_resumed_training_that_had_stopped_stops_at_once(tmp_path):
    before = Training(tmp_path, decay=0.5, patience=1)
    for figure in (0.5, 0.4):
        before.steps([1.0])
        before.validate(figure)
    state = before.weights.state_dict()
    after = Training(tmp_path, decay=0.5, patience=1)
    assert not after.trainer.should_stop
    after.weights.load_state_dict(state)
    after.weights.on_train_start(after.trainer, None)
    assert after.trainer.should_stop


def test_the_state_carries_all_that_decides_the_rest(tmp_path):
    straight, halved = Training(tmp_path, decay=0.7), Training(tmp_path, decay=0.7)
    resumed = Training(tmp_path, decay=0.7)
    for training in (straight, halved):
        training.steps([1.0, 2.0])
        training.validate(0.9)
    resumed.weights.load_state_dict(halved.weights.state_dict())
    resumed.trainer.global_step = halved.trainer.global_step
    resumed.trainer.current_epoch = 1
    for training in (straight, resumed):
        training.steps([5.0])
        training.validate(0.1)
        training.weights.on_train_end(training.trainer, None)
    assert resumed.value == straight.value
    assert resumed.weights.curves.rows == straight.weights.curves.rows


def test_the_start_remains_where_no_epoch_is_better(tmp_path):
    training = Training(tmp_path, decay=None, patience=2)
    training.set(5.0)
    training.trainer.sanity_checking = True
    training.weights.average = {n: p.detach().clone() for n, p in training.model.named_parameters()}
    training.validate(0.9)
    training.trainer.sanity_checking, training.trainer.current_epoch = False, 0
    for figure in (0.8, 0.85):
        training.steps([1.0, 2.0])
        training.validate(figure)
    assert training.trainer.should_stop
    training.weights.on_train_end(training.trainer, None)
    assert training.value == 5.0
    assert [row[1] for row in training.weights.curves.rows] == [0, 1, 2]

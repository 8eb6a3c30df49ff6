"""Teachers: never of a subject that they were fitted on, and heard as far as they should be."""

from clinical.batch import Target
from clinical.config import FinetuneConfig
from clinical.experts import EXPERTS
from clinical.training import teaching

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

TASK = "mortality"


@dataclass(frozen=True)
class Parrot:
    """Says of a sample it was fitted on what it heard, and one half of all others."""

    heard: dict[bytes, float]

    @classmethod
    def check(cls):
        pass

    @classmethod
    def fit(cls, features, labels, *, seed, threads):
        assert set(labels) == {0.0, 1.0}
        return cls({row.tobytes(): label for row, label in zip(features, labels, strict=True)})

    def logit(self, features):
        return np.array([20 * self.heard.get(row.tobytes(), 0.5) - 10 for row in features])


@pytest.fixture
def config(synthetic, monkeypatch):
    monkeypatch.setitem(EXPERTS, "parrot", Parrot)
    finetune = FinetuneConfig(teachers=["parrot"])
    return synthetic.make_config().model_copy(update={"finetune": finetune})


@pytest.fixture
def cohort():
    """Features, labels of which some are unknown, and subjects with two samples each."""
    draws = np.random.default_rng(0)
    subject = np.repeat(np.arange(30), 2)
    features = np.repeat(draws.normal(size=(30, 3)), 2, axis=0)  # both samples of one look alike
    labels = np.repeat((draws.random(30) < 0.4).astype(float), 2)
    labels[[1, 5, 20, 21, 40, 41]] = np.nan
    return features, labels, subject


def test_no_teacher_knows_the_label_of_the_subject_it_speaks_of(config, cohort):
    risk = teaching._cross_fitted(config, *cohort)
    assert risk.tolist() == [0.5] * 60


def test_whoever_has_no_label_is_asked_of_every_fold_and_others_of_one(cohort):
    _, labels, subject = cohort
    rest = [rest for _, rest in teaching._folds(labels, subject, seed=0)]
    times = np.bincount(np.concatenate(rest), minlength=60)
    unknown = [20, 21, 40, 41]  # subjects without any label
    assert set(times[unknown]) == {len(rest)} == {teaching.FOLDS}
    assert set(np.delete(times, unknown)) == {1}


def test_teachers_speak_with_one_voice(config, cohort, monkeypatch):
    monkeypatch.setitem(EXPERTS, "sure", type("Sure", (Parrot,), {"logit": lambda _, f: f[:, 0]}))
    together = config.finetune.model_copy(update={"teachers": ["parrot", "sure"]})
    risk = teaching._cross_fitted(config.model_copy(update={"finetune": together}), *cohort)
    np.testing.assert_allclose(np.log(risk / (1 - risk)), cohort[0][:, 0] / 2)


@pytest.mark.parametrize("ones", [0, 1])
def test_with_a_single_subject_of_a_class_nobody_can_be_left_out(config, cohort, ones):
    features, _, subject = cohort
    few = np.where(subject < ones, 1.0, 0.0)
    assert np.isnan(teaching._cross_fitted(config, features, few, subject)).all()


def test_real_teachers_tell_the_outcome_out_of_fold(config):
    draws = np.random.default_rng(1)
    features = draws.normal(size=(400, 4))
    labels = (features[:, 1] > 0).astype(float)
    taught_by = config.finetune.model_copy(update={"teachers": ["additive"]})
    config = config.model_copy(update={"finetune": taught_by})
    risk = teaching._cross_fitted(config, features, labels, np.arange(400))
    assert risk[labels == 1].mean() > risk[labels == 0].mean() + 0.4


def test_a_stage_learns_label_and_teacher_in_their_shares(workshop):
    nan = float("nan")
    stage = workshop.finetune(taught={TASK: torch.tensor([nan, 0.2, 0.2, 0.2, nan, 0.9])})
    batch = workshop.train[0]
    observed = torch.tensor([True, True, True, False, False, False])
    target = Target(torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 0.0]), observed)
    heard = stage._target(TASK, replace(batch, targets={TASK: target}))
    assert heard.observed.tolist() == [True, True, True, True, False, True]
    torch.testing.assert_close(heard.value[:4], torch.tensor([1.0, 0.6, 0.1, 0.2]))
    assert heard.value[5] == pytest.approx(0.9)


def test_a_task_nobody_teaches_keeps_its_labels(workshop):
    stage, batch = workshop.finetune(), workshop.train[0]
    assert stage._target(TASK, batch) is batch.targets[TASK]


@torch.no_grad()
def test_validation_asks_the_labels_alone(workshop):
    batch = workshop.train[0]
    plain, taught = workshop.finetune(), workshop.finetune(taught={TASK: torch.full((64,), 0.5)})
    for stage in (plain, taught):
        stage.model.eval()
        stage.validation_step(batch, 0)
    (logits, targets), (same_logits, same_targets) = plain._tuning[0], taught._tuning[0]
    assert torch.equal(logits[TASK], same_logits[TASK])
    assert targets[TASK] is same_targets[TASK] is batch.targets[TASK]
    assert not torch.equal(taught._target(TASK, batch).value, batch.targets[TASK].value)

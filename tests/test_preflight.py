"""What cannot work is refused before anything is prepared."""

import clinical
from clinical.errors import ConfigError
from clinical.experiment import Run
from clinical.preflight import check_machine

from typing import Any

import pytest


def configured(**modalities: Any) -> dict[str, Any]:
    return {
        "extract": "nowhere",
        "out": "run",
        "tasks": {"death": {"kind": "binary", "labels": "death"}},
        "modalities": {"static": {"encoder": "mlp"}, **modalities},
        "trainer": {"accelerator": "cpu"},
    }


NOTES = {"encoder": "bert"}
FROZEN = {"encoder": "cnn", "train": "frozen", "weights": "x.pth"}


@pytest.mark.parametrize(
    ("modalities", "objective", "message"),
    [
        ({"images": FROZEN}, {"patches": 1}, "patches: the encoder of images is frozen"),
        ({"notes": NOTES | {"train": "frozen"}}, {"tokens": 1}, "the encoder of notes is frozen"),
        ({}, {"tokens": 1}, "tokens: there is no modality notes"),
        ({}, {"masked_modality": 1}, "masked_modality: needs two modalities"),
        ({}, {"alignment": 1}, "alignment: needs two modalities"),
        (
            {"notes": NOTES},
            {"alignment": {"pairs": [["static", "note"]]}},
            "pairs: there is no modality note; did you mean notes",
        ),
    ],
)
def test_objectives_with_nothing_to_learn_from_are_refused(modalities, objective, message):
    raw = configured(**modalities) | {"pretrain": {"objectives": objective}}
    with pytest.raises(ConfigError, match=message):
        check_machine(Run.parse(raw, where="run.yaml"))


def test_an_encoder_is_checked_with_the_name_of_its_modality(tmp_path, monkeypatch):
    def prepared(*_):
        raise AssertionError("prepared before it was checked")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("clinical.pipeline.prepare", prepared)
    images = {"encoder": "cnn", "weights": "weights/resnet50"}
    run = Run.parse(configured(images=images), where="run.yaml")
    with pytest.raises(ConfigError, match=r"modalities.images: weights/resnet50: there is no such"):
        clinical.run(run)


def test_what_can_work_is_let_through():
    objectives = {"tokens": 1, "masked_modality": 1, "alignment": {"pairs": [["static", "notes"]]}}
    raw = configured(notes=NOTES) | {"pretrain": {"objectives": objectives}}
    check_machine(Run.parse(raw, where="run.yaml"))


@pytest.mark.parametrize(
    ("modalities", "message"),
    [
        ({}, "finetune.recipe: lora adapts a BERT, and no modality has one"),
        (
            {"notes": NOTES | {"train": "frozen"}},
            "lora adapts the BERT of modalities.notes, which is frozen",
        ),
    ],
)
def test_adapters_without_a_bert_that_learns_are_refused(monkeypatch, modalities, message):
    # Frozen weights are to be given, which is told by another check.
    monkeypatch.setattr("clinical.preflight._check_encoders", lambda config: None)
    raw = configured(**modalities) | {"finetune": {"recipe": "lora"}}
    with pytest.raises(ConfigError, match=message):
        check_machine(Run.parse(raw, where="run.yaml"))


def test_a_recipe_of_adapters_without_peft_is_refused(monkeypatch):
    raw = configured(notes=NOTES) | {"finetune": {"recipe": "lora"}}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"finetune.recipe: lora needs peft"):
        check_machine(Run.parse(raw, where="run.yaml"))

"""A head is taken over logit by logit, each to the answer that it was learned for."""

import clinical
from clinical.answers import Binary, Multiclass, Multilabel, Regression, TimeToEvent
from clinical.errors import ConfigError
from clinical.model import ClinicalModel
from clinical.transfer.heads import Heads
from clinical.transfer.tensors import take_over

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

_spec = importlib.util.spec_from_file_location(
    "clinical_batches", Path(clinical.__file__).parents[1] / "tests" / "clinical_batches.py"
)
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)


def networks(kind: str, ours, theirs):
    """A new and an old network of one task, and the heads that the new one takes over."""
    config = made.make_config(modalities=("static",), relations=(), tasks=("mortality",))
    task = config.tasks["mortality"].model_copy(update={"kind": kind})
    config = config.model_copy(update={"tasks": {"mortality": task}})

    def build(answer, seed):
        torch.manual_seed(seed)
        return ClinicalModel(
            config, made.SIZES, n_reference=1, answers={"mortality": answer}
        ).eval()

    new, old = build(ours, 1), build(theirs, 0)
    heads = Heads.of(["mortality"], {"mortality": ours}, {"mortality": theirs})
    rows = {
        "static": np.arange(made.SIZES["static"]["columns"]),
        "modalities": np.arange(1),
        "sources": np.arange(2),
        "aspects": np.arange(len(new.readout.aspects)),
        **{f"heads.{name}": each for name, each in heads.rows.items()},
    }
    return new, old, heads, rows


def everything(name: str) -> bool:
    return True


@pytest.mark.parametrize(
    ("kind", "ours", "theirs"),
    [
        ("multiclass", Multiclass(("died", "home", "ward")), Multiclass(("home", "rehab", "ward"))),
        ("multilabel", Multilabel(("died", "ward", "home")), Multilabel(("ward", "home", "rehab"))),
    ],
)
def test_each_class_begins_as_the_class_of_its_name(kind, ours, theirs):
    new, old, heads, rows = networks(kind, ours, theirs)
    before = new.heads["mortality"].linear.weight.clone()
    take_over(new, old, rows, wanted=everything)
    heads.restate(new)
    batch = made.make_batch()
    with torch.no_grad():
        said, known = (model(batch).logits["mortality"] for model in (new, old))
    for name in ("home", "ward"):
        torch.testing.assert_close(
            said[:, ours.names.index(name)], known[:, theirs.names.index(name)]
        )
    own = ours.names.index("died")
    assert torch.equal(new.heads["mortality"].linear.weight[own], before[own])
    assert heads.new == {"mortality": ["died"]}


def test_a_value_is_the_same_in_its_unit():
    ours, theirs = Regression(mean=10.0, sd=2.0), Regression(mean=16.0, sd=8.0)
    new, old, heads, rows = networks("regression", ours, theirs)
    take_over(new, old, rows, wanted=everything)
    heads.restate(new)
    batch = made.make_batch()
    with torch.no_grad():
        said = new(batch).logits["mortality"] * ours.sd + ours.mean
        known = old(batch).logits["mortality"] * theirs.sd + theirs.mean
    torch.testing.assert_close(said, known)


def test_other_classes_or_intervals_are_refused_with_their_names():
    with pytest.raises(
        ConfigError, match="mortality has the classes a, b here and c, d in the bundle"
    ):
        networks("multiclass", Multiclass(("a", "b")), Multiclass(("c", "d")))
    with pytest.raises(
        ConfigError, match="mortality has other intervals of time than in the bundle"
    ):
        networks(
            "time_to_event",
            TimeToEvent((24.0, 48.0), (48.0,)),
            TimeToEvent((12.0, 48.0), (48.0,)),
        )


def test_a_head_that_cannot_be_taken_over_keeps_no_other_from_it():
    ours = {"a": Binary(), "b": Multiclass(("x", "y"))}
    heads = Heads.of(["a", "b"], ours, {"a": Binary(), "b": Multiclass(("p", "q"))})
    assert {task: rows.tolist() for task, rows in heads.rows.items()} == {"a": [0]}
    assert heads.left == {"b": "has the classes x, y here and p, q in the bundle"}

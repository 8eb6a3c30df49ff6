"""Weights go where their variable, modality or task is, and nothing else changes."""

import clinical
from clinical.config import RunConfig, pick
from clinical.encoders import ENCODERS
from clinical.errors import ConfigError
from clinical.fusion import FUSIONS
from clinical.model import ClinicalModel
from clinical.transfer.tensors import Taken, take_over

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

N = {"events": 6, "static": 4, "codes": 15}
ROWS = {name: np.arange(n) for name, n in N.items()} | {
    "notes": np.arange(1),
    "images": np.arange(1),
    "modalities": np.arange(5),
    "sources": np.arange(8),
    "aspects": np.arange(5),
}


def everything(name: str) -> bool:
    return True


def larger(**sizes: dict[str, int]) -> dict[str, dict[str, int]]:
    return {name: made.SIZES[name] | sizes.get(name, {}) for name in made.SIZES}


def build(config: RunConfig, sizes, *, seed: int) -> ClinicalModel:
    torch.manual_seed(seed)
    return ClinicalModel(config, sizes, n_reference=made.N_REFERENCE).eval()


def take(config: RunConfig, sizes, rows) -> tuple[ClinicalModel, ClinicalModel, Taken]:
    old = made.make_model(config, seed=0)
    new = build(config, sizes, seed=1)
    return new, old, take_over(new, old, ROWS | rows, wanted=everything)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_equal_vocabularies_give_the_same_network(fusion):
    config = made.make_config(fusion=fusion)
    new, old, taken = take(config, made.SIZES, {})
    assert not taken.partly
    assert not taken.new
    new.set_memory(old.memory)
    batch = made.make_batch()
    with torch.no_grad():
        ours, theirs = new(batch), old(batch)
    for task, logits in theirs.logits.items():
        torch.testing.assert_close(ours.logits[task], logits)


@pytest.mark.parametrize("encoder", ["event_set", "two_axis"])
def test_renamed_and_added_variables_say_what_they_said(encoder):
    """Six variables in another order, two new ones between them: a patient without the new is
    read as before."""
    raw = made.make_config(modalities=("events",), relations=()).dump()
    raw["modalities"]["events"]["encoder"] = encoder
    config = RunConfig.model_validate(raw)
    place = torch.tensor([3, 0, 5, 1, 6, 4])  # of each old variable among eight
    rows = np.full(8, -1)
    rows[place.numpy()] = np.arange(6)
    old = made.make_model(config, seed=0)
    new = build(config, larger(events={"variables": 8, "summary_variables": 8}), seed=1)
    own = ROWS | {
        "events": rows,
        "modalities": np.zeros(1, int),
        "sources": np.arange(2),
        "aspects": np.arange(2),
    }
    taken = take_over(new, old, own, wanted=everything)
    assert any("value" in name for name in taken.partly)
    assert "encoders.events.value.variable" not in taken.whole
    table, before = new.encoders["events"].value, old.encoders["events"].value
    torch.testing.assert_close(table.variable[place], before.variable)
    torch.testing.assert_close(table.slope[place], before.slope)
    # Of the wide path five variables had weights; the sixth has none to take over.
    places = new.encoders["events"].wide.places
    wide = new.encoders["events"].wide.linear.weight.unflatten(1, (8, places))
    known = old.encoders["events"].wide.linear.weight.unflatten(1, (5, places))
    torch.testing.assert_close(wide[:, place[:5]], known)


def test_a_sum_over_columns_stays_what_it_was_among_more_columns():
    config = made.make_config(modalities=("static",), relations=())
    rows = {
        "static": np.array([-1, 2, 0, 1, 3, -1, -1, -1, -1]),
        "modalities": np.zeros(1, int),
        "sources": np.arange(2),
        "aspects": np.arange(2),
    }
    new, old, _ = take(config, larger(static={"columns": 9}), rows)
    vector = made.make_batch().inputs["static"]
    order = torch.tensor([2, 0, 1, 3])
    value, observed = torch.rand(8, 9), torch.zeros(8, 9, dtype=torch.bool)
    value[:, 1:5], observed[:, 1:5] = vector.value[:, order], vector.observed[:, order]
    more = type(vector)(value, observed)
    with torch.no_grad():
        ours, theirs = new.encoders["static"](more), old.encoders["static"](vector)
    torch.testing.assert_close(ours.summary, theirs.summary)
    torch.testing.assert_close(ours.tokens[:, 1:5], theirs.tokens[:, order])
    torch.testing.assert_close(ours.states[:, 1:5], theirs.states[:, order])


def test_codes_say_what_they_said_under_another_ontology():
    config = made.make_config(modalities=("codes",), relations=())
    new, old = (build(config, made.SIZES, seed=seed) for seed in (1, 0))
    none = [[] for _ in range(N["codes"])]
    for model, above in ((new, {1: [7]}), (old, {0: [1, 2], 3: [2]})):
        parents = [above.get(row, []) for row, _ in enumerate(none)]
        model.encoders["codes"].use_statistics({"parents": parents})
    rows = np.append(np.roll(np.arange(N["codes"] - 1), 1), -1)  # the last is not known
    own = {"codes": rows, "modalities": np.zeros(1, int), "sources": np.arange(2)}
    take_over(new, old, ROWS | own | {"aspects": np.arange(2)}, wanted=everything)
    for name in ("code_embedding", "weight"):
        ours, theirs = (getattr(model.encoders["codes"], name).table() for model in (new, old))
        torch.testing.assert_close(ours[:-1], theirs[rows[:-1]])


def test_modalities_go_by_name_and_a_new_one_begins_anew():
    old = made.make_model(made.make_config(modalities=("events", "static"), relations=()))
    config = made.make_config(modalities=("codes", "static", "events"), relations=())
    new = build(config, made.SIZES, seed=1)
    before = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    rows = ROWS | {
        "modalities": np.array([-1, 1, 0]),
        "sources": np.array([0, -1, 2, 1]),
        "aspects": np.array([0, 1, -1]),
    }
    taken = take_over(new, old, rows, wanted=everything)
    assert "encoders.codes.weight.weight" in taken.new
    state, theirs = new.state_dict(), old.state_dict()
    torch.testing.assert_close(state["readout.linear.3.weight"], theirs["readout.linear.1.weight"])
    torch.testing.assert_close(state["readout.linear.1.weight"], before["readout.linear.1.weight"])
    torch.testing.assert_close(state["fusion.missing"][1:], theirs["fusion.missing"][[1, 0]])
    torch.testing.assert_close(state["fusion.missing"][0], before["fusion.missing"][0])
    # A share counts by the number of sources, which is another now.
    share = theirs["readout.share"][0, 1] * (4 / 3) ** 0.5
    torch.testing.assert_close(state["readout.share"][0, 3], share)


def test_what_is_not_wanted_stays_as_it_was():
    old, new = made.make_model(seed=0), made.make_model(seed=1)
    before = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    take_over(new, old, ROWS, wanted=lambda name: not name.startswith("heads."))
    for name, tensor in new.state_dict().items():
        source = before if name.startswith("heads.") else old.state_dict()
        assert torch.equal(tensor, source[name]), name


def test_other_sizes_are_refused_and_nothing_is_changed():
    wide = made.make_config().model_dump()
    old = made.make_model(seed=0)
    wide["modalities"]["events"] |= {"options": {"width": 16, "layers": 1, "wide_pieces": 4}}
    new = build(RunConfig.model_validate(wide), made.SIZES, seed=1)
    before = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    with pytest.raises(ConfigError, match=r"encoders\.events\.wide\.linear\.weight is \["):
        take_over(new, old, ROWS, wanted=everything)
    assert all(torch.equal(tensor, before[name]) for name, tensor in new.state_dict().items())


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_weight_that_grows_with_the_vocabulary_says_along_which_axis(encoder):
    modality = {"event_set": "events", "two_axis": "events", "mlp": "static", "bert": "notes"}
    name = modality.get(encoder, {"cnn": "images", "bag": "codes"}.get(encoder))
    grown = {
        "events": {"variables": 9, "summary_variables": 8},
        "static": {"columns": 7},
        "notes": {"kinds": 3},
        "images": {"views": 3},
        "codes": {"codes": 20},
    }[name]
    few = {"notes": {"kinds": 2}, "images": {"views": 2}}.get(name, {})
    options = pick({"width": 16, "layers": 1, "stages": 1}, ENCODERS[encoder])
    small, large = (
        ENCODERS[encoder](made.SIZES[name] | sizes, **options) for sizes in (few, grown)
    )
    declared = {
        f"{prefix}.{tensor}" if prefix else tensor
        for prefix, module in large.named_modules()
        for tensor in getattr(module, "along", {})
    }
    shapes = {key: tensor.shape for key, tensor in small.state_dict().items()}
    growing = {key for key, t in large.state_dict().items() if shapes[key] != t.shape}
    assert growing
    assert growing <= declared

"""A configuration is checked against the menus, told all that is wrong, and survives YAML."""

from clinical.config import keywords
from clinical.encoders import ENCODERS
from clinical.errors import ConfigError
from clinical.experiment import Run
from clinical.fusion import FUSIONS
from clinical.modalities import MODALITIES
from clinical.model import ClinicalModel
from clinical.objectives import OBJECTIVES
from clinical.relations import RELATIONS
from clinical.sections import FinetuneConfig

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.yaml"))
TINY = Path(__file__).resolve().parents[1] / "configs" / "tiny.yaml"

SIZES = {
    "events": {"variables": 6, "summary_variables": 5},
    "static": {"columns": 4},
    "notes": {
        "vocabulary": 40,
        "max_tokens": 128,
        "pad": 0,
        "unknown": 1,
        "cls": 2,
        "sep": 3,
        "mask": 4,
        "special": 5,
    },
    "images": {"size": 64, "patch": 8},
    "codes": {"codes": 15},
}


@pytest.fixture
def raw() -> dict[str, Any]:
    return yaml.safe_load(TINY.read_text())


def message(raw: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        Run.parse(raw, where="run.yaml")
    return str(error.value)


# The shipped files


def test_null_switches_an_entry_off() -> None:
    off = ["modalities.notes=null", "graph.relations.similar=null"]
    run = Run.read(TINY, [*off, "pretrain.objectives.tokens=null"])
    assert "notes" not in run.modalities
    assert "similar" not in run.graph.relations
    assert "tokens" not in run.pretrain.objectives
    assert Run.parse(run.dump(), where="dump") == run


def test_there_are_the_configurations_that_are_documented():
    assert {path.stem for path in CONFIGS} >= {
        "demo",
        "physionet2012",
        "mimic4_demo",
        "covid_chestxray",
        "tiny",
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_builds_its_model(path):
    run = Run.read(path)
    assert ClinicalModel(run, SIZES, n_reference=3).modalities == tuple(run.modalities)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_what_a_run_writes_down_reads_back_equal(path):
    run = Run.read(path)
    dumped = yaml.safe_load(yaml.safe_dump(run.dump(), sort_keys=False))
    again = Run.parse(dumped, where="run.yaml")
    assert again == run
    assert again.dump() == run.dump()
    for name in run.modalities:
        assert again.modality_window(name) == run.modality_window(name)
        assert again.modalities[name].options == run.modalities[name].options


def test_defaults_are_those_of_the_design(raw):
    minimal = {key: raw[key] for key in ("extract", "out", "tasks")}
    run = Run.parse({**minimal, "modalities": {"static": {"encoder": "mlp"}}}, where="x")
    assert (run.seed, run.window_hours, run.pretrain) == (0, 48.0, None)
    assert (run.fusion.kind, run.graph.relations) == ("attention", {})
    assert (run.ensemble, run.experts) == (1, [])
    assert (run.evaluate.resamples, run.resume, run.overwrite) == (1000, False, False)


def test_overrides_reach_options_of_menu_entries(tmp_path):
    run = Run.read(TINY, ["modalities.events.layers=3", "pretrain=null", "fusion.width=8"])
    assert run.modalities["events"].options["layers"] == 3
    assert run.pretrain is None
    assert run.fusion.width == 8


# One problem


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("sed", "sed: unknown key; did you mean seed?"),
        ("finetune.epoch", "finetune.epoch: unknown key; did you mean epochs?"),
        ("modalities.events.layer", "modalities.events.layer: unknown key; did you mean layers?"),
        (
            "modalities.codes.windw_hours",
            "modalities.codes.windw_hours: unknown key; did you mean window_hours?",
        ),
        ("modalities.notes.max_token", "unknown key; did you mean max_tokens?"),
        ("graph.relations.similar.kk", "graph.relations.similar.kk: unknown key"),
        ("pretrain.objectives.tokens.shar", "unknown key; did you mean share?"),
        ("tasks.in_hospital_mortality.unitt", "unknown key; did you mean unit?"),
    ],
)
def test_an_unknown_key_is_named_with_the_likely_one(raw, path, expected):
    *parents, last = path.split(".")
    section = raw
    for parent in parents:
        if not isinstance(section[parent], dict):
            section[parent] = {"weight": section[parent]}
        section = section[parent]
    section[last] = 1
    assert expected in message(raw)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"modalities": {"event": {"encoder": "mlp"}}},
            "modalities.event: there is no modality event; did you mean events?",
        ),
        (
            {"modalities": {"events": {"encoder": "event_sett"}}},
            "modalities.events.encoder: there is no event_sett; did you mean event_set?",
        ),
        ({"fusion": {"kind": "attn"}}, "fusion.kind: there is no attn"),
        ({"graph": {"relations": {"sim": {"k": 3}}}}, "graph.relations.sim.kind: there is no sim"),
        ({"pretrain": {"objectives": {"value": 1}}}, "there is no value; did you mean values?"),
        (
            {"tasks": {"x": {"kind": "binary", "builder": "mortalty"}}},
            "tasks.x.builder: there is no mortalty; did you mean mortality?",
        ),
        (
            {"tasks": {"x": {"kind": "regression", "labels": "x"}}},
            "tasks.x: regression needs unit:",
        ),
        ({"tasks": {"x": {"kind": "time_to_event", "labels": "x"}}}, "needs horizon_hours:"),
        ({"tasks": {"x": {"kind": "multilabel", "labels": "x"}}}, "labels: [FOLDER, FOLDER]"),
        (
            {"tasks": {"x": {"kind": "multilabel", "labels": ["a/x", "b/x"]}}},
            "two folders have one name",
        ),
        ({"tasks": {"x": {"kind": "multiclass", "labels": ["x"]}}}, "a list is for multilabel"),
        ({"tasks": {"x": {"kind": "binary", "labels": "x", "unit": "kg"}}}, "unit: is for regress"),
        (
            {"tasks": {"x": {"kind": "binary", "labels": "x", "min_subjects": 3}}},
            "min_subjects: is for multiclass",
        ),
        (
            {"tasks": {"x": {"kind": "binary", "labels": "x", "horizon_hours": 3}}},
            "horizon_hours: is for time_to_event",
        ),
        (
            {"tasks": {"x": {"kind": "time_to_event", "labels": "x", "horizon_hours": [2, -2]}}},
            "tasks.x.horizon_hours: input should be greater than 0",
        ),
        (
            {
                "tasks": {"x": {"kind": "multiclass", "labels": "x"}},
                "finetune": {"teachers": ["additive"]},
            },
            "finetune.teachers: are of binary tasks, and there is none",
        ),
        (
            {
                "tasks": {
                    "x": {"kind": "multilabel", "labels": ["a", "b"]},
                    "x/a": {"kind": "binary", "labels": "c"},
                }
            },
            "x/a is also a part of another task",
        ),
        ({"tasks": {"x": {"kind": "binary"}}}, "give either labels: FOLDER or builder: NAME"),
        ({"ensemble": 0}, "ensemble: input should be greater than or equal to 1 (given: 0)"),
        ({"experts": ["lightgmb"]}, "experts.0: there is no lightgmb; did you mean lightgbm?"),
        ({"experts": ["lightgbm", "lightgbm"]}, "experts: names an expert twice"),
        ({"finetune": {"teachers": ["additiv"]}}, "finetune.teachers.0: there is no additiv"),
        ({"finetune": {"teachers": ["additive"] * 2}}, "finetune.teachers: names an expert twice"),
        ({"finetune": {"keep": "last", "patience": 3}}, "finetune: keep: last goes on to the last"),
        ({"finetune": {"epochs": 0, "start": "pretrained"}}, "finetune: epochs: 0 learns nothing"),
        (
            {"finetune": {"recipe": "linear_probe", "epochs": 5}},
            "finetune: recipe: linear_probe has no epochs; set 0, or another recipe",
        ),
        (
            {"finetune": {"recipe": "gradual", "epochs": 0}},
            "finetune: epochs: 0 leaves recipe: gradual nothing to do; set 1 or more",
        ),
        (
            {"finetune": {"recipe": "gradual", "epochs": 2}},
            "finetune: epochs: 2 ends before recipe: gradual lets the encoders learn",
        ),
        (
            {"finetune": {"recipe": "linear_probe", "start": "pretrained"}},
            "finetune: epochs: 0 learns nothing from labels but by start: linear",
        ),
        ({"finetune": {"recipe": "gradul"}}, "finetune.recipe: input should be 'full', "),
        ({"finetune": {"learn_tuning": True}}, "finetune: learn_tuning leaves nothing to choose"),
        (
            {"finetune": {"keep": "last", "learn_tuning": True}, "experts": ["additive"]},
            "finetune.learn_tuning leaves no label to weigh experts by",
        ),
        ({"experts": "lightgbm"}, "experts: input should be a valid list"),
        ({"experts": [3]}, "experts.0: input should be a valid string"),
        ({"seed": -1}, "seed: input should be greater than or equal to 0 (given: -1)"),
        ({"tasks": {}}, "tasks: "),
    ],
)
def test_a_wrong_value_is_told_in_one_line(raw, change, expected):
    found = message({**raw, **change})
    assert expected in found
    assert found.startswith("run.yaml: ")
    assert "\n" not in found


@pytest.mark.parametrize("given", ["image.size=32", "image=null", "image=3", "image.encoder=cnn"])
def test_an_override_of_an_unknown_modality_is_told_with_the_likely_one(given):
    with pytest.raises(ConfigError) as error:
        Run.read(TINY, [f"modalities.{given}"])
    expected = "modalities.image: there is no modality image; did you mean images?"
    assert str(error.value) == f"{TINY}: {expected}"


def test_an_unknown_modality_hides_no_problem_of_one_with_a_longer_name(raw):
    raw["modalities"] |= {"image": {"size": 32}, "images": {"size": 32}}
    found = message(raw)
    assert "modalities.image: there is no modality image" in found
    assert "modalities.images.encoder: is required" in found


@pytest.mark.parametrize(
    "said", [{"epochs": 0}, {"recipe": "linear_probe"}, {"recipe": "full", "epochs": 0}]
)
def test_no_epochs_and_a_linear_probe_are_one_thing(said):
    found = FinetuneConfig.model_validate(said)
    assert (found.recipe, found.epochs) == ("linear_probe", 0)
    assert FinetuneConfig.model_validate(found.model_dump()) == found


def test_all_problems_are_told_at_once(raw):
    raw["sed"] = 1
    raw["finetune"]["epochs"] = "many"
    raw["modalities"]["events"]["layer"] = 2
    raw["modalities"]["static"] = {"width": 3}
    raw["graph"]["relations"]["similar"]["k"] = 0
    raw["graph"]["relations"]["same_unit"]["codez"] = "x"
    raw["pretrain"]["objectives"]["tokenz"] = 1.0
    raw["experts"] = ["lightgbm", "xgboost"]
    found = message(raw)
    assert found.startswith("run.yaml: 8 problems\n")
    for key in (
        "sed:",
        "finetune.epochs:",
        "modalities.events.layer:",
        "modalities.static.encoder:",
        "graph.relations.similar.k:",
        "graph.relations.same_unit.codez:",
        "pretrain.objectives.tokenz",
        "experts.1",
    ):
        assert re.search(rf"^  {re.escape(key)}", found, flags=re.MULTILINE), key


def test_a_section_that_is_no_mapping_is_a_problem_and_no_crash(raw):
    for key in ("tasks", "modalities", "fusion", "graph", "pretrain"):
        assert f"{key}" in message({**raw, key: 3})


# Options of every menu entry


def entries() -> list[Any]:
    found = [("modality", name, entry) for name, entry in MODALITIES.items()]
    found += [("encoder", name, entry) for name, entry in ENCODERS.items()]
    found += [("fusion", name, entry) for name, entry in FUSIONS.items()]
    found += [("relation", name, entry) for name, entry in RELATIONS.items()]
    found += [("objective", name, entry) for name, entry in OBJECTIVES.items()]
    return [
        pytest.param(menu, name, key, id=f"{menu}-{name}-{key}")
        for menu, name, entry in found
        for key in keywords(entry)
        if key != "weights"
    ]


HOME = {
    "event_set": "events",
    "two_axis": "events",
    "mlp": "static",
    "bert": "notes",
    "cnn": "images",
    "bag": "codes",
}


def with_option(raw: dict[str, Any], menu: str, name: str, key: str, value: Any) -> dict[str, Any]:
    raw = copy.deepcopy(raw)
    if menu == "modality":
        raw["modalities"][name][key] = value
    elif menu == "encoder":
        raw["modalities"][HOME[name]] = {"encoder": name, key: value}
    elif menu == "fusion":
        raw["fusion"] = {"kind": name, key: value}
    elif menu == "relation":
        raw["graph"]["relations"] = {"mine": {"kind": name, key: value}}
    else:
        raw["pretrain"]["objectives"][name] = {"weight": 1, key: value}
    return raw


@pytest.mark.parametrize(("menu", "name", "key"), entries())
def test_the_type_of_every_option_of_every_menu_entry_is_checked(raw, menu, name, key):
    found = message(with_option(raw, menu, name, key, {"no": "option is such a mapping"}))
    assert f".{key}: input should be" in found


def test_every_encoder_has_a_modality_for_these_tests():
    assert set(HOME) == set(ENCODERS)


@pytest.mark.parametrize(("written", "value"), [("2", 2), (2.0, 2), ("2e0", None)])
def test_an_option_arrives_with_the_type_that_its_entry_asks_for(raw, written, value):
    changed = with_option(raw, "encoder", "event_set", "layers", written)
    if value is None:
        assert "layers: input should be a valid integer" in message(changed)
        return
    layers = Run.parse(changed, where="x").modalities["events"].options["layers"]
    assert (layers, type(layers)) == (value, int)


def test_a_number_that_yaml_reads_as_text_arrives_as_a_number(raw):
    text = yaml.safe_load("dropout: 1e-1")["dropout"]
    assert isinstance(text, str)
    run = Run.parse(with_option(raw, "encoder", "mlp", "dropout", text), where="x")
    assert run.modalities["static"].options["dropout"] == 0.1


@pytest.mark.parametrize("name", ["values", "a.b"])
def test_a_task_cannot_be_named_as_the_model_keeps_its_own_parts(raw, name):
    raw["tasks"] = {name: {"kind": "binary", "labels": "tasks/in_hospital_mortality"}}
    assert f"tasks.{name}: cannot be a name here" in message(raw)


@pytest.mark.parametrize("name", ["codes", "graph"])
def test_a_name_that_means_a_part_of_the_model_is_no_tasks_and_no_relations(raw, name):
    labelled = {"kind": "binary", "labels": "tasks/in_hospital_mortality"}
    told = message(raw | {"tasks": {name: labelled}})
    assert f"tasks.{name}: means something else already" in told
    told = message(raw | {"graph": {"relations": {name: {"kind": "similar"}}}})
    assert f"graph.relations.{name}: means something else already" in told


def test_a_task_and_a_relation_need_names_of_their_own(raw):
    raw["tasks"] = {"similar": {"kind": "binary", "labels": "tasks/in_hospital_mortality"}}
    raw["graph"] = {"relations": {"similar": {"k": 2}}}
    assert "tasks.similar: a relation has that name too" in message(raw)


# What the machine is asked for


def test_more_than_one_device_is_refused(raw):
    raw["trainer"] = {"devices": 2}
    assert "trainer.devices: a network is trained on one device; set 1 (given: 2)" in message(raw)


def test_only_weights_that_are_a_folder_are_fetched(raw):
    raw["modalities"]["images"] = {"encoder": "cnn", "allow_download": True}
    raw["modalities"]["notes"] |= {"weights": "someone/model", "allow_download": True}
    assert "modalities.images.allow_download: cnn has no weights on the hub" in message(raw)
    assert "notes.allow_download" not in message(raw)

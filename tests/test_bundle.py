"""A bundle opens as it was written, anywhere, or not at all; nothing in it can run."""

from clinical import bundle as bundle_module
from clinical.bundle import Bundle, write_draft
from clinical.config import RunConfig
from clinical.errors import BundleError
from clinical.experts.additive import Additive
from clinical.manifest import FORMAT_VERSION, MANIFEST, SEAL, seal
from clinical.predictor import Predictor

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import yaml
from safetensors.torch import load_file


@pytest.fixture
def bundle(finished, tmp_path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(finished.bundle, tmp_path / "bundle"))


FILES = [
    "MODEL_CARD.md",
    "calibration.json",
    "config.yaml",
    "conformal.json",
    "manifest.json",
    "manifest.sha256",
    "memory.safetensors",
    "metrics.json",
    "model.safetensors",
    "pretrained_memory.safetensors",
    "pretrained_model.safetensors",
    "reference.safetensors",
    "stack.json",
    "statistics.json",
    "thresholds.json",
    "typicality.json",
    "typicality.safetensors",
]


def reseal(folder: Path, **changes: object) -> None:
    """What an attacker does after changing a file: digests that fit."""
    seal(folder)
    manifest = json.loads((folder / MANIFEST).read_text()) | changes
    write_manifest(folder, json.dumps(manifest))


def write_manifest(folder: Path, text: str) -> None:
    import hashlib

    (folder / MANIFEST).write_text(text)
    (folder / SEAL).write_text(hashlib.sha256(text.encode()).hexdigest())


def listed(folder: Path) -> dict[str, str]:
    return json.loads((folder / MANIFEST).read_text())["files"]


def test_a_bundle_is_the_documented_files(finished):
    assert sorted(path.name for path in finished.bundle.rglob("*")) == FILES


def test_an_untouched_copy_opens(bundle):
    opened = Bundle.read(bundle)
    assert [network.model.training for network in opened.networks] == [False]
    assert set(opened.calibration) == set(opened.config.tasks)


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_in_any_file_is_noticed(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleError, match=r"was changed after the bundle was written"):
        Bundle.read(bundle)


@pytest.mark.parametrize("name", FILES)
def test_any_byte_that_is_flipped_in_any_file_is_noticed(bundle, name):
    content = (bundle / name).read_bytes()
    draws = np.random.default_rng(len(content))
    places = {0, len(content) - 1, *draws.integers(0, len(content), 6).tolist()}
    for place in places:
        changed = bytearray(content)
        changed[place] ^= 1 << int(draws.integers(8))
        (bundle / name).write_bytes(changed)
        with pytest.raises(BundleError):
            Bundle.read(bundle)
    (bundle / name).write_bytes(content)
    Bundle.read(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_noticed(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=rf"{name}: is missing"):
        Bundle.read(bundle)


@pytest.mark.parametrize("name", ["model.pt", "sub/model.safetensors"])
def test_an_added_file_is_noticed(bundle, name):
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).write_text("x")
    with pytest.raises(BundleError, match=rf"{name}: does not belong to the bundle; remove it"):
        Bundle.read(bundle)


def test_a_file_that_a_file_manager_hides_does_no_harm(bundle):
    (bundle / ".DS_Store").write_text("x")
    Bundle.read(bundle)


def test_a_missing_folder_is_said_to_be_missing(tmp_path):
    with pytest.raises(BundleError, match="there is no such bundle folder"):
        Bundle.read(tmp_path / "nowhere")


def test_a_run_folder_or_an_extract_in_its_place_is_told(finished):
    with pytest.raises(BundleError, match=r"is a run folder; its bundle is .*bundle$"):
        Bundle.read(finished.out)
    with pytest.raises(BundleError, match="is an extract; give the bundle first"):
        Bundle.read(finished.extract)


def test_an_unfinished_bundle_opens_as_a_draft_only(bundle):
    (bundle / MANIFEST).unlink()
    (bundle / SEAL).unlink()
    Bundle.read(bundle, draft=True)
    with pytest.raises(BundleError, match="unfinished or damaged"):
        Bundle.read(bundle)


@pytest.mark.parametrize("name", ["../outside.json", "sub/../../outside.json", "{absolute}"])
def test_a_manifest_that_lists_a_file_outside_is_refused(bundle, name):
    outside = bundle.parent / "outside.json"
    outside.write_text("{}")
    files = listed(bundle) | {name.format(absolute=outside): "0" * 64}
    reseal(bundle, files=files)
    with pytest.raises(BundleError, match="lists a path that leaves the bundle's folder"):
        Bundle.read(bundle)


def test_a_link_is_refused_even_to_the_right_content(bundle):
    target = bundle.parent / "model"
    (bundle / "model.safetensors").rename(target)
    (bundle / "model.safetensors").symlink_to(target)
    with pytest.raises(BundleError, match="does not belong to the bundle"):
        Bundle.read(bundle)


def test_a_link_to_a_folder_is_refused(bundle):
    outside = bundle.parent / "outside"
    outside.mkdir()
    (outside / "x.json").write_text("{}")
    (bundle / "sub").symlink_to(outside)
    reseal(bundle, files=listed(bundle) | {"sub/x.json": "0" * 64})
    with pytest.raises(BundleError, match="sub: does not belong to the bundle"):
        Bundle.read(bundle)


def test_another_format_version_is_refused(bundle):
    reseal(bundle, format_version=FORMAT_VERSION + 1)
    with pytest.raises(BundleError, match=rf"has format version {FORMAT_VERSION + 1}, this"):
        Bundle.read(bundle)


@pytest.mark.parametrize("text", ["no JSON", "[]", "{}", '{"format_version": 1, "files": 7}'])
def test_a_manifest_that_is_none_is_refused(bundle, text):
    write_manifest(bundle, text)
    with pytest.raises(BundleError, match="is no manifest"):
        Bundle.read(bundle)


class Harmful:
    """Unpickled, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("manifest")])
def test_a_pickle_in_place_of_a_file_is_never_run(bundle, name):
    trace = bundle.parent / "was-run"
    (bundle / name).write_bytes(pickle.dumps(Harmful(trace)))
    reseal(bundle)
    if name in ("MODEL_CARD.md", "metrics.json", "thresholds.json"):
        Bundle.read(bundle)  # for people; loading does not read them
    elif name.startswith("pretrained"):
        opened = Bundle.read(bundle)
        with pytest.raises(BundleError, match="SafetensorError"):
            opened.pretrained_networks()
    else:
        with pytest.raises(BundleError):
            Bundle.read(bundle)
    assert not trace.exists()


def test_a_pickle_saved_by_torch_in_place_of_weights_is_never_run(bundle):
    trace = bundle.parent / "was-run"
    torch.save({"x": Harmful(trace)}, bundle / "model.safetensors")
    reseal(bundle)
    with pytest.raises(BundleError, match="SafetensorError"):
        Bundle.read(bundle)
    assert not trace.exists()


def test_yaml_that_asks_for_an_object_is_refused(bundle):
    trace = bundle.parent / "was-run"
    text = (bundle / "config.yaml").read_text()
    call = f"!!python/object/apply:builtins.open ['{trace}', 'w']"
    (bundle / "config.yaml").write_text(text.replace("window_hours: 48.0", f"window_hours: {call}"))
    assert call in (bundle / "config.yaml").read_text()
    reseal(bundle)
    with pytest.raises(BundleError, match="not valid YAML"):
        Bundle.read(bundle)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("calibration.json", "[]"),
        ("conformal.json", "[]"),
        ("conformal.json", '{"unheard_of": {}}'),
        ("conformal.json", '{"in_hospital_mortality": {"yes": {"n": 1}}}'),
        ("conformal.json", '{"in_hospital_mortality": {"no": null}}'),
        ("calibration.json", '{"in_hospital_mortality": {"kind": "platt"}}'),
        ("config.yaml", "seed: 1"),
        ("stack.json", "[]"),
        ("stack.json", '{"in_hospital_mortality": 0.5}'),
        ("statistics.json", "{}"),
        ("statistics.json", "[]"),
    ],
)
def test_a_part_of_another_shape_is_a_bundle_error(bundle, name, content):
    (bundle / name).write_text(content)
    reseal(bundle)
    with pytest.raises(BundleError):
        Bundle.read(bundle)


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("stands_as", lambda codes: {**codes["stands_as"], "DX//X": len(codes["vocabulary"])}),
        ("vocabulary", lambda codes: codes["vocabulary"][:-1]),
        ("parents", lambda codes: [[-1], *codes["parents"][1:]]),
        ("subjects", lambda codes: [codes["n_subjects"] + 1, *codes["subjects"][1:]]),
    ],
)
def test_codes_that_could_not_have_been_learned_are_a_bundle_error(bundle, key, change):
    content = json.loads((bundle / "statistics.json").read_text())
    codes = content["statistics"]["codes"]
    codes[key] = change(codes)
    (bundle / "statistics.json").write_text(json.dumps(content))
    reseal(bundle)
    with pytest.raises(BundleError, match="its parts do not fit together"):
        Bundle.read(bundle)


def test_weights_of_another_size_are_a_bundle_error(bundle):
    config = yaml.safe_load((bundle / "config.yaml").read_text())
    config["fusion"]["width"] *= 2
    (bundle / "config.yaml").write_text(yaml.safe_dump(config))
    reseal(bundle)
    with pytest.raises(BundleError, match="its parts do not fit together"):
        Bundle.read(bundle)


# What is shown of it


def test_a_bundle_tells_what_is_in_it_in_80_columns(finished, command):
    code, out, err = command("bundle", "inspect", finished.bundle)
    assert code == 0, err
    assert max(len(line) for line in out.splitlines()) <= 80
    opened = Bundle.read(finished.bundle)
    for told in (*opened.config.modalities, *opened.config.tasks, *opened.config.graph.relations):
        assert told in out
    assert f"{len(opened.fitted.reference_subject)} train samples" in out
    assert f"{len(FILES)}, " in out
    assert "AUROC" in out


def test_a_changed_bundle_is_not_shown_but_refused(bundle, command):
    (bundle / "MODEL_CARD.md").write_text("all is well")
    code, out, err = command("bundle", "inspect", bundle)
    assert (code, out) == (2, "")
    assert "was changed after the bundle was written" in err


def test_what_a_predictor_shows_in_a_notebook_is_what_is_in_its_bundle(finished):
    shown = Predictor.load(finished.bundle)._repr_html_()
    assert shown.startswith("<table>")
    for told in ("binary", "event_set", "train samples", "conformal sets"):
        assert told in shown


# What it gives away


def test_no_subject_identifier_stands_in_the_bundle(finished):
    subjects = pl.read_parquet(finished.extract / "samples.parquet")["subject_id"].unique()
    content = {path.name: path.read_bytes() for path in finished.bundle.iterdir()}
    assert len(content) == len(FILES)
    for name, data in content.items():
        for subject in subjects:
            assert str(subject).encode() not in data, name
            assert int(subject).to_bytes(8, "little", signed=True) not in data, name
            assert np.float64(subject).tobytes() not in data, name


def test_no_hash_in_the_bundle_comes_from_the_subject_s_number_alone(finished):
    reference = load_file(finished.bundle / "reference.safetensors")["reference_subject"]
    config = json.loads((finished.bundle / "statistics.json").read_text())
    assert len(config["salt"]) >= 32
    assert reference.unique().numel() > 100


def test_no_place_on_this_machine_stands_in_the_bundle(finished, bundle):
    places = [finished.extract, finished.extract.parent, Path.home(), Path.cwd()]
    for path in finished.bundle.iterdir():
        for place in places:
            assert f"{place}/".encode() not in path.read_bytes(), path.name
            assert str(finished.extract).encode() not in path.read_bytes(), path.name


def test_places_of_weights_labels_and_splits_stay_behind(finished, tmp_path):
    opened = Bundle.read(finished.bundle)
    raw = opened.config.dump() | {"splits": "/secret/splits.parquet", "out": "/secret/out"}
    raw["modalities"]["images"]["weights"] = "/secret/resnet.pth"
    raw["tasks"]["in_hospital_mortality"]["labels"] = "/secret/tasks/mortality"
    config = RunConfig.model_validate(raw)
    write_draft(
        tmp_path,
        config=config,
        fitted=opened.fitted,
        networks=opened.networks,
        experts=opened.experts,
    )
    assert "secret" not in (tmp_path / "config.yaml").read_text()
    written = Bundle.read(tmp_path, draft=True)
    assert torch.equal(written.networks[0].memory, opened.networks[0].memory)


class Nothing:
    """Fitted on no data."""

    def write(self, folder):
        pass


def test_experts_are_written_for_binary_tasks_alone_whatever_stands_between_them(tmp_path):
    tasks = {
        "stay": {"kind": "regression", "labels": "tasks/stay", "unit": "days"},
        "died": {"kind": "binary", "labels": "tasks/died"},
        "ward": {"kind": "multiclass", "labels": "tasks/ward"},
        "sepsis": {"kind": "binary", "labels": "tasks/sepsis"},
    }
    config = RunConfig.model_validate(
        {
            "extract": "extract",
            "out": "out",
            "tasks": tasks,
            "modalities": {"static": {"encoder": "mlp"}},
            "experts": ["additive"],
        }
    )
    draws = np.random.default_rng(0)
    features = draws.normal(size=(60, 3)).astype(np.float32)
    fitted = {
        task: Additive.fit(features, (features[:, column] > 0).astype(float), seed=0, threads=1)
        for column, task in enumerate(("died", "sepsis"))
    }
    experts = {"additive": fitted}
    write_draft(tmp_path, config=config, fitted=Nothing(), networks=[], experts=experts)
    again = bundle_module._read_experts(tmp_path, config)["additive"]
    assert {task: expert.text for task, expert in again.items()} == {
        task: expert.text for task, expert in fitted.items()
    }
    assert bundle_module._read_stack(tmp_path, config) == {"died": 0.5, "sepsis": 0.5}


def test_the_rare_word_of_one_subject_stands_nowhere_in_the_bundle(finished, hospital_tools):
    for path in finished.bundle.iterdir():
        assert hospital_tools.WORD.encode() not in path.read_bytes(), path.name

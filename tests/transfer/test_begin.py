"""Runs that begin from the bundle of another hospital, whose codes differ in part."""

import clinical
from clinical.bundle import Bundle
from clinical.cohort.store import Store
from clinical.config_file import load_yaml
from clinical.errors import BundleError, ConfigError, LeakageError
from clinical.experiment import Run
from clinical.manifest import digest_of
from clinical.run_folder import check_pretrained, write_down
from clinical.training.finetune import FinetuneStage
from clinical.transfer import Source, Start, begin

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
import torch

NEW_NAMES = {"HR": "PULSE", "Lactate": "LAC", "K": "POTASSIUM"}
"""Of which the first keeps its description, the second its code in a mapping, the third nothing."""
FEW = ["pretrain=null", "finetune.epochs=2", "finetune.teachers=[]"]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Path:
    """Another hospital, three of its codes renamed and one in another unit."""
    root = tmp_path_factory.mktemp("elsewhere") / "extract"
    clinical.synthesize(root, subjects=120, seed=5)
    for path in sorted((root / "data").rglob("*.parquet")):
        frame = pl.read_parquet(path)
        frame.with_columns(pl.col("code").replace(NEW_NAMES)).write_parquet(path)
    path = root / "metadata" / "codes.parquet"
    codes = pl.read_parquet(path)
    silent = pl.col("code").is_in(["Lactate", "K"])
    codes.with_columns(
        pl.when(~silent).then("description").alias("description"),
        pl.when(pl.col("code") == "Temp").then(pl.lit("mmHg")).otherwise("unit").alias("unit"),
        pl.col("code").replace(NEW_NAMES),
    ).write_parquet(path)
    return root


@pytest.fixture(scope="module")
def mapping(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("mapping") / "codes.yaml"
    path.write_text("LAC: Lactate\n")
    return path


@pytest.fixture(scope="module")
def configured(hospital_tools, finished, elsewhere, mapping):
    """A short run on the other hospital that begins from the finished one's bundle."""

    def call(out: Path, *more: str, bundle: Path = finished.bundle, extract=elsewhere) -> Run:
        init = json.dumps({"bundle": str(bundle), "mapping": str(mapping)})
        own = [*FEW, f"finetune.init={init}", *more]
        return Run.read(hospital_tools.TINY, hospital_tools.overrides(extract, out, *own))

    return call


@pytest.fixture(scope="module")
def begun(configured, tmp_path_factory) -> Path:
    """The folder of such a run, finished."""
    out = tmp_path_factory.mktemp("begun") / "run"
    clinical.run(configured(out))
    return out


@pytest.fixture(scope="module")
def variables(begun) -> dict[tuple[str, str], dict[str, str]]:
    account = json.loads((begun / "transfer.json").read_text())
    return {(each["modality"], each["variable"]): each for each in account["variables"]}


def test_the_account_says_what_each_variable_begins_as(variables):
    def said(name):
        found = variables["events", name]
        return found["matched_with"], found["by"]

    assert said("Na") == ("Na", "code")
    assert said("PULSE") == ("HR", "unit and description")
    assert said("LAC") == ("Lactate", "mapping")
    assert said("POTASSIUM") == (None, None)
    assert said("Temp") == (None, None)
    assert variables["events", "Temp"]["note"] == "mmHg here, Cel there, and no conversion is known"


def test_the_account_names_the_bundle_and_what_of_it_is_left_over(begun, finished):
    account = json.loads((begun / "transfer.json").read_text())
    assert account["manifest_sha256"] == digest_of(finished.bundle / "manifest.json")
    assert account["left_over"]["events"] == ["K", "Temp"]
    assert account["counts"]["events"]["from scratch"] == 2
    assert account["heads"] == []
    assert any(part.startswith("heads.") for part in account["parts"]["from_scratch"])
    provenance = load_yaml(begun / "run.yaml")["provenance"]
    assert provenance["init"]["manifest_sha256"] == account["manifest_sha256"]


def test_the_notes_are_read_with_the_tokenizer_of_the_bundle(begun, finished):
    ours, theirs = (Store.open(out / "store").statistics for out in (begun, finished.out))
    for name in ("tokenizer", "phrases", "special_pieces"):
        assert ours["notes"][name] == theirs["notes"][name]
    assert ours["events"]["values"] != theirs["events"]["values"]


def test_the_bundle_of_such_a_run_scores_and_names_no_place(begun, elsewhere, finished):
    scores = clinical.score(begun / "bundle", elsewhere)
    assert scores["score"].between(0, 1).all()
    init = Bundle.read(begun / "bundle").config.finetune.init
    assert init.bundle == Path("bundle")
    assert init.mapping is None
    told = (begun / "bundle" / "config.yaml").read_text()
    assert str(finished.out) not in told


def test_the_bundle_remembers_from_whom_it_and_the_one_before_it_learned(
    begun, finished, elsewhere
):
    lineage, first = (Bundle.read(out / "bundle").fitted.lineage for out in (begun, finished.out))
    assert [each.subject.tolist() for each in lineage[1:]] == [
        each.subject.tolist() for each in first
    ]
    assert len(first) == 1
    for learned, extract in zip(lineage, (elsewhere, finished.extract), strict=True):
        splits = pl.read_parquet(extract / "metadata" / "subject_splits.parquet")
        subjects = splits["subject_id"].to_numpy()
        knows = learned.knows(subjects, learned.dataset_name)
        assert knows[(splits["split"] == "train").to_numpy()].all()
        assert knows.sum() == (splits["split"] == "train").sum()


def test_a_network_begins_with_the_weights_of_the_bundle(configured, begun, finished, tmp_path):
    from clinical.training.build import build_model

    config = configured(begun)
    store = Store.open(begun / "store")
    model = build_model(config, store)
    shutil.copytree(begun, tmp_path / "run", ignore=shutil.ignore_patterns("store", "bundle"))
    start = begin(configured(tmp_path / "run"), store)
    start.begin(0, model)
    old = Bundle.read(finished.bundle)
    (network,) = old.networks
    ours, theirs = model.state_dict(), network.model.state_dict()
    for name in ("encoders.notes.bert.embeddings.word_embeddings.weight", "project.static.weight"):
        assert torch.equal(ours[name], theirs[name])
    place, known = (
        statistics["events"]["vocabulary"].index(code)
        for statistics, code in (
            (store.statistics, "PULSE"),
            (old.fitted.statistics, "HR"),
        )
    )
    name = "encoders.events.value.slope"
    assert torch.equal(ours[name][place], theirs[name][known])
    fresh = build_model(config, store).state_dict()
    scratch = store.statistics["events"]["vocabulary"].index("POTASSIUM")
    assert torch.equal(ours[name][scratch], fresh[name][scratch])
    head = "heads.in_hospital_mortality.linear.weight"
    assert torch.equal(ours[head], fresh[head])


def test_heads_of_the_same_task_are_taken_over_where_they_are_wanted(configured, begun, finished):
    from clinical.training.build import build_model

    config = configured(begun, "finetune.init.heads=true", "finetune.start=pretrained")
    store = Store.open(begun / "store")
    model = build_model(config, store)
    before = (begun / "transfer.json").read_bytes()
    begin(config, store).begin(0, model)
    assert json.loads((begun / "transfer.json").read_text())["heads"] == ["in_hospital_mortality"]
    (begun / "transfer.json").write_bytes(before)
    (network,) = Bundle.read(finished.bundle).networks
    head = "heads.in_hospital_mortality.linear.weight"
    assert torch.equal(model.state_dict()[head], network.model.state_dict()[head])


def test_an_interrupted_run_goes_on_to_the_same_scores(configured, begun, tmp_path, monkeypatch):
    config = configured(tmp_path / "run", "resume=true")
    usual = FinetuneStage.on_train_epoch_start

    def stop(stage):
        if stage.current_epoch == 1:
            raise RuntimeError("killed")
        usual(stage)

    with monkeypatch.context() as patch:
        patch.setattr(FinetuneStage, "on_train_epoch_start", stop)
        with pytest.raises(RuntimeError, match="killed"):
            clinical.run(config)
    clinical.run(config)
    ours, theirs = (
        pd.read_parquet(out / "predictions.parquet")["score"] for out in (config.out, begun)
    )
    assert (ours - theirs).abs().max() < 1e-5


def test_continued_pretraining_begins_from_the_bundle(configured, tmp_path, monkeypatch):
    seen = []
    usual = Start.begin

    def begin_with(start, number, model):
        seen.append((number, (start.config.out / "checkpoints").exists()))
        return usual(start, number, model)

    monkeypatch.setattr(Start, "begin", begin_with)
    objectives = "pretrain={epochs: 1, objectives: {values: 1.0}}"
    config = configured(tmp_path / "run", objectives, "finetune.epochs=1")
    clinical.run(config)
    assert seen == [(0, False)]  # once, before the first stage


# What is refused


def test_a_bundle_that_was_trained_on_those_to_be_judged_is_refused(
    configured, finished, tmp_path, hospital_tools
):
    extract = tmp_path / "extract"
    shutil.copytree(finished.extract, extract)
    path = extract / "metadata" / "subject_splits.parquet"
    splits = pl.read_parquet(path)
    other = pl.col("split").replace({"train": "held_out", "held_out": "train"})
    splits.with_columns(other).write_parquet(path)
    config = configured(tmp_path / "run", extract=extract)
    config = config.model_copy(
        update={"finetune": config.finetune.model_copy(update={"init": _bare(finished.bundle)})}
    )
    with pytest.raises(LeakageError, match=r"was trained on \d+ of the \d+ tuning and held-out"):
        clinical.run(config)
    assert not (config.out / "checkpoints").exists()


def _bare(bundle: Path):
    from clinical.sections import InitConfig

    return InitConfig.model_validate(str(bundle))


def test_other_sizes_are_one_error_that_names_both(configured, tmp_path):
    config = configured(
        tmp_path / "run", "fusion.width=32", "modalities.events.layers=2", "fusion.dropout=0.3"
    )
    with pytest.raises(ConfigError) as refused:
        clinical.run(config)
    assert str(refused.value) == (
        "finetune.init: the bundle's networks are built otherwise: fusion.width is 32 here and 16 "
        "in the bundle; modalities.events.layers is 2 here and 1 in the bundle; set the keys that "
        "it was trained with"
    )
    assert not (tmp_path / "run").exists()


def test_a_changed_bundle_is_refused(configured, finished, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(finished.bundle, bundle)
    (bundle / "statistics.json").write_text("{}")
    with pytest.raises(BundleError, match=r"statistics\.json: was changed"):
        clinical.run(configured(tmp_path / "run", bundle=bundle))
    with pytest.raises(BundleError, match="there is no such bundle folder"):
        clinical.run(configured(tmp_path / "run", bundle=tmp_path / "none"))


def test_a_bundle_in_the_folder_that_is_written_is_refused(configured, finished):
    with pytest.raises(ConfigError, match="lies in out, which this run writes"):
        clinical.run(configured(finished.out, "overwrite=true"))
    assert (finished.bundle / "manifest.json").exists()


def test_a_mapping_of_unknown_codes_is_refused_with_their_names(configured, tmp_path):
    path = tmp_path / "mapping.yaml"
    path.write_text("LAC: Lactat\nLACK: Lactate\n")
    config = configured(tmp_path / "run", f"finetune.init.mapping={path}")
    with pytest.raises(ConfigError, match=r"\(LACK\) and 1 codes .* learned \(Lactat\)"):
        clinical.run(config)


def test_heads_need_a_start_that_keeps_them(configured, tmp_path):
    with pytest.raises(ConfigError, match="start: linear solves for heads anew"):
        configured(tmp_path / "run", "finetune.init.heads=true")


def test_heads_of_another_sort_are_refused(configured, finished, tmp_path, monkeypatch):
    bundle = Bundle.read(finished.bundle)
    finetune = bundle.config.finetune.model_copy(update={"head": "prototypical"})
    bundle = replace(bundle, config=bundle.config.model_copy(update={"finetune": finetune}))
    monkeypatch.setattr(Bundle, "read", lambda folder: bundle)
    config = configured(tmp_path / "run", "finetune.init.heads=true", "finetune.start=pretrained")
    with pytest.raises(ConfigError, match="the bundle's heads are prototypical"):
        Source.read(config, config.finetune.init)


def test_heads_that_are_wanted_after_pretraining_alone_are_refused(configured, tmp_path):
    more = ["pretrain={epochs: 1, objectives: {values: 1.0}}", "finetune.start=pretrained"]
    config = configured(tmp_path / "run", *more)
    config.out.mkdir()
    write_down(config, "fingerprint")
    check_pretrained(config)
    changed = configured(config.out, *more, "finetune.init.heads=true")
    with pytest.raises(ConfigError, match=r"was pretrained with other values of finetune\.init"):
        check_pretrained(changed)


def test_a_run_is_not_resumed_from_another_bundle(configured, begun, finished, tmp_path):
    other = tmp_path / "bundle"
    shutil.copytree(finished.bundle, other)
    with pytest.raises(ConfigError, match="other values of finetune"):
        clinical.run(configured(begun, "resume=true", bundle=other))

"""The audit passes where nothing leaks, and tells every leak that is put in by its line."""

import clinical
from clinical import leak_audit
from clinical.bundle import Bundle, Network, write_draft
from clinical.cohort import given, window
from clinical.cohort.fitted import subject_hashes
from clinical.errors import ConfigError
from clinical.extract.schema import Extract
from clinical.leak_audit import BLIND, HOLDS, LEAK, NOTHING, changes
from clinical.leak_audit.excerpt import Excerpt
from clinical.model import ClinicalModel
from clinical.predictor import Predictor
from clinical.preparation import ToScore, prepare
from clinical.relations import same_unit, similar
from clinical.relations.given import GivenEdges
from clinical.relations.keys import Keyed
from clinical.training.build import build_model, scoring_memory

import importlib.util
import json
import shutil
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

_spec = importlib.util.spec_from_file_location(
    "small_hospital", Path(__file__).with_name("small_hospital.py")
)
small = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(small)

KEYS = ["subject_id", "prediction_time"]
WIDTH = {"width": 8, "layers": 1}
MODALITIES = {
    "events": {"encoder": "event_set", **WIDTH},
    "static": {"encoder": "mlp", "width": 8},
    "notes": {
        "encoder": "bert",
        "heads": 2,
        "codes": ["NOTE//.*"],
        "min_subjects": 1,
        "max_tokens": 16,
        **WIDTH,
    },
    "images": {"encoder": "cnn", "size": 16, "patch": 8, "stages": 1},
    "codes": {"encoder": "bag", "width": 8, "window_hours": None, "min_subjects": 1},
}
RELATIONS = {
    "similar": {"k": 4, "width": 6},
    "same_unit": {"k": 3},
    "household": {"kind": "given", "k": 3},
}


def with_households(extract: Path) -> Path:
    """Edges from every subject to others, half of them known only after every prediction time."""
    subjects = pl.read_parquet(extract / "samples.parquet")["subject_id"].unique().sort()
    others = np.random.default_rng(0).choice(subjects.to_numpy(), 4 * len(subjects))
    later = small.START + timedelta(days=900)
    edges = pl.DataFrame(
        {
            "subject_id": np.repeat(subjects.to_numpy(), 4),
            "other_subject_id": others,
            "time": pl.Series([None, later] * (2 * len(subjects)), dtype=pl.Datetime("us")),
        }
    )
    (extract / "edges").mkdir()
    edges.write_parquet(extract / "edges" / "household.parquet")
    return extract


@pytest.fixture(scope="module")
def extract(tmp_path_factory):
    return with_households(small.build(tmp_path_factory.mktemp("hospital") / "extract"))


@pytest.fixture(scope="module")
def predictor(extract):
    """Of an untrained network with everything on."""
    config = small.configure(
        extract, extract.parent / "run", modalities=MODALITIES, graph={"relations": RELATIONS}
    )
    store = prepare(config, config.out / "store")
    model = build_model(config, store).eval()
    torch.manual_seed(1)
    for name in RELATIONS:  # new ones do not listen yet
        torch.nn.init.normal_(model.directions(name))
    networks = [Network(model, scoring_memory(config, store, model, device=torch.device("cpu")))]
    folder = config.out / "bundle"
    write_draft(folder, config=config, fitted=store.fitted, networks=networks, experts={})
    return Predictor(Bundle.read(folder, draft=True))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("clinical.leak_audit.checks.N_ALONE", 2)


@pytest.fixture
def look(predictor, extract):
    """The audit of a predictor on the hospital, and the checks that failed by their verdict."""

    def call(model=predictor, **options):
        found = leak_audit.audit(model, extract, **{"samples": 14, "seed": 1, **options})
        table = found.table
        bad = table[table["verdict"].isin([LEAK, BLIND])]
        assert found.passed == bad.empty
        return found, dict(zip(bad["check"], bad["verdict"], strict=True))

    return call


def lines_of(audit, check):
    return audit.table[audit.table["check"] == check].set_index("change")


# Nothing leaks


def test_the_audit_of_a_finished_model_passes(finished, hospital):
    found = clinical.audit(finished.bundle, hospital, samples=30)
    table = found.table
    assert found.passed
    assert set(table["verdict"]) == {HOLDS}
    assert set(table["check"]) == {
        "control",
        "labels",
        "future",
        "other patients",
        "batch-mates",
        "own subject",
        "other splits",
        "time",
    }
    assert (table["samples"] > 0).all()
    moved = table["check"] == "control"
    assert (table.loc[~moved, "moved"] == 0).all()
    assert (table.loc[moved, "moved"] > 15).all()
    assert table.loc[~moved, "largest"].dropna().max() < 1e-5


def test_with_a_context_its_future_is_altered_too_and_its_present_matters(look, extract):
    found, failed = look(context=extract)
    assert not failed
    lines = lines_of(found, "context")
    assert (lines["samples"] > 0).all()
    assert lines["moved"].tolist()[:3] == [0, 0, 0]
    assert lines["moved"].tolist()[3] > 0


def test_everything_is_audited_on_a_model_with_all_relations(look):
    found, failed = look()
    assert not failed
    table = found.table
    assert (table["verdict"] == HOLDS).all()
    assert lines_of(found, "own subject")["samples"].tolist()[1] > 7
    assert lines_of(found, "time")["samples"].iloc[0] > 7


def test_the_same_seed_gives_the_same_audit(look):
    assert look(samples=4)[0] == look(samples=4)[0]


def test_copies_are_removed_and_the_extract_is_only_read(look, extract, monkeypatch, tmp_path):
    def state():
        files = [path for path in extract.rglob("*") if path.is_file()]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = state()
    look(samples=4, context=extract)
    assert list(tmp_path.iterdir()) == []
    assert state() == before


def test_without_splits_the_reference_cannot_be_checked_and_that_is_said(
    predictor, tmp_path, extract
):
    other = with_households(
        small.build(tmp_path / "other", seed=4, dataset_name="other", with_splits=False)
    )
    found = leak_audit.audit(predictor, other, samples=4)
    assert found.passed
    assert lines_of(found, "other splits")["verdict"].tolist() == [NOTHING]
    assert lines_of(found, "own subject")["verdict"].tolist() == [NOTHING, HOLDS]
    splits = extract / "metadata" / "subject_splits.parquet"
    found = leak_audit.audit(predictor, other, samples=4, splits=splits)
    assert lines_of(found, "other splits")["verdict"].tolist() == [NOTHING]  # of another data set


def test_one_sample_is_too_few(predictor, extract):
    with pytest.raises(ConfigError, match="at least 2"):
        leak_audit.audit(predictor, extract, samples=1)


# Every leak, put in


def test_the_future_let_through_is_told(look, monkeypatch):
    def late(events, samples, windows):
        later = pl.col("prediction_time") + timedelta(hours=1)
        return window.visible(events, samples.with_columns(later), windows)

    monkeypatch.setattr("clinical.modalities.shards.visible", late)
    found, failed = look()
    assert failed == {"future": LEAK}
    assert (lines_of(found, "future")["moved"] > 7).all()


def test_a_microsecond_of_the_future_is_told(look, monkeypatch):
    def late(events, samples, windows):
        later = pl.col("prediction_time") + timedelta(microseconds=1)
        return window.visible(events, samples.with_columns(later), windows)

    monkeypatch.setattr("clinical.modalities.shards.visible", late)
    assert look()[1] == {"future": LEAK}


def test_an_edge_known_too_early_is_told(look, monkeypatch):
    def early(edges, samples):
        always = pl.lit(None, pl.Datetime("us")).alias("time")
        return given.known_edges(edges.with_columns(always), samples)

    monkeypatch.setattr("clinical.relations.linking.known_edges", early)
    assert look()[1] == {"future": LEAK}


def test_a_label_that_is_read_is_told(look, monkeypatch):
    score_store = Predictor.score_store

    def told(self, store, rows, **options):
        found = score_store(self, store, rows, **options)
        label = store.samples["label.death"].fill_null(0.5).to_numpy()[rows]
        return found.assign(score=0.9 * found["score"] + 0.1 * label)

    monkeypatch.setattr(Predictor, "score_store", told)
    assert look()[1] == {"labels": LEAK}


def test_another_column_of_the_samples_that_is_read_is_told(look, monkeypatch):
    score = Predictor.score

    def told(self, extract, **options):
        found = score(self, extract, **options)
        raw = pd.read_parquet(Path(extract) / "samples.parquet")
        known = raw[[*KEYS, *(c for c in raw.columns if c == "outcome")]]
        outcome = found[KEYS].merge(known, how="left").get("outcome", 0)
        return found.assign(score=found["score"] * (1 - 0.1 * outcome))

    monkeypatch.setattr(Predictor, "score", told)
    assert look()[1] == {"labels": LEAK}


def test_the_own_subject_among_similar_ones_is_told(look, monkeypatch):
    nearest = similar.nearest

    def anybody(query, reference, **options):
        return nearest(query, reference, **options | {"query_subject": np.zeros(len(query), int)})

    monkeypatch.setattr(similar, "nearest", anybody)
    found, failed = look()
    assert failed == {"own subject": LEAK}
    assert (lines_of(found, "own subject")["moved"] > 0).all()


def test_the_own_subject_in_a_table_of_edges_is_told(look, monkeypatch):
    def anybody(self, samples, reference, edge, other):
        times = reference.keys["time"][other], samples.keys["time"][samples.given.sample[edge]]
        return times[0] <= times[1]

    monkeypatch.setattr(GivenEdges, "_is_admitted", anybody)
    assert look()[1] == {"own subject": LEAK}


def test_a_held_out_subject_in_the_reference_is_told(look, predictor, extract):
    bundle = predictor.bundle
    splits = Extract.open(extract).splits()
    n_others = int((splits["split"] != "train").sum())
    held_out = splits.filter(pl.col("split") == "held_out")["subject_id"].to_numpy()[:1]
    subject = bundle.fitted.reference_subject.copy()
    subject[3] = subject_hashes(held_out, bundle.fitted.dataset_name, bundle.fitted.salt)[0]
    fitted = replace(bundle.fitted, reference_subject=subject)
    found, failed = look(Predictor(replace(bundle, fitted=fitted)))
    assert failed == {"other splits": LEAK}
    line = lines_of(found, "other splits").iloc[0]
    assert (line["samples"], line["moved"]) == (n_others, 1)


def test_a_later_neighbour_is_told(look, monkeypatch):
    latest = same_unit.latest

    def ahead(group, time, *others, **options):
        return latest(group, time + 20 * 24 * 3_600_000_000, *others, **options)

    monkeypatch.setattr(same_unit, "latest", ahead)
    assert look()[1] == {"time": LEAK}


def test_neighbours_in_time_of_another_data_set_are_told(look, predictor, monkeypatch):
    bundle = predictor.bundle
    elsewhere = replace(bundle.fitted, dataset_name="elsewhere")
    renamed = Predictor(replace(bundle, fitted=elsewhere))

    def unasked(name, relation, population, fitted):
        rows = np.arange(len(fitted.reference_subject))
        return Keyed(fitted.reference[name], fitted.reference_subject, rows)

    monkeypatch.setattr("clinical.relations.linking._reference", unasked)
    assert look(renamed)[1] == {"time": LEAK}


def test_a_score_that_depends_on_its_batch_is_told(look, monkeypatch):
    answer = ClinicalModel.answer

    def normalised(self, *given, **options):
        outputs = answer(self, *given, **options)
        logits = {task: logit - logit.mean() for task, logit in outputs.logits.items()}
        return replace(outputs, logits=logits)

    monkeypatch.setattr(ClinicalModel, "answer", normalised)
    found, failed = look()
    # Alone, and with further patients, a sample is in another batch as well.
    assert failed == {"batch-mates": LEAK, "other patients": LEAK}
    moved = lines_of(found, "other patients")["moved"]
    assert moved["scored one by one"] == 2
    assert moved["all others of the extract removed"] == 0


def test_a_score_that_depends_on_who_else_is_scored_is_told(look, monkeypatch):
    keys = similar.Similar.keys

    def centred(self, inputs, parameters):
        found = keys(self, inputs, parameters)
        return found | {"key": found["key"] - found["key"].mean(0)}

    monkeypatch.setattr(similar.Similar, "keys", centred)
    found, failed = look()
    assert failed == {"other patients": LEAK}
    assert lines_of(found, "other patients")["moved"]["copies and further samples added"] > 0


def test_the_future_of_the_context_let_through_is_told(look, extract, monkeypatch):
    write_context = ToScore._write_context

    def late(events, samples, windows):
        later = pl.col("prediction_time") + timedelta(hours=1)
        return window.visible(events, samples.with_columns(later), windows)

    def unguarded(*given):
        with monkeypatch.context() as patch:
            patch.setattr("clinical.modalities.shards.visible", late)
            return write_context(*given)

    monkeypatch.setattr(ToScore, "_write_context", unguarded)
    assert look(context=extract)[1] == {"context": LEAK}


def test_an_audit_that_can_see_nothing_says_that_it_is_blind(look, monkeypatch):
    score_store = Predictor.score_store

    def constant(self, store, rows, **options):
        return score_store(self, store, rows, **options).assign(score=0.3)

    monkeypatch.setattr(Predictor, "score_store", constant)
    assert look()[1] == {"control": BLIND}


# Its parts


def test_a_copy_says_the_same_under_names_of_its_own(extract, tmp_path):
    opened = Extract.open(extract)
    excerpt = Excerpt.of(opened, opened.samples(), labels=[Path("tasks/death")])
    copy = Extract.open(excerpt.write(tmp_path / "copy"))
    columns = ["subject_id", "time", "code", "numeric_value", "text_value"]
    assert copy.scan().select(columns).collect().equals(opened.scan().select(columns).collect())
    assert copy.labels(Path("tasks/death")).equals(opened.labels(Path("tasks/death")))
    ours, theirs = (e.scan().collect()["image_path"].drop_nulls() for e in (copy, opened))
    assert len(ours) > 5
    for name, original in zip(ours, theirs, strict=True):
        assert str(small.FIRST)[:5] not in name
        assert copy.image(name).read_bytes() == opened.image(original).read_bytes()


def test_a_series_and_a_volume_are_copied_as_what_they_are(extract, tmp_path):
    root = tmp_path / "extract"
    shutil.copytree(extract, root)
    (root / "ct" / str(small.FIRST)).mkdir(parents=True)
    (root / "ct" / str(small.FIRST) / "1.dcm").write_bytes(b"slice")
    (root / "ct" / str(small.FIRST) / "out.dcm").symlink_to("/etc/hostname")
    (root / "pool").mkdir()
    (root / "pool" / "2.dcm").write_bytes(b"linked")
    (root / "ct" / str(small.FIRST) / "2.dcm").symlink_to("../../pool/2.dcm")
    (root / "volume.NII.gz").write_bytes(b"volume")
    shard = root / Extract.open(root).shards[0]
    events = pl.read_parquet(shard)
    first, second = events["image_path"].drop_nulls()[:2]
    named = {first: f"ct/{small.FIRST}", second: "volume.NII.gz"}
    events.with_columns(pl.col("image_path").replace(named)).write_parquet(shard)
    opened = Extract.open(root)
    copy = Extract.open(Excerpt.of(opened, opened.samples()).write(tmp_path / "copy"))
    series, volume = copy.scan(copy.shards[0]).collect()["image_path"].drop_nulls()[:2]
    slices = sorted(copy.image(series).iterdir())
    assert [file.read_bytes() for file in slices] == [b"slice", b"linked"]
    assert volume.endswith(".nii.gz")
    assert copy.image(volume).read_bytes() == b"volume"
    assert str(small.FIRST)[:5] not in series


def test_labels_outside_the_extract_are_not_read(extract):
    opened = Extract.open(extract)
    outside = [Path("../extract/tasks/death"), extract / "tasks" / "death"]
    assert Excerpt.of(opened, opened.samples(), labels=outside).labels == {}


def test_every_label_becomes_another_one(extract):
    opened = Extract.open(extract)
    excerpt = Excerpt.of(opened, opened.samples(), labels=[Path("tasks/death")])
    (before,), (after,) = (
        e.labels.values() for e in (excerpt, changes.with_other_labels(excerpt, 0))
    )
    assert (before["boolean_value"] != after["boolean_value"]).all()


def test_what_is_planted_or_altered_comes_after_the_prediction_time(extract):
    opened = Extract.open(extract)
    last = opened.samples().group_by("subject_id").agg(pl.col("prediction_time").max())
    excerpt = Excerpt.of(opened, last, edges=["household"])
    cut = changes.cut_of(last)
    scrambler = changes.Scrambler(excerpt, 0)
    planted = scrambler.planted(cut, after=changes.AT_ONCE)
    for changed in (
        scrambler.altered(changes.is_later(cut)),
        changes.without(excerpt, changes.is_later(cut)),
        changes.with_edges(planted, cut, after=changes.AT_ONCE, seed=0),
    ):
        assert changed.altered_subjects(excerpt) == set(last["subject_id"])
        for name in ("events", "edges"):
            tables = [getattr(e, name) for e in (excerpt, changed)]
            before, after = (
                pl.concat(t.values())
                .join(last.rename({"prediction_time": "now"}), on="subject_id")
                .filter(pl.col("time").is_null() | (pl.col("time") <= pl.col("now")))
                .sort(pl.all())
                for t in tables
            )
            assert before.equals(after)


# The verb


def test_the_command_shows_the_table_and_writes_it(command, finished, hospital, tmp_path):
    for name in ("audit.json", "audit.csv"):
        code, out, err = command(
            "audit", finished.bundle, hospital, "--samples", 6, "--out", tmp_path / name
        )
        assert code == 0
        assert "passed" in out
        assert all(len(line) <= 80 for line in out.splitlines())
        for check in ("control", "labels", "future", "batch-mates", "own subject"):
            assert check in out
        assert "8123" not in out + err + (tmp_path / name).read_text()
    written = json.loads((tmp_path / "audit.json").read_text())
    assert written["passed"] is True
    table = pd.read_csv(tmp_path / "audit.csv")
    assert table["verdict"].tolist() == [line["verdict"] for line in written["lines"]]


def test_the_command_ends_with_1_if_something_moved(command, finished, hospital, monkeypatch):
    score_store = Predictor.score_store

    def told(self, store, rows, **options):
        found = score_store(self, store, rows, **options)
        return found.assign(score=0.9 * found["score"] + 0.1 * found["label"].fillna(0.5))

    monkeypatch.setattr(Predictor, "score_store", told)
    code, out, _ = command("audit", finished.bundle, hospital, "--samples", 6)
    assert code == 1
    assert "FAILED: labels" in out


def test_a_table_of_another_kind_is_refused_before_anything_is_scored(command, tmp_path):
    code, _, err = command("audit", tmp_path, tmp_path, "--out", tmp_path / "audit.xlsx")
    assert code == 2
    assert "name a .json or .csv file" in err

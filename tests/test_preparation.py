import clinical  # noqa: F401
from clinical.datamodule import StoreDataset
from clinical.errors import ConfigError, SchemaError
from clinical.modalities import shards as shards_module
from clinical.preparation import Fitted, prepare, prepare_for_scoring
from clinical.relations import similar

import importlib.util
import logging
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

_spec = importlib.util.spec_from_file_location(
    "small_hospital", Path(__file__).with_name("small_hospital.py")
)
hospital = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hospital)

DAY = datetime(2020, 1, 1)


@pytest.fixture(scope="module")
def extract(tmp_path_factory):
    return hospital.build(tmp_path_factory.mktemp("hospital") / "extract")


@pytest.fixture(scope="module")
def config(extract):
    return hospital.configure(extract, extract.parent / "run")


@pytest.fixture(scope="module")
def store(config):
    return prepare(config, config.out / "store")


def arrays(folder):
    """Every array of a store, as bytes."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.arrow")}


def edges(store, relation):
    columns = store.neighbours(relation)
    return columns["rows"].take(np.arange(columns.n_rows))


def by_sample(store, relation, *, n_reference):
    """Neighbours by (subject, time), those of the context named in the same way."""
    keys = store.samples.select("subject_id", "prediction_time").rows()
    context = store.context.samples.select("subject_id", "prediction_time").rows()
    named = [
        [row if row < n_reference else context[row - n_reference] for row in line]
        for line in edges(store, relation).tolist()
    ]
    return dict(zip(keys, named, strict=True))


def test_a_store_says_what_it_holds(store, config):
    counts = store.counts
    assert counts["samples"].keys() == {"train", "select", "calibrate", "held_out"}
    assert sum(counts["subjects"].values()) == store.samples["subject_id"].n_unique()
    assert sum(counts["samples"].values()) == sum(counts["modalities"].values()) == store.n_samples
    assert counts["labels"]["death: labelled"] == store.n_samples
    assert set(store.sizes) == set(config.modalities)
    assert store.sizes == store.fitted.sizes(config)
    assert store.manifest["fitted_on"] == "train"
    assert store.samples.height == store.n_samples
    assert store.context is None
    for name in config.modalities:
        assert store.samples[f"present.{name}"].any()
        assert counts[name]["visible_events"] >= store.samples[f"present.{name}"].sum()


def test_nothing_that_leaves_the_run_names_a_subject(store):
    for path in (store.folder / "store.json", *sorted((store.folder / "fitted").iterdir())):
        assert str(hospital.FIRST)[:5].encode() not in path.read_bytes()
    subjects = store.samples["subject_id"].to_numpy()
    assert not np.isin(store.fitted.reference_subject, subjects).any()


def test_altering_everything_after_the_prediction_time_changes_no_array(store, config, tmp_path):
    altered = hospital.build(tmp_path / "extract", future=-3.0)
    other = prepare(hospital.configure(altered, tmp_path), tmp_path / "store")
    assert other.fingerprint != store.fingerprint
    assert arrays(other.folder) == arrays(store.folder)
    assert other.fitted.statistics == store.fitted.statistics
    for relation, keys in store.fitted.reference.items():
        for name, array in keys.items():
            assert np.array_equal(other.fitted.reference[relation][name], array)


def test_altering_what_is_visible_changes_arrays(store, tmp_path):
    altered = hospital.build(tmp_path / "extract", seed=1)
    other = prepare(hospital.configure(altered, tmp_path), tmp_path / "store")
    found, before = arrays(other.folder), arrays(store.folder)
    changed = {Path(name).name for name in before if found[name] != before[name]}
    assert changed >= {"events.arrow", "static.arrow", "codes.arrow", "similar.arrow"}


def test_the_reference_is_train_and_edges_lead_only_there(store, config):
    samples, reference = store.samples, store.reference_rows
    assert samples[reference]["split"].unique().to_list() == ["train"]
    assert len(reference) == len(store.rows("train"))
    subject = samples["subject_id"].to_numpy()
    for relation in config.graph.relations:
        rows = edges(store, relation)
        assert rows.max() < len(reference)
        whose = np.where(rows >= 0, subject[reference[np.maximum(rows, 0)]], -1)
        assert (rows >= 0).any()
        assert not (whose == subject[:, None]).any()


def test_who_is_not_in_train_teaches_nothing(store, tmp_path):
    copy = hospital.build(tmp_path / "extract")
    splits = pl.read_parquet(copy / "metadata" / "subject_splits.parquet")
    others = splits.filter(pl.col("split") != "train")["subject_id"].to_list()
    other = pl.col("subject_id").is_in(others)
    for path in sorted((copy / "data").rglob("*.parquet")):
        pl.read_parquet(path).with_columns(
            numeric_value=pl.when(other).then(77.0).otherwise("numeric_value").cast(pl.Float32),
            code=pl.when(other).then("code" + pl.lit("//NEW")).otherwise("code"),
            text_value=pl.when(other).then(pl.lit("unheard of")).otherwise("text_value"),
            image_path=pl.when(other).then(None).otherwise("image_path"),
        ).write_parquet(path)
    made = prepare(hospital.configure(copy, tmp_path), tmp_path / "store")
    assert arrays(made.folder) != arrays(store.folder)
    assert made.fitted.statistics == store.fitted.statistics
    for kind in ("parameters", "reference"):
        for relation, learned in getattr(store.fitted, kind).items():
            for name, array in learned.items():
                assert np.array_equal(getattr(made.fitted, kind)[relation][name], array)


def test_labels_reach_nothing_but_their_own_column(store, tmp_path):
    copy = hospital.build(tmp_path / "extract")
    path = copy / "tasks" / "death" / "0.parquet"
    pl.read_parquet(path).with_columns(~pl.col("boolean_value")).write_parquet(path)
    made = prepare(hospital.configure(copy, tmp_path), tmp_path / "store")
    label = "label.death"
    assert (made.samples[label] == 1 - store.samples[label]).all()
    assert made.samples.drop(label).equals(store.samples.drop(label))
    found, before = arrays(made.folder), arrays(store.folder)
    assert {name for name in before if found[name] != before[name]} == {"samples.arrow"}
    assert made.fitted.statistics == store.fitted.statistics


def test_edges_in_time_stay_in_the_unit_the_window_and_the_past(store):
    rows = edges(store, "same_unit")
    times = store.samples["prediction_time"].dt.epoch("us").to_numpy()
    gap = times[:, None] - times[store.reference_rows][np.maximum(rows, 0)]
    assert (gap[rows >= 0] >= 0).all()
    assert (gap[rows >= 0] <= 168 * 3.6e9).all()
    unit = store.samples["subject_id"].to_numpy() % 2
    other = unit[:, None] != unit[store.reference_rows][np.maximum(rows, 0)]
    assert not other[rows >= 0].any()


def test_a_store_of_the_same_is_used_again_and_one_of_other_settings_replaced(extract, tmp_path):
    config = hospital.configure(extract, tmp_path)
    made = prepare(config, tmp_path / "store")
    stamp = (made.folder / "store.json").stat().st_mtime_ns
    wider = config.modalities["static"].model_copy(update={"options": {"width": 99}})
    same = config.model_copy(update={"modalities": {**config.modalities, "static": wider}})
    again = prepare(same, tmp_path / "store")
    assert (again.folder / "store.json").stat().st_mtime_ns == stamp
    shorter = config.model_copy(update={"window_hours": 12.0})
    other = prepare(shorter, tmp_path / "store")
    assert other.manifest["made_from"] != made.manifest["made_from"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store"]


def test_new_labels_or_samples_make_a_new_store(tmp_path):
    extract = hospital.build(tmp_path / "extract")
    config = hospital.configure(extract, tmp_path)
    made = prepare(config, tmp_path / "store")
    path = extract / "tasks" / "death" / "0.parquet"
    labels = pl.read_parquet(path).with_columns(~pl.col("boolean_value"))
    labels.write_parquet(path)
    other = prepare(config, tmp_path / "store")
    before = made.counts["labels"]["death: positive"]
    assert other.counts["labels"]["death: positive"] == made.n_samples - before


def test_other_splits_in_the_same_file_make_a_new_store(extract, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    splits = pl.read_parquet(extract / "metadata" / "subject_splits.parquet")
    splits.write_parquet("mine.parquet")
    config = hospital.configure(extract, tmp_path, splits="mine.parquet")
    before = prepare(config, tmp_path / "store").counts["samples"]
    moved = pl.when(pl.col("split") == "held_out").then(pl.lit("train")).otherwise("split")
    splits.with_columns(moved.alias("split")).write_parquet("mine.parquet")
    after = prepare(config, tmp_path / "store").counts["samples"]
    assert after["train"] == before["train"] + before["held_out"]


def test_a_run_that_is_stopped_leaves_no_store(extract, tmp_path, monkeypatch):
    config = hospital.configure(extract, tmp_path)

    def stop(self, *_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shards_module.ShardJob, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(config, tmp_path / "store")
    assert list(tmp_path.iterdir()) == []
    assert prepare(config, tmp_path / "store").n_samples


def test_shards_divide_the_work_not_the_result(store, tmp_path):
    parts = hospital.build(tmp_path / "extract", n_shards=5)
    other = prepare(hospital.configure(parts, tmp_path), tmp_path / "store")
    assert len(other.shards) == 5
    assert other.samples.equals(store.samples)
    assert other.fitted.statistics == store.fitted.statistics
    for relation in ("similar", "same_unit"):
        assert np.array_equal(edges(other, relation), edges(store, relation))


def test_several_workers_write_the_same_bytes(store, config, tmp_path):
    trainer = config.trainer.model_copy(update={"workers": 2})
    other = prepare(config.model_copy(update={"trainer": trainer}), tmp_path / "store")
    assert arrays(other.folder) == arrays(store.folder)


def test_what_travels_in_a_bundle_scores_as_what_was_fitted(store, config, extract, tmp_path):
    store.fitted.write(tmp_path)
    scored = prepare_for_scoring(config, Fitted.read(tmp_path), extract, tmp_path / "store")
    before = arrays(store.folder)
    for name, content in arrays(scored.folder).items():
        if name.endswith("seen_codes.arrow"):
            continue  # for the table of what is known, which training has no use for
        if name not in ("samples.arrow", "reference.arrow"):
            assert content == before[name], name
    assert len(scored.reference_rows) == 0
    assert scored.samples["label.death"].equals(store.samples["label.death"])


def test_an_index_is_built_with_the_reference_and_travels_with_it(
    store, config, extract, tmp_path, monkeypatch
):
    monkeypatch.setattr(similar, "MOST_EXACT", len(store.reference_rows) // 2)
    made = prepare(config, tmp_path / "store")
    assert "index_rows" in made.fitted.parameters["similar"]
    found = edges(made, "similar")
    assert np.mean(found == edges(store, "similar")) > 0.9
    monkeypatch.setattr(similar, "build", None)
    made.fitted.write(tmp_path)
    scored = prepare_for_scoring(config, Fitted.read(tmp_path), extract, tmp_path / "scored")
    assert np.array_equal(edges(scored, "similar"), found)


def test_an_extract_that_is_its_own_context_adds_contemporaries(store, config, tmp_path):
    fresh = hospital.build(tmp_path / "fresh", seed=8, dataset_name="fresh", with_splits=False)
    scored = prepare_for_scoring(config, store.fitted, fresh, tmp_path / "store", context=fresh)
    assert scored.context is scored
    n_reference = len(store.reference_rows)
    rows = edges(scored, "same_unit")
    assert (rows >= n_reference).any()
    assert not ((rows >= 0) & (rows < n_reference)).any()  # another dataset_name
    assert edges(scored, "similar").max() < n_reference
    alone = prepare_for_scoring(config, store.fitted, fresh, tmp_path / "store")
    assert (edges(alone, "same_unit") == -1).all()
    assert alone.context is None


def test_neighbours_do_not_depend_on_who_else_is_scored(store, config, tmp_path):
    fresh = hospital.build(tmp_path / "fresh", seed=8, dataset_name="fresh", with_splits=False)
    given = {"context": fresh}
    whole = prepare_for_scoring(config, store.fitted, fresh, tmp_path / "whole", **given)
    n_reference = len(store.reference_rows)
    expected = by_sample(whole, "same_unit", n_reference=n_reference)
    alike = by_sample(whole, "similar", n_reference=n_reference)
    keys = whole.samples.select("subject_id", "prediction_time")
    for chosen in (keys[5:6], keys[[40, 3, 17]]):
        part = prepare_for_scoring(
            config, store.fitted, fresh, tmp_path / "part", samples=chosen, **given
        )
        assert part.n_samples == chosen.height
        assert part.context is not part
        for sample, found in by_sample(part, "same_unit", n_reference=n_reference).items():
            assert found == expected[sample]
        for sample, found in by_sample(part, "similar", n_reference=n_reference).items():
            assert found == alike[sample]


def test_a_reference_that_is_also_in_the_context_counts_once(store, config, extract, tmp_path):
    scored = prepare_for_scoring(config, store.fitted, extract, tmp_path / "store", context=extract)
    rows, n_reference = edges(scored, "same_unit"), len(store.reference_rows)
    from_context = rows[rows >= n_reference] - n_reference
    assert len(from_context)
    assert not np.isin(from_context, store.reference_rows).any()


def test_a_context_of_another_data_set_adds_nothing(store, config, extract, tmp_path, caplog):
    fresh = hospital.build(tmp_path / "fresh", seed=8, dataset_name="fresh", with_splits=False)
    with caplog.at_level(logging.WARNING):
        scored = prepare_for_scoring(
            config, store.fitted, fresh, tmp_path / "store", context=extract
        )
    assert (edges(scored, "same_unit") == -1).all()
    assert "no edges from the context" in caplog.text


def test_without_a_consistent_calendar_nothing_is_compared_in_time(tmp_path, caplog):
    extract = hospital.build(tmp_path / "extract", consistent_calendar=False)
    with caplog.at_level(logging.WARNING):
        made = prepare(hospital.configure(extract, tmp_path), tmp_path / "store")
    assert (edges(made, "same_unit") == -1).all()
    assert (edges(made, "similar") >= 0).any()
    assert made.fitted.reference["same_unit"] == {}
    assert "consistent_calendar: true" in caplog.text


def test_a_sample_with_nothing_visible_is_kept_with_its_reason(store, config, extract, tmp_path):
    keys = store.samples.select("subject_id", "prediction_time")[:2]
    stranger = keys[:1].with_columns(pl.col("subject_id") + 500)
    scored = prepare_for_scoring(
        config, store.fitted, extract, tmp_path / "s", samples=pl.concat([keys, stranger])
    )
    reason = dict(scored.samples.select("subject_id", "reason").iter_rows())
    assert reason[stranger["subject_id"][0]] == "nothing visible"
    assert sorted(filter(None, reason.values())) == ["nothing visible"]
    assert scored.counts["modalities"]["nothing visible"] == 1
    lonely = scored.samples["reason"].is_not_null().arg_true()[0]
    assert (edges(scored, "similar")[lonely] == -1).all()


def test_it_is_an_error_if_nothing_of_anybody_is_visible(store, config, extract, tmp_path):
    stranger = pl.DataFrame({"subject_id": [1], "prediction_time": [DAY]})
    with pytest.raises(SchemaError, match="nothing is visible of any of the 1 samples"):
        prepare_for_scoring(config, store.fitted, extract, tmp_path / "s", samples=stranger)
    assert not (tmp_path / "s").exists()


def test_an_unreadable_image_is_counted_and_its_sample_keeps_the_rest(tmp_path):
    extract = hospital.build(tmp_path / "extract")
    broken = sorted((extract / "images").iterdir())[0]
    broken.write_bytes(b"no picture")
    made = prepare(hospital.configure(extract, tmp_path), tmp_path / "store")
    assert made.counts["images"].keys() == {"visible_events", "undecodable"}
    assert made.counts["images"]["undecodable"] == 1
    assert made.samples["reason"].null_count() == made.n_samples


def test_age_is_a_static_column_whatever_the_window(extract, tmp_path):
    config = hospital.configure(extract, tmp_path, window_hours=0.5, graph={})
    made = prepare(config, tmp_path / "store")
    assert "age_years" in str(made.fitted.statistics["static"])
    assert "MEDS_BIRTH" not in str(made.fitted.statistics)
    assert made.samples["present.static"].all()
    assert not made.samples["present.events"].all()


def test_rolling_predictions_of_a_subject_see_what_each_may_see(tmp_path):
    extract = hospital.build(tmp_path / "extract")
    config = hospital.configure(extract, tmp_path)
    fitted = prepare(config, tmp_path / "store").fitted
    keys = pl.read_parquet(extract / "samples.parquet")[:1]
    hours = [0, 12, 24, 48]
    rolling = pl.concat(
        [keys.with_columns(pl.col("prediction_time") - timedelta(hours=h)) for h in hours]
    )
    scored = prepare_for_scoring(config, fitted, extract, tmp_path / "s", samples=rolling)
    lengths = StoreDataset(scored.folder, config).readers["events"].lengths
    assert scored.n_samples == 4
    assert np.array_equal(lengths, np.sort(lengths))
    assert lengths[0] < lengths[-1]


def test_similar_without_its_modalities_is_refused_before_anything_is_written(extract, tmp_path):
    notes = {"notes": {"encoder": "bert", "codes": ["NOTE//.*"]}}
    config = hospital.configure(extract, tmp_path, modalities=notes)
    with pytest.raises(ConfigError, match="similar compares events and static"):
        prepare(config, tmp_path / "store")
    assert list(tmp_path.iterdir()) == []

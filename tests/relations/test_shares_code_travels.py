"""Shared codes on their way: from an extract through the store, a batch, training and a bundle."""

import clinical
from clinical.bundle import Bundle, Network, write_draft
from clinical.cohort.fitted import REFERENCE_FILE
from clinical.datamodule import StoreDataset
from clinical.errors import BundleError, ConfigError
from clinical.objectives import OBJECTIVES
from clinical.preparation import prepare, prepare_for_scoring
from clinical.relations import linking
from clinical.relations.shares_code import SharesCode
from clinical.relations.similar import Similar
from clinical.sections import PretrainConfig
from clinical.training.build import _key_codes, build_model, scoring_memory
from clinical.training.pretrain import PretrainStage

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.numpy import load_file, save_file

_spec = importlib.util.spec_from_file_location(
    "small_hospital", Path(__file__).parents[1] / "small_hospital.py"
)
hospital = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hospital)

RELATION = {"k": 5, "codes": "DX//.*|UNIT//.*", "max_share": 0.6}
GRAPH = {"relations": {"shares_code": RELATION, "similar": {"k": 2, "width": 6}}}
MODALITIES = {
    "events": {"encoder": "event_set", "width": 16, "layers": 1},
    "static": {"encoder": "mlp", "width": 16},
    "codes": {"encoder": "bag", "width": 16, "window_hours": None, "min_subjects": 1},
}
KEYS = ["subject_id", "prediction_time"]


def configure(extract, out, **changes):
    return hospital.configure(extract, out, **{"graph": GRAPH, "modalities": MODALITIES} | changes)


def with_more_codes(extract, *, seed=0):
    """Every subject gets three of nine further codes, long ago."""
    generator = np.random.default_rng(seed)
    for path in sorted((extract / "data").rglob("*.parquet")):
        frame = pl.read_parquet(path)
        subjects = frame["subject_id"].unique(maintain_order=True).to_list()
        first = frame.group_by("subject_id").agg(pl.col("time").min())
        drawn = [(s, f"DX//OLD{c}") for s in subjects for c in generator.choice(9, 3, False)]
        codes = pl.DataFrame(
            drawn, schema={"subject_id": pl.Int64, "code": pl.String}, orient="row"
        )
        more = codes.join(first, on="subject_id")
        both = pl.concat([frame, more], how="diagonal")
        both.sort("subject_id", "time", nulls_last=False, maintain_order=True).write_parquet(path)
    return extract


def build(root, **options):
    return with_more_codes(hospital.build(root, **options))


@pytest.fixture(scope="module")
def extract(tmp_path_factory):
    return build(tmp_path_factory.mktemp("hospital") / "extract")


@pytest.fixture(scope="module")
def config(extract):
    return configure(extract, extract.parent / "run")


@pytest.fixture(scope="module")
def store(config):
    return prepare(config, config.out / "store")


@pytest.fixture(scope="module")
def bundle(config, store, tmp_path_factory):
    """The folder of a bundle of an untrained network."""
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    model = build_model(config, store).eval()
    memory = scoring_memory(config, store, model, device=torch.device("cpu"))
    networks = [Network(model, memory)]
    write_draft(folder, config=config, fitted=store.fitted, networks=networks, experts={})
    return folder


def columns_of(store):
    columns = store.neighbours("shares_code")
    return {name: columns[name].take(np.arange(store.n_samples)) for name in columns.names}


def codes_of(store, config, rows):
    codes = StoreDataset(store.folder, config).readers["codes"].collate(np.asarray(rows))
    return [set(c[m].tolist()) for c, m in zip(codes.code, codes.mask, strict=True)]


def test_the_store_keeps_the_codes_behind_each_edge_and_both_ends_have_them(store, config):
    edges = columns_of(store)
    own = codes_of(store, config, np.arange(store.n_samples))
    known = codes_of(store, config, store.reference_rows)
    names = np.array(store.fitted.statistics["codes"]["vocabulary"])
    assert edges["rows"].shape == (store.n_samples, 5)
    assert (edges["rows"] >= 0).any(1).mean() > 0.9
    assert edges["codes"].dtype == np.int32
    for sample, k in np.argwhere(edges["rows"] >= 0):
        behind = set(edges["codes"][sample, k].tolist()) - {-1}
        assert behind
        assert behind <= own[sample] & known[edges["rows"][sample, k]]
        assert all(name.startswith(("DX//", "UNIT//")) for name in names[list(behind)])
    assert edges["parts"].sum(2) == pytest.approx(edges["weight"], abs=3e-6)
    assert store.counts["neighbours"]["shares_code"] == (edges["rows"] >= 0).any(1).sum()
    plain = store.neighbours("similar")
    assert plain.names == ["rows", "weight"]


def test_a_batch_holds_what_the_store_does(store, config):
    rows = np.array([7, 0, 21])
    batch = StoreDataset(store.folder, config)[rows]
    for name, array in columns_of(store).items():
        assert np.array_equal(getattr(batch.neighbours["shares_code"], name).numpy(), array[rows])
    assert batch.neighbours["similar"].codes is None
    moved = batch.to("cpu").neighbours["shares_code"]
    assert moved.codes.equal(batch.neighbours["shares_code"].codes)


def test_edges_lead_to_train_and_never_to_the_own_subject(store):
    rows, samples = columns_of(store)["rows"], store.samples
    subject = samples["subject_id"].to_numpy()
    whose = np.where(rows >= 0, subject[store.reference_rows[np.maximum(rows, 0)]], -1)
    assert not (whose == subject[:, None]).any()
    assert samples[store.reference_rows]["split"].unique().to_list() == ["train"]


def test_codes_after_the_prediction_time_and_labels_change_no_key_and_no_edge(store, tmp_path):
    later = build(tmp_path / "extract", future=-3.0)
    path = later / "tasks" / "death" / "0.parquet"
    pl.read_parquet(path).with_columns(~pl.col("boolean_value")).write_parquet(path)
    other = prepare(configure(later, tmp_path), tmp_path / "store")
    assert other.fingerprint != store.fingerprint
    for name, array in columns_of(store).items():
        assert np.array_equal(columns_of(other)[name], array)
    for kind in ("parameters", "reference"):
        for name, array in getattr(store.fitted, kind)["shares_code"].items():
            assert np.array_equal(getattr(other.fitted, kind)["shares_code"][name], array)


def test_rarity_is_counted_over_all_references(store, config, monkeypatch, tmp_path):
    learned_from = {}
    for relation in (Similar, SharesCode):

        def watched(self, reference, fit=relation.fit):
            learned_from[type(self)] = len(reference)
            return fit(self, reference)

        monkeypatch.setattr(relation, "fit", watched)
    monkeypatch.setattr(Similar, "fits_on", 5)
    other = prepare(config, tmp_path / "store")
    assert learned_from == {Similar: 5, SharesCode: len(store.reference_rows)}
    codes = codes_of(other, config, other.reference_rows)
    n_with = np.array([sum(code in known for known in codes) for code in range(len(rarity(store)))])
    expected = np.log((len(codes) + 1) / (n_with + 1))
    counts = rarity(other) > 0
    assert rarity(other)[counts] == pytest.approx(1e6 * expected[counts], abs=1)


def rarity(store):
    return store.fitted.parameters["shares_code"]["rarity"]


def test_linking_block_by_block_writes_the_same_edges(store, config, monkeypatch, tmp_path):
    most = []
    monkeypatch.setattr(linking, "_LINKED", 7)
    for relation in (Similar, SharesCode):

        def watched(self, samples, reference, parameters, *, k, found=relation.neighbours):
            most.append(len(samples))
            return found(self, samples, reference, parameters, k=k)

        monkeypatch.setattr(relation, "neighbours", watched)
    other = prepare(config, tmp_path / "store")
    assert max(most) == 7
    assert sum(most) == 2 * store.n_samples
    assert other.counts["neighbours"] == store.counts["neighbours"]
    for relation in GRAPH["relations"]:
        before, now = store.neighbours(relation), other.neighbours(relation)
        assert before.names == now.names
        for name in before.names:
            rows = np.arange(store.n_samples)
            assert np.array_equal(now[name].take(rows), before[name].take(rows))


def shown_elsewhere(extract):
    """Some have OLD0 with a number, and OLD1 without a time."""
    for path in sorted((extract / "data").rglob("*.parquet")):
        frame = pl.read_parquet(path)
        first = pl.int_range(pl.len()).over("subject_id", "code") == 0
        old = pl.col("code").str.extract(r"OLD(\d)").cast(pl.Int64)
        some = (pl.col("subject_id") % 2 == 0) & first
        frame = frame.with_columns(
            numeric_value=pl.when(some & (old == 0)).then(2.5).otherwise("numeric_value"),
            time=pl.when(some & (old == 1)).then(None).otherwise("time"),
        )
        frame = frame.with_columns(pl.col("numeric_value").cast(pl.Float32))
        frame.sort("subject_id", "time", nulls_last=False, maintain_order=True).write_parquet(path)
    return extract


def test_a_code_is_not_asked_about_where_a_number_or_no_time_shows_it_elsewhere(store, tmp_path):
    extract = shown_elsewhere(build(tmp_path / "extract"))
    config = configure(extract, tmp_path / "run", window_hours=None)
    other = prepare(config, tmp_path / "store")
    learned = other.fitted.statistics
    assert "DX//OLD0" in learned["events"]["vocabulary"]
    assert "DX//OLD1" in learned["static"]["columns"]

    def asked(store, config):
        model = build_model(config, store)
        objective = OBJECTIVES["edges"](model, share=1.0)
        objective.use_statistics(store.fitted.statistics)
        batch = StoreDataset(store.folder, config)[store.rows("train")]
        _, hidden = objective.hide(batch, torch.Generator().manual_seed(0))
        names = np.array(store.fitted.statistics["codes"]["vocabulary"])
        return [set(names[pairs.any(0)]) for pairs in (hidden.codes.exists, hidden.codes.lacking)]

    for before, now in zip(asked(store, config), asked(other, config), strict=True):
        assert {"DX//OLD0", "DX//OLD1"} <= before
        assert before - now == {"DX//OLD0", "DX//OLD1"}


def test_a_rare_unit_may_be_a_key_under_the_class_that_it_stands_as(tmp_path):
    extract = hospital.build(tmp_path / "extract", n_subjects=8)
    path = extract / "metadata" / "codes.parquet"
    is_unit = pl.col("code").str.starts_with("UNIT//")
    parents = pl.when(is_unit).then(pl.lit(["WARD"], dtype=pl.List(pl.String)))
    pl.read_parquet(path).with_columns(parent_codes=parents).write_parquet(path)
    graph = {"relations": {"same_unit": {"k": 2}}}
    codes = {"vocabulary": ["DX", "WARD", "FLOOR"], "stands_as": {"UNIT//GONE": 2}}
    learned = SimpleNamespace(fitted=SimpleNamespace(statistics={"codes": codes}))
    keys = _key_codes(configure(extract, tmp_path / "run", graph=graph), learned)
    assert keys["same_unit"].tolist() == [1, 2]


def test_held_out_and_tuning_codes_teach_no_rarity(store, tmp_path):
    copy = build(tmp_path / "extract")
    splits = pl.read_parquet(copy / "metadata" / "subject_splits.parquet")
    others = splits.filter(pl.col("split") != "train")["subject_id"].to_list()
    for path in sorted((copy / "data").rglob("*.parquet")):
        frame = pl.read_parquet(path)
        other = pl.col("subject_id").is_in(others) & pl.col("code").str.starts_with("DX")
        code = pl.when(other).then(pl.lit("DX//0")).otherwise("code")
        frame.with_columns(code.alias("code")).write_parquet(path)
    made = prepare(configure(copy, tmp_path), tmp_path / "store")
    for kind in ("parameters", "reference"):
        for name, array in getattr(store.fitted, kind)["shares_code"].items():
            assert np.array_equal(getattr(made.fitted, kind)["shares_code"][name], array)
    assert not np.array_equal(columns_of(made)["codes"], columns_of(store)["codes"])


def test_an_edge_is_the_same_alone_and_among_others_and_context_adds_none(
    store, config, extract, tmp_path
):
    whole = columns_of(store)
    keys = store.samples.select(KEYS)
    for chosen in (keys[4:5], keys[[30, 2, 11]]):
        part = prepare_for_scoring(
            config, store.fitted, extract, tmp_path / "part", samples=chosen, context=extract
        )
        row = keys.with_row_index("row").join(part.samples.select(KEYS), on=KEYS)["row"].to_numpy()
        for name, array in columns_of(part).items():
            assert np.array_equal(array, whole[name][row])


def test_no_hidden_code_is_behind_an_edge_of_its_sample_in_pretraining(store, config, monkeypatch):
    batch = StoreDataset(store.folder, config)[np.arange(24)]
    model = build_model(config, store)
    model.set_memory(torch.zeros_like(model.memory))
    objective = OBJECTIVES["edges"](model, share=0.5)
    # The first code of the vocabulary is above every other old one.
    objective.codes.ontology.set_ancestors([[], *[[0]] * (objective.codes.n_codes - 1)])
    stage = PretrainStage(
        model,
        None,
        config=PretrainConfig(objectives={"edges": 1.0}),
        objectives={"edges": objective},
        feeds={"shares_code": frozenset({"codes"}), "similar": frozenset({"events", "static"})},
        key_codes={},
        seed=1,
    )
    monkeypatch.setattr("clinical.training.stage.Stage.log_figures", lambda *_, **__: None)
    given = []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda seen: given.append(seen) or forward(seen))
    monkeypatch.setattr(PretrainStage, "current_epoch", 0)
    stage.training_step(batch, 0)
    (seen,) = given
    edges, before = seen.neighbours["shares_code"], batch.neighbours["shares_code"]
    visible = seen.inputs["codes"]
    for sample in range(24):
        left = set(visible.code[sample][visible.mask[sample]].tolist())
        assert set(edges.codes[sample][edges.codes[sample] >= 0].tolist()) <= left
    assert (edges.rows >= 0).any()
    assert ((edges.rows < 0) & (before.rows >= 0)).any()
    assert ((edges.rows >= 0) & (edges.weight < before.weight)).any()
    assert seen.neighbours["similar"].rows.equal(batch.neighbours["similar"].rows)


def test_a_bundle_gives_the_edges_that_its_run_had(store, config, bundle, extract, tmp_path):
    read = Bundle.read(bundle, draft=True)
    scored = prepare_for_scoring(read.config, read.fitted, extract, tmp_path / "store")
    for name, array in columns_of(store).items():
        assert np.array_equal(columns_of(scored)[name], array)
    code = read.fitted.reference["shares_code"]["code"]
    assert code.shape == (len(store.reference_rows), 32)
    assert code.dtype == np.int32


def test_scores_with_shared_codes_stand_alone_and_lose_them_with_their_modality(
    store, bundle, extract
):
    predictor = clinical.Predictor(Bundle.read(bundle, draft=True))
    whole = predictor.score(extract)
    asked = whole[KEYS].iloc[[17, 3]]
    alone = predictor.score(extract, samples=asked)
    expected = asked.merge(whole, on=KEYS)["score"]
    np.testing.assert_allclose(alone["score"], expected, rtol=0, atol=1e-5)
    less = predictor.score(extract, without=["shares_code"])
    assert ((less["score"] - whole["score"]).abs() > 1e-5).mean() > 0.5
    without = predictor.score(extract, without=["codes"])
    both = predictor.score(extract, without=["codes", "shares_code"])
    np.testing.assert_array_equal(without["score"], both["score"])


def _change(name, change):
    def damage(arrays):
        path = (
            f"{'parameters' if name in ('rarity', 'typical') else 'reference'}/shares_code/{name}"
        )
        arrays[path] = np.ascontiguousarray(change(arrays[path]))

    return damage


def _put(value):
    def put(array):
        array = array.copy()
        array.reshape(-1)[0] = value
        return array

    return put


def _twice(array):
    array = array.copy()
    array[0, :2] = 1
    return array


DAMAGES = {
    "a list less": _change("code", lambda a: a[:-1]),
    "other widths": _change("code", lambda a: a[:, :3]),
    "floats": _change("code", lambda a: a.astype(np.float32)),
    "below none": _change("code", _put(-2)),
    "beyond the vocabulary": _change("code", _put(9999)),
    "a code twice": _change("code", _twice),
    "fewer rarities": _change("rarity", lambda a: a[:-1]),
    "a negative rarity": _change("rarity", _put(-1)),
    "a rarity that overflows": _change("rarity", _put(2**40)),
    "nothing typical": _change("typical", _put(0)),
    "two typical ones": _change("typical", lambda a: np.repeat(a, 2)),
    "no keys": lambda arrays: arrays.pop("reference/shares_code/code"),
    "no parameters": lambda arrays: arrays.pop("parameters/shares_code/rarity"),
    "other subjects": lambda arrays: arrays.update(
        reference_subject=arrays["reference_subject"][1:]
    ),
    "similar of other width": lambda arrays: arrays.update(
        {"reference/similar/key": np.ascontiguousarray(arrays["reference/similar/key"][:, :2])}
    ),
    "a member beyond the references": lambda arrays: arrays.update(
        {"parameters/shares_code/member": arrays["parameters/shares_code/member"] + 1000}
    ),
    "members who stand twice": lambda arrays: arrays.update(
        {"parameters/shares_code/member": arrays["parameters/shares_code/member"] // 2}
    ),
    "lists that go beyond the members": lambda arrays: arrays.update(
        {"parameters/shares_code/offset": arrays["parameters/shares_code/offset"] + 1}
    ),
    "similar without a number": lambda arrays: arrays.update(
        {"parameters/similar/mean": arrays["parameters/similar/mean"] * np.nan}
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_arrays_that_do_not_fit_together_are_a_bundle_error(bundle, damage):
    path = bundle / REFERENCE_FILE
    content = path.read_bytes()
    arrays = load_file(path)
    damage(arrays)
    save_file(arrays, path)
    try:
        with pytest.raises(BundleError):
            Bundle.read(bundle, draft=True)
    finally:
        path.write_bytes(content)
    Bundle.read(bundle, draft=True)


def test_shared_codes_without_codes_are_refused_before_anything_is_written(extract, tmp_path):
    few = {name: MODALITIES[name] for name in ("events", "static")}
    with pytest.raises(ConfigError, match="shares_code compares codes"):
        prepare(configure(extract, tmp_path, modalities=few), tmp_path / "store")
    assert list(tmp_path.iterdir()) == []

"""A user's own edges: known in time, to references alone, in a bundle by nothing but hashes."""

import clinical  # noqa: F401
from clinical.cohort.fitted import Fitted
from clinical.cohort.given import known_edges
from clinical.config import GraphConfig, RelationConfig, RunConfig
from clinical.datamodule import StoreDataset
from clinical.errors import ConfigError, SchemaError
from clinical.extract.schema import Extract
from clinical.objectives.patient_edges import MaskedPatients
from clinical.pipeline import pretrain
from clinical.preparation import prepare, prepare_for_scoring
from clinical.relations import Given, Inputs, Keyed
from clinical.relations import given as given_module
from clinical.relations.given import GivenEdges
from clinical.relations.linking import relations_of

import importlib.util
import logging
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

_spec = importlib.util.spec_from_file_location(
    "small_hospital", Path(__file__).parents[1] / "small_hospital.py"
)
hospital = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hospital)

KEYS = ["subject_id", "prediction_time"]
START = datetime(2020, 1, 1)
TABLE = "edges/household.parquet"


# Edges and references


def naive(samples, references, edges, k, in_time):
    """Rows and weights of each sample's neighbours, by a loop over edges and references."""
    found = []
    for sample, (own, time) in enumerate(samples):
        weight = {}
        for source, other, meant, close in edges:
            for row, (subject, then) in enumerate(references):
                fits = source == sample and other == subject != own and meant in (0, row + 1)
                if fits and not (in_time and then > time):
                    weight[row] = max(close, weight.get(row, 0))
        found.append(sorted((-close, row) for row, close in weight.items())[:k])
    return found


few = st.integers(0, 3)


@given(
    st.lists(st.tuples(few, few), max_size=6),
    st.lists(st.tuples(few, few), max_size=8),
    st.lists(
        st.tuples(st.integers(0, 5), few, few, st.sampled_from([0.25, 0.5, 1.0])), max_size=20
    ),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from([1, 2_000_000]),
)
def test_the_edges_are_those_of_a_loop(samples, references, edges, k, in_time, pairs):
    edges = sorted(edge for edge in edges if edge[0] < len(samples))
    columns = np.array(edges, dtype=np.float64).reshape(-1, 4).T
    sample, subject, other = columns[:3].astype(np.int64)
    known = np.array(references, dtype=np.int64).reshape(-1, 2)
    asked = np.array(samples, dtype=np.int64).reshape(-1, 2)
    relation = GivenEdges(in_time=in_time)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(given_module, "_PAIRS", pairs)
        found = relation.neighbours(
            Keyed(
                {"sample": np.arange(len(asked)) + 90, "time": asked[:, 1]},
                asked[:, 0],
                np.arange(len(asked)),
                Given(TABLE, sample, subject, other, columns[3].astype(np.float32)),
            ),
            Keyed(
                {"sample": np.arange(len(known)) + 1, "time": known[:, 1]},
                known[:, 0],
                np.arange(len(known)),
            ),
            {},
            k=k,
        )
    expected = naive(samples, references, edges, k, in_time)
    for rows, weight, line in zip(found.rows, found.weight, expected, strict=True):
        assert rows.tolist() == [row for _, row in line] + [-1] * (k - len(line))
        assert weight.tolist() == [-close for close, _ in line] + [0] * (k - len(line))


def test_the_edges_of_some_samples_are_theirs_in_any_order():
    edges = Given(TABLE, np.array([0, 0, 2]), np.array([5, 6, 7]), np.arange(3), np.ones(3))
    some = edges.take(np.array([2, 1, 0, 2]))
    assert some.sample.tolist() == [0, 2, 2, 3]
    assert some.subject.tolist() == [7, 5, 6, 7]
    assert some.other.tolist() == [2, 0, 1, 2]
    assert len(edges.take(np.array([1]))) == 0


def test_without_a_table_or_references_nobody_is_related():
    relation = GivenEdges()
    inputs = Inputs(np.arange(2), np.zeros(2, int), (), lambda _: iter([]), sample=np.arange(2))
    keyed = Keyed(relation.keys(inputs, {}), np.arange(2), np.arange(2))
    assert (relation.neighbours(keyed, keyed, {}, k=2).rows == -1).all()
    edges = Given(TABLE, np.array([0]), np.array([1]), np.array([0]), np.ones(1, np.float32))
    asked = Keyed(keyed.keys, keyed.subject, keyed.row, edges)
    nobody = Keyed({}, np.empty(0, np.int64), np.empty(0, np.int64))
    assert (relation.neighbours(asked, nobody, {}, k=2).rows == -1).all()


def test_only_a_relation_in_time_keeps_times():
    inputs = Inputs(np.arange(2), np.zeros(2, int), (), lambda _: iter([]), sample=np.arange(2))
    assert GivenEdges().keys(inputs, {}).keys() == {"sample", "time"}
    assert GivenEdges(in_time=False).keys(inputs, {}).keys() == {"sample"}


hour = st.integers(-3, 3)


@given(
    st.lists(st.tuples(few, hour), max_size=5, unique=True),
    st.lists(st.tuples(few, st.none() | hour, st.none() | hour), max_size=12),
)
def test_an_edge_is_known_from_its_time_on_and_for_the_sample_it_names(samples, edges):
    def at(hours):
        return None if hours is None else START + timedelta(hours=hours)

    types = {"subject_id": pl.Int64, "prediction_time": pl.Datetime("us")}
    table = pl.DataFrame(
        [(s, at(own), row, None, 1.0, at(when)) for row, (s, own, when) in enumerate(edges)],
        schema=types
        | {"other_subject_id": pl.Int64, "other_prediction_time": pl.Datetime("us")}
        | {"weight": pl.Float32, "time": pl.Datetime("us")},
        orient="row",
    )
    asked = pl.DataFrame(
        [(row, s, at(time)) for row, (s, time) in enumerate(samples)],
        schema={"sample": pl.Int64, **types},
        orient="row",
    )
    expected = [
        (sample, row)
        for sample, (subject, time) in enumerate(samples)
        for row, (whose, own, when) in enumerate(edges)
        if whose == subject and own in (None, time) and (when is None or when <= time)
    ]
    assert known_edges(table, asked).select("sample", "other_subject_id").rows() == expected


# The table


def write(extract, frame, name="household"):
    (extract / "edges").mkdir(exist_ok=True)
    frame.write_parquet(extract / "edges" / f"{name}.parquet")


def pair(**columns):
    return pl.DataFrame({"subject_id": [918273645], "other_subject_id": [2], **columns})


def only_data(tmp_path):
    (tmp_path / "data").mkdir()
    pl.DataFrame({"subject_id": [1], "time": [START], "code": ["HR"]}).write_parquet(
        tmp_path / "data" / "0.parquet"
    )
    return Extract.open(tmp_path)


BAD = {
    "no other": (
        pair().drop("other_subject_id"),
        "a table of edges needs the column other_subject_id; it has subject_id",
    ),
    "null": (
        pair(other_subject_id=pl.Series([None], dtype=pl.Int64)),
        "1 rows have no other_subject_id; fill or drop them",
    ),
    "text": (pair(other_subject_id=["2"]), "column other_subject_id is String, not Int64"),
    "zone": (
        pair(time=[datetime(2020, 1, 1, tzinfo=UTC)]),
        "column time has the time zone UTC; convert",
    ),
    **{
        str(weight): (
            pair(weight=[weight]),
            "1 rows have a weight that is not above 0 and up to 1; scale or drop them",
        )
        for weight in (0.0, -0.5, 1.5, float("nan"))
    },
}


@pytest.mark.parametrize(("frame", "message"), BAD.values(), ids=BAD)
def test_a_bad_table_is_told_with_its_file_and_remedy_and_without_its_subjects(
    tmp_path, frame, message
):
    extract = only_data(tmp_path)
    write(tmp_path, frame)
    with pytest.raises(SchemaError) as error:
        extract.edges("household")
    assert str(error.value).startswith(f"{TABLE}: ")
    assert message in str(error.value)
    assert "918273645" not in str(error.value)


def test_a_truncated_table_is_told_and_an_absent_one_is_none(tmp_path):
    extract = only_data(tmp_path)
    assert extract.edges("household") is None
    write(tmp_path, pair())
    content = (tmp_path / TABLE).read_bytes()
    (tmp_path / TABLE).write_bytes(content[:-20])
    with pytest.raises(SchemaError, match="not a complete Parquet file"):
        extract.edges("household")


@pytest.mark.parametrize("name", ["a/b", "../samples", "/etc/edges"])
def test_a_relation_whose_name_is_no_file_name_is_refused(config, name):
    relation = RelationConfig(kind="given")
    elsewhere = config.model_copy(update={"graph": GraphConfig(relations={name: relation})})
    with pytest.raises(ConfigError, match="choose another without a slash"):
        relations_of(elsewhere)


def test_a_weight_that_is_absent_or_null_is_one(tmp_path):
    extract = only_data(tmp_path)
    write(tmp_path, pair())
    assert extract.edges("household")["weight"].to_list() == [1.0]
    write(tmp_path, pair(weight=pl.Series([None], dtype=pl.Float64)))
    assert extract.edges("household")["weight"].to_list() == [1.0]


# In a store


def household(extract, *, seed=0, per_subject=4):
    """Edges of every subject to some of all, to itself too, half of them known from a time on."""
    generator = np.random.default_rng(seed)
    samples = pl.read_parquet(extract / "samples.parquet")
    subjects = samples["subject_id"].unique().sort()
    first = dict(samples.group_by("subject_id").agg(pl.col("prediction_time").min()).iter_rows())
    rows = [
        (
            subject,
            other,
            float(generator.integers(1, 4)) / 4,
            first[subject] + timedelta(hours=int(generator.integers(-48, 48)))
            if generator.random() < 0.5
            else None,
        )
        for subject in subjects
        for other in [subject, *generator.choice(subjects.to_numpy(), per_subject, replace=False)]
    ]
    types = {"subject_id": pl.Int64, "other_subject_id": pl.Int64, "weight": pl.Float32}
    frame = pl.DataFrame(rows, schema={**types, "time": pl.Datetime("us")}, orient="row")
    write(extract, frame)
    return extract


def build(root, **options):
    return household(hospital.build(root, **options))


def configure(extract, out, **options):
    relation = {"kind": "given", "k": 3, **options}
    few = {"static": {"encoder": "mlp"}, "codes": {"encoder": "bag", "min_subjects": 1}}
    graph = {"relations": {"household": relation}}
    return hospital.configure(extract, out, modalities=few, graph=graph)


@pytest.fixture(scope="module")
def extract(tmp_path_factory):
    return build(tmp_path_factory.mktemp("hospital") / "extract")


@pytest.fixture(scope="module")
def config(extract):
    return configure(extract, extract.parent / "run")


@pytest.fixture(scope="module")
def store(config):
    return prepare(config, config.out / "store")


def edges_of(store):
    columns = store.neighbours("household")
    return {name: columns[name].take(np.arange(store.n_samples)) for name in columns.names}


def expected(extract, store, k, *, in_time=True):
    """The neighbours of each sample, from the table and the store's samples, by a loop."""
    table = pl.read_parquet(extract / TABLE).rows()
    samples = store.samples.select(KEYS).rows()
    references = [samples[row] for row in store.reference_rows]
    found = []
    for subject, now in samples:
        weight = {}
        for whose, other, close, when in table:
            if whose != subject or other == subject or (when is not None and when > now):
                continue
            for row, (theirs, then) in enumerate(references):
                if theirs == other and not (in_time and then > now):
                    weight[row] = max(close, weight.get(row, 0))
        line = [row for _, row in sorted((-close, row) for row, close in weight.items())][:k]
        found.append(line + [-1] * (k - len(line)))
    return found


def test_the_store_has_the_edges_of_the_table(extract, store, config):
    found = edges_of(store)
    assert found["rows"].tolist() == expected(extract, store, 3)
    assert (found["rows"] >= 0).any(1).mean() > 0.5
    assert found.keys() == {"rows", "weight"}
    assert np.array_equal(found["weight"] > 0, found["rows"] >= 0)
    batch = StoreDataset(store.folder, config)[np.array([4, 1])].neighbours["household"]
    assert np.array_equal(batch.rows.numpy(), found["rows"][[4, 1]])


def test_no_edge_looks_ahead_at_its_own_subject_or_beyond_train(store):
    rows, samples = edges_of(store)["rows"], store.samples
    reference = store.reference_rows[np.maximum(rows, 0)]
    subject, time = samples["subject_id"].to_numpy(), samples["prediction_time"].to_numpy()
    assert not ((subject[reference] == subject[:, None]) & (rows >= 0)).any()
    assert not ((time[reference] > time[:, None]) & (rows >= 0)).any()
    assert samples[store.reference_rows]["split"].unique().to_list() == ["train"]


def test_out_of_time_a_later_sample_may_be_looked_at(extract, store, tmp_path):
    free = prepare(configure(extract, tmp_path, in_time=False), tmp_path / "store")
    found = edges_of(free)["rows"]
    assert found.tolist() == expected(extract, store, 3, in_time=False)
    assert found.tolist() != edges_of(store)["rows"].tolist()
    assert free.fitted.reference["household"].keys() == {"sample"}


def test_without_a_consistent_calendar_only_edges_out_of_time_are_left(tmp_path, caplog):
    shifted = build(tmp_path / "extract", consistent_calendar=False)
    with caplog.at_level(logging.WARNING):
        made = prepare(configure(shifted, tmp_path), tmp_path / "store")
    assert (edges_of(made)["rows"] == -1).all()
    assert made.fitted.reference["household"] == {}
    assert "consistent_calendar: true" in caplog.text
    free = prepare(configure(shifted, tmp_path, in_time=False), tmp_path / "store")
    assert (edges_of(free)["rows"] >= 0).any()


def test_edges_to_nobody_who_may_be_looked_at_are_counted_and_nobody_is_named(
    extract, store, config, tmp_path, caplog
):
    with caplog.at_level(logging.INFO):
        prepare_for_scoring(config, store.fitted, extract, tmp_path / "store")
    told = [r.getMessage() for r in caplog.records if r.getMessage().startswith(TABLE)]
    samples = store.samples.select(KEYS)
    table = pl.read_parquet(extract / TABLE).join(samples, on="subject_id")
    known = table.filter(pl.col("time").is_null() | (pl.col("time") <= pl.col("prediction_time")))
    train = samples[store.reference_rows]["subject_id"].unique().to_list()
    own = pl.col("subject_id") == pl.col("other_subject_id")
    lost = known.filter(~own & ~pl.col("other_subject_id").is_in(train)).height
    assert (
        told[0]
        == f"{TABLE}: {known.filter(own).height} edges of a subject to itself are passed over"
    )
    assert told[1].startswith(f"{TABLE}: {lost} of {known.height} edges known at the prediction")
    assert str(hospital.FIRST)[:5] not in "".join(told)


def test_what_comes_after_the_prediction_times_changes_no_edge(store, tmp_path):
    later = build(tmp_path / "extract", future=-3.0)
    other = prepare(configure(later, tmp_path), tmp_path / "store")
    assert other.fingerprint != store.fingerprint
    for name, array in edges_of(store).items():
        assert np.array_equal(edges_of(other)[name], array)


def test_edges_are_the_same_alone_and_among_others(store, config, extract, tmp_path):
    whole, keys = edges_of(store), store.samples.select(KEYS)
    for chosen in (keys[4:5], keys[[30, 2, 11]]):
        part = prepare_for_scoring(config, store.fitted, extract, tmp_path / "part", samples=chosen)
        row = keys.with_row_index("row").join(part.samples.select(KEYS), on=KEYS)["row"].to_numpy()
        for name, array in edges_of(part).items():
            assert np.array_equal(array, whole[name][row])


def test_other_edges_make_a_new_store(tmp_path):
    extract = build(tmp_path / "extract")
    config = configure(extract, tmp_path)
    made = prepare(config, tmp_path / "store")
    before = edges_of(made)["rows"]
    stamp = (made.folder / "store.json").stat().st_mtime_ns
    again = prepare(config, tmp_path / "store")
    assert (again.folder / "store.json").stat().st_mtime_ns == stamp
    household(extract, seed=1)
    assert not np.array_equal(edges_of(prepare(config, tmp_path / "store"))["rows"], before)


def test_learning_from_edges_that_are_not_there_or_bad_is_refused_before_anything_is_written(
    tmp_path,
):
    extract = hospital.build(tmp_path / "extract")
    config = configure(extract, tmp_path)
    with pytest.raises(SchemaError, match=rf"^{TABLE}: there is none; write one .* or take"):
        prepare(config, tmp_path / "store")
    write(extract, pair(weight=[2.0]))
    with pytest.raises(SchemaError, match=f"^{TABLE}: 1 rows have a weight"):
        prepare(config, tmp_path / "store")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["extract"]


# In a bundle


def test_what_travels_gives_the_edges_that_the_run_had_and_names_nobody(
    store, config, extract, tmp_path
):
    store.fitted.write(tmp_path)
    for path in tmp_path.iterdir():
        assert str(hospital.FIRST)[:5].encode() not in path.read_bytes()
    scored = prepare_for_scoring(config, Fitted.read(tmp_path), extract, tmp_path / "store")
    for name, array in edges_of(store).items():
        assert np.array_equal(edges_of(scored)[name], array)


def test_a_new_extract_brings_its_own_edges_to_the_references_of_its_data_set(
    store, config, extract, tmp_path
):
    fresh = tmp_path / "fresh"
    shutil.copytree(extract, fresh)
    samples = pl.read_parquet(fresh / "samples.parquet")
    sample = store.samples[int(store.reference_rows[3])].select(KEYS)
    one = samples.filter(pl.col("subject_id") != sample["subject_id"][0]).tail(1)
    edge = one.select("subject_id", other_subject_id=sample["subject_id"][0])
    edge = edge.with_columns(other_prediction_time=sample["prediction_time"][0])
    write(fresh, edge)
    free = configure(extract, tmp_path, in_time=False)
    fitted = prepare(free, tmp_path / "free").fitted
    scored = prepare_for_scoring(free, fitted, fresh, tmp_path / "store")
    assert (
        scored.counts["neighbours"]["household"]
        == (samples["subject_id"] == one["subject_id"][0]).sum()
    )
    assert edges_of(scored)["rows"].max() == 3
    dataset = fresh / "metadata" / "dataset.json"
    dataset.write_text(dataset.read_text().replace('"small"', '"other"'))
    assert (
        edges_of(prepare_for_scoring(free, fitted, fresh, tmp_path / "store"))["rows"] < 0
    ).all()


def test_an_extract_without_a_table_is_scored_without_the_relation(store, config, tmp_path, caplog):
    fresh = hospital.build(tmp_path / "fresh", seed=8, with_splits=False)
    with caplog.at_level(logging.WARNING):
        scored = prepare_for_scoring(config, store.fitted, fresh, tmp_path / "store")
    assert (edges_of(scored)["rows"] == -1).all()
    assert f"{TABLE}: the extract has none" in caplog.text


def test_a_context_adds_the_contemporaries_that_the_table_names_if_in_time(store, config, tmp_path):
    fresh = build(tmp_path / "fresh", seed=8, dataset_name="fresh", with_splits=False)
    scored = prepare_for_scoring(config, store.fitted, fresh, tmp_path / "a", context=fresh)
    rows, n_reference = edges_of(scored)["rows"], len(store.reference_rows)
    assert (rows >= n_reference).any()
    assert not ((rows >= 0) & (rows < n_reference)).any()
    subject = scored.samples["subject_id"].to_numpy()
    time = scored.samples["prediction_time"].to_numpy()
    table = set(pl.read_parquet(fresh / TABLE).select("subject_id", "other_subject_id").rows())
    for sample, k in np.argwhere(rows >= 0):
        other = rows[sample, k] - n_reference
        assert (subject[sample], subject[other]) in table
        assert subject[sample] != subject[other]
        assert time[other] <= time[sample]
    free = configure(fresh, tmp_path, in_time=False)
    fitted = prepare(configure(config.extract, tmp_path, in_time=False), tmp_path / "free").fitted
    without = prepare_for_scoring(free, fitted, fresh, tmp_path / "b", context=fresh)
    assert without.context is None
    assert (edges_of(without)["rows"] == -1).all()


@pytest.mark.parametrize("name", ["sample", "time"])
def test_keys_of_other_references_are_refused(store, name):
    keys = store.fitted.reference["household"]
    sizes = {"n_reference": len(store.reference_rows), "sizes": {}}
    GivenEdges().check_fitted({}, keys, **sizes)
    with pytest.raises(ValueError, match=f"^{name}: int64 of shape"):
        GivenEdges().check_fitted({}, {**keys, name: keys[name][1:]}, **sizes)
    with pytest.raises(ValueError, match=f"^{name}: float64"):
        GivenEdges().check_fitted({}, {**keys, name: keys[name] / 2}, **sizes)
    with pytest.raises(KeyError):
        GivenEdges().check_fitted({}, {n: a for n, a in keys.items() if n != name}, **sizes)


# In pretraining


def test_pretraining_hides_some_of_the_table_and_asks_who_was_linked(config, store, monkeypatch):
    seen = []
    hide = MaskedPatients.hide

    def watched(self, batch, generator):
        masked, hidden = hide(self, batch, generator)
        seen.append((batch, masked, hidden["household"]))
        return masked, hidden

    monkeypatch.setattr(MaskedPatients, "hide", watched)
    objectives = {"edges": {"weight": 1.0, "share": 0.5, "candidates": 4}}
    learning = RunConfig.model_validate(
        {**config.dump(), "pretrain": {"epochs": 1, "objectives": objectives}}
    )
    pretrain(learning)
    figures = pl.read_csv(config.out / "logs" / "member-0" / "pretrain.csv")
    told = dict(figures.select("name", "value").rows())
    assert told["train/edges/household"] > 0
    assert told["tuning/edges/household"] > 0
    subject = store.samples["subject_id"].to_numpy()
    references = subject[store.reference_rows]
    assert sum(len(asked.sample) for *_, asked in seen) > 10
    for batch, masked, asked in seen:
        before, after = (each.neighbours["household"].rows for each in (batch, masked))
        own = subject[batch.row[asked.sample].numpy()]
        for sample, who, line, fits in zip(
            asked.sample, own, asked.candidates.numpy(), asked.fits.numpy(), strict=True
        ):
            assert line[0] in before[sample]
            assert line[0] not in after[sample]
            linked = set(references[before[sample][before[sample] >= 0].numpy()])
            assert references[line[0]] in linked
            assert not set(references[line[1:][fits[1:]]]) & {who, *linked}

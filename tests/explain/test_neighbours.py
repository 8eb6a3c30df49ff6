"""Effects of relations and neighbours are what scoring without them says."""

import clinical
from clinical.calibration import Calibration
from clinical.cohort.columns import write_table
from clinical.errors import ConfigError
from clinical.explain import by_relation, explain_neighbours
from clinical.preparation import prepare_for_scoring

import importlib.resources
import importlib.util
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

_spec = importlib.util.spec_from_file_location(
    "small_hospital", Path(__file__).parents[1] / "small_hospital.py"
)
hospital = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hospital)

KEYS = ["subject_id", "prediction_time"]
RELATIONS = ["shares_code", "same_unit", "similar"]
GRAPH = {
    "relations": {
        "shares_code": {"k": 5, "codes": "DX//.*", "max_share": 0.6},
        "same_unit": {"k": 3, "codes": "UNIT//.*", "window_hours": 72},
        "similar": {"k": 2, "width": 6},
    }
}
MODALITIES = {
    "events": {"encoder": "event_set", "width": 16, "layers": 1},
    "static": {"encoder": "mlp", "width": 16},
    "codes": {"encoder": "bag", "width": 16, "window_hours": None, "min_subjects": 1},
}
TASKS = {name: {"kind": "binary", "labels": "tasks/death"} for name in ("death", "transfer")}


@dataclass(frozen=True)
class Constant:
    """An expert of one opinion."""

    value: float

    def logit(self, features: np.ndarray) -> np.ndarray:
        return np.full(len(features), self.value) + np.nan_to_num(features[:, 0])


@pytest.fixture(scope="module")
def extract(tmp_path_factory):
    return hospital.build(tmp_path_factory.mktemp("hospital") / "extract")


@pytest.fixture(scope="module")
def predictor(extract, tmp_path_factory):
    """Two untrained networks, the second deaf to `similar`, an expert and a calibration."""
    folder = tmp_path_factory.mktemp("run")
    config = hospital.configure(
        extract, folder, graph=GRAPH, modalities=MODALITIES, tasks=TASKS, ensemble=2
    )
    bundle = hospital.untrained(config)
    bundle.networks[1].model.keep_open(["shares_code", "same_unit"])
    line = Calibration("beta", intercept=-0.7, slope_low=1.4, slope_high=0.6)
    return clinical.Predictor(
        replace(
            bundle,
            experts={"constant": {"death": Constant(0.5), "transfer": Constant(-1.0)}},
            stack={"death": 0.25, "transfer": 0.5},
            calibration={"death": line},
        )
    )


@pytest.fixture(scope="module")
def explained(predictor, extract):
    """Of the whole hospital, with itself as context, every neighbour shown."""
    return explain_neighbours(predictor, extract, context=extract, top=99)


def relations_in(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["neighbour"].isna()]


def log_odds(score: pd.Series) -> pd.Series:
    return np.log(score) - np.log1p(-score)


def close(found, expected) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


# What an effect is


def test_the_effect_of_a_relation_is_the_score_less_the_one_without_it(
    predictor, extract, explained
):
    whole = predictor.score(extract, context=extract)
    for relation in RELATIONS:
        less = predictor.score(extract, context=extract, without=[relation])
        less = less.assign(whole=whole["score"])
        rows = relations_in(explained).query("relation == @relation")
        found = rows.merge(less, on=[*KEYS, "task"], suffixes=("", "_less"), validate="1:1")
        assert len(found) == len(rows) == len(whole)
        # Exactly: the same batches take the same way.
        np.testing.assert_array_equal(found["score"], found["whole"])
        np.testing.assert_array_equal(found["score_without"], found["score_less"])
        np.testing.assert_array_equal(found["effect"], found["whole"] - found["score_less"])
        odds = log_odds(found["whole"]) - log_odds(found["score_less"])
        np.testing.assert_allclose(found["effect_logit"], odds, rtol=0, atol=1e-9)
        assert (found["effect"].abs() > 1e-4).mean() > 0.5


def edges_of(store, relation: str) -> dict[str, np.ndarray]:
    columns = store.neighbours(relation)
    return {name: columns[name].take(np.arange(store.n_samples)) for name in columns.names}


def without_edge(store, relation: str, sample: int, place: int) -> None:
    """Take an edge out of a store, as if it had never been found."""
    edges = edges_of(store, relation)
    for name, empty in (("rows", -1), ("weight", 0), ("codes", -1), ("parts", 0)):
        if name in edges:
            edges[name] = edges[name].copy()
            edges[name][sample, place] = empty
    path = store.neighbours_path(relation)
    path.unlink()
    write_table(path, edges)


@pytest.mark.parametrize("relation", RELATIONS)
def test_the_effect_of_a_neighbour_is_that_of_a_store_without_the_edge(
    predictor, extract, explained, relation, tmp_path
):
    bundle = predictor.bundle
    store = prepare_for_scoring(
        bundle.config, bundle.fitted, extract, tmp_path / "store", context=extract
    )
    n_reference = len(bundle.fitted.reference_subject)
    edges = edges_of(store, relation)
    several = np.flatnonzero((edges["rows"] >= 0).sum(1) > 1)[:3]
    assert len(several) == 3
    removed = {}
    for sample in several:
        place = np.flatnonzero(edges["rows"][sample] >= 0)[-1]
        removed[sample] = edges["rows"][sample, place], edges["weight"][sample, place]
        without_edge(store, relation, sample, place)
    neighbours = explained[explained["neighbour"].notna()]
    less = predictor.score_store(store, several).set_index([*KEYS, "task"])["score"]
    for sample, (row, weight) in removed.items():
        subject, time = store.samples[int(sample)].select(KEYS).row(0)
        source, place = ("reference", 0) if row < n_reference else ("context", n_reference)
        key = dict(
            zip(
                [*KEYS, "relation", "source", "neighbour"],
                (subject, time, relation, source, row - place),
                strict=True,
            )
        )
        found = neighbours[(neighbours[list(key)] == pd.Series(key)).all(axis=1)]
        assert list(found["task"]) == list(TASKS)
        for _, one in found.iterrows():
            close(one["score_without"], less[subject, time, one["task"]])
            assert one["weight"] == weight


def test_an_only_neighbour_is_the_whole_relation(explained):
    only = explained[explained["n_neighbours"] == 1]
    neighbours = only[only["neighbour"].notna()]
    assert len(neighbours) > 3
    both = neighbours.merge(relations_in(only), on=[*KEYS, "task", "relation"], validate="1:1")
    close(both["score_without_x"], both["score_without_y"])
    close(both["weight_x"], both["weight_y"])
    assert both["effect_x"].abs().max() > 1e-4


def test_a_relation_without_neighbours_moves_nothing(explained):
    nobody = relations_in(explained).query("n_neighbours == 0")
    assert len(nobody) > 3
    assert (nobody["effect"] == 0).all()
    assert (nobody["weight"] == 0).all()


def test_a_relation_that_no_network_hears_moves_nothing(predictor, extract):
    deaf = replace(predictor.bundle, networks=predictor.bundle.networks[1:])
    found = explain_neighbours(clinical.Predictor(deaf), extract).query("relation == 'similar'")
    assert found["neighbour"].notna().sum() > 50
    assert (found["effect"] == 0).all()


# Who the neighbours are


def test_neighbours_are_rows_of_the_reference_or_of_the_context(
    predictor, extract, explained, tmp_path
):
    bundle = predictor.bundle
    n_reference = len(bundle.fitted.reference_subject)
    reference = explained[explained["source"] == "reference"]["neighbour"]
    others = explained[explained["source"] == "context"]
    assert reference.between(0, n_reference - 1).all()
    assert reference.nunique() > 10
    assert set(others["relation"]) == {"same_unit"}
    context = predictor.score(extract).query("task == 'death'").reset_index(drop=True)
    who = context.iloc[others["neighbour"].to_numpy(dtype=np.int64)]
    times = who["prediction_time"].to_numpy()
    assert (times <= others["prediction_time"].to_numpy()).all()
    # Units go by odd and even subjects.
    assert (who["subject_id"].to_numpy() % 2 == others["subject_id"].to_numpy() % 2).all()
    assert explained["source"].isna().equals(explained["neighbour"].isna())


def test_no_identifier_of_a_reference_is_told(predictor, extract, explained):
    splits = pl.read_parquet(extract / "metadata" / "subject_splits.parquet")
    train = set(splits.filter(pl.col("split") == "train")["subject_id"])
    own = ["subject_id", "prediction_time"]
    for name in explained.columns.drop(own):
        assert train.isdisjoint(explained[name].dropna())


# Which rows and columns there are


def test_the_table_is_the_one_that_is_described(explained, tmp_path):
    folder = importlib.resources.files("clinical.data_schemas")
    described = json.loads((folder / "explanations.json").read_text(encoding="utf-8"))["columns"]
    explained.to_parquet(tmp_path / "table.parquet", index=False)
    schema = pq.read_schema(tmp_path / "table.parquet")
    assert schema.names == [column["name"] for column in described]
    for column, found in zip(described, schema.types, strict=True):
        assert str(found).removeprefix("large_") == column["dtype"]
        assert column["nullable"] or explained[column["name"]].notna().all()


def test_a_relation_comes_before_its_neighbours_and_they_by_their_effect(explained, predictor):
    blocks = explained.groupby([*KEYS, "task", "relation"], sort=False)
    for _, block in blocks:
        assert block["neighbour"].isna().tolist() == [True] + [False] * (len(block) - 1)
        assert len(block) == 1 + block["n_neighbours"].iloc[0]
        sizes = block["effect_logit"].abs().to_numpy()[1:]
        assert (np.diff(sizes) <= 0).all()
    names = [key[2:] for key in list(blocks.groups)[: len(TASKS) * len(RELATIONS)]]
    assert names == [(task, relation) for task in TASKS for relation in RELATIONS]


def test_the_strongest_are_shown(predictor, extract, explained):
    few = explain_neighbours(predictor, extract, context=extract, top=2, task="transfer")
    expected = (
        explained.query("task == 'transfer'")
        .groupby([*KEYS, "relation"], sort=False)
        .head(3)
        .reset_index(drop=True)
    )
    pd.testing.assert_frame_equal(few, expected)
    none = explain_neighbours(predictor, extract, top=0)
    assert none["neighbour"].isna().all()


@pytest.mark.parametrize("size", [1, 7])
def test_effects_are_the_same_in_batches_of_any_size(
    predictor, extract, explained, size, monkeypatch
):
    monkeypatch.setattr("clinical.predictor.panel.BATCH_SIZE", size)
    monkeypatch.setattr("clinical.explain.ablation.EDGES_AT_ONCE", 5)
    found = explain_neighbours(predictor, extract, context=extract, top=99)
    on = [*KEYS, "task", "relation", "source", "neighbour"]
    both = explained.merge(found, on=on, suffixes=("", "_found"), validate="1:1")
    assert len(both) == len(explained) == len(found)
    for name in ("score", "score_without", "effect", "effect_logit", "weight"):
        close(both[f"{name}_found"], both[name])


def test_samples_come_in_the_order_they_were_asked_for_and_as_often(predictor, extract, explained):
    keys = explained[KEYS].drop_duplicates()
    asked = pd.concat([keys.iloc[[9, 2]], keys.iloc[[9]]])
    found = explain_neighbours(predictor, extract, samples=asked, context=extract, top=99)
    expected = pd.concat([explained.merge(asked.iloc[[i]], on=KEYS) for i in range(3)])
    assert found["subject_id"].tolist() == expected["subject_id"].tolist()
    same = ["task", "relation", "source", "n_neighbours"]
    assert found[same].equals(expected[same].reset_index(drop=True))
    close(found["score_without"].to_numpy(), expected["score_without"].to_numpy())


def test_a_sample_with_nothing_visible_has_a_reason_and_no_effect(predictor, extract, explained):
    keys = explained[KEYS].drop_duplicates()
    stranger = keys.iloc[[0]].assign(subject_id=99)
    found = explain_neighbours(predictor, extract, samples=pd.concat([keys.iloc[[1]], stranger]))
    gone = found["subject_id"] == 99
    assert gone.sum() == len(TASKS) * len(RELATIONS)
    assert set(found.loc[gone, "reason"]) == {"nothing visible"}
    assert (
        found.loc[gone, ["score", "score_without", "effect", "effect_logit"]].isna().all(axis=None)
    )
    assert found.loc[~gone, ["effect", "effect_logit"]].notna().all(axis=None)


# At a glance


def test_the_summary_is_of_the_samples_with_neighbours(explained):
    found = by_relation(explained).set_index(["task", "relation"])
    assert len(found) == len(TASKS) * len(RELATIONS)
    whole = relations_in(explained).query("task == 'death' and relation == 'same_unit'")
    linked = whole[whole["n_neighbours"] > 0]
    assert 0 < len(linked) < len(whole)
    row = found.loc[("death", "same_unit")]
    assert row["samples"] == len(whole)
    assert row["with_neighbours"] == len(linked) / len(whole)
    assert row["median_effect"] == np.median(linked["effect"].abs())
    assert row["median_effect_logit"] == np.median(linked["effect_logit"].abs())


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "deaths"}, r"task: the model has no binary task deaths; did you mean death\?"),
        ({"top": -1}, "top: is -1; give 0 or more"),
    ],
)
def test_what_cannot_be_explained_is_refused_before_anything_is_read(predictor, options, message):
    with pytest.raises(ConfigError, match=message):
        explain_neighbours(predictor, Path("nowhere"), **options)


def test_a_model_without_relations_is_refused(predictor):
    config = predictor.bundle.config
    alone = config.model_copy(update={"graph": config.graph.model_copy(update={"relations": {}})})
    with pytest.raises(ConfigError, match="the model was trained without relations"):
        explain_neighbours(clinical.Predictor(replace(predictor.bundle, config=alone)), "nowhere")

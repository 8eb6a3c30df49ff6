"""The tables of inputs: what is in them, of whom, and what is not."""

import clinical
from clinical.encoders.cnn import CNNEncoder
from clinical.errors import ConfigError
from clinical.explain import by_part, explain_inputs, shapley_columns

import copy
import importlib.resources
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest

KEYS = ["subject_id", "prediction_time"]
RESTS = ("cough", "fever", "fall", "clear", "lungs", "rest", "stable", "pain")


@pytest.fixture(scope="module")
def explained(small_predictor, small_extract):
    return explain_inputs(
        small_predictor, small_extract, context=small_extract, highest=3, with_text=True
    )


def test_the_scores_are_those_of_scoring_and_the_shares_add_up(
    small_predictor, small_extract, explained
):
    scores = small_predictor.score(small_extract, context=small_extract)
    table = explained.modalities
    assert table["part"][:6].tolist() == ["events", "static", "notes", "images", "codes", "graph"]
    assert len(table) == 6 * len(scores)
    both = table.merge(scores, on=[*KEYS, "task"], suffixes=("", "_whole"))
    np.testing.assert_allclose(both["score"], both["score_whole"], rtol=0, atol=1e-6)
    of = table.groupby([*KEYS, "task"], sort=False)
    total = of["logit"].first() - of["logit_nothing"].first()
    np.testing.assert_allclose(of["shapley"].sum(), total, rtol=0, atol=1e-9)


def samples_in(table: pd.DataFrame) -> set[tuple]:
    return set(table[KEYS].itertuples(index=False, name=None))


def test_words_are_of_the_highest_scores_of_each_task(explained):
    for of_task, of in explained.modalities.groupby("task"):
        most = of.drop_duplicates(KEYS).nlargest(3, "logit")
        words, regions, looked_at = (
            table[table["task"] == of_task]
            for table in (explained.words, explained.regions, explained.samples)
        )
        assert looked_at["rank"].tolist() == [0, 1, 2]
        assert looked_at["subject_id"].tolist() == most["subject_id"].tolist()
        assert samples_in(words) == samples_in(most)
        has = of[(of["part"] == "images") & of["present"]]
        assert samples_in(regions) == samples_in(most) & samples_in(has)
    assert len(explained.regions) > 0


def test_nobody_need_be_looked_at_closely(small_predictor, small_extract, explained):
    found = explain_inputs(small_predictor, small_extract, context=small_extract, highest=0)
    pd.testing.assert_frame_equal(found.modalities, explained.modalities)
    assert [len(t) for t in (found.variables, found.words, found.regions, found.samples)] == [0] * 4
    assert found.neighbours is None


def test_columns_are_null_without_a_score_and_for_tasks_of_other_kinds(
    small_predictor, small_extract
):
    keys = small_predictor.score(small_extract)[KEYS].drop_duplicates().head(2)
    stranger = keys.iloc[[0]].assign(subject_id=99)
    asked = pd.concat([keys, stranger])
    with small_predictor.prepared(small_extract, samples=asked) as (store, rows):
        scores = small_predictor.score_store(store, rows)
        other = scores[scores["task"] == "death"].assign(task="ward", kind="multiclass")
        both = pd.concat([scores, other], ignore_index=True)
        memories = small_predictor.panel.memories(store)
        found = shapley_columns(small_predictor, both, store, rows, memories)
    added = found.drop(columns=scores.columns)
    is_told = (found["task"] != "ward") & (found["subject_id"] != 99)
    assert is_told.sum() == 4
    assert added[is_told].notna().all(axis=None)
    assert added[~is_told].isna().all(axis=None)


def test_columns_beside_the_scores_share_them_out(small_predictor, small_extract, explained):
    with small_predictor.prepared(small_extract, context=small_extract) as (store, rows):
        rows = rows[::-2]
        scores = small_predictor.score_store(store, rows)
        memories = small_predictor.panel.memories(store)
        found = shapley_columns(small_predictor, scores, store, rows, memories)
    pd.testing.assert_frame_equal(found[scores.columns], scores)
    shares = [name for name in found if name.startswith("shapley_")]
    assert shares == [f"shapley_{part}" for part in explained.modalities["part"][:6]]
    total = found["logit"] - found["logit_nothing"]
    np.testing.assert_allclose(found[shares].sum(axis=1), total, rtol=0, atol=1e-9)
    keys = [*KEYS, "task"]
    same = found.merge(explained.modalities.query("part == 'notes'"), on=keys, suffixes=("", "_"))
    np.testing.assert_allclose(same["shapley_notes"], same["shapley"], rtol=0, atol=1e-5)
    assert len(same) == len(found)


def test_variables_of_a_modality_add_up_to_its_shapley_value(explained):
    keys = [*KEYS, "task"]
    found = explained.variables.groupby([*keys, "modality"])["attribution"].sum()
    shapley = explained.modalities.set_index([*keys, "part"])["shapley"]
    assert len(found) == 3 * 3 * 2
    np.testing.assert_allclose(found, shapley.loc[found.index], rtol=0, atol=1e-5)


def test_every_variable_is_traced_to_the_row_that_it_was_read_from(explained, small_extract):
    named = explained.variables[explained.variables["variable"].notna()]
    files = {name: pl.read_parquet(small_extract / name) for name in named["file"].unique()}
    ages = 0
    for row in named.itertuples():
        event = files[row.file].row(int(row.file_row), named=True)
        assert event["subject_id"] == row.subject_id
        if row.variable == "AGE":
            ages += 1
            assert event["code"] == "MEDS_BIRTH"
            years = (row.prediction_time - event["time"]).total_seconds() / (365.25 * 86400)
            assert row.value == pytest.approx(years, abs=1e-4)
            continue
        assert event["code"] == row.code
        assert (event["time"] is None and pd.isna(row.time)) or event["time"] == row.time
        number = event["numeric_value"]
        assert (number is None and np.isnan(row.value)) or number == row.value
    assert ages == 6
    measured = named[named["modality"] == "events"]
    behind = explained.events.filter(pl.col("modality") == "events")
    assert (measured["events"] >= 1).all()
    assert behind["value"].max() >= measured["highest"].max() >= measured["value"].max()
    assert (measured["time"] <= measured["prediction_time"]).all()
    assert "LATE" not in "".join(named["code"])


def test_notes_and_images_are_traced_to_their_rows(explained, small_extract):
    for table in (explained.words, explained.regions):
        for row in table.drop_duplicates(["subject_id", "file_row"]).itertuples():
            event = pl.read_parquet(small_extract / row.file).row(row.file_row, named=True)
            assert (event["subject_id"], event["code"]) == (row.subject_id, row.code)
            assert event["time"] == row.time


def test_only_the_samples_looked_at_have_their_neighbours_told(explained):
    heard = explained.neighbours.query("task == 'death'")
    looked_at = explained.samples.query("task == 'death'")
    assert samples_in(heard) == samples_in(looked_at)
    assert set(heard["relation"]) == {"similar", "same_unit"}


def test_a_word_stands_where_the_table_says_in_the_real_note(explained, small_extract):
    events = pl.read_parquet(small_extract / "data" / "**" / "*.parquet")
    notes = {
        (row["subject_id"], row["time"], row["code"]): row["text_value"]
        for row in events.filter(pl.col("text_value").is_not_null()).iter_rows(named=True)
    }
    said = explained.words[explained.words["start"].notna()]
    assert len(said) > 20
    for row in said.itertuples():
        text = notes[row.subject_id, row.time.to_pydatetime(), row.code]
        assert text[row.start : row.end] == row.text
        assert row.text in RESTS
        assert row.time <= row.prediction_time


def test_words_add_up_to_what_the_notes_change(explained):
    of = explained.words.groupby(["task", *KEYS])
    assert (of["gap"].first().abs() < 1e-4).all()
    assert (of["attribution"].sum().abs() > 1e-3).any()
    parts = explained.words["pieces"] + explained.words["phrases"]
    np.testing.assert_allclose(parts, explained.words["attribution"], rtol=0, atol=1e-12)


def test_a_region_adds_by_the_backbone_and_by_the_coarse_view(explained):
    regions = explained.regions
    effect = regions["backbone"] + regions["coarse"]
    np.testing.assert_allclose(regions["attribution"], effect, rtol=0, atol=1e-12)
    assert regions["backbone"].abs().max() > 1e-5
    assert regions["coarse"].abs().max() > 1e-5
    of = regions.groupby(["task", *KEYS])["gap"]
    assert (of.nunique() == 1).all()
    assert regions["gap"].abs().max() < 1e-3


def test_each_slice_of_a_stack_has_a_map_of_its_own(small_predictor, small_extract):
    image = ["task", *KEYS, "image"]
    regions = explain_inputs(small_predictor, small_extract, highest=16, steps=2).regions
    n_slices = regions.groupby(image)["slice"].transform("nunique")
    assert set(n_slices) == {1, 3}
    assert (regions.groupby([*image, "slice"]).size() == 4).all()
    stacks = regions[n_slices == 3]
    assert stacks.groupby("slice")["position"].unique().tolist() == [[0.0], [0.5], [1.0]]
    assert (stacks.groupby(image)["attribution"].nunique() > 4).all()
    assert (regions["position"][n_slices == 1] == 0.5).all()
    assert regions["left"].notna().all()


def test_a_word_that_two_chunks_share_is_told_once(explained, small_predictor):
    assert small_predictor.bundle.config.modalities["notes"].options["max_tokens"] < 6 + 2
    said = explained.words[explained.words["start"].notna()]
    notes = said.groupby(["task", *KEYS, "note"])
    assert (notes.size() == 6).all()
    assert (notes["start"].nunique() == 6).all()


def test_words_and_regions_of_frozen_encoders_are_told_too(
    small_predictor, small_extract, frozen_bert
):
    network = copy.deepcopy(small_predictor.bundle.networks[0])
    encoders = network.model.encoders
    encoders["notes"] = frozen_bert(network.model)
    sizes, width = network.model.sizes["images"], encoders["images"].width
    encoders["images"] = CNNEncoder(sizes, width=width, train="frozen").eval()
    changed = replace(small_predictor.bundle, networks=(network,), experts={}, stack={})
    options = {"task": "death", "highest": 18, "steps": 64}
    found = explain_inputs(clinical.Predictor(changed), small_extract, **options)
    said = found.words[found.words["start"].notna()]
    assert (said["pieces"].abs() > 1e-7).mean() > 0.9
    effect = found.words.groupby(KEYS)["attribution"].sum()
    assert found.words["gap"].abs().max() < 0.01 * effect.abs().max()
    maps = found.regions.groupby([*KEYS, "image", "slice"])["backbone"]
    assert maps.ngroups > 2
    assert (maps.std() > 1e-9).all()
    assert found.regions["gap"].isna().all()


def test_networks_are_averaged_and_weighed_beside_experts(small_predictor, small_extract):
    bundle = small_predictor.bundle
    who = small_predictor.score(small_extract)[KEYS].drop_duplicates().head(1)

    def words_of(**changes) -> np.ndarray:
        changed = clinical.Predictor(replace(bundle, **changes))
        found = explain_inputs(changed, small_extract, samples=who, task="death", steps=4)
        return np.concatenate([found.words["attribution"], found.regions["attribution"]])

    whole = words_of()
    alone = [words_of(networks=(network,), experts={}, stack={}) for network in bundle.networks]
    # The expert's weight for this task is a quarter.
    np.testing.assert_allclose(whole, 0.75 * np.mean(alone, axis=0), rtol=0, atol=1e-7)
    assert np.abs(alone[0] - alone[1]).max() > 1e-4


def test_a_sample_is_explained_alone_as_among_others(small_predictor, small_extract, explained):
    who = explained.samples.query("task == 'death'").head(1)[KEYS]
    alone = explain_inputs(
        small_predictor,
        small_extract,
        samples=who,
        context=small_extract,
        task="death",
        with_text=True,
    )
    for name in ("modalities", "variables", "words", "regions", "neighbours"):
        table = getattr(explained, name).query("task == 'death'").merge(who, on=KEYS)
        found = getattr(alone, name)
        assert len(found) == len(table)
        for column in table.columns:
            if table[column].dtype.kind == "f":
                np.testing.assert_allclose(found[column], table[column], rtol=0, atol=1e-5)
            else:
                assert found[column].tolist() == table[column].tolist()


@pytest.mark.parametrize("name", ["modalities", "variables", "words", "regions"])
def test_the_tables_are_those_that_are_described(explained, name, tmp_path):
    folder = importlib.resources.files("clinical.data_schemas")
    text = (folder / f"explained_{name}.json").read_text(encoding="utf-8")
    described = json.loads(text)
    (path,) = (p for p in explained.write(tmp_path / "inputs") if p.stem == name)
    assert path.name == described["path"]
    schema, table = pq.read_schema(path), getattr(explained, name)
    assert schema.names == [column["name"] for column in described["columns"]]
    for column, found in zip(described["columns"], schema.types, strict=True):
        assert str(found).removeprefix("large_") == column["dtype"]
        assert column["nullable"] or table[column["name"]].notna().all()


def test_no_text_of_a_note_is_told_unless_it_is_asked_for(
    small_predictor, small_extract, tmp_path, caplog
):
    found = explain_inputs(small_predictor, small_extract, highest=1)
    assert "text" not in found.words
    told = repr(found) + caplog.text
    for path in found.write(tmp_path):
        told += repr(pq.read_table(path).to_pylist())
    assert not [word for word in RESTS if f"{word}" in told.replace("reset", "")]
    assert "images/" not in told


def test_samples_come_as_asked_for_and_one_with_nothing_visible_has_a_reason(
    small_predictor, small_extract, explained
):
    keys = explained.modalities[KEYS].drop_duplicates()
    stranger = keys.iloc[[0]].assign(subject_id=99)
    asked = pd.concat([keys.iloc[[5]], stranger, keys.iloc[[1]], keys.iloc[[5]]])
    found = explain_inputs(small_predictor, small_extract, samples=asked, highest=9, steps=1)
    order = found.modalities["subject_id"].to_numpy()[:: 6 * 2]
    assert order.tolist() == asked["subject_id"].tolist()
    gone = found.modalities[found.modalities["subject_id"] == 99]
    assert set(gone["reason"]) == {"nothing visible"}
    assert gone[["shapley", "score", "logit"]].isna().all(axis=None)
    assert 99 not in set(found.samples["subject_id"])
    assert len(found.samples) == 2 * 2


def test_the_summary_is_of_the_samples_that_have_the_part(explained):
    found = by_part(explained.modalities).set_index(["task", "part"])
    own = explained.modalities.query("task == 'death' and part == 'images'")
    has = own[own["present"]]
    row = found.loc[("death", "images")]
    assert 0 < len(has) < len(own) == row["samples"]
    assert row["with_part"] == len(has) / len(own)
    assert row["median_shapley"] == has["shapley"].median()
    assert row["median_size"] == has["shapley"].abs().median()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "deaths"}, r"no binary task deaths; did you mean death\?"),
        ({"highest": -1}, "highest: is -1; give 0 or more"),
        ({"steps": 0}, "steps: is 0; give at least 1"),
    ],
)
def test_what_cannot_be_explained_is_refused_before_anything_is_read(
    small_predictor, options, message
):
    with pytest.raises(ConfigError, match=message):
        explain_inputs(small_predictor, Path("nowhere"), **options)

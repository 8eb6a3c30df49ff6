"""`link` ranks codes that are not visible, with the networks as pretraining left them."""

import clinical
from clinical.batch import ClinicalBatch
from clinical.containers import CodeSet
from clinical.errors import ConfigError
from clinical.links import Linker, learns_links

import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

KEYS = ["subject_id", "prediction_time"]


@pytest.fixture(scope="module")
def predictor(finished):
    return clinical.Predictor.load(finished.bundle)


@pytest.fixture(scope="module")
def links(predictor, finished) -> pd.DataFrame:
    """All candidates of the whole hospital."""
    return predictor.link(finished.extract, top=None)


@pytest.fixture(scope="module")
def visible(finished) -> pd.DataFrame:
    """Codes in the history of each sample: a naive join."""
    events = pl.read_parquet(finished.extract / "data" / "**" / "*.parquet")
    samples = pl.read_parquet(finished.extract / "samples.parquet")
    seen = events.join(samples, on="subject_id").filter(
        pl.col("time").is_null() | (pl.col("time") <= pl.col("prediction_time"))
    )
    return seen.select(*KEYS, "code").unique().to_pandas()


def test_a_row_a_sample_and_code_likeliest_first(links):
    assert list(links.columns) == [*KEYS, "code", "score", "rank", "train_subjects"]
    assert not links.duplicated([*KEYS, "code"]).any()
    assert links["score"].between(0, 1).all()
    for _, rows in links.groupby(KEYS, sort=False):
        assert rows["rank"].tolist() == list(range(1, len(rows) + 1))
        assert rows["score"].is_monotonic_decreasing


def test_no_candidate_is_visible_or_rare(links, visible):
    assert links.merge(visible, on=[*KEYS, "code"]).empty
    assert links["train_subjects"].min() >= 3


def test_what_stands_above_or_below_a_visible_code_is_known(predictor):
    # 1 and 2 are cases of 0, 3 is one of 2; the last stands alone.
    statistics = {"codes": {"parents": [[], [0], [0], [0, 2], []], "subjects": [9] * 5}}
    linker = Linker(predictor.bundle.config, SimpleNamespace(statistics=statistics), [])
    code, mask = torch.tensor([[2, 0], [0, 0], [1, 4]]), torch.tensor([[1, 0], [0, 0], [1, 1]])
    codes = CodeSet(code, torch.zeros(3, 2), mask.bool())
    known = linker._known(ClinicalBatch(torch.arange(3), {"codes": codes}, {}, {}))
    assert [set(torch.nonzero(row)[:, 0].tolist()) for row in known] == [
        {0, 2, 3},
        set(),
        {0, 1, 4},
    ]


def test_every_code_that_is_left_is_a_candidate(links, visible, predictor):
    statistics = predictor.bundle.fitted.statistics["codes"]
    codes = [
        code
        for code, parents, subjects in zip(
            statistics["vocabulary"], statistics["parents"], statistics["subjects"], strict=True
        )
        if subjects >= 3 and code.startswith(("ICD10CM//", "ATC//")) and "." in code and parents
    ]
    sample = links[KEYS].iloc[0]
    own = visible[(visible[KEYS] == sample).all(axis=1)]["code"]
    found = links[(links[KEYS] == sample).all(axis=1)]["code"]
    assert set(codes) - set(own) <= set(found)


def test_a_sample_has_the_same_links_alone_in_the_order_asked(predictor, finished, links):
    asked = links[KEYS].drop_duplicates().sample(3, random_state=1)
    few = predictor.link(finished.extract, samples=asked, top=4)
    assert few[KEYS].drop_duplicates().to_numpy().tolist() == asked.to_numpy().tolist()
    joined = few.merge(links, on=[*KEYS, "code"], suffixes=("", "_all"))
    assert len(joined) == len(few) == 12
    np.testing.assert_allclose(joined["score"], joined["score_all"], rtol=0, atol=1e-5)
    assert (joined["rank"] == joined["rank_all"]).all()


def test_the_networks_are_those_of_pretraining(finished):
    own = load_file(finished.out / "checkpoints" / "member-0" / "pretrain" / "model.safetensors")
    kept = load_file(finished.bundle / "pretrained_model.safetensors")
    tuned = load_file(finished.bundle / "model.safetensors")
    assert {name.removeprefix("member-0/") for name in kept} == set(own)
    assert all(torch.equal(kept[f"member-0/{name}"], own[name]) for name in own)
    assert not all(torch.equal(kept[name], tuned[name]) for name in kept)


def test_common_codes_are_likely(links):
    shares = links.groupby("code")[["score", "train_subjects"]].mean()
    assert shares["score"].corr(shares["train_subjects"]) > 0.8


def test_relations_that_hidden_values_choose_are_left_out(predictor, finished, links):
    bundle = predictor.bundle
    models = [network.model for network in bundle.pretrained_networks()]
    linker = Linker.of(bundle.config, bundle.fitted, models, relation=None)
    heard = []
    for model in models:
        model.message_passing["similar"].register_forward_hook(
            lambda _module, _args, message: heard.append(bool(message.linked.any()))
        )
    with predictor.prepared(finished.extract, samples=None, context=None, work=None) as (store, _):
        linker.rank(store, np.arange(4), top=1)
    assert heard == [False]


def test_contemporaries_of_a_context_are_heard_by_those_who_have_some(predictor, finished, links):
    around = {"context": finished.extract}
    found = predictor.link(finished.extract, top=None, **around)
    both = found.merge(links, on=[*KEYS, "code"], suffixes=("", "_without"))
    assert len(both) == len(found) == len(links)
    both["moved"] = (both["score"] - both["score_without"]).abs()
    moved = both.groupby(KEYS)["moved"].max()
    n_reference = len(predictor.bundle.fitted.reference_subject)
    with predictor.prepared(finished.extract, **around) as (store, rows):
        edges = store.neighbours("same_unit")["rows"].take(rows)
        keys = store.samples[rows].select(KEYS).to_pandas()
    keys["looks around"] = (edges >= n_reference).any(axis=1)
    looks_around = keys.set_index(KEYS)["looks around"].loc[moved.index]
    assert looks_around.any()
    assert (moved[looks_around] > 1e-6).mean() > 0.5
    assert (moved[~looks_around] <= 1e-6).all()
    asked = links[KEYS].drop_duplicates().sample(2, random_state=1)
    alone = predictor.link(finished.extract, samples=asked, top=None, **around)
    joined = alone.merge(found, on=[*KEYS, "code"], suffixes=("", "_all"))
    assert len(joined) == len(alone) > 0
    np.testing.assert_allclose(joined["score"], joined["score_all"], rtol=0, atol=1e-5)


def test_another_relation_is_refused_by_name(predictor, finished):
    with pytest.raises(ConfigError, match="no links by shares_code, but by codes"):
        predictor.link(finished.extract, relation="shares_code")
    with pytest.raises(ConfigError, match="top: 0 codes"):
        predictor.link(finished.extract, relation="codes", top=0)


def test_a_model_without_links_says_what_to_train(finished, predictor, tmp_path):
    from clinical.manifest import seal

    folder = tmp_path / "bundle"
    shutil.copytree(finished.bundle, folder)
    for name in ("pretrained_model.safetensors", "pretrained_memory.safetensors"):
        (folder / name).unlink()
    seal(folder)
    with pytest.raises(ConfigError, match=r"edges among pretrain\.objectives"):
        clinical.Predictor.load(folder).link(finished.extract)


@pytest.mark.parametrize(
    ("override", "learns"),
    [
        ("seed=1", True),
        ("pretrain=null", False),
        ("pretrain.epochs=0", False),
        ("pretrain.objectives.edges=0", False),
        ("pretrain.objectives.edges=null", False),
        ("modalities.codes=null", False),
    ],
)
def test_links_are_learned_where_codes_are_hidden(override, learns, finished, hospital_tools):
    options = hospital_tools.overrides(finished.extract, finished.out, override)
    assert learns_links(clinical.Run.read(hospital_tools.TINY, options)) is learns


def test_the_command_writes_what_the_function_gives(command, finished, links, tmp_path):
    code, out, _ = command(
        "link",
        finished.bundle,
        finished.extract,
        "--relation",
        "codes",
        "--top",
        2,
        "--out",
        "l.pq",
    )
    assert code == 0
    assert "l.pq" in out
    written = pd.read_parquet(tmp_path / "l.pq")
    expected = links[links["rank"] <= 2].reset_index(drop=True)
    assert written.drop(columns="score").equals(expected.drop(columns="score"))
    np.testing.assert_allclose(written["score"], expected["score"], rtol=0, atol=1e-5)


def test_the_command_takes_a_context(command, predictor, finished, tmp_path):
    context = ("--context", finished.extract, "--out", "l.pq")
    assert command("link", finished.bundle, finished.extract, *context)[0] == 0
    expected = predictor.link(finished.extract, context=finished.extract)
    written = pd.read_parquet(tmp_path / "l.pq")
    np.testing.assert_allclose(written["score"], expected["score"], rtol=0, atol=1e-7)

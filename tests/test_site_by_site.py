"""Leave-one-site-out: who is judged by whom, and what is done again."""

import clinical
from clinical.cohort.splits import make_splits
from clinical.errors import ConfigError, SchemaError
from clinical.experiment import Run

import importlib.util
from pathlib import Path

import pandas as pd
import polars as pl
import pytest

_spec = importlib.util.spec_from_file_location(
    "small_hospital", Path(__file__).with_name("small_hospital.py")
)
hospital = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hospital)

SITE = "UNIT//([01])"


@pytest.fixture(scope="module")
def extract(tmp_path_factory):
    """Sixty subjects, those with an even number in one unit and the others in another."""
    return hospital.build(tmp_path_factory.mktemp("sites") / "extract", n_subjects=60)


def configured(extract: Path, out: Path, **changes) -> Run:
    raw = {
        "modalities": {"events": {"encoder": "event_set", "width": 16, "layers": 1}},
        "graph": {},
        "fusion": {"width": 16},
        "finetune": {"epochs": 1},
        "evaluate": {"resamples": 20},
        "trainer": {"accelerator": "cpu", "threads": 1},
    }
    plain = hospital.configure(extract, out, **(raw | changes)).dump()
    return Run.parse(plain, where="test")


@pytest.fixture(scope="module")
def left(extract, tmp_path_factory):
    config = configured(extract, tmp_path_factory.mktemp("runs") / "run")
    return config, clinical.leave_one_site_out(config, site=SITE)


def test_each_site_is_judged_once_by_a_model_that_has_not_seen_it(left):
    _, found = left
    assert list(found.folders) == ["0", "1"]
    for site, folder in found.folders.items():
        judged = pd.read_parquet(folder / "predictions.parquet")["subject_id"]
        assert {str(subject % 2) for subject in judged} == {site}
        splits = pl.read_parquet(folder.parent / "splits.parquet")
        learned = splits.filter(pl.col("split") != "held_out")["subject_id"]
        assert {str(subject % 2) for subject in learned} == {"0", "1"} - {site}
        assert set(splits["split"]) == {"train", "tuning", "held_out"}


def test_the_table_has_each_site_and_all_of_them_together(left):
    config, found = left
    table = found.table[found.table["metric"] == "AUROC"].set_index("site")
    assert list(table.index) == ["0", "1", "all sites"]
    assert table.loc["all sites", "n"] == table["n"].drop("all sites").sum()
    assert (table["low"] <= table["value"]).all()
    assert (table["value"] <= table["high"]).all()
    written = pd.read_csv(config.out / "sites.csv", dtype={"site": str})
    assert list(written["site"]) == list(found.table["site"])
    shown = found.display_table("AUROC")
    assert list(shown["site"]) == ["0", "1", "all sites"]


def test_what_is_finished_is_not_run_again(left, monkeypatch):
    config, found = left
    monkeypatch.setattr("clinical.site_by_site.run", None)
    again = clinical.leave_one_site_out(config, site=SITE)
    pd.testing.assert_frame_equal(again.table, found.table)


def test_a_folder_of_other_sites_is_refused(left):
    config, _ = left
    with pytest.raises(ConfigError, match=r"is of other sites, another seed or another extract"):
        clinical.leave_one_site_out(config.model_copy(update={"seed": 9}), site=SITE)
    finetune = config.finetune.model_copy(update={"learning_rate": 1e-5})
    with pytest.raises(ConfigError, match="other values of finetune"):
        clinical.leave_one_site_out(config.model_copy(update={"finetune": finetune}), site=SITE)


def test_what_cannot_be_left_out_is_refused(extract, tmp_path):
    config = configured(extract, tmp_path / "run")
    with pytest.raises(SchemaError, match="one site can't be left out"):
        clinical.leave_one_site_out(config, site="UNIT//1")
    with pytest.raises(ConfigError, match=r"dataset\.json names no site_id_columns"):
        clinical.leave_one_site_out(config)
    make_splits(extract, out=tmp_path / "own.parquet")
    own = config.model_copy(update={"splits": tmp_path / "own.parquet"})
    with pytest.raises(ConfigError, match="splits: are made here"):
        clinical.leave_one_site_out(own, site=SITE)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def unjudged(tmp_path):
    """Three units, and what becomes of the third one's subjects' labels, events or sites."""

    def call(*, is_known=True, is_visible=True, is_alone=True) -> Path:
        root = hospital.build(tmp_path / "extract", n_subjects=60)
        in_third = pl.col("subject_id") % 6 == 5
        labels = pl.read_parquet(path := next((root / "tasks").rglob("*.parquet")))
        value = pl.when(in_third & (not is_known)).then(None).otherwise("boolean_value")
        labels.with_columns(value.alias("boolean_value")).write_parquet(path)
        for shard in (root / "data").rglob("*.parquet"):
            events = pl.read_parquet(shard)
            is_unit = pl.col("code").str.starts_with("UNIT//") & in_third
            moved = events.filter(is_unit).with_columns(code=pl.lit("UNIT//2"))
            kept = events.filter(~(is_unit & is_alone) & (is_visible | ~in_third))
            told = moved.with_columns(time=pl.lit(None, moved["time"].dtype))
            both = [kept, moved if is_visible else told]
            pl.concat(both).sort("subject_id", "time").write_parquet(shard)
        return root

    return call


@pytest.mark.parametrize("missing", ["is_known", "is_visible", "is_alone"])
def test_a_site_where_nothing_can_be_judged_is_refused_before_any_training(
    unjudged, tmp_path, monkeypatch, missing
):
    monkeypatch.setattr("clinical.site_by_site.run", None)
    config = configured(unjudged(**{missing: False}), tmp_path / "run")
    what = {
        "is_known": "no subject of 2 and no other site has a known label",
        "is_visible": "nothing is visible of any labelled sample of 2",
        "is_alone": "no subject of 2 and no other site has a known label",
    }
    with pytest.raises(SchemaError, match=what[missing]):
        clinical.leave_one_site_out(config, site="UNIT//([012])")
    assert not (tmp_path / "run" / "sites.csv").exists()


def test_the_command_shows_a_row_a_site(left, command, tmp_path):
    import yaml

    config, _ = left
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.dump()))
    code, out, err = command("leave-one-site-out", path, "--site", SITE)
    assert code == 0, err
    assert "each site by a model without it" in out
    assert "all sites" in out
    assert "sites.csv" in out

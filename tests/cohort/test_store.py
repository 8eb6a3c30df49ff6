import clinical  # noqa: F401
from clinical.cohort.store import FORMAT_VERSION, Store, draft_of
from clinical.errors import ConfigError, SchemaError

import json

import polars as pl
import pytest


@pytest.fixture
def folder(tmp_path):
    store = tmp_path / "store"
    with draft_of(store) as draft:
        manifest = {"format_version": FORMAT_VERSION, "n_samples": 5, "context": None}
        (draft / "store.json").write_text(json.dumps(manifest))
        splits = ["train", "held_out", "train", "held_out", None]
        reasons = [None, None, "nothing visible", "nothing visible", None]
        samples = pl.DataFrame({"subject_id": range(5), "split": splits, "reason": reasons})
        samples.write_ipc(draft / "samples.arrow")
    return store


def test_learning_leaves_out_samples_with_nothing_visible_but_held_out_keeps_them(folder):
    store = Store.open(folder)
    assert store.rows("train").tolist() == [0]
    assert store.rows("held_out").tolist() == [1, 3]
    assert store.rows("select").tolist() == []
    assert store.rows(None).tolist() == [0, 1, 2, 3, 4]


def test_an_unfinished_store_is_not_opened(tmp_path):
    with pytest.raises(SchemaError, match="no complete store"):
        Store.open(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(SchemaError, match="no complete store"):
        Store.open(tmp_path)


def test_a_store_of_another_version_is_not_opened(folder):
    (folder / "store.json").write_text(json.dumps({"format_version": 0}))
    with pytest.raises(SchemaError, match="another version"):
        Store.open(folder)


def test_a_draft_that_fails_leaves_what_was_there(folder):
    before = sorted(p.name for p in folder.parent.rglob("*"))

    def fail():
        with draft_of(folder) as draft:
            (draft / "half").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert sorted(p.name for p in folder.parent.rglob("*")) == before
    assert Store.open(folder).n_samples == 5


def test_a_finished_draft_replaces_the_store_and_clears_what_a_kill_left(folder):
    (folder.parent / ".store.draft").mkdir()
    (folder.parent / ".store.draft" / "left").touch()
    with draft_of(folder) as draft:
        (draft / "store.json").write_text(json.dumps({"format_version": FORMAT_VERSION}))
    assert [p.name for p in folder.parent.rglob("*")] == ["store", "store.json"]


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").touch()

    def replace():
        with draft_of(tmp_path):
            pass

    with pytest.raises(ConfigError, match="something else than a store"):
        replace()
    assert (tmp_path / "thesis.txt").exists()

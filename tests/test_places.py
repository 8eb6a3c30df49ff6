"""A file is replaced whole or not at all."""

import clinical  # noqa: F401
from clinical.places import replacing

import pytest


def test_a_file_is_replaced_when_the_block_ends_well(tmp_path):
    path = tmp_path / "new" / "scores.parquet"
    for text in ("first", "second"):
        with replacing(path) as draft:
            draft.write_text(text)
            assert draft.parent == path.parent
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def write_half(path):
    with replacing(path) as draft:
        draft.write_text("half")
        raise KeyError


def test_a_block_that_fails_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "scores.parquet"
    path.write_text("first")
    with pytest.raises(KeyError):
        write_half(path)
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]

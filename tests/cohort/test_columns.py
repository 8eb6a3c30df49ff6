import clinical  # noqa: F401
from clinical.cohort.columns import Ragged, open_columns, write_blocks, write_table
from clinical.errors import SchemaError

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.lists(st.lists(st.integers(-5, 5), max_size=4), max_size=5), min_size=1))
def test_what_is_written_to_several_files_comes_back_in_any_order(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("columns")
    paths = [folder / f"{number}.arrow" for number in range(len(files))]
    for path, rows in zip(paths, files, strict=True):
        flat = np.array([value for row in rows for value in row], dtype=np.float32)
        ragged = Ragged.from_lengths(flat, np.array([len(row) for row in rows], dtype=np.int64))
        total = np.array([[sum(row), len(row)] for row in rows], dtype=np.int32).reshape(-1, 2)
        write_table(path, {"run": ragged, "total": total})
    rows = [row for file in files for row in file]
    columns = open_columns(paths)
    order = np.arange(len(rows))[::-1]
    taken = columns["run"].take_ragged(order)
    assert [taken.get(i).tolist() for i in range(len(rows))] == rows[::-1]
    assert columns["total"].take(order).tolist() == [[sum(r), len(r)] for r in rows[::-1]]
    assert columns["run"].lengths.tolist() == [len(row) for row in rows]
    assert [columns["run"].get(i).tolist() for i in range(len(rows))] == rows


def test_what_is_written_block_by_block_comes_back_as_one(tmp_path):
    blocks = [np.arange(6).reshape(3, 2), np.arange(4).reshape(2, 2), np.empty((0, 2), dtype=int)]
    write_blocks(tmp_path / "a.arrow", ({"pair": block} for block in blocks))
    columns = open_columns([tmp_path / "a.arrow", tmp_path / "a.arrow"])
    assert columns.n_rows == 10
    assert columns["pair"].take(np.array([4, 0, 8, 9])).tolist() == [[2, 3], [0, 1], [0, 1], [2, 3]]


def test_images_of_one_shape_keep_it(tmp_path):
    images = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    ragged = Ragged.from_lengths(images, np.array([3, 0, 1]))
    write_table(tmp_path / "a.arrow", {"pixels": ragged})
    column = open_columns([tmp_path / "a.arrow"])["pixels"]
    assert np.array_equal(column.get(0), images[:3])
    assert column.get(1).shape == (0, 2, 3)


def test_rows_are_read_without_a_copy_and_cannot_be_written(tmp_path):
    write_table(tmp_path / "a.arrow", {"x": np.arange(3.0)})
    view = open_columns([tmp_path / "a.arrow"])["x"].get(1)
    everything = open_columns([tmp_path / "a.arrow"])["x"]._parts[0]
    assert not everything.flags.writeable
    assert not everything.flags.owndata
    assert view == 1.0


def test_opened_columns_travel_to_another_process_as_paths(tmp_path):
    write_table(tmp_path / "a.arrow", {"x": np.arange(1000.0)})
    columns = open_columns([tmp_path / "a.arrow"])
    columns["x"].get(0)
    sent = pickle.dumps(columns)
    assert len(sent) < 500
    assert pickle.loads(sent)["x"].get(999) == 999.0  # noqa: S301  (our own)


def test_padding_is_told_apart_from_values():
    padded, mask = Ragged.from_lengths(np.array([1, 0, 2]), np.array([2, 0, 1])).padded(fill=9)
    assert padded.tolist() == [[1, 0], [9, 9], [2, 9]]
    assert mask.tolist() == [[True, True], [False, False], [True, False]]


def test_values_are_gathered_by_their_ascending_row():
    ragged = Ragged.from_rows(np.array([5, 6, 7]), np.array([0, 0, 2]), 4)
    assert ragged.lengths.tolist() == [2, 0, 1, 0]
    assert ragged.row.tolist() == [0, 0, 2]
    with pytest.raises(ValueError, match="ascend"):
        Ragged.from_rows(np.array([5, 6]), np.array([1, 0]), 2)


def test_masks_of_bits_and_unequal_columns_are_refused(tmp_path):
    with pytest.raises(ValueError, match="use uint8 for masks"):
        write_table(tmp_path / "a.arrow", {"x": np.array([True])})
    with pytest.raises(ValueError, match="rows cannot be one table"):
        write_table(tmp_path / "a.arrow", {"x": np.arange(2), "y": np.arange(3)})


def test_a_damaged_or_missing_file_is_named(tmp_path):
    path = tmp_path / "a.arrow"
    with pytest.raises(SchemaError, match=r"a\.arrow: not a readable part of a store"):
        _ = open_columns([path])["x"]
    write_table(path, {"x": np.arange(100.0)})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(SchemaError, match="prepare it again"):
        _ = open_columns([path])["x"]

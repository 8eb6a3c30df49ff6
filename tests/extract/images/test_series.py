from clinical.errors import SchemaError
from clinical.extract.images import UnreadableError, open_stack, to_grey
from clinical.extract.schema import Extract

import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def make_series(make_dicom, tmp_path) -> Callable[..., Path]:
    """A folder of slices whose values are their places; the files are named in another order."""

    def make(places, *, folder: str = "series", along=(0, 0, 1), **more: object) -> Path:
        for number, place in enumerate(places):
            position = None if along is None else [place * x for x in along]
            make_dicom(
                f"{folder}/{number}-{more.get('SeriesInstanceUID', '')}.dcm",
                np.full((4, 4), place, np.uint8),
                ImagePositionPatient=position,
                ImageOrientationPatient=None if along is None else [1, 0, 0, 0, 1, 0],
                **{"InstanceNumber": number, **more},
            )
        return tmp_path / folder

    return make


def resolver(root: Path) -> Callable[[str], Path]:
    return lambda name: root / name


def greys(folder: Path) -> list[int]:
    stack = open_stack(folder.name, resolver(folder.parent))
    return [int(plane[0, 0]) for plane in to_grey(list(stack.planes(range(stack.depth))))]


def test_slices_follow_their_place_along_the_normal(make_series) -> None:
    assert greys(make_series([30, 10, 40, 20])) == [10, 20, 30, 40]
    assert greys(make_series([30, 10, 40, 20], folder="b", along=(0, 0, -1))) == [40, 30, 20, 10]
    # In the plane of the slices is no place along the normal: their numbers decide.
    assert greys(make_series([30, 10, 40, 20], folder="c", along=(1, 0, 0))) == [30, 10, 40, 20]


def test_without_positions_their_numbers_decide(make_series, make_dicom) -> None:
    folder = make_series([30, 10], along=None)
    make_dicom("series/a.dcm", np.full((4, 4), 5, np.uint8), InstanceNumber=-1)
    assert greys(folder) == [5, 30, 10]


def test_the_largest_series_is_read_and_the_others_counted(make_series) -> None:
    make_series([1, 2], SeriesInstanceUID="1.1")
    make_series([3, 4, 5], SeriesInstanceUID="1.2")
    folder = make_series([6], SeriesInstanceUID="1.3")
    (folder / "notes.txt").write_text("nothing")
    (folder / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"rest")
    assert greys(folder) == [3, 4, 5]
    assert open_stack("series", resolver(folder.parent)).left_out_series == 2


def test_slices_without_a_window_share_one_range(make_dicom, tmp_path) -> None:
    for number, top in enumerate((100, 1000)):
        pixels = np.linspace(0, top, 16).reshape(4, 4).astype(np.uint16)
        make_dicom(f"mr/{number}.dcm", pixels, InstanceNumber=number)
    stack = open_stack("mr", resolver(tmp_path))
    first, second = to_grey(list(stack.planes([0, 1])))
    assert second.max() == 255
    assert 24 <= first.max() <= 27


def test_a_folder_without_a_slice_is_undecodable(tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnreadableError, match="undecodable"):
        open_stack("empty", resolver(tmp_path))


def test_a_link_out_of_the_extract_is_refused_as_for_a_single_image(make_series, tmp_path) -> None:
    folder = make_series([1, 2])
    root = tmp_path / "extract"
    shutil.copytree(folder, root / "ct")
    extract = Extract(root, (), "x", False, {})
    assert open_stack("ct", extract.image).depth == 2
    (root / "ct" / "out.dcm").symlink_to(folder / "0-.dcm")
    with pytest.raises(SchemaError, match="leads out of the extract"):
        open_stack("ct", extract.image)


def test_a_lost_slice_makes_the_stack_undecodable_not_the_run(make_series) -> None:
    folder = make_series([10, 20, 30])
    file = folder / "1-.dcm"
    file.write_bytes(file.read_bytes()[:-8])
    stack = open_stack("series", resolver(folder.parent))
    with pytest.raises(UnreadableError, match="undecodable"):
        list(stack.planes(range(stack.depth)))


@pytest.mark.parametrize("name", ["", ".", "./"])
def test_the_extract_itself_is_no_image(make_series, name) -> None:
    extract = Extract(make_series([1, 2]), (), "x", False, {})
    with pytest.raises(UnreadableError, match="missing"):
        open_stack(name, extract.image)


def test_frames_are_found_over_files_of_several(make_dicom, tmp_path) -> None:
    for number, n_frames in enumerate((3, 1, 2)):
        values = np.arange(n_frames, dtype=np.uint8)[:, None, None] + 10 * number
        frames = np.broadcast_to(values, (n_frames, 2, 2)).squeeze()
        more = {"NumberOfFrames": n_frames, "InstanceNumber": number}
        make_dicom(f"multi/{number}.dcm", frames, **more)
    assert greys(tmp_path / "multi") == [0, 1, 2, 10, 20, 21]


def test_frames_that_no_file_can_hold_are_refused_from_the_headers(make_dicom, tmp_path) -> None:
    make_dicom("liar/0.dcm", np.zeros((1, 1), np.uint8), NumberOfFrames=3_000_000)
    make_dicom("liar.dcm", np.zeros((1, 1), np.uint8), NumberOfFrames=3_000_000)
    tracemalloc.start()
    try:
        for name in ("liar", "liar.dcm"):
            with pytest.raises(UnreadableError, match="undecodable"):
                open_stack(name, resolver(tmp_path))
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_a_series_of_too_many_frames_in_all_is_too_large(make_dicom, tmp_path, monkeypatch) -> None:
    for number in range(3):
        make_dicom(f"long/{number}.dcm", np.zeros((4, 10, 10), np.uint8), NumberOfFrames=4)
    monkeypatch.setattr("clinical.extract.images.stack.MOST_VALUES", 1000)
    with pytest.raises(UnreadableError, match="too_large"):
        open_stack("long", resolver(tmp_path))


def test_the_pixels_of_every_kind_are_counted_before_they_are_decoded(make_dicom, tmp_path) -> None:
    """[height, width] of each file's slices by hand."""
    nibabel = pytest.importorskip("nibabel")
    make_dicom("frames.dcm", np.zeros((3, 4, 5), np.uint8), NumberOfFrames=3)
    make_dicom("series/1", np.zeros((4, 5), np.uint8))
    make_dicom("series/2", np.zeros((6, 7), np.uint8))
    nibabel.save(nibabel.Nifti1Image(np.ones((2, 3, 4), np.int16), np.eye(4)), tmp_path / "v.nii")
    Image.new("RGB", (8, 9)).save(tmp_path / "picture.png")
    expected = {"frames.dcm": 60, "series": 20 + 42, "v.nii": 24, "picture.png": 72}
    for name, count in expected.items():
        stack = open_stack(name, lambda path: tmp_path / path)
        assert stack.n_pixels == count
        assert sum(plane.size for plane in stack.planes(range(stack.depth))) == count

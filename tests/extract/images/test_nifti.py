from clinical.extract.images import UnreadableError, installing, nifti, open_stack, to_grey

from pathlib import Path

import numpy as np
import pytest

nibabel = pytest.importorskip("nibabel")

# [right, front, head]: each voxel tells where it is.
VOXELS = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4) * 10


def save(path: Path, voxels: np.ndarray = VOXELS, affine: np.ndarray | None = None) -> Path:
    image = nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine)
    nibabel.save(image, path)
    return path


def read(path: Path, **options: object) -> np.ndarray:
    stack = open_stack(path.name, lambda name: path.parent / name, **options)
    return np.stack(to_grey(list(stack.planes(range(stack.depth)))))


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_slices_run_from_feet_to_head_with_the_right_side_on_the_left(tmp_path, ending) -> None:
    found = read(save(tmp_path / f"v.{ending}"), window=(127.5, 255.0))
    assert found.shape == (4, 3, 2)
    for k in range(4):
        for row in range(3):
            for column in range(2):
                assert found[k, row, column] == VOXELS[1 - column, 2 - row, k]


@pytest.mark.parametrize(
    "order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1)]
)
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (-1, -1, 1)])
def test_however_the_voxels_are_stored_they_look_the_same(tmp_path, order, flips) -> None:
    straight = nibabel.Nifti1Image(VOXELS, np.eye(4))
    other = straight.as_reoriented(np.stack([order, flips], axis=1).astype(float))
    nibabel.save(other, tmp_path / "other.nii")
    window = (127.5, 255.0)
    expected = read(save(tmp_path / "v.nii"), window=window)
    assert np.array_equal(read(tmp_path / "other.nii", window=window), expected)


def test_without_a_window_the_range_is_the_files_or_that_of_the_whole(tmp_path) -> None:
    found = read(save(tmp_path / "v.nii"), window=None)
    assert (found.min(), found.max()) == (0, 255)
    assert found[0].max() < 255
    image = nibabel.Nifti1Image(VOXELS, np.eye(4))
    image.header["cal_min"], image.header["cal_max"] = 0, 100
    nibabel.save(image, tmp_path / "cal.nii")
    assert (read(tmp_path / "cal.nii", window=None) == 255).mean() > 0.5


def test_values_are_scaled_and_what_is_no_number_is_black(tmp_path) -> None:
    floats = VOXELS.astype(np.float32)
    floats[0, 0, 0] = np.nan
    found = read(save(tmp_path / "f.nii", floats), window=(127.5, 255.0))
    assert found[0, 2, 1] == 0
    assert found[0, 0, 0] == VOXELS[1, 2, 0]


def test_of_several_volumes_the_first_is_read(tmp_path) -> None:
    both = np.stack([VOXELS, VOXELS + 5], axis=3)
    window = (127.5, 255.0)
    expected = read(save(tmp_path / "one.nii"), window=window)
    assert np.array_equal(read(save(tmp_path / "two.nii", both), window=window), expected)


def test_damaged_and_enormous_files_are_refused(tmp_path, monkeypatch) -> None:
    whole = save(tmp_path / "v.nii.gz", np.random.default_rng(0).normal(size=(20, 20, 20)))
    content = whole.read_bytes()
    for part in range(7):
        cut = tmp_path / "cut.nii.gz"
        cut.write_bytes(content[: len(content) * part // 7])
        with pytest.raises(UnreadableError, match="undecodable"):
            read(cut)
    monkeypatch.setattr("clinical.extract.images.stack.MOST_VALUES", 100)
    with pytest.raises(UnreadableError, match="too_large"):
        read(whole)


def test_without_nibabel_it_is_unsupported(tmp_path, monkeypatch, caplog) -> None:
    path = save(tmp_path / "v.nii")
    monkeypatch.setattr(nifti, "is_installed", lambda need: False)
    installing.tell.cache_clear()
    with pytest.raises(UnreadableError, match="unsupported"):
        read(path)
    installing.tell.cache_clear()
    assert "pip install 'clinical[nifti]'" in caplog.text

from clinical.extract.images import UnreadableError, installing, nifti, open_stack, to_grey
from clinical.extract.images.checking import unreadable
from clinical.extract.schema import Extract

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

nibabel = pytest.importorskip("nibabel")

# [right, front, head]: each voxel tells where it is. A CT: -1000 Hounsfield units is air.
VOXELS = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4) * 10 - 1000
# Under which a voxel's grey is 1000 more than its value.
WINDOW = (-872.5, 255.0)


def save(path: Path, voxels: np.ndarray = VOXELS, affine: np.ndarray | None = None) -> Path:
    image = nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine)
    nibabel.save(image, path)
    return path


def read(path: Path, **options: object) -> np.ndarray:
    stack = open_stack(path.name, lambda name: path.parent / name, **options)
    return np.stack(to_grey(list(stack.planes(range(stack.depth)))))


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_slices_run_from_feet_to_head_with_the_right_side_on_the_left(tmp_path, ending) -> None:
    found = read(save(tmp_path / f"v.{ending}"), window=WINDOW)
    assert found.shape == (4, 3, 2)
    for k in range(4):
        for row in range(3):
            for column in range(2):
                assert found[k, row, column] == VOXELS[1 - column, 2 - row, k] + 1000


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_a_volume_is_known_by_its_content_whatever_its_name(tmp_path, kind, ending) -> None:
    named = tmp_path / f"v.{ending}"
    nibabel.save(kind(VOXELS, np.diag([1, 1, -1, 1])), named)
    expected = read(named, window=WINDOW)
    for name in ("0", "v.png"):
        (tmp_path / name).write_bytes(named.read_bytes())
        assert np.array_equal(read(tmp_path / name, window=WINDOW), expected)


@pytest.mark.parametrize("content", [b"no volume", b"", b"\xff" * 20])
def test_what_is_compressed_and_no_volume_cannot_be_read(tmp_path, content) -> None:
    (tmp_path / "0").write_bytes(gzip.compress(content)[: -4 if content == b"" else None])
    with pytest.raises(UnreadableError, match="undecodable"):
        read(tmp_path / "0")


@pytest.mark.parametrize(
    "order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1)]
)
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1), (-1, -1, 1)])
def test_however_the_voxels_are_stored_they_look_the_same(tmp_path, order, flips) -> None:
    straight = nibabel.Nifti1Image(VOXELS, np.eye(4))
    other = straight.as_reoriented(np.stack([order, flips], axis=1).astype(float))
    nibabel.save(other, tmp_path / "other.nii")
    window = WINDOW
    expected = read(save(tmp_path / "v.nii"), window=window)
    assert np.array_equal(read(tmp_path / "other.nii", window=window), expected)


def test_without_a_window_the_range_is_the_files_or_that_of_the_whole(tmp_path) -> None:
    found = read(save(tmp_path / "v.nii"), window=None)
    assert (found.min(), found.max()) == (0, 255)
    assert found[0].max() < 255
    image = nibabel.Nifti1Image(VOXELS, np.eye(4))
    image.header["cal_min"], image.header["cal_max"] = -1000, -900
    nibabel.save(image, tmp_path / "cal.nii")
    assert (read(tmp_path / "cal.nii", window=None) == 255).mean() > 0.5


def test_values_are_scaled_and_what_is_no_number_is_black(tmp_path) -> None:
    floats = VOXELS.astype(np.float32)
    floats[0, 0, 0] = np.nan
    found = read(save(tmp_path / "f.nii", floats), window=WINDOW)
    assert found[0, 2, 1] == 0
    assert found[0, 0, 0] == VOXELS[1, 2, 0] + 1000


def test_what_is_not_finite_is_black_where_there_is_no_window(tmp_path) -> None:
    floats = VOXELS.astype(np.float32) + 1000
    expected = read(save(tmp_path / "whole.nii", floats))
    floats[:, :, 1] = np.nan
    floats[0, 0, 2] = np.inf
    found = read(save(tmp_path / "f.nii", floats))
    assert not found[1].any()
    assert found[2, 2, 1] == 0
    assert np.abs(found[3].astype(int) - expected[3]).max() <= 5  # the range is of other values
    extract = Extract(tmp_path, (), "x", False, {})
    assert unreadable(extract, "f.nii") is None
    save(tmp_path / "nothing.nii", np.full_like(floats, np.nan))
    with pytest.raises(UnreadableError, match="undecodable"):
        read(tmp_path / "nothing.nii")
    assert unreadable(extract, "nothing.nii") == "undecodable"


def test_deep_values_that_are_not_finite_are_black() -> None:
    plane = np.array([[0, 1], [np.nan, -np.inf]])
    (found,) = to_grey([plane])
    assert found.tolist() == [[0, 255], [0, 0]]


def test_what_is_no_ct_is_seen_in_its_own_range(tmp_path) -> None:
    mr = np.linspace(0, 900, 4000).astype(np.float32).reshape(10, 20, 20)
    mr[0, 0, 0] = 1e6  # one bright voxel must not darken all others
    lung = (-600.0, 1500.0)
    found = read(save(tmp_path / "mr.nii", mr), window=lung)
    assert np.array_equal(found, read(tmp_path / "mr.nii", window=None))
    assert (found == 0).sum() > 0
    assert np.array_equal(np.unique(found), np.arange(256))
    # The same, of a CT: under the window.
    ct = read(save(tmp_path / "ct.nii", mr - 1000), window=lung)
    assert not np.array_equal(ct, read(tmp_path / "ct.nii", window=None))
    assert ct.min() == 60
    # A mask has hardly a value above 0.
    mask = np.zeros((10, 20, 20), np.uint8)
    mask[5, 5, 5] = 1
    assert read(save(tmp_path / "mask.nii", mask), window=lung).max() == 255


@pytest.mark.parametrize("order", [(2, 1, 0), (0, 2, 1), (0, 1, 2)])
def test_a_compressed_volume_is_unpacked_once(tmp_path, monkeypatch, order) -> None:
    voxels = np.random.default_rng(0).integers(-1000, -745, (64, 64, 64), dtype=np.int16)
    straight = nibabel.Nifti1Image(voxels, np.eye(4))
    turned = straight.as_reoriented(np.stack([order, (1, 1, -1)], axis=1).astype(float))
    nibabel.save(turned, tmp_path / "v.nii.gz")
    rewound = []
    rewind = gzip._GzipReader._rewind
    monkeypatch.setattr(
        gzip._GzipReader, "_rewind", lambda self: (rewound.append(1), rewind(self))[1]
    )
    expected = np.stack([voxels[::-1, ::-1, k].T for k in range(64)])
    stack = open_stack("v.nii.gz", lambda name: tmp_path / name, window=WINDOW)
    found = np.stack([plane for k in range(64) for plane in stack.planes([k])])
    assert np.array_equal(found, expected + 1000)
    assert len(rewound) <= 1


def test_extensions_are_not_read(tmp_path) -> None:
    path = save(tmp_path / "v.nii")
    expected = read(path)
    content = path.read_bytes()
    # 0x7fffffe0 bytes of CIFTI's extension, which is XML, and is none here.
    bomb = b"\1\0\0\0" + struct.pack("<ii", 0x7FFFFFE0, 32) + b"<" * 24
    header = content[:108] + struct.pack("<f", 352 + 32) + content[112:348]
    path.write_bytes(header + bomb + content[352:])
    assert np.array_equal(read(path), expected)
    far = content[:108] + struct.pack("<f", 2.0**25) + content[112:]
    path.write_bytes(far)
    with pytest.raises(UnreadableError, match="undecodable"):
        open_stack(path.name, lambda name: tmp_path / name)


def test_surfaces_of_cifti_are_no_pictures(tmp_path) -> None:
    nibabel.save(
        nibabel.Nifti2Image(np.ones((1, 1, 1, 1, 3, 4), np.float32), np.eye(4)), tmp_path / "c.nii"
    )
    with pytest.raises(UnreadableError, match="undecodable"):
        read(tmp_path / "c.nii")
    nibabel.save(nibabel.Nifti2Image(VOXELS, np.eye(4)), tmp_path / "second.nii")
    assert np.array_equal(read(tmp_path / "second.nii"), read(save(tmp_path / "v.nii")))


def test_of_several_volumes_the_first_is_read(tmp_path) -> None:
    both = np.stack([VOXELS, VOXELS + 5], axis=3)
    window = WINDOW
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

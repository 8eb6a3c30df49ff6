from clinical.errors import ConfigError
from clinical.extract.images import quiet
from clinical.modalities import images as images_module
from clinical.modalities.decoding import Recipe, decode, decode_all, read_slices, spread
from clinical.modalities.images import Images

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for grey in (10, 20, 30):
        Image.new("L", (40, 20), grey).save(folder / f"{grey}.png")
    (folder / "broken.png").write_bytes((folder / "10.png").read_bytes()[:40])
    (folder / "text.png").write_text("no image")
    return folder


def resolver(folder: Path) -> Callable[[str], Path]:
    return lambda path: folder / path


def square(path: Path, size: int) -> np.ndarray | str:
    """The one padded square of an image, or why there is none."""
    image = decode(path.name, resolver(path.parent), Recipe(size, square="pad"))
    return image if isinstance(image, str) else image.pixels[0]


def row(sample: int, path: str | None, hours: float = 1.0, **more: object) -> dict[str, object]:
    return {"sample": sample, "hours": hours, "image_path": path, **more}


def written(frame, n_samples, folder, pictures, **options):
    modality = Images(size=8, patch=4, **options)
    statistics = modality.fit(lambda: [frame], seed=0)
    counts = modality.write(
        frame, n_samples, statistics, folder, read_image=resolver(pictures), workers=2
    )
    return counts, modality.open([folder], statistics)


def greys(images) -> list[int]:
    """The grey of each image, read in its middle."""
    return (images.pixels[:, 0, 4, 4] * 255).round().int().tolist()


def test_the_longer_side_fits_and_the_shorter_is_padded_with_black(pictures) -> None:
    found = square(pictures / "30.png", 8)
    expected = np.zeros((8, 8), np.uint8)
    expected[2:6] = 30
    assert np.array_equal(found, expected)


def test_stretching_fits_both_sides(tmp_path) -> None:
    halves = np.repeat(np.array([[10, 10, 200, 200]], np.uint8), 12, 0)
    Image.fromarray(halves).resize((40, 12), Image.Resampling.NEAREST).save(tmp_path / "x.png")
    found = decode("x.png", resolver(tmp_path), Recipe(8, square="stretch")).pixels[0]
    assert (found[:, :3] == 10).all()
    assert (found[:, 5:] == 200).all()


def test_sixteen_bits_are_stretched_over_their_own_range(tmp_path) -> None:
    deep = np.linspace(1000, 5000, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    found = square(tmp_path / "deep.png", 8)
    assert np.array_equal(found, np.rint((deep - 1000.0) / 4000 * 255))
    Image.fromarray(np.full((8, 8), 700, np.uint16)).save(tmp_path / "flat.png")
    assert not square(tmp_path / "flat.png", 8).any()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_common_mode_becomes_grey(tmp_path, mode) -> None:
    Image.new("L", (8, 8), 255).convert(mode).save(tmp_path / "white.png")
    assert square(tmp_path / "white.png", 8).tolist() == [[255] * 8] * 8


def test_a_large_jpeg_shrinks_to_about_the_same_as_through_full_decoding(tmp_path) -> None:
    ramp = np.tile(np.linspace(0, 255, 512, dtype=np.uint8), (512, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.jpg", quality=95)
    found = square(tmp_path / "ramp.jpg", 32).astype(float)
    block_means = ramp.reshape(32, 16, 32, 16).mean((1, 3))
    assert np.abs(found - block_means).max() < 4


def test_a_format_that_medicine_does_not_use_is_undecodable(tmp_path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "drawing.pcx")
    assert square(tmp_path / "drawing.pcx", 8) == "undecodable"


def test_unreadable_files_are_told_apart(pictures, monkeypatch) -> None:
    assert square(pictures / "none.png", 8) == "missing"
    assert square(pictures, 8) == "undecodable"  # a folder without a slice
    assert square(pictures / "broken.png", 8) == "undecodable"
    assert square(pictures / "text.png", 8) == "undecodable"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert square(pictures / "10.png", 8) == "too_large"


def test_a_large_image_below_the_limit_is_read_without_a_warning(
    pictures, monkeypatch, recwarn
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)  # Pillow warns at 600 and refuses at 1200
    with quiet():
        (found,) = decode_all(["10.png"], resolver(pictures), Recipe(8), 1)
    assert found.pixels.shape == (1, 8, 8)
    assert not recwarn.list


def test_any_truncation_is_undecodable_or_an_image_in_silence(pictures, recwarn) -> None:
    generator = np.random.default_rng(0)
    noise = Image.fromarray(generator.integers(0, 256, (16, 16), dtype=np.uint8))
    for ending in ("png", "jpg", "tiff", "bmp", "gif", "webp"):
        whole = pictures / f"noise.{ending}"
        noise.save(whole)
        content = whole.read_bytes()
        for length in range(0, len(content), max(len(content) // 20, 1)):
            cut = pictures / f"cut.{ending}"
            cut.write_bytes(content[:length])
            with quiet():
                (outcome,) = decode_all([cut.name], resolver(pictures), Recipe(8), 1)
            assert outcome == "undecodable" or outcome.pixels.shape == (1, 8, 8)
    assert not recwarn.list


def test_the_newest_images_are_kept_in_the_order_of_time(make_frame, tmp_path, pictures) -> None:
    frame = make_frame([row(1, "10.png", 3.0), row(1, "20.png", 2.0), row(1, "30.png", 1.0)])
    counts, reader = written(frame, 2, tmp_path, pictures)
    images = reader.collate(np.array([0, 1]))
    assert greys(images) == [20, 30]
    assert images.time_hours.tolist() == [2.0, 1.0]
    assert images.sample.tolist() == [1, 1]
    assert images.observed.shape == (2, 2, 2)
    assert images.observed.all()
    assert counts == {"left_out_images": 1}


def test_an_unreadable_image_is_counted_and_gives_way_to_an_older_one(
    make_frame, tmp_path, pictures
) -> None:
    paths = ["10.png", "20.png", "30.png", "text.png", "broken.png", "none.png", None]
    frame = make_frame([row(0, path, 9.0 - i) for i, path in enumerate(paths)])
    counts, reader = written(frame, 1, tmp_path, pictures)
    assert counts == {"undecodable": 2, "missing": 1, "without_path": 1, "left_out_images": 1}
    assert greys(reader.collate(np.array([0]))) == [20, 30]


def test_an_image_is_stored_once_however_many_samples_see_it(
    make_frame, tmp_path, pictures
) -> None:
    frame = make_frame([row(s, "20.png", 5.0 - s, event=3, subject=0) for s in range(3)])
    _, reader = written(frame, 3, tmp_path, pictures)
    images = reader.collate(np.array([2, 0]))
    assert greys(images) == [20, 20]
    assert images.time_hours.tolist() == [3.0, 5.0]
    assert reader._stored.entries.n_rows == 1


def test_a_path_that_leaves_the_extract_is_not_taken_for_a_bad_image(make_frame, tmp_path) -> None:
    class OutsideError(Exception):
        pass

    def refuse(path: str) -> Path:
        raise OutsideError

    modality = Images()
    statistics = modality.fit(list, seed=0)
    with pytest.raises(OutsideError):
        modality.write(make_frame([row(0, "../x.png")]), 1, statistics, tmp_path, read_image=refuse)


def test_a_patch_that_does_not_divide_the_size_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^images: size 64 and patch 7 don't fit"):
        Images(patch=7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slices": 0}, "slices 0"),
        ({"channels": 2}, "channels 2 1 or 3"),
        ({"min_subjects": 0}, "min_subjects 0"),
        ({"window": [40, 0]}, "width above 0"),
        ({"window": [40]}, "width above 0"),
        ({"square": "crop"}, "should be pad or stretch"),
    ],
)
def test_impossible_keys_are_refused(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Images(**options)


# -- Stacks.


WINDOW = (-872.5, 255.0)


@pytest.fixture
def volume(pictures) -> Path:
    """Nine slices of a CT, of one grey each, 10 to 90 under `WINDOW`, beside the pictures."""
    nibabel = pytest.importorskip("nibabel")
    voxels = np.broadcast_to(np.arange(10, 100, 10, dtype=np.int16) - 1000, (6, 6, 9))
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), pictures / "volume.nii.gz")
    return pictures


def test_a_stack_becomes_rows_with_their_place_in_it(make_frame, tmp_path, volume) -> None:
    frame = make_frame([row(0, "30.png", 3.0), row(0, "volume.nii.gz", 2.0), row(1, "20.png")])
    counts, reader = written(frame, 2, tmp_path, volume, slices=3, window=WINDOW)
    images = reader.collate(np.array([1, 0]))
    assert greys(images) == [20, 30, 20, 50, 80]
    assert images.position.tolist() == [0.5, 0.5, 0.125, 0.5, 0.875]
    assert images.sample.tolist() == [0, 1, 1, 1, 1]
    assert images.time_hours.tolist() == [1.0, 3.0, 2.0, 2.0, 2.0]
    assert counts == {"left_out_slices": 6}
    assert reader.lengths.tolist() == [2, 1]


def test_three_channels_are_a_slice_between_its_neighbours_in_the_whole_stack(
    make_frame, tmp_path, volume
) -> None:
    frame = make_frame([row(0, "30.png", 3.0), row(0, "volume.nii.gz", 2.0)])
    options = {"channels": 3, "window": WINDOW}
    _, reader = written(frame, 1, tmp_path, volume, slices=3, **options)
    found = (reader.collate(np.array([0])).pixels[:, :, 4, 4] * 255).round().int()
    assert found.tolist() == [[30, 30, 30], [10, 20, 30], [40, 50, 60], [70, 80, 90]]
    _, reader = written(frame, 1, tmp_path, volume, slices=9, **options)
    found = (reader.collate(np.array([0])).pixels[:, :, 4, 4] * 255).round().int()
    assert found[1].tolist() == [10, 10, 20]  # the first has but one neighbour
    assert found[-1].tolist() == [80, 90, 90]
    assert len(reader._stored.entries["pixels"].get(1)) == 9  # each slice once


@pytest.mark.parametrize("channels", [1, 3])
def test_the_slices_that_are_kept_can_be_read_at_their_own_size(volume, channels) -> None:
    recipe = Recipe(16, slices=3, channels=channels, window=WINDOW)
    read = read_slices("volume.nii.gz", resolver(volume), recipe)
    assert [plane.shape for plane in read] == [(6, 6)] * 3
    assert [int(plane.max()) for plane in read] == [20, 50, 80]


@pytest.mark.parametrize(("depth", "n"), [(1, 4), (4, 4), (9, 1), (9, 3), (100, 16), (17, 16)])
def test_slices_are_spread_evenly_and_never_twice(depth, n) -> None:
    found = spread(depth, n)
    assert len(found) == len(set(found.tolist())) == min(depth, n)
    assert 0 <= found.min() <= found.max() < depth
    assert abs(found.mean() - (depth - 1) / 2) <= 0.5
    assert np.ptp(np.diff(found)) <= 1 if len(found) > 1 else True


# -- Views.


def test_views_are_the_codes_that_enough_train_subjects_have(make_frame, tmp_path, pictures):
    codes = {"PA": (0, 1), "AP": (2, 3), "RARE": (4, 4), "NOTHING": (5, 6)}
    train = make_frame(
        [
            row(subject, None if code == "NOTHING" else "10.png", code=code)
            for code, subjects in codes.items()
            for subject in subjects
        ]
    )
    modality = Images(size=8, patch=4, min_subjects=2)
    statistics = modality.fit(lambda: [train], seed=0)
    expected = {"size": 8, "patch": 4, "channels": 1, "views": 3}
    assert modality.sizes(statistics) == expected
    shown = ["AP", "UNSEEN", "PA", "RARE"]
    frame = make_frame([row(s, "20.png", code=code) for s, code in enumerate(shown)])
    modality.write(frame, 4, statistics, tmp_path, read_image=resolver(pictures))
    images = modality.open([tmp_path], statistics).collate(np.arange(4))
    assert images.view.tolist() == [1, 0, 2, 0]


# -- Many images.


def test_images_in_many_blocks_and_none_are_read_back(
    make_frame, tmp_path, pictures, monkeypatch
) -> None:
    monkeypatch.setattr(images_module, "BLOCK_BYTES", 100)
    greyscale = [10, 20, 30]
    paths = ["text.png" if n % 7 == 3 else f"{greyscale[n % 3]}.png" for n in range(40)]
    # Events out of the order of samples, and some that give way to older ones.
    frame = make_frame([row(n // 2, p, 9.0 - n % 2, event=39 - n) for n, p in enumerate(paths)])
    counts, reader = written(frame, 20, tmp_path, pictures, max_images=1)
    images = reader.collate(np.arange(20))
    expected = [
        int(next(p for p in (paths[2 * s + 1], paths[2 * s]) if p != "text.png")[:2])
        for s in range(20)
    ]
    assert greys(images) == expected
    assert counts["undecodable"] == 3
    (tmp_path / "none").mkdir()
    _, reader = written(make_frame([]), 2, tmp_path / "none", pictures)
    images = reader.collate(np.array([0, 1]))
    assert images.pixels.shape == (0, 1, 8, 8)
    assert not images.present.any()


def test_only_a_few_decoded_images_wait_for_the_disk(pictures) -> None:
    asked = []

    def resolve(name: str) -> Path:
        asked.append(name)
        return pictures / name

    found = decode_all(["10.png"] * 1000, resolve, Recipe(8), 2)
    for _ in range(5):
        next(found)
    found.close()
    assert len(asked) < 30


def test_what_is_missing_is_told_before_anything_is_read(
    make_frame, tmp_path, pictures, monkeypatch, caplog
) -> None:
    from clinical.extract.images import installing, reading

    (pictures / "scan.dcm").write_bytes(b"\0" * 128 + b"DICM")
    monkeypatch.setattr(reading, "is_installed", lambda need: need != "dicom")
    monkeypatch.setattr("clinical.extract.images.dicom.is_installed", lambda need: False)
    monkeypatch.setattr(images_module, "decode_all", lambda *_: pytest.fail("read too early"))
    frame = make_frame([row(0, "scan.dcm", 1.0), row(0, "10.png", 2.0)])
    installing.tell.cache_clear()
    with pytest.raises(pytest.fail.Exception):
        written(frame, 1, tmp_path, pictures)
    assert "pip install 'clinical[dicom]'" in caplog.text
    monkeypatch.setattr(images_module, "decode_all", decode_all)
    counts, reader = written(frame, 1, tmp_path, pictures)
    installing.tell.cache_clear()
    assert counts == {"unsupported": 1}
    assert greys(reader.collate(np.array([0]))) == [10]
    assert len(caplog.records) == 1

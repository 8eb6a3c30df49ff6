from clinical.errors import ConfigError
from clinical.modalities.decoding import decode, decode_all
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
    square = decode(pictures / "30.png", 8)
    expected = np.zeros((8, 8), np.uint8)
    expected[2:6] = 30
    assert np.array_equal(square, expected)


def test_sixteen_bits_are_stretched_over_their_own_range(tmp_path) -> None:
    deep = np.linspace(1000, 5000, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    found = decode(tmp_path / "deep.png", 8)
    assert np.array_equal(found, np.rint((deep - 1000.0) / 4000 * 255))
    Image.fromarray(np.full((8, 8), 700, np.uint16)).save(tmp_path / "flat.png")
    assert not decode(tmp_path / "flat.png", 8).any()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_common_mode_becomes_grey(tmp_path, mode) -> None:
    Image.new("L", (8, 8), 255).convert(mode).save(tmp_path / "white.png")
    assert decode(tmp_path / "white.png", 8).tolist() == [[255] * 8] * 8


def test_a_large_jpeg_shrinks_to_about_the_same_as_through_full_decoding(tmp_path) -> None:
    ramp = np.tile(np.linspace(0, 255, 512, dtype=np.uint8), (512, 1))
    Image.fromarray(ramp).save(tmp_path / "ramp.jpg", quality=95)
    found = decode(tmp_path / "ramp.jpg", 32).astype(float)
    block_means = ramp.reshape(32, 16, 32, 16).mean((1, 3))
    assert np.abs(found - block_means).max() < 4


def test_a_format_that_medicine_does_not_use_is_undecodable(tmp_path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "drawing.pcx")
    assert decode(tmp_path / "drawing.pcx", 8) == "undecodable"


def test_unreadable_files_are_told_apart(pictures, monkeypatch) -> None:
    assert decode(pictures / "none.png", 8) == "missing"
    assert decode(pictures, 8) == "missing"
    assert decode(pictures / "broken.png", 8) == "undecodable"
    assert decode(pictures / "text.png", 8) == "undecodable"
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode(pictures / "10.png", 8) == "too_large"


def test_a_large_image_below_the_limit_is_read_without_a_warning(
    pictures, monkeypatch, recwarn
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)  # Pillow warns at 600 and refuses at 1200
    found = decode_all(["10.png"], resolver(pictures), 8, 1)
    assert isinstance(found[0], np.ndarray)
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
            (outcome,) = decode_all([cut.name], resolver(pictures), 8, 1)
            assert isinstance(outcome, np.ndarray) or outcome == "undecodable"
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
    with pytest.raises(OutsideError):
        modality.write(
            make_frame([row(0, "../x.png")]),
            1,
            {"size": 8, "patch": 4},
            tmp_path,
            read_image=refuse,
        )


def test_a_patch_that_does_not_divide_the_size_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^images: size 64 and patch 7 don't fit"):
        Images(patch=7)

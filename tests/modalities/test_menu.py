"""What holds for every modality; an entry added to the menu is tested here by itself."""

from clinical.cohort.counts import MEANINGS
from clinical.config import keywords
from clinical.modalities import MODALITIES

import inspect
import json
import pickle
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from polars.testing import assert_frame_equal
from torch import Tensor

SAMPLES = 7
NOTHING = 4  # the sample that has nothing at all

EVERY_NAME = pytest.mark.parametrize("name", sorted(MODALITIES))


@EVERY_NAME
def test_what_writing_counts_is_explained_to_the_user(name):
    returns = inspect.getdoc(MODALITIES[name].write).partition("Returns:")[2]
    counted = re.findall(r"`(\w+)`", returns)
    assert counted
    assert set(counted) <= set(MEANINGS)


@pytest.fixture
def pictures(tmp_path) -> Path:
    generator = np.random.default_rng(1)
    for number in range(SAMPLES):
        pixels = generator.integers(0, 256, (16, 12), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return tmp_path


@pytest.fixture
def everything(make_frame) -> pl.DataFrame:
    """Rows that every modality can use, of all samples but one."""
    generator = np.random.default_rng(0)
    rows = []
    for sample in set(range(SAMPLES)) - {NOTHING}:
        for step in range(2 + sample):
            rows.append(
                {
                    "sample": sample,
                    "hours": 20.0 - 2.5 * step,
                    "code": f"CODE//{(sample + step) % 3}",
                    "numeric_value": float(generator.normal()),
                    "text_value": "mild " * (step + 1) + "edema" * (sample % 2),
                    "image_path": f"{sample}.png",
                }
            )
    return make_frame(rows)


@pytest.fixture
def modality_of():
    """A modality with options for a tiny corpus."""
    small = {"min_subjects": 1, "size": 8, "codes": ["CODE//.*"], "vocabulary": 300}

    def make(name: str):
        entry = MODALITIES[name]
        return entry(**{key: small[key] for key in keywords(entry) if key in small})

    return make


def cut(frame: pl.DataFrame, low: int, high: int) -> pl.DataFrame:
    """The samples low .. high - 1 as a shard of their own."""
    part = frame.filter(pl.col("sample").is_between(low, high - 1))
    return part.with_columns(pl.col("sample") - low, event=pl.int_range(pl.len(), dtype=pl.Int64))


def write(modality, statistics, shards, folder: Path, pictures: Path):
    """A reader over shards of (frame, number of samples)."""
    folders = []
    for number, (frame, n_samples) in enumerate(shards):
        folders.append(folder / f"shard-{number}")
        folders[-1].mkdir(parents=True)
        modality.write(
            frame, n_samples, statistics, folders[-1], read_image=lambda path: pictures / path
        )
    return modality.open(folders, statistics)


def contents(container, sample: int) -> list[list[float]]:
    """All that a container says of a sample, without padding."""
    by_row = hasattr(container, "sample")
    here = container.sample == sample if by_row else torch.tensor([sample])
    found = []
    mask = container.mask[here] if hasattr(container, "mask") else None
    for field in fields(container):
        tensor = getattr(container, field.name)
        if not isinstance(tensor, Tensor) or field.name in ("sample", "mask"):
            continue
        values = tensor[here]
        # What phrases say of a row is as wide as its mask by chance at most.
        is_padded = mask is not None and field.name != "phrases"
        if is_padded and values.shape[: mask.dim()] == mask.shape:
            values = values[mask]
        found.append(values.flatten().tolist())
    return found


@EVERY_NAME
def test_options_are_keywords_with_defaults(name) -> None:
    parameters = inspect.signature(MODALITIES[name]).parameters
    assert set(parameters) == set(keywords(MODALITIES[name]))
    assert all(p.default is not p.empty for p in parameters.values())


@EVERY_NAME
def test_statistics_survive_json_and_are_the_same_again(name, modality_of, everything) -> None:
    modality = modality_of(name)
    statistics = modality.fit(lambda: [everything], seed=3)
    assert json.loads(json.dumps(statistics)) == statistics
    assert modality_of(name).fit(lambda: [everything], seed=3) == statistics
    assert all(type(size) is int for size in modality.sizes(statistics).values())


@EVERY_NAME
def test_fitting_and_writing_leave_the_frame_as_it_was(
    name, modality_of, everything, tmp_path, pictures
) -> None:
    before = everything.clone()
    modality = modality_of(name)
    statistics = modality.fit(lambda: [everything], seed=0)
    copied = json.dumps(statistics)
    write(modality, statistics, [(everything, SAMPLES)], tmp_path / "a", pictures)
    assert_frame_equal(everything, before)
    assert json.dumps(statistics) == copied


@EVERY_NAME
def test_a_sample_is_the_same_alone_in_any_order_and_from_any_shards(
    name, modality_of, everything, tmp_path, pictures
) -> None:
    modality = modality_of(name)
    statistics = modality.fit(lambda: [everything], seed=0)
    one = write(modality, statistics, [(everything, SAMPLES)], tmp_path / "one", pictures)
    bounds = [(0, 3), (3, 3), (3, SAMPLES)]  # the one in the middle is empty
    parts = [(cut(everything, low, high), high - low) for low, high in bounds]
    several = write(modality, statistics, parts, tmp_path / "several", pictures)
    order = np.random.default_rng(0).permutation(SAMPLES)
    together, shuffled = one.collate(np.arange(SAMPLES)), several.collate(order)
    for place, sample in enumerate(order):
        alone = contents(one.collate(np.array([sample])), 0)
        assert contents(together, sample) == alone
        assert contents(shuffled, place) == alone


@EVERY_NAME
def test_a_sample_may_be_asked_for_twice(name, modality_of, everything, tmp_path, pictures) -> None:
    modality = modality_of(name)
    statistics = modality.fit(lambda: [everything], seed=0)
    reader = write(modality, statistics, [(everything, SAMPLES)], tmp_path / "a", pictures)
    batch = reader.collate(np.array([2, 5, 2]))
    assert contents(batch, 0) == contents(batch, 2) != contents(batch, 1)


@EVERY_NAME
def test_lengths_and_presence_agree_with_the_batch(
    name, modality_of, everything, tmp_path, pictures
) -> None:
    modality = modality_of(name)
    statistics = modality.fit(lambda: [everything], seed=0)
    reader = write(modality, statistics, [(everything, SAMPLES)], tmp_path / "a", pictures)
    expected = [sample != NOTHING for sample in range(SAMPLES)]
    assert reader.lengths.dtype == np.int64
    assert reader.present.tolist() == expected
    assert (reader.lengths > 0).tolist() == expected
    assert reader.collate(np.arange(SAMPLES)).present.tolist() == expected


@EVERY_NAME
def test_nothing_at_all_can_be_learned_from_written_and_read(
    name, modality_of, everything, tmp_path, pictures
) -> None:
    modality = modality_of(name)
    nothing = everything.clear()
    for train in (everything, nothing):
        statistics = modality.fit(lambda train=train: [train], seed=0)
        for n_samples in (0, 3):
            folder = tmp_path / f"{train.height}-{n_samples}"
            reader = write(modality, statistics, [(nothing, n_samples)], folder, pictures)
            assert reader.lengths.tolist() == [0] * n_samples
            batch = reader.collate(np.arange(n_samples))
            assert batch.present.tolist() == [False] * n_samples


@EVERY_NAME
def test_what_is_written_without_having_been_learned_is_left_out(
    name, modality_of, everything, tmp_path, pictures
) -> None:
    modality = modality_of(name)
    statistics = modality.fit(lambda: [everything.clear()], seed=0)
    reader = write(modality, statistics, [(everything, SAMPLES)], tmp_path / "a", pictures)
    learns_no_codes = name in ("notes", "images")
    assert reader.present.any() == learns_no_codes


@EVERY_NAME
def test_a_reader_pickles_small_and_tensors_outlive_it(
    name, modality_of, everything, tmp_path, pictures
) -> None:
    modality = modality_of(name)
    statistics = modality.fit(lambda: [everything], seed=0)
    reader = write(modality, statistics, [(everything, SAMPLES)], tmp_path / "a", pictures)
    batch = reader.collate(np.arange(SAMPLES))
    again = pickle.loads(pickle.dumps(reader)).collate(np.arange(SAMPLES))  # noqa: S301
    for sample in range(SAMPLES):
        assert contents(again, sample) == contents(batch, sample)
    assert len(pickle.dumps(reader)) < 2000
    for field in fields(batch):
        tensor = getattr(batch, field.name)
        if isinstance(tensor, Tensor):
            tensor.zero_()  # a view of the read-only map would not survive this

"""The synthetic hospital's CT: the reading of the X-ray whose place it takes, in DICOM."""

from clinical.config import RunConfig
from clinical.errors import ConfigError
from clinical.extract import synthetic
from clinical.extract.synthetic import synthesize
from clinical.extract.synthetic.causes import INFILTRATE
from clinical.extract.synthetic.render_ct import SLICES, add_nodule, draw_chest, write_series
from clinical.extract.synthetic.stays import draw_stays
from clinical.extract.validate import validate
from clinical.modalities.decoding import Recipe, decode
from clinical.preparation import prepare

from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytest.importorskip("pydicom")

SUBJECTS, SEED = 70, 4


@pytest.fixture(scope="module")
def hospital(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("ct") / "hospital"
    synthesize(out, subjects=SUBJECTS, seed=SEED, ct=True)
    return out


def solid(slices: np.ndarray) -> float:
    """How much of where the lungs are is as bright as tissue; [R, 96, 96] from 0 to 1."""
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    within = (np.abs(np.abs(x) - 0.46) < 0.24) & (np.abs(y) < 0.42)
    return float((slices[:, within] > 0.43).sum())


def explained(values: list[float], readings: np.ndarray) -> float:
    return float(np.corrcoef(values, readings)[0, 1] ** 2)


def test_the_size_of_the_nodule_is_read_from_prepared_slices_and_is_gone_without_it(tmp_path):
    rng = np.random.default_rng(0)
    readings = rng.normal(0, 1.1, 40)
    amounts = {"with": [], "without": []}
    recipe = Recipe(96, slices=SLICES, window=(-300.0, 1400.0))
    for number, reading in enumerate(readings):
        chest = draw_chest(rng)
        for name, volume in (("with", add_nodule(rng, chest, reading)), ("without", chest)):
            folder = tmp_path / name / str(number)
            folder.mkdir(parents=True)
            write_series(volume, folder, series=f"2.25.{number}")
            image = decode(f"{name}/{number}", lambda path: tmp_path / path, recipe)
            amounts[name].append(solid(image.pixels / 255))
    assert explained(amounts["with"], readings) > 0.75
    assert explained(amounts["without"], readings) < 0.1


def test_the_extract_is_valid_and_half_of_the_images_are_ct(hospital):
    assert validate(hospital).findings == ()
    events = pl.read_parquet(hospital / "data" / "*.parquet").drop_nulls("image_path")
    counts = dict(events["code"].value_counts().iter_rows())
    assert set(counts) == {"IMAGING//CHEST_CT", "IMAGING//CHEST_XRAY"}
    assert min(counts.values()) > 0.3 * sum(counts.values())
    folder = hospital / events.filter(pl.col("code") == "IMAGING//CHEST_CT")["image_path"][0]
    assert len(list(folder.iterdir())) == SLICES


def test_who_has_an_image_and_the_truth_stay_as_they_are_without_ct(hospital, tmp_path):
    synthesize(tmp_path / "plain", subjects=SUBJECTS, seed=SEED)
    for name in ("truth.parquet", "samples.parquet", "tasks/in_hospital_mortality/0.parquet"):
        assert (tmp_path / "plain" / name).read_bytes() == (hospital / name).read_bytes()
    tables = [
        pl.read_parquet(root / "data" / "*.parquet") for root in (tmp_path / "plain", hospital)
    ]
    others = [table.filter(pl.col("image_path").is_null()) for table in tables]
    columns = others[0].columns
    assert others[0].sort(columns).equals(others[1].sort(columns))
    # Before the prediction: of each stay with an image exactly one, an X-ray or a CT.
    samples = pl.read_parquet(hospital / "samples.parquet")
    seen = [
        table.drop_nulls("image_path")
        .join(samples, on="subject_id")
        .filter(
            (pl.col("time") <= pl.col("prediction_time"))
            & (pl.col("time") > pl.col("prediction_time").dt.offset_by("-48h"))
        )["prediction_time"]
        .sort()
        for table in tables
    ]
    assert seen[0].equals(seen[1])


def test_each_ct_of_a_prepared_hospital_shows_the_reading_of_its_stay(hospital, tmp_path):
    config = RunConfig.model_validate(
        {
            "extract": hospital,
            "out": tmp_path,
            "window_hours": 48,
            "tasks": {"death": {"kind": "binary", "labels": "tasks/in_hospital_mortality"}},
            "modalities": {"images": {"encoder": "cnn", "size": 96, "patch": 8}},
        }
    )
    store = prepare(config, tmp_path / "store")
    from clinical.modalities import MODALITIES

    statistics = store.fitted.statistics["images"]
    assert statistics["views"] == ["IMAGING//CHEST_CT", "IMAGING//CHEST_XRAY"]
    reader = MODALITIES["images"](size=96).open(store.shards, statistics)
    drawing = np.random.SeedSequence(SEED).spawn(1)[0]
    stays = draw_stays(np.random.default_rng(drawing), SUBJECTS, outbreak=True)
    amounts, readings = [], []
    for row in range(store.n_samples):
        images = reader.collate(np.array([row]))
        if len(images.view) == SLICES and (images.view == 1).all():
            amounts.append(solid(images.pixels[:, 0].numpy()))
            readings.append(stays.readings[row, INFILTRATE])
    assert len(amounts) > 10
    assert explained(amounts, np.array(readings)) > 0.6


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    folders = [tmp_path / name for name in ("a", "b")]
    for folder in folders:
        synthesize(folder, subjects=12, seed=1, ct=True)
    files = [sorted(f.relative_to(root) for f in root.rglob("*.*")) for root in folders]
    assert files[0] == files[1]
    assert any(file.suffix == ".dcm" for file in files[0])
    for file in files[0]:
        assert (folders[0] / file).read_bytes() == (folders[1] / file).read_bytes()


def test_without_pydicom_ct_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "is_installed", lambda need: False)
    with pytest.raises(ConfigError, match=r"pip install 'clinical\[dicom\]'"):
        synthesize(tmp_path / "out", subjects=12, seed=1, ct=True)
    assert not (tmp_path / "out").exists()

"""A small valid extract that each test may break in its own way."""

from clinical.extract.write import write_extract

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

DAY = datetime(2020, 1, 1)


def events(subject: int) -> pl.DataFrame:
    """Five events of one subject: static, birth, number, note and image."""
    return pl.DataFrame(
        {
            "subject_id": [subject] * 5,
            "time": [None, datetime(1950, 6, 1), DAY, datetime(2020, 1, 2), datetime(2020, 1, 2)],
            "code": ["GENDER//F", "MEDS_BIRTH", "HR", "NOTE//nurse", "IMAGE//chest"],
            "numeric_value": [None, None, 80.5, None, None],
            "text_value": [None, None, None, "resting", None],
            "image_path": [None, None, None, None, f"images/{subject}.png"],
        }
    )


@pytest.fixture
def make_extract(tmp_path: Path) -> Callable[[], Path]:
    """Writes an extract of three subjects in two shards with every optional file."""

    def make() -> Path:
        root = tmp_path / "extract"
        (root / "images").mkdir(parents=True)
        for subject in (1, 2, 3):
            Image.new("L", (4, 4), subject * 40).save(root / "images" / f"{subject}.png")
        subjects = pl.DataFrame({"subject_id": [1, 2, 3]})
        samples = subjects.with_columns(
            pl.lit(DAY).dt.cast_time_unit("us").alias("prediction_time")
        )
        write_extract(
            root,
            shards=[pl.concat([events(1), events(2)]), events(3)],
            codes=events(1).select("code"),
            dataset={
                "dataset_name": "small",
                "additional_value_modality_columns": ["image_path"],
            },
            splits=subjects.with_columns(pl.Series("split", ["train", "tuning", "held_out"])),
            samples=samples,
            labels={"died": samples.with_columns(pl.Series("boolean_value", [True, False, True]))},
        )
        return root

    return make


@pytest.fixture
def root(make_extract: Callable[[], Path]) -> Path:
    return make_extract()

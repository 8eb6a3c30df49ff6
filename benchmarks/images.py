"""How fast images are prepared, against Pillow alone, and in how much memory.

    python benchmarks/images.py --images 10000

Makes some hundred distinct radiographs of 2,000 x 2,000 pixels, half PNG and half JPEG, and an
extract that names each of them many times. Then Pillow alone decodes every file, whole and on as
many threads; and `prepare` reads, shrinks and stores them. Each runs in a process of its own; what
`prepare` costs without images is taken off its time.
"""

import clinical
from clinical.extract.write import write_extract

import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Annotated

import numpy as np
import polars as pl
import typer
from measuring import measured
from PIL import Image

SIDE = 2000
DAY = datetime(2020, 1, 1)


def draw(folder: Path, distinct: int) -> list[Path]:
    """Smooth pictures with the grain of a detector, since a plain one would compress too well."""
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 3, (SIDE, SIDE)).astype(np.float32)
    files = []
    for number in range(distinct):
        coarse = Image.fromarray(rng.integers(40, 200, (12, 12), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.float32)
        picture = smooth + np.roll(grain, int(rng.integers(SIDE)), axis=0)
        image = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
        file = folder / f"{number}.{'jpg' if number % 2 else 'png'}"
        image.save(file, **({"quality": 90} if number % 2 else {"compress_level": 6}))
        files.append(file)
    return files


def build(root: Path, *, images: int, distinct: int) -> None:
    """One subject an image, all in one shard; files are hard links to the distinct ones."""
    (root / "images").mkdir(parents=True)
    drawn = draw(root, distinct)
    names = []
    for number in range(images):
        file = drawn[number % distinct]
        names.append(f"images/{number}{file.suffix}")
        os.link(file, root / names[-1])
    subject = np.arange(1, images + 1)
    events = pl.DataFrame({"subject_id": subject, "code": "XRAY", "image_path": names})
    events = events.with_columns(pl.lit(DAY).alias("time"))
    numbers = events.drop("image_path").with_columns(
        pl.lit("HR").alias("code"), pl.lit(80.0).cast(pl.Float32).alias("numeric_value")
    )
    samples = pl.DataFrame({"subject_id": subject}).with_columns(
        pl.lit(DAY).alias("prediction_time")
    )
    share = (subject % 5).clip(0, 2)
    split = pl.Series("split", np.array(["tuning", "held_out", "train"])[share])
    write_extract(
        root,
        shards=[pl.concat([events, numbers], how="diagonal")],
        codes=pl.DataFrame({"code": ["XRAY", "HR"]}),
        dataset={"dataset_name": "images", "additional_value_modality_columns": ["image_path"]},
        splits=pl.DataFrame({"subject_id": subject}).with_columns(split),
        samples=samples,
        labels={"died": samples.with_columns(pl.Series("boolean_value", subject % 2 == 0))},
    )


def decode(root: Path, threads: int) -> None:
    """Every file by Pillow alone."""

    def load(file: Path) -> None:
        with Image.open(file) as image:
            image.load()

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(load, sorted((root / "images").iterdir())):
            pass


def prepare(root: Path, threads: int, size: int, with_images: bool) -> None:
    """The store."""
    modalities = {"events": {"encoder": "event_set"}}
    if with_images:
        modalities["images"] = {"encoder": "cnn", "size": size}
    run = clinical.Run.model_validate(
        {
            "extract": root,
            "out": root.parent / f"run-{with_images}",
            "window_hours": None,
            "tasks": {"died": {"kind": "binary", "labels": "tasks/died"}},
            "modalities": modalities,
            "trainer": {"workers": threads},
        }
    )
    clinical.prepare(run)


def main(
    images: Annotated[int, typer.Option(help="Files.")] = 10_000,
    distinct: Annotated[int, typer.Option(help="Of them that differ.")] = 200,
    threads: Annotated[int, typer.Option(help="Of Pillow alone and of prepare.")] = 2,
    size: Annotated[int, typer.Option(help="Of the squares.")] = 224,
) -> None:
    """Print images a second, their ratio and peak memory."""
    with tempfile.TemporaryDirectory() as work:
        root = Path(work) / "extract"
        build(root, images=images, distinct=min(distinct, images))
        alone = measured(decode, root, threads)
        bare = measured(prepare, root, threads, size, False)
        whole = measured(prepare, root, threads, size, True)
    seconds = whole.seconds - bare.seconds
    print(f"{images} images of {SIDE} x {SIDE} px, {threads} threads, squares of {size} px")
    print(f"{'step':24} {'images/s':>9} {'seconds':>8} {'core s':>8} {'peak MB':>8}")
    for step, cost, lasted in (
        ("Pillow alone", alone, alone.seconds),
        ("prepare, less the rest", whole, seconds),
    ):
        print(
            f"{step:24} {images / lasted:9.1f} {lasted:8.1f} {cost.core_seconds:8.1f} "
            f"{cost.peak_mb:8.0f}"
        )
    cores = (whole.core_seconds - bare.core_seconds) / alone.core_seconds
    print(f"rate: {alone.seconds / seconds:.2f} of Pillow's by the clock, {1 / cores:.2f} by cores")


if __name__ == "__main__":
    typer.run(main)

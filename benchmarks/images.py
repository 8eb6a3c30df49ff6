"""How fast images are prepared, against Pillow alone, and in how much memory.

    python benchmarks/images.py --images 10000

Makes some hundred distinct radiographs of 2,000 x 2,000 pixels, half PNG and half JPEG, and an
extract that names each of them many times. Then Pillow alone decodes every file, whole and on as
many threads; and `prepare` reads, shrinks and stores them. Each runs in a process of its own; what
`prepare` costs with ten images, mostly its imports, is taken off its time.
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
FEW = 10
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


def build(root: Path, *, images: int, drawn: list[Path]) -> None:
    """One subject an image, all in one shard; files are hard links to the drawn ones."""
    (root / "images").mkdir(parents=True)
    names = []
    for number in range(images):
        file = drawn[number % len(drawn)]
        names.append(f"images/{number}{file.suffix}")
        os.link(file, root / names[-1])
    subject = np.arange(1, images + 1)
    events = pl.DataFrame({"subject_id": subject, "code": "XRAY", "image_path": names})
    events = events.with_columns(pl.lit(DAY).alias("time"))
    samples = pl.DataFrame({"subject_id": subject}).with_columns(
        pl.lit(DAY).alias("prediction_time")
    )
    share = (subject % 5).clip(0, 2)
    split = pl.Series("split", np.array(["tuning", "held_out", "train"])[share])
    write_extract(
        root,
        shards=[events],
        codes=pl.DataFrame({"code": ["XRAY"]}),
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


def prepare(root: Path, threads: int, size: int) -> None:
    """The store."""
    run = clinical.Run.model_validate(
        {
            "extract": root,
            "out": root.parent / f"run-{root.name}",
            "window_hours": None,
            "tasks": {"died": {"kind": "binary", "labels": "tasks/died"}},
            "modalities": {"images": {"encoder": "cnn", "size": size}},
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
        drawn = draw(Path(work), min(distinct, images))
        few, many = Path(work) / "few", Path(work) / "many"
        build(few, images=FEW, drawn=drawn)
        build(many, images=images, drawn=drawn)
        alone = measured(decode, many, threads)
        bare = measured(prepare, few, threads, size)
        whole = measured(prepare, many, threads, size)
    more = images / (images - FEW)
    seconds = more * (whole.seconds - bare.seconds)
    core_seconds = more * (whole.core_seconds - bare.core_seconds)
    print(f"{images} images of {SIDE} x {SIDE} px, {threads} threads, squares of {size} px")
    print(f"{'step':24} {'images/s':>9} {'seconds':>8} {'core s':>8} {'peak MB':>8}")
    for step, lasted, busy, peak in (
        ("Pillow alone", alone.seconds, alone.core_seconds, alone.peak_mb),
        ("prepare, less the rest", seconds, core_seconds, whole.peak_mb),
    ):
        print(f"{step:24} {images / lasted:9.1f} {lasted:8.1f} {busy:8.1f} {peak:8.0f}")
    print(
        f"rate: {alone.seconds / seconds:.2f} of Pillow's by the clock, "
        f"{alone.core_seconds / core_seconds:.2f} by the work of the cores"
    )


if __name__ == "__main__":
    typer.run(main)

"""Whether the images that events name are inside the extract, exist and can be decoded."""

from clinical.errors import SchemaError
from clinical.extract.findings import Finding
from clinical.extract.schema import Extract

import struct
import zlib
from pathlib import Path

import polars as pl
from PIL import Image

# Without a list Pillow also tries formats that start other programs, such as EPS.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM", "JPEG2000")

# What Pillow raises on files that are damaged, foreign or made to exhaust memory.
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def is_readable(path: Path) -> bool:
    """Whether Pillow decodes every pixel; the header of a truncated file would look well."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            image.load()
    except _UNREADABLE:
        return False
    return True


def check_images(extract: Extract, events: pl.DataFrame, shard: str) -> list[Finding]:
    """Findings about the image paths of one shard; counts are of distinct paths."""
    paths = events["image_path"].drop_nulls().unique().sort()
    n_outside = n_missing = n_unreadable = 0
    for path in paths:
        try:
            file = extract.image(path)
        except SchemaError:
            n_outside += 1
            continue
        if not file.is_file():
            n_missing += 1
        elif not is_readable(file):
            n_unreadable += 1
    findings = []
    declared = extract.metadata.get("additional_value_modality_columns", [])
    if len(paths) and "image_path" not in declared:
        remedy = (
            "image_path is not declared; add it to additional_value_modality_columns "
            "in metadata/dataset.json"
        )
        findings.append(Finding("image_path declared", "error", shard, len(paths), remedy))
    if n_outside:
        remedy = (
            "paths are absolute or lead out of the extract; copy the images into it and name "
            "them relative to its root"
        )
        findings.append(Finding("images inside", "error", shard, n_outside, remedy))
    if n_missing:
        remedy = "images don't exist; add the files or drop their events"
        findings.append(Finding("images exist", "error", shard, n_missing, remedy))
    if n_unreadable:
        remedy = "images cannot be decoded and will count as absent; convert or replace them"
        findings.append(Finding("images readable", "warning", shard, n_unreadable, remedy))
    return findings

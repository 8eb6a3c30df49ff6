"""Whether the images that events name are inside the extract, exist and can be decoded."""

from clinical.errors import SchemaError
from clinical.extract.findings import Finding
from clinical.extract.images.reading import open_stack, quiet
from clinical.extract.images.stack import Reason, UnreadableError
from clinical.extract.schema import Extract

from collections import Counter
from typing import Literal

import numpy as np
import polars as pl

Problem = Reason | Literal["outside"]

# What is found of images -> check, severity and remedy.
_FINDINGS: dict[Problem, tuple[str, Literal["error", "warning"], str]] = {
    "outside": (
        "images inside",
        "error",
        "paths are absolute or lead out of the extract; copy the images into it and name them "
        "relative to its root",
    ),
    "missing": ("images exist", "error", "images don't exist; add the files or drop their events"),
    "undecodable": (
        "images readable",
        "warning",
        "images cannot be decoded and will count as absent; convert or replace them",
    ),
    "too_large": (
        "images readable",
        "warning",
        "images have too many pixels and will count as absent; make them smaller",
    ),
    "unsupported": (
        "images readable",
        "warning",
        "images will count as absent: pip install 'clinical[dicom,dicom-compressed,nifti]' where "
        "that is missing, and convert what no extra reads (videos, deflated DICOM, 12-bit JPEG)",
    ),
}


def n_pixels(extract: Extract, name: str) -> int:
    """Pixels of an image as its header says, by which it can be refused undecoded; 0 of none."""
    try:
        return open_stack(name, extract.image).n_pixels
    except UnreadableError:
        return 0


def unreadable(extract: Extract, name: str) -> Problem | None:
    """Why an image cannot be read: every pixel is, as a truncated file has a fair header."""
    try:
        stack = open_stack(name, extract.image)
        # One by one for the sake of memory; a slice without a finite value is black among others.
        planes = (plane for number in range(stack.depth) for plane in stack.planes([number]))
        has_values = [bool(np.isfinite(plane).any()) for plane in planes]
    except SchemaError:
        return "outside"
    except UnreadableError as error:
        return error.reason
    return None if any(has_values) else "undecodable"


def check_images(extract: Extract, events: pl.DataFrame, shard: str) -> list[Finding]:
    """Findings about the image paths of one shard; counts are of distinct paths."""
    paths = events["image_path"].drop_nulls().unique().sort()
    with quiet():
        counts = Counter(unreadable(extract, path) for path in paths)
    findings = []
    declared = extract.metadata.get("additional_value_modality_columns", [])
    if len(paths) and "image_path" not in declared:
        remedy = (
            "image_path is not declared; add it to additional_value_modality_columns "
            "in metadata/dataset.json"
        )
        findings.append(Finding("image_path declared", "error", shard, len(paths), remedy))
    for reason, (check, severity, remedy) in _FINDINGS.items():
        if counts[reason]:
            findings.append(Finding(check, severity, shard, counts[reason], remedy))
    return findings

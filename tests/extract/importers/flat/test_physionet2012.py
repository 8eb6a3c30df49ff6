"""A long file a patient, against the importer that is written for it alone."""

from clinical.extract.importers.flat import import_flat
from clinical.extract.importers.physionet2012 import import_physionet2012

import tarfile
from pathlib import Path

import polars as pl
import pytest

SETS = Path(__file__).parents[4] / ".." / "shared" / "data" / "physionet2012"
MAPPING = """
name: physionet2012
tables:
  stays:
    files: set-b/{record}.txt
    subject: record
    time: {after: 2000-01-01, clock: Time}
    where: {Parameter: {none_of: RecordID}}
    events:
      - {code: "{Parameter}", value: Value}
"""
STATIC = ("Age", "Gender", "Height", "ICUType", "Weight")


@pytest.mark.shared_data("physionet2012")
def test_vitals_and_labs_are_those_of_the_importer_written_for_the_source(source, tmp_path):
    with tarfile.open(SETS / "set-b.tar.gz") as archive:
        members = [member for member in archive if member.name.endswith("7.txt")][:100]
        archive.extractall(source, members, filter="data")
    (tmp_path / "m.yaml").write_text(MAPPING)
    import_flat(tmp_path / "m.yaml", source, tmp_path / "flat")
    import_physionet2012(source / "set-b", tmp_path / "own")
    flat, own = (
        pl.read_parquet(tmp_path / name / "data" / "*.parquet")
        .filter(~pl.col("code").is_in(STATIC))
        .select("subject_id", "time", "code", "numeric_value")
        .sort(pl.all())
        for name in ("flat", "own")
    )
    assert own["subject_id"].n_unique() == 100
    assert flat.equals(own)

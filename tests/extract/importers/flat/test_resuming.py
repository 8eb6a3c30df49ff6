"""An import is divided into units and parts: several processes and interruptions change nothing."""

from clinical.errors import ConfigError, SchemaError
from clinical.extract.importers.flat import import_flat, importing, parts, unit

from pathlib import Path

import polars as pl
import pytest
import yaml
from PIL import Image


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Nine files of people, a table of notes with images, and a lookup."""
    folder = tmp_path / "source"
    (folder / "images").mkdir(parents=True)
    for person in range(1, 10):
        rows = [
            f"2020-01-{day:02},{day + person},{'x' if day == 5 else day}" for day in range(1, 9)
        ]
        (folder / f"hours-{person}.csv").write_text("\n".join(["time,HR,Temp", *rows, "short"]))
        Image.new("L", (2, 2), person).save(folder / "images" / f"{person}.png")
    notes = [f"{person},2020-01-09,resting,images/{person % 3 + 1}.png" for person in range(1, 12)]
    (folder / "notes.csv").write_text("\n".join(["id,time,note,image", *notes]))
    people = [f"{person},{person // 2},{person % 2}" for person in range(1, 12)]
    (folder / "people.csv").write_text("\n".join(["id,family,died", *people]))
    return folder


MAPPING = {
    "name": "test",
    "split_together": {"people": "family"},
    "lookups": {"kin": {"files": "people.csv", "key": "id", "columns": "family"}},
    "tables": {
        "hours": {
            "files": "hours-{id}.csv",
            "subject": "id",
            "time": "time",
            "join": {"kin": "id"},
            "events": [
                {"melt": ["HR", "Temp"], "unit": "u", "description": "{column} of {family}"},
                {"code": "FAMILY//{family}", "time": None},
            ],
        },
        "people": {
            "files": "people.csv",
            "subject": "id",
            "time": {"day": "2020-01-09"},
            "events": [{"code": "FAMILY//{family}", "time": None}],
            "labels": {"died": {"boolean": "died"}},
        },
        "notes": {
            "files": "notes.csv",
            "subject": "id",
            "time": "time",
            "events": [{"code": "NOTE", "text": "note"}, {"code": "IMAGE", "image": "{image}"}],
            "samples": {},
        },
    },
}


@pytest.fixture
def run(tmp_path, source, monkeypatch):
    """Imports in units of a file and in three parts into a folder of a name."""
    monkeypatch.setattr(unit, "UNIT_BYTES", 1)
    monkeypatch.setattr(importing, "n_parts", lambda _: 3)
    monkeypatch.setattr(importing, "LEAST_BYTES", 1)
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(yaml.safe_dump(MAPPING, sort_keys=False))

    def do(name: str, *overrides: str, workers: int = 1):
        return import_flat(mapping, source, tmp_path / name, overrides, workers=workers)

    return do


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.*")}


def test_units_and_parts_make_what_one_of_each_makes(run, tmp_path, monkeypatch):
    several = run("several").counts
    monkeypatch.undo()
    whole = import_flat(tmp_path / "mapping.yaml", tmp_path / "source", tmp_path / "whole").counts
    assert several == whole
    tables = {}
    for name in ("several", "whole"):
        found = pl.read_parquet(tmp_path / name / "data" / "*.parquet")
        tables[name] = found.sort("subject_id", "time", "code", "text_value")
    assert tables["several"].equals(tables["whole"])
    one, other = files(tmp_path / "several"), files(tmp_path / "whole")
    assert len([name for name in one if name.startswith("data/")]) == 3
    differing = {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
    assert {name for name in differing if not name.startswith("data/")} <= {
        "import/rejects.parquet"
    }
    rejects = [
        pl.read_parquet(tmp_path / n / "import/rejects.parquet") for n in ("several", "whole")
    ]
    assert rejects[0].sort(rejects[0].columns).equals(rejects[1].sort(rejects[1].columns))


def test_any_number_of_workers_makes_the_same_files(run, tmp_path):
    reports = [run(str(workers), workers=workers) for workers in (1, 3)]
    assert reports[0] == reports[1]
    assert files(tmp_path / "1") == files(tmp_path / "3")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_an_error_is_the_same_with_any_number_of_workers(run, source, tmp_path):
    (source / "hours-4.csv").write_text('time,HR,Temp\n2020-01-01,"80,1\n')
    (source / "hours-7.csv").write_text('time,HR,Temp\n2020-01-01,"80,1\n')
    messages = []
    for workers in (1, 2):
        with pytest.raises(SchemaError) as raised:
            run("out", workers=workers)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith("file 4 of 9")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mapping.yaml", "source"]


def stop(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("stage", ["a unit", "a part", "the end"])
def test_an_import_that_was_interrupted_goes_on(run, tmp_path, monkeypatch, stage):
    run("whole")
    done: list[Path] = []
    work, write = unit._Work.run, parts.write_shard

    def third(function):
        def run_or_stop(*given):
            done.append(given)
            return stop() if len(done) == 3 else function(*given)

        return run_or_stop

    with monkeypatch.context() as patched:
        if stage == "a unit":
            patched.setattr(unit._Work, "run", third(work))
        elif stage == "a part":
            patched.setattr(parts, "write_shard", third(write))
        else:
            patched.setattr(importing, "write_extract", stop)
        with pytest.raises(KeyboardInterrupt):
            run("out")
    assert not (tmp_path / "out").exists()
    assert (tmp_path / ".out.import").is_dir()
    again: list[object] = []
    monkeypatch.setattr(unit._Work, "run", lambda self: (again.append(self), work(self)))
    monkeypatch.setattr(parts, "write_shard", lambda *a: (again.append(a), write(*a))[1])
    run("out")
    # Eleven units and three shards; what was done before the interruption is not done again.
    assert len(again) == {"a unit": 14 - 2, "a part": 3 - 2, "the end": 0}[stage]
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert not (tmp_path / ".out.import").exists()


@pytest.mark.parametrize("change", ["source", "mapping"])
def test_what_another_source_or_mapping_left_is_not_gone_on_with(
    run, source, tmp_path, monkeypatch, change
):
    with monkeypatch.context() as patched:
        patched.setattr(importing, "write_extract", stop)
        with pytest.raises(KeyboardInterrupt):
            run("out")
    overrides = ["tables.notes=null"] if change == "mapping" else []
    if change == "source":
        (source / "hours-1.csv").write_text("time,HR,Temp\n2020-01-01,80,37\n")
    run("out", *overrides)
    run("fresh", *overrides)
    assert files(tmp_path / "out") == files(tmp_path / "fresh")


def test_a_second_import_to_the_same_folder_is_refused_and_loses_no_row(run, tmp_path, monkeypatch):
    run("whole")
    write, refused = parts.write_shard, []

    def meanwhile(*given):
        with monkeypatch.context() as second:
            second.setattr(parts, "write_shard", write)
            for overrides in ([], ["tables.notes=null"]):
                with pytest.raises(ConfigError, match="another call is at work on it") as error:
                    run("out", *overrides)
                refused.append(error)
        return write(*given)

    monkeypatch.setattr(parts, "write_shard", meanwhile)
    run("out")
    assert len(refused) == 2 * 3
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_events_of_a_unit_that_are_gone_are_an_error_and_no_smaller_extract(
    run, tmp_path, monkeypatch
):
    write = parts.write_shard

    def lose(*given):
        for gone in (tmp_path / ".out.import").rglob("unit-00000/*.arrows"):
            gone.unlink()
        return write(*given)

    monkeypatch.setattr(parts, "write_shard", lose)
    with pytest.raises(SchemaError, match=r"unit-00000, part \d: a file of .* is gone; let"):
        run("out", "tables.hours=null")  # people, of all parts, are the first unit then
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mapping.yaml", "source"]

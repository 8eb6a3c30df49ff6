"""What a mapping may say, and how it is told what is wrong with it."""

from clinical.errors import ConfigError
from clinical.extract.importers.flat.mapping import MappingConfig

from pathlib import Path

import pytest
import yaml

SHIPPED = sorted((Path(__file__).parents[4] / "configs" / "importers").glob("*.yaml"))
TABLE = """
name: x
subject: s
tables:
  t:
    files: t.csv
    {rule}
"""


def problem(tmp_path, text):
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(ConfigError) as raised:
        MappingConfig.read(tmp_path / "m.yaml")
    return str(raised.value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_mapping_is_valid_and_survives_being_written_down(path, tmp_path):
    config = MappingConfig.read(path)
    plain = config.model_dump(mode="json", exclude_unset=True)
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    assert MappingConfig.read(tmp_path / "again.yaml") == config


def test_all_problems_are_told_at_once_with_the_likely_key(tmp_path):
    text = problem(
        tmp_path,
        "name: x\nsubjct: s\ntables:\n  t: {file: t.csv, events: [{code: a, valu: b}]}\n",
    )
    assert "subjct: unknown key; did you mean subject?" in text
    assert "tables.t.file: unknown key; did you mean files?" in text
    assert "tables.t.files: is required" in text
    assert "tables.t.events.0.valu: unknown key; did you mean value?" in text


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("events: []", "tables.t: gives nothing"),
        ("events: [{value: v}]", "tables.t.events.0: needs code:"),
        ("events: [{code: 'a{b'}]", "tables.t.events.0.code: a brace without its other half"),
        ("events: [{melt: v, value: v}]", "melt: the cells are the values; take value out"),
        ("events: [{melt: v, without: w}]", "without: goes with melt"),
        ("events: [{code: a, time: {minutes: m}}]", "give one of column, date, day, latest, after"),
        ("events: [{code: a, time: {latest: [b]}}]", "latest: is the latest of several times"),
        ("events: [{code: a, time: {after: a}}]", "after and before go with one of seconds"),
        ("events: [{code: a, time: {after: a, minutes: 1, hours: 2}}]", "go with one of seconds"),
        ("events: [{code: a, time: {date: a, formats: '%Y'}}]", "formats goes with column"),
        ("events: [{code: a, time: {column: a, formats: '%Y %Q'}}]", "no format of times"),
        ("events: [{code: a, time: {column: a, formats: '%Y-%m-%d %z'}}]", "time_zone"),
        ("events: [{code: a, time: []}]", "tables.t.events.0.time: "),
        ("events: [{code: a, where: {b: yes}}]", "write them in quotes"),
        ("events: [{code: a, where: {b: {}}}]", "give a cell, a list of cells"),
        ("events: [{code: a, where: {b: {matches: '('}}}]", "is no regular expression"),
        ("{parse: {a: 'b'}, events: [{code: a}]}", "parse.a: name a group in it"),
        ("{join: {d: a}, events: [{code: a}]}", "tables.t.join: there is no lookup d"),
        ("labels: {died: {boolean: d}}", "labels.died: has no time, nor has the table"),
        ("labels: {died: {time: t}}", "give a column as boolean, integer, number or category"),
        ("labels: {../x: {boolean: b, time: t}}", "labels.../x: names a folder"),
        ("samples: {}", "samples: has no time, nor has the table"),
        ("{separator: ';;', events: [{code: a}]}", "tables.t.separator"),
        ("{encoding: latin-99, events: [{code: a}]}", "tables.t.encoding: there is no encoding"),
    ],
)
def test_a_rule_that_makes_no_sense_is_told_with_its_path(tmp_path, rule, expected):
    if rule.startswith("{"):
        text = TABLE.format(rule=rule[1:-1].replace(", events", "\n    events", 1))
    else:
        text = TABLE.format(rule=rule)
    assert expected in problem(tmp_path, text)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("splits: {train: 0.5, test: 0.5}", "splits: test is none of train, tuning, held_out"),
        ("years: [2030, 1900]", "years: the first is after the last"),
        ("years: [1900, 20300]", "years.1: "),
        ("splits: {train: 0.5}", "the shares should be positive and sum to 1"),
        ("time_zone: Mars/Olympus", "time_zone: is no time zone"),
        ("split_together: {u: a}", "split_together: there is no table u"),
        ("units: [{unit: a, to: b, divide: 0}]", "units.0.divide"),
    ],
)
def test_a_key_of_the_mapping_that_makes_no_sense_is_told(tmp_path, line, expected):
    text = TABLE.format(rule="events: [{code: a}]")
    assert expected in problem(tmp_path, text + line)


def test_a_mapping_that_names_no_subject_is_refused(tmp_path):
    text = TABLE.format(rule="events: [{code: a}]").replace("subject: s\n", "")
    assert "tables.t: has no subject, nor has the mapping; add one" in problem(tmp_path, text)


def test_a_table_is_switched_off_by_an_override(tmp_path):
    text = TABLE.format(rule="events: [{code: a}]") + "  u: {files: u.csv, events: [{code: b}]}\n"
    (tmp_path / "m.yaml").write_text(text)
    assert list(MappingConfig.read(tmp_path / "m.yaml", ["tables.u=null"]).used_tables) == ["t"]

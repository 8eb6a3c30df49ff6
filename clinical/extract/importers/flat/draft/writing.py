"""The draft of a mapping as YAML, with its questions as comments."""

from clinical.errors import ConfigError
from clinical.extract.importers.flat.draft.guessing import Guess, guess_all, usual_subject
from clinical.extract.importers.flat.draft.looking import look
from clinical.places import check_no_file, replacing

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_ORDER = ("files", "separator", "encoding", "decimal", "key", "columns", "join", "subject", "time")


def draft_mapping(source: str | Path, mapping: str | Path | None = None) -> Path:
    """Look at a folder and write a first mapping of it, with questions to its owner.

    A sample of each table is read; no cell of it is in the draft.

    Args:
        source: The folder, which is only read.
        mapping: The YAML file to write; SOURCE.yaml in the working folder by default.

    Returns:
        The file.

    Raises:
        ConfigError: The file exists; there is no such folder, or no table in it.
    """
    path = Path(f"{Path(source).resolve().name}.yaml" if mapping is None else mapping)
    if path.exists():
        raise ConfigError(f"mapping: {path} exists; name another file or remove it")
    text = draft_text(Path(source))
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")
    return path


def draft_text(source: Path) -> str:
    """The YAML of a first mapping of a folder.

    Raises:
        ConfigError: There is no such folder, or no table in it.
    """
    check_no_file(source, what="source", remedy="give the folder that holds the tables")
    if not source.is_dir():
        raise ConfigError(f"source: there is no folder {source}; check the path")
    tables, others = look(source)
    guesses = guess_all(tables)
    if not any(guess.rule for guess in guesses if guess.key is None):
        raise ConfigError(
            f"source: no table with a subject was found in {source}; it should hold CSV, TSV, PSV, "
            "TXT or Parquet files, of which one has a column such as subject_id"
        )
    return "\n".join(_lines(source, guesses, others)) + "\n"


def _lines(source: Path, guesses: list[Guess], others: dict[str, int]) -> Iterator[str]:
    yield f"# A draft for {source.resolve().name}: guesses by names and by a sample of each table."
    yield "# Settle the lines with a question mark; docs/bring_your_own.md explains every key."
    for ending, count in sorted(others.items()):
        yield f"# ? {count:,} files with {ending} are not looked at: images, notes?"
    yield f"name: {_flow(re.sub(r'[^a-z0-9]+', '_', source.resolve().name.lower()) or 'extract')}"
    yield "# ? license: what may be done with these data"
    subject = usual_subject(guesses)
    yield f"subject: {_flow(subject)}"
    if _is_text(guesses):
        yield "subject_ids: hash"
    markers = sorted({m for g in guesses if g.rule for c in g.table.columns for m in c.markers})
    if markers:
        yield "# ? do these cells say nothing? they are among numbers and times"
        yield f"missing: {_flow(markers)}"
    yield "# ? consistent_calendar: true, if the dates of different subjects may be compared"
    lookups = {guess.table.name: guess for guess in guesses if guess.rule and guess.key}
    for guess in guesses:
        if guess.rule is not None and guess.key is None:
            _join(guess, lookups)
    used = {name for guess in guesses if guess.rule for name in guess.rule.get("join", ())}
    lookups = {name: guess for name, guess in lookups.items() if name in used}
    if lookups:
        yield ""
        yield "lookups:"
        for name, guess in lookups.items():
            yield from _section(name, guess)
    yield ""
    yield "tables:"
    for guess in guesses:
        if guess.key is not None:
            continue
        if guess.rule is not None and guess.rule["subject"] == subject:
            del guess.rule["subject"]
        elif guess.rule is not None:
            guess.questions.append(
                f"its subject is {guess.rule['subject']}, that of other tables {subject}: "
                "is it the same, or does a lookup have both?"
            )
        yield from _section(guess.table.name, guess)


def _is_text(guesses: list[Guess]) -> bool:
    """Whether the subjects of any table are no whole numbers."""
    columns = (
        guess.table.column(guess.rule["subject"])
        for guess in guesses
        if guess.rule is not None and "subject" in guess.rule
    )
    return any(column is not None and not column.is_whole for column in columns)


def _join(guess: Guess, lookups: dict[str, Guess]) -> None:
    """Take a description of the code from the dictionary that knows most of its cells."""
    assert guess.rule is not None
    coded = (event for event in guess.rule.get("events", ()) if "{" in event.get("code", ""))
    event: dict[str, Any] = next(coded, {})
    known: dict[str, int] = {}
    for name, lookup in lookups.items():
        key = lookup.key or ""
        ours, theirs = guess.table.column(key), lookup.table.column(key)
        if ours is not None and theirs is not None and f"{{{key}}}" in event.get("code", ""):
            known[name] = len(ours.cells & theirs.cells)
    best = max(known, key=lambda name: known[name], default="")
    if not known.get(best):
        return
    lookup = lookups[best]
    assert lookup.rule is not None
    (title,) = lookup.rule["columns"]
    if guess.table.column(title) is not None:
        guess.questions.append(f"{best} describes it, but both have a column {title}")
        return
    guess.rule["join"] = {best: lookup.key}
    event["description"] = f"{{{title}}}"


def _section(name: str, guess: Guess) -> Iterator[str]:
    """A table or lookup, its questions first."""
    yield from (f"  # ? {question}" for question in guess.questions)
    if guess.rule is None:
        yield f"  {_flow(name)}: null  # {guess.table.pattern}"
        yield from (f"    # - {_flow(event)}" for event in guess.withheld)
        return
    yield f"  {_flow(name)}:"
    for key in (*_ORDER, "events", "labels"):
        if key not in guess.rule:
            continue
        if key == "events" and guess.rule[key]:
            yield "    events:"
            yield from (f"      - {_flow(event)}" for event in guess.rule[key])
            yield from (f"      # - {_flow(event)}" for event in guess.withheld)
        elif key != "events":
            yield f"    {key}: {_flow(guess.rule[key])}"


def _flow(value: Any) -> str:
    """A value in one line of YAML."""
    text = yaml.safe_dump(
        [value], default_flow_style=True, width=10**6, sort_keys=False, allow_unicode=True
    )
    return text.strip()[1:-1]

"""What the columns of tables may mean, by their names and by what they hold."""

from clinical.extract.importers.flat.draft.hindsight import has_end, is_known_afterwards
from clinical.extract.importers.flat.draft.looking import FILE_NUMBER, SeenColumn, SeenTable

import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import date
from typing import Any

# In this order: a person is rather the subject than a stay of theirs.
SUBJECTS = (
    r"subject_?(?:id|no|nr)?",
    r"(?:patient|pat|pt)_?(?:id|no|nr|num|number|ient)?|pid|patnr",
    r"person_?(?:id|no|nr)?",
    r"mrn|record_?id|case_?id|fall_?(?:id|nr)",
    r".*(?:patient|health)\w*stay_?id|.*(?:icu|hadm|admission|encounter|visit|stay)_?id",
)
TIMES = (
    r".*(?:store|result|valid|enter|report|record)\w*(?:time|date|dt|ts)?",
    r".*chart\w*(?:time|date)",
    r".*(?:time|date|datum|zeit|dt|ts)",
)
OFFSETS = (
    (r".*offset.*|.*minutes?.*|.*_min", "minutes"),
    (r".*hours?.*|iculos|.*_h|hr_?since.*", "hours"),
    (r".*days?(?:_|$).*", "days"),
)
CODES = r".*(?:item|code|param|variable|test|analyte|concept|measure|drug|medication|label)\w*"
VALUES = r".*(?:valuenum|numeric|value|result|amount|rate|dose|wert).*"
UNITS = r".*(?:uom|unit|einheit).*"
LABELS = r".*(?:label|outcome|death|died|mortality|expire|surviv|readm|target|went_).*"
BIRTHS = r"dob|.*birth.*|.*geburt.*"
DEATHS = r"dod.*|.*death_?(?:time|date).*|.*date_?of_?death.*"
TITLES = r".*(?:label|title|name|description|text|bezeichnung).*"
KEYS = r"row_?(?:id|no|nr)|seq_?(?:num|no)|index"
AGES = r"age|.*_age|alter"
LONG_TEXT = 60
FEW = 50
"""Different cells of what may be a category."""


@dataclass
class Guess:
    """A table's part of the mapping.

    Attributes:
        table: What was seen.
        rule: Keys and values as they go into the YAML; None where nothing can be made of it.
        questions: What its owner should settle.
        key: Of a dictionary: its column.
        withheld: Events that would show what is known only afterwards.
    """

    table: SeenTable
    rule: dict[str, Any] | None
    questions: list[str] = field(default_factory=list)
    key: str | None = None
    withheld: list[dict[str, Any]] = field(default_factory=list)


def guess_all(tables: list[SeenTable]) -> list[Guess]:
    """A guess for each table; dictionaries are those without a subject that others name."""
    return [_guess(table, tables) for table in tables]


def subject_of(table: SeenTable) -> str | None:
    """The column that names the subject, or the number in the name of its file."""
    for pattern in SUBJECTS:
        for column in table.columns:
            if re.fullmatch(pattern, column.name, re.IGNORECASE):
                return column.name
    return FILE_NUMBER if table.column(FILE_NUMBER) else None


def usual_subject(guesses: list[Guess]) -> str | None:
    """The subject's column in most tables."""
    names = [g.rule["subject"] for g in guesses if g.rule and "subject" in g.rule]
    return Counter(names).most_common(1)[0][0] if names else None


def _guess(table: SeenTable, tables: list[SeenTable]) -> Guess:
    if table.problem is not None:
        return Guess(table, None, [f"could not be read: {table.problem}"])
    files: dict[str, Any] = {"files": table.pattern}
    if table.separator is not None:
        files["separator"] = table.separator
    if table.encoding != "utf-8":
        files["encoding"] = table.encoding
    if any(column.has_comma for column in table.columns):
        files["decimal"] = ","
    subject = subject_of(table)
    if subject is None:
        return _dictionary(table, tables, files)
    guess = Guess(table, {**files, "subject": subject})
    if table.encoding == "latin-1":
        guess.questions.append("is it latin-1 text? it is not UTF-8, and more can't be told")
    _fill(guess, subject)
    return guess


def _dictionary(table: SeenTable, tables: list[SeenTable], files: dict[str, Any]) -> Guess:
    others = {c.name for other in tables if subject_of(other) is not None for c in other.columns}
    keys = [c.name for c in table.columns if c.is_unique and not re.fullmatch(KEYS, c.name, re.I)]
    key = next((name for name in keys if name in others), None)
    if key is None:
        return Guess(table, None, ["no column looks like a subject; which is, or what joins it?"])
    columns = [c.name for c in table.columns if c.name != key]
    titles = [name for name in columns if re.fullmatch(TITLES, name, re.I)]
    if not columns:
        return Guess(table, None, ["has a single column; is it of use?"])
    # The longest says most.
    chosen = max(
        titles or columns, key=lambda n: next(c.mean_length for c in table.columns if c.name == n)
    )
    return Guess(table, {**files, "key": key, "columns": [chosen]}, key=key)


def _fill(guess: Guess, subject: str) -> None:
    """Times, events and labels of a table with a subject."""
    assert guess.rule is not None
    rest = [column for column in guess.table.columns if column.name not in (subject, FILE_NUMBER)]
    rest = [column for column in rest if not _is_key(column)]
    if odd := [column.name for column in rest if re.search(r"[{}|]|//", column.name)]:
        guess.questions.append(f"{len(odd)} columns have names with braces, | or //; rename them")
        rest = [column for column in rest if column.name not in odd]
    time, used = _time(rest, guess)
    times = [column for column in rest if column.name in used and column.is_time]
    if time is not None:
        guess.rule["time"] = time
    rest = [column for column in rest if column.name not in used]
    labels = {
        column.name: {"boolean": column.name}
        for column in rest
        if column.is_flag and re.fullmatch(LABELS, column.name, re.IGNORECASE)
    }
    rest = [column for column in rest if column.name not in labels]
    events = _persons(rest, guess, has_time=time is not None)
    named = {name for event in events for name in _names(event)}
    rest = [column for column in rest if column.name not in named and not column.is_time]
    found = _variables(rest, times, guess, has_time=time is not None)
    if time is None and not _is_of_persons(guess.table, subject):
        # Static events are seen from the beginning, and these may be the diagnoses of the end.
        guess.withheld, found = [*found, *guess.withheld], []
        guess.questions.append("no column looks like a time; what was known when, by which table?")
    elif time is None and guess.table.n_rows > 1:
        guess.questions.append("no column looks like a time; all of it is static so far")
    events += found
    guess.rule["events"] = events
    if labels and time is not None:
        guess.rule["labels"] = labels
        guess.questions.append(
            f"{', '.join(labels)}: labels? at the time of their rows? else take them out"
        )
    elif labels:
        guess.questions.append(
            f"{', '.join(labels)}: labels? then add labels: and the time they are asked at"
        )
    guess.questions = list(dict.fromkeys(guess.questions))
    if not events and "labels" not in guess.rule:
        guess.rule = None
        if not guess.withheld:
            guess.questions.append("nothing in it looks like an event")


def _is_of_persons(table: SeenTable, subject: str) -> bool:
    """Whether each row describes another person."""
    column = table.column(subject)
    return column is not None and column.is_unique


def _is_key(column: SeenColumn) -> bool:
    return re.fullmatch(rf".*_?id|{KEYS}", column.name, re.I) is not None and (
        re.fullmatch(CODES, column.name, re.I) is None
    )


def _time(columns: list[SeenColumn], guess: Guess) -> tuple[Any, set[str]]:
    """The table's time and the columns it takes."""
    times = [column for column in columns if column.is_time]
    times = [c for c in times if not re.fullmatch(f"{BIRTHS}|{DEATHS}", c.name, re.I)]
    times.sort(key=lambda column: column.is_day)  # a time of day says more
    for pattern in TIMES:
        for column in times:
            if re.fullmatch(pattern, column.name, re.I):
                if len(times) > 1:
                    names = ", ".join(c.name for c in times)
                    guess.questions.append(f"when did it become known? times are {names}")
                return _written(column, guess), {c.name for c in times}
    if times:
        return _written(times[0], guess), {c.name for c in times}
    for pattern, unit in OFFSETS:
        for column in columns:
            if column.is_number and re.fullmatch(pattern, column.name, re.I):
                guess.questions.append(f"is {column.name} in {unit}, and since when?")
                return {"after": date(2000, 1, 1), unit: column.name}, {column.name}
    return None, set()


def _written(column: SeenColumn, guess: Guess) -> Any:
    if len(column.formats) > 1:
        guess.questions.append(f"{column.name}: which is it, {' or '.join(column.formats)}?")
    if column.is_day:
        guess.questions.append(f"{column.name} has days: their events are placed at the day's end")
    if column.formats:
        return {"column": column.name, "formats": [column.formats[0]]}
    return {"date": column.name} if column.is_day else column.name


def _persons(columns: list[SeenColumn], guess: Guess, *, has_time: bool) -> list[dict[str, Any]]:
    """Birth, death, sex and the like."""
    events: list[dict[str, Any]] = []
    for code, pattern in (("MEDS_BIRTH", BIRTHS), ("MEDS_DEATH", DEATHS)):
        dates = [c for c in columns if c.is_time and re.fullmatch(pattern, c.name, re.I)]
        if dates:
            events.append({"code": code, "time": _written(dates[0], guess)})
        if len(dates) > 1:
            names = ", ".join(column.name for column in dates)
            guess.questions.append(f"{code}: which of {names}?")
    for column in columns:
        name = column.name
        if column.is_time:
            continue
        if column.is_number and re.fullmatch(AGES, name, re.I):
            anchor = {"before": date(2000, 1, 1), "years": name}
            events.append({"code": "MEDS_BIRTH", "time": anchor})
            guess.questions.append(f"{name}: years of age at which time? at 2000-01-01 so far")
        elif re.fullmatch(r"sex|gender|geschlecht", name, re.I):
            said = {"code": f"GENDER//{{{name}}}"}
            events.append({**said, "time": None} if has_time else said)
            if column.is_number:
                guess.questions.append(f"{name}: what do its numbers mean? add replace:")
    return events


def _variables(
    columns: list[SeenColumn], times: list[SeenColumn], guess: Guess, *, has_time: bool
) -> list[dict[str, Any]]:
    """What was measured or done, and how it ended, which is not shown before it had."""
    last = _latest(times, guess) if len(times) > 1 else None
    if long := _long(columns, guess):
        if last is not None and has_end(times):
            # The amount of an infusion that was stored when it began is the amount at its end.
            long[0]["time"] = last
            guess.questions.append("what is known before the end? all of it is placed there so far")
        return long
    known_later = [column for column in columns if is_known_afterwards(column.name)]
    if last is None and has_end(times):
        known_later = []  # the only time is that of the end
    now = [column for column in columns if column not in known_later]
    if last is not None and has_end(times):
        known_later += [column for column in now if column.is_number]
        now = [column for column in now if not column.is_number]
    events = _wide(now, guess, has_time=has_time)
    if not known_later:
        return events
    later = _wide(known_later, guess, has_time=False)
    names = ", ".join(column.name for column in known_later)
    if last is None:
        guess.withheld += later
        guess.questions.append(
            f"{names}: known only afterwards? then they need a time of their own"
        )
        return events
    guess.questions.append(f"{names}: when were they known? at the latest of the times so far")
    return [*events, *({**event, "time": last} for event in later)]


def _latest(times: list[SeenColumn], guess: Guess) -> dict[str, Any]:
    return {"latest": [_written(column, guess) for column in times]}


def _names(event: dict[str, Any]) -> set[str]:
    """Columns that an event of `_persons` takes."""
    time = event.get("time")
    names = {time} if isinstance(time, str) else set()
    if isinstance(time, dict):
        names |= {value for value in time.values() if isinstance(value, str)}
    return names | set(re.findall(r"\{(\w+)\}", event["code"]))


def _long(columns: list[SeenColumn], guess: Guess) -> list[dict[str, Any]]:
    """A code and a value in each row, if that is what the table looks like."""
    code = next((c for c in columns if re.fullmatch(CODES, c.name, re.I)), None)
    unit = next((c for c in columns if re.fullmatch(UNITS, c.name, re.I)), None)
    values = [c for c in columns if re.fullmatch(VALUES, c.name, re.I) and c not in (code, unit)]
    values = [c for c in values if not re.fullmatch(UNITS, c.name, re.I)]
    if code is None or code.is_time:
        return []
    # valuenum before value, which then holds the texts where there is no number.
    values.sort(key=lambda c: (not c.is_number, "num" not in c.name.lower()))
    event: dict[str, Any] = {"code": f"{guess.table.name.upper()}//{{{code.name}}}"}
    if values:
        event["value"] = values[0].name
        texts = [c.name for c in values if "value" in c.name.lower() or not c.is_number]
        event["category"] = next((n for n in texts if n != values[0].name), values[0].name)
    if unit is not None and values:
        event["code"] += "//{unit|}"
        event["unit"] = f"{{{unit.name}|}}"
    if any(c.mean_length > LONG_TEXT for c in columns):
        guess.questions.append("is a column free text? then text: is its key")
    return [event]


def _wide(columns: list[SeenColumn], guess: Guess, *, has_time: bool) -> list[dict[str, Any]]:
    """A column a variable; categories and notes by themselves."""
    numbers = [c.name for c in columns if c.is_number]
    texts = [c for c in columns if not c.is_number and c.cells]
    events: list[dict[str, Any]] = [{"melt": numbers}] if numbers else []
    for column in texts:
        if column.mean_length > LONG_TEXT:
            events.append({"code": f"NOTE//{column.name}", "text": column.name})
        elif len(column.cells) <= FEW:
            events.append({"code": f"{column.name.upper()}//{{{column.name}}}"})
        else:
            guess.questions.append(f"{column.name}: has many different texts; is it of use?")
    if has_time and numbers:
        guess.questions.append("which columns describe the person? give those events time: null")
    return events

"""How an evaluation shows itself in a notebook: a table a task, and notes below it."""

from __future__ import annotations

from clinical.evaluation.table import HEADS, UNDEFINED

import html
from collections.abc import Iterable

import pandas as pd

LEFT = "style='text-align:left;vertical-align:top'"


def table_html(rows: pd.DataFrame) -> str:
    """A table of texts, each interval below its value."""
    heads = "".join(f"<th {LEFT}>{html.escape(str(name))}</th>" for name in rows)
    lines = "".join(
        f"<tr>{''.join(f'<td {LEFT}>{_cell(str(cell))}</td>' for cell in row)}</tr>"
        for row in rows.itertuples(index=False, name=None)
    )
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"


def metrics_html(rows: pd.DataFrame) -> str:
    """The metrics of one task, and what to beware of below them.

    Args:
        rows: of `Evaluation.display_table`.
    """
    table = table_html(without_heads(rows).drop(columns=["n", "events", "note"]))
    return table + lines_html(f"{note} [{', '.join(named)}]" for note, named in by_note(rows))


def by_note(rows: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Each note with the metrics it is about."""
    found: dict[str, list[str]] = {}
    for metric, notes in zip(rows["metric"], rows["note"], strict=True):
        for note in filter(None, notes.split("; ")):
            found.setdefault(note, []).append(metric)
    return list(found.items())


def without_heads(rows: pd.DataFrame) -> pd.DataFrame:
    """Without the columns that say which task it is."""
    return rows.drop(columns=[name for name in HEADS if name in rows])


def lines_html(lines: Iterable[str]) -> str:
    """Texts, one below the other."""
    return f"<p>{'<br>'.join(html.escape(line) for line in lines)}</p>"


def _cell(text: str) -> str:
    value, bracket, interval = text.partition(" (")
    if bracket and " to " in interval and (value == UNDEFINED or value[-1:].isdigit()):
        return f"{html.escape(value)}<br><small>({html.escape(interval)}</small>"
    return html.escape(text)

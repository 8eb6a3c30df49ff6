"""What an object says of itself in a notebook: a small table of facts."""

import html
from collections.abc import Mapping
from pathlib import Path


def html_of(title: str, facts: Mapping[str, str]) -> str:
    """An HTML table, a row a fact; all texts are escaped."""
    cell = "style='text-align:left'"
    rows = "".join(
        f"<tr><th {cell}>{html.escape(name.strip())}</th><td {cell}>{html.escape(fact)}</td></tr>"
        for name, fact in facts.items()
    )
    return f"<table><caption><b>{html.escape(title)}</b></caption>{rows}</table>"


def counted(number: int, what: str) -> str:
    """Such as "1 file" or "2,000 files"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def shown_path(path: Path) -> Path:
    """From the working folder on, if it is below that: a notebook is read elsewhere, too."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path

"""What an object says of itself in a notebook: a small table of facts."""

import html
from collections.abc import Mapping


def html_of(title: str, facts: Mapping[str, str]) -> str:
    """An HTML table, a row a fact; all texts are escaped."""
    cell = "style='text-align:left'"
    rows = "".join(
        f"<tr><th {cell}>{html.escape(name.strip())}</th><td {cell}>{html.escape(fact)}</td></tr>"
        for name, fact in facts.items()
    )
    return f"<table><caption><b>{html.escape(title)}</b></caption>{rows}</table>"

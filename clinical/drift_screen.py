"""The drift of a cohort as the command line shows it."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 8


def show_drift(drift: "pd.DataFrame") -> None:
    """The rows that drifted most certainly, and of everything; where none did, that is said."""
    from clinical.typicality.telling import named, percent

    from rich.box import SIMPLE
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    drifted = drift[drift["drifted"]]
    n = len(drift)
    if drifted.empty:
        typer.echo(f"drift: none of {n} comparisons with training is certain to differ")
        return
    table = Table("drifted", "modality", box=SIMPLE)
    for heading in ("seen", "in training", "shift", "at least"):
        table.add_column(heading, justify="right")
    for _, row in drifted.head(SHOWN).iterrows():
        modality = row["modality"] if row["what"] == "variable" else "–"
        is_known = row["shift"] == row["shift"]
        arrow = {"higher": "↑ ", "lower": "↓ "}.get(row["direction"], "") if is_known else ""
        shift = (
            [f"{arrow}{row['shift']:.2f}", f"{row['shift_low']:.2f}"] if is_known else ["–", "–"]
        )
        seen = [percent(row["seen"]), percent(row["seen_in_train"])]
        table.add_row(escape(named(row)), escape(modality), *seen, *shift)
    typer.echo(f"\ndrift: {len(drifted)} of {n} comparisons with training certainly differ")
    Console(emoji=False).print(table)
    typer.echo("seen: share of patients; shift: how far apart the distributions of levels are at")
    typer.echo("most (0 to 1), and at least with 95 % certainty for all rows together")

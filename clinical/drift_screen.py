"""The drift of a cohort as the command line shows it."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 8


def show_drift(drift: "pd.DataFrame") -> None:
    """The rows that drifted most certainly, and of everything; where none did, that is said."""
    from clinical.typicality.telling import percent

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
        modality = "–" if row["what"] == "everything" else row["modality"]
        name = row["variable"] if row["what"] == "variable" else "typicality"
        seen = [percent(row["seen"]), percent(row["seen_in_train"])]
        shift = ["–", "–"]
        if row["shift"] == row["shift"]:
            arrow = "↑" if row["direction"] == "higher" else "↓"
            shift = [f"{arrow} {row['shift']:.2f}", f"{row['shift_low']:.2f}"]
        table.add_row(escape(name), escape(modality), *seen, *shift)
    typer.echo(f"\ndrift: {len(drifted)} of {n} comparisons with training certainly differ")
    Console(emoji=False).print(table)
    typer.echo("seen: share of patients who have it; shift: largest difference between the")
    typer.echo("distribution functions here and in training, ↑ to higher or less typical")
    typer.echo("levels; at least: with 95 % certainty for all comparisons together")

"""The command line's verb about sites that are left out, one after the other."""

from clinical import screen

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

NOTHING = ("", "–", "None", "nan", "<NA>")
"""How a table says that a row is of no class, or of no horizon."""

if TYPE_CHECKING:
    from clinical.site_by_site import SiteBySite


def leave_one_site_out(
    config: Annotated[Path, typer.Argument(help="A YAML file; see configs/.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value pairs, such as seed=8.")
    ] = None,
    site: Annotated[str | None, typer.Option(help="Column, or codes, that say the site.")] = None,
) -> None:
    """Train once without each site, and judge the model there."""
    from clinical.experiment import Run
    from clinical.site_by_site import TABLE
    from clinical.site_by_site import leave_one_site_out as leave_out

    read = Run.read(config, overrides or [])
    with screen.resumable("the same command goes on"):
        found = leave_out(read, site=site, progress=screen.is_terminal())
    _show(found)
    typer.echo(f"table: {read.out / TABLE}")


def _show(found: "SiteBySite") -> None:
    """A row a site, the interval below its value."""
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    shown = found.display_table()
    for task, rows in shown.groupby("task", sort=False):
        typer.echo(f"\n{task}: each site by a model without it; 95 % intervals below")
        table = Table("site", "metric", box=SIMPLE)
        for name in ("n", "events", "model", "baseline", "difference"):
            table.add_column(name, justify="right")
        for row in rows.to_dict("records"):
            values = (row["value (95 % interval)"], row["baseline"], row["difference"])
            cells = (cell.replace(" (", "\n").rstrip(")") for cell in values)
            told = [str(row[name]) for name in ("class", "horizon_hours") if name in row]
            said = " ".join([row["site"], *(text for text in told if text not in NOTHING)])
            counts = (str(row[name]) for name in ("n", "events"))
            table.add_row(escape(said), row["metric"], *counts, *cells)
        screen.show(table)

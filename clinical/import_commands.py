"""The commands of `clinical import`: one for each source that is known, and one for any other."""

from clinical import screen
from clinical.errors import ConfigError

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from clinical.extract.importers import ImportReport

# Those of the menu IMPORTERS, which is not imported to say so: help answers at once.
KNOWN = {
    "physionet2012": "PhysioNet/CinC Challenge 2012.",
    "covid_chestxray": "Cohen's collection of COVID chest X-rays.",
    "mimic3": "MIMIC-III, or its demo.",
    "mimic4": "MIMIC-IV with notes, emergency department and chest X-rays, or its demo.",
    "eicu": "eICU Collaborative Research Database, or its demo.",
}

Source = Annotated[Path, typer.Argument(help="Folder or archive of raw files.")]
Out = Annotated[Path, typer.Argument(help="Folder of the extract to write.")]
Outcomes = Annotated[Path | None, typer.Option(help="File of outcomes, where kept apart.")]
Acknowledge = Annotated[
    bool,
    typer.Option(
        "--acknowledge-identifiers", help="Import what looks like identifiers of people, too."
    ),
]
Workers = Annotated[
    int | None, typer.Option(help="Processes; by default one a core for large sources.", min=1)
]


class _Importers(TyperGroup):
    """Says which importers there are where one is named that isn't."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            known = ", ".join(self.commands)
            raise ConfigError(f"{args[0]}: there is no such importer; known are {known}")
        return super().resolve_command(ctx, args)


importers = typer.Typer(
    cls=_Importers, no_args_is_help=True, help="Turn raw files into an extract."
)


def _known(name: str) -> Callable[..., None]:
    def import_known(
        source: Source,
        out: Out,
        outcomes: Outcomes = None,
        acknowledge: Acknowledge = False,
        workers: Workers = None,
    ) -> None:
        from clinical.pipeline import import_extract

        with screen.resumable("the same command goes on with the import"):
            report = import_extract(
                name,
                source,
                out,
                outcomes=outcomes,
                acknowledge_identifiers=acknowledge,
                workers=workers or _cores(),
            )
        _show(report, out)

    return import_known


for _name, _help in KNOWN.items():
    importers.command(_name, help=_help)(_known(_name))


@importers.command()
def flat(
    mapping: Annotated[
        Path | None, typer.Argument(help="A YAML file; docs/bring_your_own.md explains it.")
    ] = None,
    source: Annotated[Path | None, typer.Argument(help="Folder of the tables.")] = None,
    out: Annotated[Path | None, typer.Argument(help="Folder of the extract to write.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value pairs, such as tables.notes=null.")
    ] = None,
    draft: Annotated[
        Path | None,
        typer.Option(help="Look at this folder and write a first mapping to MAPPING instead."),
    ] = None,
    acknowledge: Acknowledge = False,
    workers: Workers = None,
) -> None:
    """Any relational extract, by a mapping of its tables."""
    from clinical.extract.importers.flat import import_flat
    from clinical.extract.importers.flat.draft import draft_mapping

    if draft is not None:
        if source is not None or out is not None:
            raise ConfigError("--draft FOLDER takes one more argument, the mapping to write")
        typer.echo(f"mapping: {draft_mapping(draft, mapping)}")
    elif mapping is None or source is None or out is None:
        raise ConfigError("import flat: give MAPPING SOURCE OUT, or --draft SOURCE to begin")
    else:
        with screen.resumable("the same command goes on with the import"):
            report = import_flat(
                mapping,
                source,
                out,
                overrides or [],
                acknowledge_identifiers=acknowledge,
                workers=workers or _cores(),
            )
        _show(report, out)


def _cores() -> int:
    """How many this process may use."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


def _show(report: "ImportReport", out: Path) -> None:
    screen.show(screen.pairs("what", "count", dict(report.general())))
    if report.tables:
        _show_tables(report)
    typer.echo(f"extract: {out}")


def _show_tables(report: "ImportReport") -> None:
    """What became of the rows of each table, and why some gave nothing."""
    from rich.markup import escape
    from rich.table import Table

    tables, reasons = Table("table"), Table("table", "beside that")
    for name in ("rows read", "imported", "left out", "events"):
        tables.add_column(name, justify="right")
    reasons.add_column("count", justify="right")
    for name in report.tables:
        counts = report.table_counts(name)
        read, imported, events = (counts.pop(w) for w in ("rows read", "rows imported", "events"))
        numbers = (f"{number:,}" for number in (read, imported, read - imported, events))
        tables.add_row(escape(name), *numbers)
        for words, count in counts.items():
            reasons.add_row(escape(name), escape(words), f"{count:,}")
    screen.show(tables)
    if reasons.row_count:
        screen.show(reasons)

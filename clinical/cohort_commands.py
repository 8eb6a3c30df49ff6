"""The command line's verbs about who is in a cohort: labels, and splits."""

from clinical import screen

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from clinical.labelling import Cohort

INDENTED = ("no anchor", "left out", "no label", "outcome")


def cohort(
    task: Annotated[str, typer.Argument(help="A YAML file, or a name of configs/tasks/.")],
    extract: Annotated[Path, typer.Argument(help="A MEDS folder.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value pairs, such as after_hours=24.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of labels; else tasks/TASK in the extract.")
    ] = None,
    samples: Annotated[
        Path | None, typer.Option(help="Parquet of all samples, labelled or not.")
    ] = None,
) -> None:
    """Make labels by a task, and show who is in and who is not."""
    from clinical.labelling import build_cohort

    folder = out or extract / "tasks" / Path(task).stem
    made = build_cohort(extract, task, overrides or (), out=folder, samples=samples)
    show_flow(made)
    typer.echo(f"labels: {folder}")
    if samples is not None:
        typer.echo(f"samples: {samples}")


def split(
    extract: Annotated[Path, typer.Argument(help="A MEDS folder.")],
    by: Annotated[str, typer.Option(help="subject (at random), time or site.")] = "subject",
    shares: Annotated[str, typer.Option(help="Of train, tuning and held_out.")] = "0.7,0.15,0.15",
    seed: Annotated[int, typer.Option(help="Another seed is another draw.", min=0)] = 0,
    stratify: Annotated[
        list[Path] | None, typer.Option(help="Folder of labels that each split shares in.")
    ] = None,
    site: Annotated[str | None, typer.Option(help="Column, or codes, that say the site.")] = None,
    held_out: Annotated[list[str] | None, typer.Option(help="Site to hold out.")] = None,
    tuning_from: Annotated[datetime | None, typer.Option(help="Where tuning begins.")] = None,
    held_out_from: Annotated[datetime | None, typer.Option(help="Where held_out begins.")] = None,
    complete: Annotated[
        bool, typer.Option("--complete", help="Keep the splits there are, add who has none.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Parquet file; else the extract's own, if it has none.")
    ] = None,
) -> None:
    """Put each subject into train, tuning or held_out."""
    from clinical.cohort.splits import make_splits, read_shares

    path = out or extract / "metadata" / "subject_splits.parquet"
    made = make_splits(
        extract,
        by,
        shares=read_shares(shares),
        seed=seed,
        stratify=stratify or (),
        site=site,
        held_out=held_out or (),
        tuning_from=tuning_from,
        held_out_from=held_out_from,
        complete=complete,
        out=path,
    )
    screen.show(screen.pairs("split", "subjects", dict(made.record["subjects"])))
    typer.echo(f"splits: {path}")


def show_flow(made: "Cohort") -> None:
    """The flow as a table: who is there, and indented who leaves."""
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    table = Table(escape(made.name), box=SIMPLE)
    for heading in ("samples", "subjects"):
        table.add_column(heading, justify="right")
    for stage, what, n_samples, n_subjects in made.flow.lines.iter_rows():
        is_inner = stage in INDENTED
        sign = "" if not is_inner or stage == "outcome" else "– "
        words = f"  {sign}{what}" if is_inner else what
        counts = ("" if n_samples is None else f"{n_samples:,}", f"{n_subjects:,}")
        table.add_row(escape(words), *counts, style="dim" if is_inner else "bold")
    screen.show(table)
    typer.echo("subjects beside – : those who have no sample or label left")

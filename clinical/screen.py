"""What the command line shows: tables that are readable in 80 columns."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:  # rich and pandas take a while: each table imports what it needs
    from clinical.evaluation import Evaluation
    from clinical.evaluation.subgroups import Subgroups
    from clinical.leak_audit import Audit
    from clinical.recognition import Recognised

    import pandas as pd
    from rich.table import Table

INTERRUPTED = 130
NAMED = 6  # missing variables that are named
IN_COSTS = 2  # metrics side by side in a table of costs
IN_THRESHOLDS = 3  # thresholds side by side
IN_GROUPS = 2  # metrics side by side in a table of groups


def show(table: "Table") -> None:
    """Print a table as wide as the terminal."""
    from rich.console import Console

    # No emoji: a code such as ":lab:" stays as it is.
    Console(emoji=False).print(table)


def pairs(left: str, right: str, values: dict[str, int]) -> "Table":
    """A table of names and numbers."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(escape(left))
    table.add_column(right, justify="right")
    for name, value in values.items():
        table.add_row(escape(name), f"{value:,}")
    return table


def show_facts(facts: "Mapping[str, str]") -> None:
    """A line a fact, its name in front."""
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE, show_header=False, show_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, fact in facts.items():
        table.add_row(escape(name), escape(fact))
    show(table)


def show_counts(counts: dict[str, Any]) -> None:
    """What a preparation met, a table a group, with what each name means."""
    from clinical.cohort.counts import CAPTIONS, MEANINGS

    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    known = [title for title in CAPTIONS if title in counts]
    for title in [*known, *(title for title in counts if title not in CAPTIONS)]:
        values = counts[title]
        if not isinstance(values, dict) or not values:
            continue
        table = Table(box=SIMPLE, show_header=False, show_edge=False)
        table.add_column()
        table.add_column(justify="right")
        table.add_column(style="dim")
        for name, value in values.items():
            table.add_row(escape(name), f"{value:,}", MEANINGS.get(name, ""))
        typer.echo(f"\n{CAPTIONS.get(title, f'{title}: what was seen, cut and passed over')}")
        show(table)


def show_recognised(found: "Sequence[Recognised]") -> None:
    """How much of an extract a model knows, a row a modality."""
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    table = Table("modality", box=SIMPLE)
    for heading in ("samples with it", "visible events", "unknown", "known"):
        table.add_column(heading, justify="right")
    for one in found:
        # Rounded down: 100 % is all of them.
        per_mille = 1000 * (one.events - one.unknown) // max(one.events, 1)
        known = f"{per_mille / 10:.1f} %" if one.events else "–"
        counts = [f"{count:,}" for count in (one.samples, one.events, one.unknown)]
        table.add_row(escape(one.modality), *counts, known)
    show(table)
    typer.echo("visible events: once for each sample that sees them")
    typer.echo("unknown: events of codes that the model has not learned; they are not used")
    _show_variables(found)


def _show_variables(found: "Sequence[Recognised]") -> None:
    """Which variables the model misses, by name, and how many codes it doesn't know."""
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    table = Table("variables of", box=SIMPLE)
    for heading in ("model", "missing here", "unknown here"):
        table.add_column(heading, justify="right")
    table.add_column("which are missing", style="dim")
    for one in found:
        if one.variables:
            missing = one.missing
            rest = len(missing) - NAMED
            names = ", ".join([*missing[:NAMED], *([f"and {rest} more"] if rest > 0 else [])])
            counts = (len(one.variables), len(missing), len(one.unknown_codes))
            table.add_row(escape(one.modality), *(f"{n:,}" for n in counts), escape(names))
    if table.row_count:
        show(table)
        typer.echo("missing here: variables that the model has learned and no sample shows")


@contextmanager
def resumable(how: str = "resume=true goes on with the run") -> Iterator[None]:
    """Say how to go on where the user interrupts."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"interrupted; {how}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def is_terminal() -> bool:
    """Whether somebody sees a bar."""
    return sys.stderr.isatty()


@contextmanager
def progress(is_shown: bool) -> "Iterator[Callable[[int, int], None] | None]":
    """A bar on stderr that is told how many of how many samples are done; None if not shown."""
    if not is_shown:
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        samples = bar.add_task("samples", total=None)
        yield lambda done, total: bar.update(samples, completed=done, total=total)


def show_explanation(explained: "pd.DataFrame") -> None:
    """How far each relation moves most scores, a table a task."""
    from clinical.explain import by_relation

    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    for task, rows in by_relation(explained).groupby("task", sort=False):
        table = Table("relation", box=SIMPLE)
        for heading in ("with neighbours", "score moves by", "log odds move by"):
            table.add_column(heading, justify="right")
        for row in rows.to_dict("records"):
            sizes = (row["median_effect"], row["median_effect_logit"])
            moves = [f"{size:.4f}" if size == size else "–" for size in sizes]
            table.add_row(escape(row["relation"]), f"{100 * row['with_neighbours']:.1f} %", *moves)
        n_samples = f"{rows['samples'].max():,}"
        typer.echo(f"\n{task}: what each relation does to the scores of {n_samples} samples")
        show(table)
    typer.echo("moves by: median size of the difference that leaving the relation out makes to")
    typer.echo("samples that have neighbours by it")


def show_parts(shared: "pd.DataFrame") -> None:
    """What each modality and the graph add to most scores, a table a task."""
    from clinical.explain import by_part

    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    for task, rows in by_part(shared).groupby("task", sort=False):
        table = Table("part", box=SIMPLE)
        for heading in ("with it", "adds to the log odds", "size of that"):
            table.add_column(heading, justify="right")
        for row in rows.to_dict("records"):
            numbers = ((row["median_shapley"], "+.3f"), (row["median_size"], ".3f"))
            cells = [format(value, how) if value == value else "–" for value, how in numbers]
            table.add_row(escape(row["part"]), f"{100 * row['with_part']:.1f} %", *cells)
        n_samples = f"{rows['samples'].max():,}"
        typer.echo(f"\n{task}: what each part adds to the scores of {n_samples} samples")
        show(table)
    typer.echo("adds: median Shapley value over the samples that have it, before calibration")


def show_audit(audit: "Audit") -> None:
    """What was changed and what moved, the lines that failed in red."""
    from clinical.leak_audit import BLIND, HOLDS, LEAK

    from rich.box import SIMPLE
    from rich.table import Table

    table = Table("check", "changed", box=SIMPLE)
    for heading in ("samples", "moved", "largest"):
        table.add_column(heading, justify="right")
    table.add_column("verdict")
    colours = {HOLDS: "green", LEAK: "bold red", BLIND: "bold red"}
    last = ""
    for line in audit.lines:
        largest = "–" if line.largest is None else f"{line.largest:.0e}"
        colour = colours.get(line.verdict, "dim")
        table.add_row(
            line.check if line.check != last else "",
            line.change,
            f"{line.samples:,}",
            f"{line.moved:,}",
            largest,
            f"[{colour}]{line.verdict}[/]",
        )
        last = line.check
    show(table)
    typer.echo("moved: scores that differ by more than 0.00001, or edges that should not be")
    if audit.passed:
        typer.echo("passed: nothing that must not matter moved a score")
    else:
        failed = dict.fromkeys(line.check for line in audit.lines if line.verdict in (LEAK, BLIND))
        typer.echo(f"FAILED: {', '.join(failed)}; do not use these scores before you know why")


def show_evaluation(evaluation: "Evaluation") -> None:
    """The metrics of each task, and what each part is worth where the predictions say."""
    from clinical.evaluation.showing import by_note

    shown = evaluation.display_table()
    heads = [name for name in ("task", "class", "horizon_hours") if name in shown]
    tables = shown.groupby(heads, sort=False, dropna=False)
    for headline, (_, rows) in zip(evaluation.headlines, tables, strict=True):
        typer.echo(f"\n{headline}\n95 % intervals below the values")
        columns = ("metric", "value (95 % interval)", "baseline", "difference")
        _show_metrics(rows[[name for name in columns if name in rows]])
        for note, metrics in by_note(rows):
            concerned = "all metrics" if len(metrics) == len(rows) else ", ".join(metrics)
            typer.echo(f"note: {note} [{concerned}]")
    if evaluation.at_thresholds is not None:
        for _, rows in evaluation.display_thresholds().groupby(heads, sort=False, dropna=False):
            _show_thresholds(rows)
    if evaluation.costs is not None:
        costs = evaluation.display_costs()
        for _, rows in costs.groupby(heads, sort=False, dropna=False):
            _show_costs(rows)


def show_groups(found: "Subgroups") -> None:
    """Size and the first metrics of each group of patients."""
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    shown = found.display_table()
    heads = [name for name in ("task", "class", "horizon_hours") if name in shown]
    for _, rows in shown.groupby(heads, sort=False, dropna=False):
        is_there = (rows != "–").any()
        metrics = [c for c in rows.columns.drop([*heads, "column", "group", "note"]) if is_there[c]]
        metrics = [name for name in metrics if name not in ("n", "subjects", "events")]
        table = Table("by", "group", box=SIMPLE)
        for name in ("rows", "events", *metrics[:IN_GROUPS]):
            table.add_column(name, justify="right")
        last = ""
        for row in rows.to_dict("records"):
            cells = (str(row[name]).replace(" (", "\n").rstrip(")") for name in metrics[:IN_GROUPS])
            by = "" if row["column"] == last else row["column"]
            table.add_row(escape(by), escape(row["group"]), row["n"], row["events"], *cells)
            last = row["column"]
        typer.echo(f"\n{_task_of(rows)}: groups of patients, 95 % intervals below the values")
        show(table)
    typer.echo(
        f"not shown: fewer than {found.smallest} people, or with one of the outcomes, or what"
    )
    typer.echo("such a group could be computed from")


def _show_metrics(rows: "pd.DataFrame") -> None:
    """Metrics of one task, the interval below its value: 80 columns are enough."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE)
    for name in rows.columns:
        heading = "model" if name.startswith("value") else name
        table.add_column(heading, justify="left" if name == "metric" else "right")
    for metric, *cells in rows.itertuples(index=False):
        table.add_row(metric, *(cell.replace(" (", "\n").rstrip(")") for cell in cells))
    show(table)


def _show_costs(rows: "pd.DataFrame") -> None:
    """What each part of one task's model is worth, by the first of the metrics."""
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    metrics = list(dict.fromkeys(rows["metric"]))[:IN_COSTS]
    table = Table("left out", *metrics, box=SIMPLE)
    n_most = rows["n"].max()
    most = rows[rows["n"] == n_most].drop_duplicates("metric").set_index("metric")
    table.add_row("nothing", *(most.loc[metric, "whole"] for metric in metrics))
    for part, of_part in rows.groupby("left_out", sort=False):
        found = of_part.set_index("metric").loc[metrics]
        cells = found["without"] + "\n" + found["difference (95 % interval)"]
        n = found["n"].iloc[0]
        # Compared on its own rows: the difference is not to the first line's value.
        rest = "" if n == n_most else f"\n(of {n:,} rows)"
        table.add_row(escape(f"{part}{rest}"), *cells)
    typer.echo(
        f"\n{_task_of(rows)}: without each part\nbelow: whole − without, and its 95 % interval"
    )
    show(table)


def _show_thresholds(rows: "pd.DataFrame") -> None:
    """What acting from each threshold of one task on would do, a column a threshold."""
    from rich.box import SIMPLE
    from rich.markup import escape
    from rich.table import Table

    heads = [name for name in ("task", "class", "horizon_hours") if name in rows]
    typer.echo(f"\n{_task_of(rows)}: at thresholds that were chosen on other patients")
    for first in range(0, len(rows), IN_THRESHOLDS):
        part = rows.iloc[first : first + IN_THRESHOLDS]
        table = Table("from", box=SIMPLE)
        for name, threshold in zip(part["at"], part["threshold"], strict=True):
            table.add_column(escape(f"{name}\n{threshold}"), justify="right")
        for metric in part.columns.drop([*heads, "at", "threshold"]):
            cells = (cell.replace(" (", "\n").rstrip(")") for cell in part[metric])
            table.add_row(metric, *cells)
        show(table)


def _task_of(rows: "pd.DataFrame") -> str:
    """The task, class and horizon of rows that have the same."""
    import pandas as pd

    heads = [rows[name].iloc[0] for name in ("task", "class", "horizon_hours") if name in rows]
    return " ".join(str(head) for head in heads if pd.notna(head))


def show_run(evaluation: "Evaluation", out: Path) -> None:
    """What a finished run met, how it did and where it is."""
    from clinical.cohort.store import Store

    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    # Who makes the run may see the counts that metrics.json withholds.
    fits = json.loads((out / "bundle" / "calibration.json").read_text(encoding="utf-8"))
    show_counts(Store.open(out / "store").counts)
    typer.echo(f"\nevaluated on: {metrics['split']}; baseline: {metrics['baseline']}")
    show_evaluation(evaluation)
    for task, fit in fits.items():
        if fit["reason"]:
            typer.echo(f"note: calibration of {task}: {fit['reason']}")
    for task, how in metrics["epoch_chosen_by"].items():
        if ":" in how:
            typer.echo(f"note: epoch of {task}: chosen by {how}")
    for path in sorted((out / "figures").glob("*.png")):
        typer.echo(f"picture: {path}")
    typer.echo(f"bundle:  {out / 'bundle'}")

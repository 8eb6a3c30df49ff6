"""`clinical learning-curve`: arguments, and what a terminal shows."""

from clinical import screen
from clinical.errors import ConfigError

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from clinical.few_shot.result import LearningCurve


def learning_curve(
    config: Annotated[Path, typer.Argument(help="A YAML file; see configs/.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="key=value pairs, such as ensemble=1.")
    ] = None,
    positives: Annotated[
        str, typer.Option(help="Labelled positives of train, as many of tuning, and negatives.")
    ] = "1,2,4,8,16,32,64,128",
    shares: Annotated[
        str | None, typer.Option(help="Of the labels of train and tuning instead: 0.01,0.1,1.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Of each size.", min=1)] = 5,
    scratch: Annotated[bool, typer.Option("--scratch", help="Also without pretraining.")] = False,
    resamples: Annotated[int, typer.Option(help="Of the bootstrap.", min=1)] = 1000,
    task: Annotated[str | None, typer.Option(help="Which, where there are several.")] = None,
) -> None:
    """Show how good the model is with few labels: drawn again and again, beside trees."""
    sizes = [int(each) for each in _numbers(positives, "--positives", int)]
    parts = None if shares is None else _numbers(shares, "--shares", float)

    from clinical.experiment import Run
    from clinical.few_shot.curve import FOLDER
    from clinical.few_shot.curve import learning_curve as draw

    read = Run.read(config, overrides or [])
    with screen.resumable("the same command goes on"):
        curve = draw(
            read,
            positives=sizes,
            shares=parts,
            draws=draws,
            scratch=scratch,
            resamples=resamples,
            task=task,
        )
    _show(curve)
    for path in sorted((read.out / FOLDER).glob("*.csv")):
        typer.echo(f"table: {path}")
    typer.echo(f"picture: {read.out / FOLDER / 'curve.png'}")


def _numbers(text: str, option: str, kind: type[int] | type[float]) -> list[float]:
    try:
        return [kind(each) for each in text.split(",")]
    except ValueError:
        example = "1,2,4" if kind is int else "0.01,0.1"
        raise ConfigError(f"{option}: {text} are no numbers; give them as {example}") from None


def _show(curve: "LearningCurve") -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    shown = curve.display_table()
    table = Table(box=SIMPLE)
    for name in shown.columns:
        table.add_column(name, justify="left" if name == "line" else "right", no_wrap=True)
    last = ""
    for size, *cells in shown.astype(str).itertuples(index=False):
        below = (cell.replace(" (", "\n").rstrip(")") for cell in cells)
        table.add_row("" if size == last else size, *below)
        last = size
    typer.echo(
        f"\n{curve.task}: means of {curve.n_draws} draws on {curve.n_held_out:,} "
        "held-out samples\n95 % intervals below the values, over held-out subjects and draws"
    )
    screen.show(table)
    if len(set(curve.means["line"])) > 1:
        typer.echo(f"{shown.columns[-1]}: difference in AUROC on the same draws, paired")
    for size, why in curve.skipped.items():
        typer.echo(f"note: {size}: not drawn: {why}")

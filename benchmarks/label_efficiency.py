"""What pretraining is worth by the labels there are: PhysioNet 2012, and the synthetic hospital.

    python benchmarks/label_efficiency.py physionet ../shared/data/physionet2012 runs/labels
    python benchmarks/label_efficiency.py hospital runs/labels-hospital

PhysioNet: the folds of physionet2012.py, 20 draws of each share of the labels up to 10 %, 5 above;
pretrained against scratch, and against logistic regression, ExtraTrees and LightGBM on the same
draws. The hospital: the share of (AUROC - 0.5) from scratch with half of the labels that pretrained
networks reach with 5 %, 10 draws. What is finished is not run again, so that a killed one goes on;
`--only-table` shows what there is.
"""

import clinical
from clinical.evaluation.bootstrap import percentile_interval
from clinical.few_shot.draws import Size
from clinical.few_shot.lines import PRETRAINED, SCRATCH

import logging
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from comparing import draw_shares, judged, readable
from parts import FEW_LABELS, NETWORKS, Part
from physionet2012 import (
    CLASSICAL,
    check_recipe,
    gathered,
    import_set_b,
    run_parts,
    write_parts,
)
from synthetic_hospital import CONFIG, TRAIN_SUBJECTS, synthesize_once

FOLDS = 5
DRAWS_OF_FEW, DRAWS_OF_MANY = 4, 1
"""In each fold: 20 in all of a share up to FEW_LABELS, 5 of a larger one."""
LINES = [NETWORKS["event_set"], NETWORKS["event_set, no pretraining"]]
FEW, MANY = Size(share=0.05), Size(share=0.5)
DRAWS = 10

app = typer.Typer(add_completion=False)
Overrides = Annotated[list[str] | None, typer.Argument(help="of the configuration")]


@app.command()
def physionet(
    source: Path,
    out: Path,
    overrides: Overrides = None,
    share: Annotated[list[float] | None, typer.Option(help="of the labels")] = None,
    resamples: int = 1000,
    only_table: Annotated[bool, typer.Option("--only-table")] = False,
) -> None:
    """Run what is not finished, the fewest labels first, and show the table."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    out.mkdir(parents=True, exist_ok=True)
    labels = import_set_b(source, out / "extract")
    if not only_table:
        check_recipe(out, LINES, overrides or [])
        for each in sorted(share or [0.01, 0.05, 0.1, 0.25, 1.0]):
            run_parts(parts_of(labels, out, each), LINES, overrides or [])
    show(gathered(out, labels), out, resamples=resamples)


def parts_of(labels: pd.DataFrame, out: Path, share: float) -> list[Part]:
    """Fold by fold for each draw, so that a killed benchmark has all folds of some draws."""
    draws = DRAWS_OF_FEW if share <= FEW_LABELS else DRAWS_OF_MANY
    parts = write_parts(labels, out, folds=FOLDS, repeats=1, shares=[share], draws=draws)
    return sorted(parts, key=lambda part: (part.draw, part.fold))


def show(scores: pd.DataFrame, out: Path, *, resamples: int) -> None:
    """Every model against the best classical one, and the networks against scratch."""
    pretrained, scratch = (line.name for line in LINES)
    for name, bars in (("classical", CLASSICAL), ("scratch", [scratch])):
        rows = scores if name == "classical" else scores[scores["model"].isin([pretrained, *bars])]
        table = pd.DataFrame(judged(rows, bars, resamples=resamples))
        table.to_csv(out / f"against-{name}.csv", index=False)
        typer.echo(f"\nagainst {' or '.join(bars)}\n{readable(table).to_string(index=False)}")
        if name == "classical":
            draw_shares(table, [pretrained, scratch, *CLASSICAL], out / "shares.png")


@app.command()
def hospital(
    out: Path,
    overrides: Overrides = None,
    train: Annotated[Path | None, typer.Option(help="its extract, if it is there")] = None,
    draws: int = DRAWS,
) -> None:
    """Draw both shares and show the ratio, judged on the held-out split of the same hospital."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    extract = train or synthesize_once(out / "train", subjects=TRAIN_SUBJECTS, seed=1)
    run = clinical.Run.read(CONFIG, [f"extract={extract}", f"out={out}", *(overrides or [])])
    shares = [size.share for size in (FEW, MANY)]
    curve = clinical.learning_curve(run, shares=shares, draws=draws, scratch=True)
    typer.echo(curve.display_table().to_string(index=False))
    above = {key: values["AUROC"] - 0.5 for key, values in curve.resampled.items()}
    ratio = above[PRETRAINED, FEW] / above[SCRATCH, MANY]
    interval = percentile_interval(ratio[1:])
    typer.echo(
        f"pretrained with {FEW.name} of the labels reaches {ratio[0]:.3f} ({interval.low:.3f} to "
        f"{interval.high:.3f}) of AUROC - 0.5 from scratch with {MANY.name}"
    )


if __name__ == "__main__":
    app()

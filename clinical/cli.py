"""The command line: arguments and exit codes around the verbs of the pipeline."""

from clinical import asking, cohort_commands, screen, site_commands
from clinical.errors import ClinicalError
from clinical.few_shot.command import learning_curve
from clinical.import_commands import Acknowledge, importers

import logging
import sys
import tempfile
import traceback
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

DONE, DATA_ERRORS, USER_ERROR, OUR_ERROR = 0, 1, 2, 3

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Multimodal clinical prediction: from a de-identified EHR extract to patient scores.",
)

Overrides = Annotated[
    list[str] | None, typer.Argument(help="key=value pairs, such as seed=8 or finetune.epochs=5.")
]
Config = Annotated[Path, typer.Argument(help="A YAML file; see configs/.")]


@app.callback(invoke_without_command=True)
def _start(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings.")] = False,
) -> None:
    logging.basicConfig(
        level=logging.WARNING if quiet else logging.INFO, format="%(message)s", stream=sys.stderr
    )
    logging.getLogger("numexpr").setLevel(logging.WARNING)  # says how many threads it takes
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"clinical {installed('clinical')}")
        raise typer.Exit(DONE)


app.add_typer(importers, name="import")


@app.command()
def synthesize(
    out: Annotated[Path, typer.Argument(help="Folder of the extract to write.")],
    subjects: Annotated[int, typer.Option(help="How many people.", min=10)] = 2000,
    seed: Annotated[int, typer.Option(help="Another seed is another hospital.", min=0)] = 0,
    outbreak: Annotated[bool, typer.Option(help="Let an infection go round the units.")] = True,
    ct: Annotated[bool, typer.Option("--ct", help="CT series for half of the X-rays.")] = False,
) -> None:
    """Write a synthetic hospital: a valid extract with all modalities, labels and the truth."""
    from clinical.pipeline import synthesize as write

    write(out, subjects=subjects, seed=seed, outbreak=outbreak, ct=ct)
    typer.echo(f"extract: {out}")


@app.command()
def validate(
    extract: Annotated[Path, typer.Argument(help="A MEDS folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Check an extract; exit code 1 if it has errors."""
    from clinical.pipeline import validate as check

    found = check(extract)
    if as_json:
        typer.echo(found.to_json())
    elif found.findings:
        from rich.markup import escape
        from rich.table import Table

        table = Table("severity", "check", "file", "count", "remedy")
        for finding in found.findings:
            colour = "red" if finding.severity == "error" else "yellow"
            table.add_row(
                f"[{colour}]{finding.severity}[/]",
                escape(finding.check),
                escape(finding.file),
                f"{finding.count:,}",
                escape(finding.remedy),
            )
        screen.show(table)
    else:
        typer.echo(f"{extract}: no findings")
    raise typer.Exit(DONE if found.ok else DATA_ERRORS)


@app.command()
def prepare(
    config: Config,
    overrides: Overrides = None,
    acknowledge: Acknowledge = False,
    workers: Annotated[
        int | None, typer.Option(help="Processes; by default trainer.workers.", min=0)
    ] = None,
) -> None:
    """Cut, route and store what each sample may see."""
    from clinical.experiment import Run
    from clinical.pipeline import prepare as prepare_store

    said = ["acknowledge_identifiers=true"] if acknowledge else []
    said += [] if workers is None else [f"trainer.workers={workers}"]
    store = prepare_store(Run.read(config, [*(overrides or []), *said]))
    screen.show_counts(store.counts)
    typer.echo(f"store: {store.folder}")


@app.command()
def pretrain(config: Config, overrides: Overrides = None) -> None:
    """Pretrain on the train split, without labels."""
    from clinical.experiment import Run
    from clinical.pipeline import pretrain as train

    read = Run.read(config, overrides or [])
    with screen.resumable():
        weights = train(read, progress=screen.is_terminal())
    typer.echo(f"weights: {weights}")


@app.command()
def finetune(config: Config, overrides: Overrides = None) -> None:
    """Fine-tune on labels, write the bundle and evaluate."""
    from clinical.experiment import Run
    from clinical.pipeline import finetune as train

    read = Run.read(config, overrides or [])
    with screen.resumable():
        evaluation = train(read, progress=screen.is_terminal())
    screen.show_run(evaluation, read.out)


@app.command()
def run(config: Config, overrides: Overrides = None) -> None:
    """Prepare, pretrain, fine-tune, score the held-out split and evaluate."""
    from clinical.experiment import Run
    from clinical.pipeline import run as run_all

    read = Run.read(config, overrides or [])
    with screen.resumable():
        evaluation = run_all(read, progress=screen.is_terminal())
    screen.show_run(evaluation, read.out)


app.command()(cohort_commands.cohort)
app.command()(cohort_commands.split)
app.command()(site_commands.leave_one_site_out)
app.command("learning-curve")(learning_curve)
app.command()(asking.score)
app.command()(asking.serve)
app.add_typer(asking.bundle, name="bundle")


@app.command()
def embed(
    bundle: Annotated[Path, typer.Argument(help="Folder of a finished model.")],
    extract: Annotated[Path, typer.Argument(help="A MEDS folder, labelled or not.")],
    aspect: Annotated[
        str | None, typer.Option(help="Task or relation; else the patient's own data.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Parquet file to write.")] = Path("embeddings.parquet"),
    context: Annotated[
        Path | None, typer.Option(help="Extract of unlabelled contemporaries.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of torch.", min=1)] = None,
) -> None:
    """Write one representation of every sample, for a task or a relation."""
    from clinical.scoring import embed_extract

    embedded = embed_extract(
        bundle, extract, aspect=aspect, out=out, context=context, threads=threads
    )
    nothing = embedded["reason"].notna()
    counts = {"samples embedded": int((~nothing).sum()), "with nothing visible": int(nothing.sum())}
    screen.show(screen.pairs("what", "count", counts))
    typer.echo(f"embeddings: {out}")


@app.command()
def explain(
    bundle: Annotated[Path, typer.Argument(help="Folder of a finished model.")],
    extract: Annotated[Path, typer.Argument(help="A MEDS folder, labelled or not.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")] = Path("explanation.parquet"),
    context: Annotated[
        Path | None, typer.Option(help="Extract of unlabelled contemporaries.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="By default every binary one.")] = None,
    top: Annotated[int, typer.Option(help="Neighbours a sample and relation.", min=0)] = 5,
    inputs: Annotated[
        Path | None, typer.Option(help="Folder for modalities, variables, words, regions.")
    ] = None,
    highest: Annotated[
        int, typer.Option(help="Highest scores whose words and regions go there.", min=0)
    ] = 20,
    threads: Annotated[int | None, typer.Option(help="Threads of torch.", min=1)] = None,
) -> None:
    """Say which modalities, relations and neighbours moved each score."""
    from clinical.scoring import explain_extract

    explained = explain_extract(
        bundle,
        extract,
        task=task,
        top=top,
        highest=highest,
        out=out,
        inputs=inputs,
        context=context,
        threads=threads,
    )
    screen.show_parts(explained.inputs.modalities)
    if explained.neighbours is not None:
        screen.show_explanation(explained.neighbours)
        typer.echo(f"explanation: {out}")
    if inputs is not None:
        typer.echo(f"inputs: {inputs}")


@app.command()
def link(
    bundle: Annotated[Path, typer.Argument(help="Folder of a finished model.")],
    extract: Annotated[Path, typer.Argument(help="A MEDS folder, labelled or not.")],
    relation: Annotated[str | None, typer.Option(help="Kind of edge, if not the only one.")] = None,
    top: Annotated[int, typer.Option(help="Codes a sample.", min=1)] = 10,
    out: Annotated[Path, typer.Option(help="Parquet file to write.")] = Path("links.parquet"),
    context: Annotated[
        Path | None, typer.Option(help="Extract of unlabelled contemporaries.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of torch.", min=1)] = None,
) -> None:
    """Rank the diagnoses, drugs and procedures that each patient likely has and does not show."""
    from clinical.scoring import link_extract

    links = link_extract(
        bundle, extract, relation=relation, top=top, out=out, context=context, threads=threads
    )
    counts = {"samples": int((links["rank"] == 1).sum()), "codes ranked": len(links)}
    screen.show(screen.pairs("what", "count", counts))
    typer.echo(f"links: {out}")


@app.command("zero-shot")
def zero_shot(
    bundle: Annotated[Path, typer.Argument(help="Folder of a finished model.")],
    extract: Annotated[Path, typer.Argument(help="A MEDS folder, labelled or not.")],
    prompts: Annotated[Path, typer.Argument(help="A YAML file, {class: [text, text]}.")],
    modality: Annotated[str | None, typer.Option(help="To compare with; else all.")] = None,
    out: Annotated[Path, typer.Option(help="Parquet file to write.")] = Path("zero_shot.parquet"),
    threads: Annotated[int | None, typer.Option(help="Threads of torch.", min=1)] = None,
) -> None:
    """Score a concept that nobody labelled, from what texts say of it."""
    from clinical.scoring import zero_shot_extract

    scored = zero_shot_extract(
        bundle, extract, prompts, modality=modality, out=out, threads=threads
    )
    unscored = scored["score"].isna()
    counts = {"rows scored": int((~unscored).sum()), "without a score": int(unscored.sum())}
    screen.show(screen.pairs("what", "count", counts))
    typer.echo(f"scores: {out}")


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Parquet file of predictions.")],
    labels: Annotated[Path | None, typer.Option(help="Folder or file of MEDS labels.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="Predictions to compare with.")] = None,
    thresholds: Annotated[
        str | None, typer.Option(help="Scores to act from: 0.1,0.2 or a bundle's thresholds.json.")
    ] = None,
    by: Annotated[
        Path | None, typer.Option(help="Extract, or Parquet file of groups, to judge groups by.")
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder to draw pictures in.")] = None,
    resamples: Annotated[int, typer.Option(help="Of the bootstrap.", min=1)] = 1000,
) -> None:
    """Judge predictions, from this toolkit or any other."""
    from clinical.grouping import read_groups
    from clinical.pipeline import evaluate as judge

    evaluation = judge(
        predictions, labels, baseline=baseline, thresholds=thresholds, resamples=resamples
    )
    screen.show_evaluation(evaluation)
    if by is not None:
        screen.show_groups(evaluation.by(read_groups(by, predictions)))
    if figures is not None:
        for path in evaluation.save_figures(figures):
            typer.echo(f"picture: {path}")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    extract: Annotated[
        Path | None, typer.Option(help="To group patients by, if not the run's own.")
    ] = None,
    about: Annotated[
        Path | None, typer.Option(help="YAML, {item of TRIPOD+AI: what you say}.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File; else report.html in the run.")] = None,
    smallest: Annotated[int, typer.Option(help="People below which nothing is shown.", min=1)] = 10,
) -> None:
    """Write one HTML file about a run: performance, groups of patients, TRIPOD+AI."""
    from clinical.reporting import report as write

    path = write(run, extract=extract, about=about, out=out, smallest=smallest)
    typer.echo(f"report: {path}")


@app.command()
def audit(
    bundle: Annotated[Path, typer.Argument(help="Folder of a finished model.")],
    extract: Annotated[Path, typer.Argument(help="A MEDS folder, labelled or not.")],
    samples: Annotated[int, typer.Option(help="How many are drawn.", min=2)] = 200,
    context: Annotated[
        Path | None, typer.Option(help="Extract of unlabelled contemporaries.")
    ] = None,
    splits: Annotated[
        Path | None, typer.Option(help="Splits of the training, if not the extract's own.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help=".json or .csv file to write.")] = None,
) -> None:
    """Look for leaks: what must not matter is changed; exit code 1 if a score moves."""
    from clinical.pipeline import audit as look

    found = look(bundle, extract, samples=samples, context=context, splits=splits, out=out)
    screen.show_audit(found)
    raise typer.Exit(DONE if found.passed else DATA_ERRORS)


def main() -> None:
    """Run the command line; see DONE, DATA_ERRORS, USER_ERROR and OUR_ERROR for exit codes."""
    try:
        app(standalone_mode=True)
    except ClinicalError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(USER_ERROR)
    except Exception as error:  # noqa: BLE001  (the last resort: a traceback belongs in a file)
        log = _write_log(_traceback(error))
        typer.echo(f"error: this is a defect of ours; the traceback is in {log}", err=True)
        sys.exit(OUR_ERROR)


def _traceback(error: BaseException) -> str:
    """Where an error and its causes arose, without their words, as these may quote a cell."""
    told: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        kind = f"{type(cause).__module__}.{type(cause).__qualname__}\n"
        told = [*traceback.format_tb(cause.__traceback__), kind, *told]
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return "".join(told)


def _write_log(text: str) -> Path:
    """Leave a log in the working folder, or where temporary files go if that is read-only."""
    name = f"clinical-error-{datetime.now():%Y%m%d-%H%M%S}.log"
    try:
        log = Path(name).resolve()
        log.write_text(text, encoding="utf-8")
    except OSError:
        log = Path(tempfile.gettempdir()) / name
        log.write_text(text, encoding="utf-8")
    return log


if __name__ == "__main__":
    main()

"""The command line's verbs about a finished bundle: what is in it, and what it says of patients."""

from clinical import screen
from clinical.drift_screen import show_drift

from pathlib import Path
from typing import Annotated

import typer

bundle = typer.Typer(no_args_is_help=True, help="What a finished model is.")


@bundle.command()
def inspect(
    folder: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of a finished model.")],
) -> None:
    """Show what is in a bundle, after checking that nothing was changed."""
    from clinical.bundle import Bundle
    from clinical.predictor.facts import facts_of

    screen.show_facts(facts_of(Bundle.read(folder)))


def score(
    bundle: Annotated[Path, typer.Argument(help="Folder of a finished model.")],
    extract: Annotated[Path, typer.Argument(help="A MEDS folder, labelled or not.")],
    out: Annotated[Path, typer.Option(help="Parquet file to write.")] = Path("predictions.parquet"),
    samples: Annotated[
        Path | None,
        typer.Option(help="Parquet of subject_id, prediction_time."),
    ] = None,
    at: Annotated[
        str | None, typer.Option(help='Predict by rule: "ICU_ADMISSION + 48h" (min, h, d, w).')
    ] = None,
    every: Annotated[
        str | None, typer.Option(help='And again, such as "6h", until the stay ends.')
    ] = None,
    until: Annotated[
        list[str] | None,
        typer.Option(help="Code that ends a stay (or regex:PATTERN); else discharge, death."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Subjects of this split alone.")] = None,
    labels: Annotated[
        list[str] | None, typer.Option(help="Folder of labels, or TASK=FOLDER.")
    ] = None,
    context: Annotated[
        Path | None, typer.Option(help="Extract of unlabelled contemporaries.")
    ] = None,
    coverage: Annotated[float, typer.Option(help="Of conformal sets and intervals.")] = 0.9,
    form: Annotated[
        str, typer.Option("--format", help="predictions, or meds-evaluation of one binary task.")
    ] = "predictions",
    task: Annotated[
        str | None, typer.Option(help="For meds-evaluation, if there are several.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Share scores out; tables of the 20 highest.")
    ] = False,
    explain_pages: Annotated[
        str | None, typer.Option(help="Patients' pages of rows, 12,57, or of highest:5.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Cores to use; else all.", min=1)] = None,
) -> None:
    """Score the samples of an extract; after a kill, the same command goes on."""
    from clinical.closer_look import Chosen, check_folder, look_closer
    from clinical.cohort.selection import Selection
    from clinical.score_file import score_extract

    selection = Selection.of(samples=samples, at=at, every=every, until=until or (), split=split)
    is_explained = explain or explain_pages is not None
    chosen = Chosen.of(explain_pages)
    if is_explained:
        check_folder(out)
    with (
        screen.resumable("the same command goes on"),
        screen.progress(screen.is_terminal()) as progress,
    ):
        scored = score_extract(
            bundle,
            extract,
            out=out,
            selection=selection,
            labels=labels or (),
            context=context,
            coverage=coverage,
            form=form,
            task=task,
            explain=is_explained,
            threads=threads,
            progress=progress,
        )
    screen.show(screen.pairs("what", "count", scored.counts))
    screen.show_recognised(scored.recognised)
    show_drift(scored.drift)
    for name, note in scored.notes.items():
        typer.echo(f"note: calibration of {name}: {note}")
    typer.echo(f"{form}: {out}")
    if is_explained:
        looked = look_closer(bundle, extract, out, chosen, context=context, threads=threads)
        screen.show_parts(looked.explained.modalities)
        typer.echo(f"explanation: {looked.folder}, of {len(looked.explained.samples)} scores")
        for page in looked.pages:
            typer.echo(f"page: {page} shows a patient's data")


def serve(
    bundle: Annotated[Path, typer.Argument(help="Folder of a finished model.")],
    context: Annotated[
        Path | None, typer.Option(help="Extract of unlabelled contemporaries.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.", min=1, max=65535)] = 8000,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Other machines may ask; nobody is asked who.")
    ] = False,
    megabytes: Annotated[float, typer.Option(help="Of a request, at most.")] = 32.0,
    patients: Annotated[int, typer.Option(help="In a request, at most.")] = 64,
    events: Annotated[int, typer.Option(help="In a request, at most.")] = 500_000,
    samples: Annotated[int, typer.Option(help="Prediction times in a request, at most.")] = 1024,
    pairs: Annotated[
        int, typer.Option(help="Of an event and a prediction time of a patient, at most.")
    ] = 5_000_000,
    images: Annotated[int, typer.Option(help="In a request, at most.")] = 128,
    megapixels: Annotated[float, typer.Option(help="Of a request's images, at most.")] = 256.0,
    at_once: Annotated[int, typer.Option(help="Requests scored beside each other.")] = 1,
    waiting: Annotated[int, typer.Option(help="Requests that may wait.")] = 8,
    seconds: Annotated[float, typer.Option(help="A request may take.")] = 60.0,
    body_seconds: Annotated[float, typer.Option(help="Of these its body, at most.")] = 30.0,
) -> None:
    """Score patients over HTTP, for this machine alone; JSON in and out."""
    from clinical.errors import ConfigError

    try:
        from clinical.serving import Limits
        from clinical.serving import serve as answer
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "starlette", "uvicorn"):
            raise
        raise ConfigError("serve: needs more packages; pip install 'clinical[serve]'") from None
    limits = Limits(
        megabytes=megabytes,
        patients=patients,
        events=events,
        samples=samples,
        pairs=pairs,
        images=images,
        megapixels=megapixels,
        at_once=at_once,
        waiting=waiting,
        seconds=seconds,
        body_seconds=body_seconds,
    )
    answer(bundle, context=context, host=host, port=port, allow_remote=allow_remote, limits=limits)

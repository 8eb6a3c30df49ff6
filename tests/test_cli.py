"""The command line: exit codes, one line for a user's mistake, nothing half-written."""

import clinical
from clinical import cli
from clinical.cohort.counts import CAPTIONS, MEANINGS
from clinical.cohort.store import Store
from clinical.errors import SchemaError

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

TASK = "in_hospital_mortality"


@pytest.fixture
def extract(hospital, tmp_path) -> Path:
    """A copy of the hospital to be damaged; its files are links, so replace them."""
    return Path(shutil.copytree(hospital, tmp_path / "extract", copy_function=os.link))


@pytest.fixture
def try_run(command, extract, tmp_path, hospital_tools):
    """Run the tiny configuration on the damaged extract; the one line it answered with."""

    def call(*more: str) -> str:
        before = files(tmp_path)
        options = hospital_tools.overrides(extract, tmp_path / "out", *more)
        code, out, err = command("run", hospital_tools.TINY, *options)
        return refused(code, out, err, before, tmp_path)

    return call


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(code: int, out: str, err: str, before: dict[str, bytes], folder: Path) -> str:
    assert code == cli.USER_ERROR, err
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert files(folder) == before
    return line


def shard_of(extract: Path) -> Path:
    (shard,) = (extract / "data").rglob("*.parquet")
    return shard


def rewrite(path: Path, frame: pl.DataFrame) -> None:
    path.unlink(missing_ok=True)
    frame.write_parquet(path)


# A user's mistakes: exit code 2 and one line


def test_an_unknown_key_is_told_with_the_likely_one(try_run):
    assert try_run("sed=3").endswith("tiny.yaml: sed: unknown key; did you mean seed?")


def test_a_bad_override_is_told(try_run):
    assert "written key=value" in try_run("seed")
    assert "seed is a value, not a section" in try_run("seed.x=3")


def test_a_missing_configuration_is_told(command, tmp_path):
    line = refused(*command("run", tmp_path / "no.yaml"), {}, tmp_path)
    assert line.endswith("no.yaml: there is no such file; check the path")


def test_a_missing_extract_is_told(try_run):
    assert "nowhere" in try_run("extract=nowhere")


def test_a_truncated_file_is_told_by_name(try_run, extract):
    content = shard_of(extract).read_bytes()
    shard = shard_of(extract)
    shard.unlink()
    shard.write_bytes(content[: len(content) // 2])
    assert "data/0.parquet: " in try_run()


def test_an_unsorted_shard_is_told_by_name(try_run, extract):
    frame = pl.read_parquet(shard_of(extract))
    rewrite(shard_of(extract), frame.sort("time", descending=True))
    assert "data/0.parquet: " in try_run()


def test_an_empty_cohort_is_told(try_run, extract):
    for path in (extract / "samples.parquet", *(extract / "tasks").rglob("*.parquet")):
        rewrite(path, pl.read_parquet(path).clear())
    assert "the cohort is empty" in try_run()


def test_a_label_of_an_unknown_subject_is_told_without_the_subject(try_run, extract):
    (path,) = (extract / "tasks").rglob("*.parquet")
    labels = pl.read_parquet(path)
    stranger = labels.head(1).with_columns(pl.col("subject_id") + 7_777_777)
    rewrite(path, pl.concat([labels, stranger]))
    line = try_run()
    assert "1 labels are of 1 subjects that the extract does not have" in line
    assert str(stranger["subject_id"][0]) not in line


@pytest.mark.parametrize("value", [True, False])
def test_a_task_with_one_class_is_told(try_run, extract, value):
    (path,) = (extract / "tasks").rglob("*.parquet")
    labels = pl.read_parquet(path)
    rewrite(path, labels.with_columns(boolean_value=pl.lit(value)))
    assert f"tasks.{TASK}: train has " in (line := try_run())
    assert line.endswith("a task needs both")


def test_an_unknown_importer_is_told_with_the_known_ones(command, tmp_path):
    line = refused(*command("import", "mimic9", "x", tmp_path / "out"), {}, tmp_path)
    assert "mimic9: there is no such importer; known are physionet2012" in line


@pytest.mark.parametrize(
    "verb",
    [("synthesize", "{out}", "--subjects", "12"), ("import", "physionet2012", "{out}", "{out}")],
    ids=["synthesize", "import"],
)
def test_a_folder_that_holds_something_is_not_written_into(command, tmp_path, verb):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    before = files(tmp_path)
    arguments = [part.format(out=tmp_path / "out") for part in verb]
    refused(*command(*arguments), before, tmp_path)


def test_a_finished_run_is_not_overwritten(command, finished, hospital_tools, tmp_path):
    before = files(finished.out)
    options = hospital_tools.overrides(finished.extract, finished.out)
    code, out, err = command("run", hospital_tools.TINY, *options)
    assert "overwrite=true" in refused(code, out, err, before, finished.out)


def test_a_bundle_that_is_none_is_told(command, hospital, tmp_path):
    line = refused(*command("score", tmp_path / "no", hospital), {}, tmp_path)
    assert "there is no such bundle folder" in line


def test_many_problems_of_a_configuration_are_listed(command, hospital_tools, tmp_path):
    code, _, err = command("run", hospital_tools.TINY, "sed=1", "fusion.widht=3", "finetune.x=1")
    assert code == cli.USER_ERROR
    first, *others = err.splitlines()
    assert first.endswith("tiny.yaml: 3 problems")
    assert [line.split(":")[0].strip() for line in others] == ["finetune.x", "sed", "fusion.widht"]
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    "arguments",
    [
        ("no-such-verb",),
        ("run",),
        ("synthesize", "x", "--subjects", "many"),
        ("synthesize", "x", "--subjects", "3"),
        ("score", "--what"),
    ],
)
def test_a_wrong_usage_ends_with_2(command, arguments, tmp_path):
    code, _, err = command(*arguments)
    assert code == cli.USER_ERROR
    assert "Usage" in err
    assert files(tmp_path) == {}


@pytest.fixture
def places(hospital, hospital_tools, finished, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("places")
    (folder / "file").write_text("mine")
    (folder / "empty").mkdir()
    return {
        "file": folder / "file",
        "empty": folder / "empty",
        "config": hospital_tools.TINY,
        "hospital": hospital,
        "out": finished.out,
        "bundle": finished.bundle,
        "labels": hospital / "tasks" / TASK,
        "predictions": finished.out / "predictions.parquet",
    }


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("run {empty}", "{empty}: is a folder; give the YAML file of a run"),
        ("validate {file}", "extract: {file} is a file; give the folder that holds data/"),
        ("score {bundle} {file}", "extract: {file} is a file; give the folder that holds data/"),
        ("score {file} {hospital}", "{file}: is a file; give the bundle's folder"),
        ("score {bundle} {hospital} --out {empty}", "{empty}: is a folder; name the Parquet file"),
        (
            "score {bundle} {hospital} --out {empty}/s.csv",
            "{empty}/s.csv: what is written is Parquet",
        ),
        ("score {bundle} {hospital} --out {file}/x", "out: {file} is a file and can hold nothing"),
        (
            "score {bundle} {hospital} --context {file}",
            "extract: {file} is a file; give the folder that holds data/",
        ),
        ("evaluate {out}", "predictions: {out} is a folder; give {predictions}"),
        ("evaluate {empty}", "predictions: {empty} is a folder; give a file"),
        ("evaluate {file}x", "predictions: there is no such file as {file}x; check the path"),
        (
            "evaluate {predictions} --baseline {out}",
            "baseline: {out} is a folder; give {out}/predictions_baseline.parquet",
        ),
        (
            "evaluate {predictions} --labels {hospital}",
            "labels: {hospital} is an extract; give a folder of labels, such as {labels}",
        ),
        ("evaluate {predictions} --labels {empty}", "labels: there is no Parquet file in {empty}"),
        ("evaluate {predictions} --labels {file}x", "labels: there is no such file as {file}x"),
        (
            "evaluate {predictions} --resamples 2 --figures {file}",
            "figures: {file} is a file; name a folder for the pictures",
        ),
        ("prepare {config} out={file}", "out: {file} is a file; choose another out="),
        ("prepare {config} out={file}/x", "out: {file} is a file and can hold nothing"),
        ("synthesize {file}", "out: {file} is a file; choose another place"),
        ("synthesize {file}/x", "out: {file} is a file and can hold nothing"),
        (
            "import physionet2012 {empty} x --outcomes {empty}",
            "outcomes: {empty} is a folder; give a file",
        ),
        ("import covid_chestxray {file} x", "source: {file} is a file; give the folder that holds"),
    ],
)
def test_a_file_in_a_folder_s_place_and_the_reverse_are_told_in_one_line(
    command, places, tmp_path, arguments, expected
):
    code, _, err = command(*arguments.format(**places).split())
    assert code == cli.USER_ERROR, err
    line = err.splitlines()[-1]
    assert line.startswith(f"error: {expected.format(**places)}")
    assert files(tmp_path) == {}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("extract={file}", "extract: {file} is a file; give the folder that holds data/"),
        ("out={file}", "out: {file} is a file; choose another out="),
        ("out={file}/run", "out: {file} is a file and can hold nothing"),
        ("splits={empty}", "splits: {empty} is a folder; give a file"),
        (
            "splits={hospital}",
            "splits: {hospital} is a folder; give {hospital}/metadata/subject_splits.parquet",
        ),
        (
            "tasks.{task}.labels={labels}/0.parquet",
            "labels: {labels}/0.parquet is a file; give its folder, {labels}",
        ),
    ],
)
def test_a_configuration_that_takes_a_file_for_a_folder_is_told_in_one_line(
    try_run, places, override, expected
):
    line = try_run(override.format(**places, task=TASK))
    assert line.startswith(f"error: {expected.format(**places)}")


# Our mistakes: exit code 3 and a log


def test_a_defect_of_ours_ends_with_3_and_a_traceback_in_a_file(command, monkeypatch, tmp_path):
    def broken(*_, **__):
        cell = "secret" + " detail"
        try:
            raise OSError(cell)
        except OSError as error:
            raise ZeroDivisionError(cell) from error

    monkeypatch.setattr("clinical.pipeline.synthesize", broken)
    code, out, err = command("synthesize", "x")
    assert (code, out) == (cli.OUR_ERROR, "")
    (line,) = err.splitlines()
    (log,) = tmp_path.iterdir()
    assert line.endswith(f"the traceback is in {log}")
    told = log.read_text()
    assert "builtins.ZeroDivisionError" in told
    assert "builtins.OSError" in told
    assert "in broken" in told
    # Errors of the system and of libraries quote names of files and cells.
    assert "secret detail" not in line + told


def test_the_log_finds_a_place_where_the_working_folder_is_read_only(
    command, monkeypatch, tmp_path
):
    def broken(*_, **__):
        raise ZeroDivisionError

    real = Path.write_text

    def read_only(self, *arguments, **options):
        if self.parent == tmp_path:
            raise PermissionError(self)
        return real(self, *arguments, **options)

    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("clinical.pipeline.synthesize", broken)
    monkeypatch.setattr(Path, "write_text", read_only)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    code, _, err = command("synthesize", "x")
    assert code == cli.OUR_ERROR
    (log,) = temporary.iterdir()
    assert str(log) in err


def test_a_user_s_error_inside_a_verb_is_one_line(command, monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise SchemaError("data/0.parquet: 3 rows are wrong [mine]; mend them")

    monkeypatch.setattr("clinical.pipeline.validate", refuse)
    code, out, err = command("validate", "x")
    assert (code, out) == (2, "")
    assert err == "error: data/0.parquet: 3 rows are wrong [mine]; mend them\n"


def test_an_interruption_ends_with_130_and_says_how_to_go_on(
    command, monkeypatch, hospital_tools, hospital, tmp_path
):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    for verb in ("run", "pretrain", "finetune"):
        monkeypatch.setattr(f"clinical.pipeline.{verb}", interrupted)
        options = hospital_tools.overrides(hospital, tmp_path / "out")
        code, _, err = command(verb, hospital_tools.TINY, *options)
        assert code == cli.screen.INTERRUPTED
        assert err.strip() == "interrupted; resume=true goes on with the run"


# What it shows


def test_validate_ends_with_1_on_errors_and_0_otherwise(command, hospital, extract):
    assert command("validate", hospital)[0] == cli.DONE
    (extract / "metadata" / "codes.parquet").unlink()
    shard = shard_of(extract)
    rewrite(shard, pl.read_parquet(shard).sort("time", descending=True))
    code, out, _ = command("validate", extract)
    assert code == cli.DATA_ERRORS
    assert "error" in out
    code, out, _ = command("validate", extract, "--json")
    assert code == cli.DATA_ERRORS
    assert json.loads(out)


def test_what_stands_in_data_is_shown_as_it_is(command, monkeypatch):
    store = Store(Path("x"), {"counts": {"[bold]codes[/]": {"LAB[red]:smile:": 12_345}}})
    monkeypatch.setattr("clinical.pipeline.prepare", lambda *_: store)
    monkeypatch.setattr("clinical.experiment.Run.read", lambda *_: None)
    code, out, _ = command("prepare", "x.yaml")
    assert code == cli.DONE
    assert "[bold]codes[/]" in out
    assert "LAB[red]:smile:" in out
    assert "12,345" in out


def test_prepare_explains_its_counts_in_80_columns(command, finished, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    store = Store.open(finished.out / "store")
    every = dict.fromkeys(MEANINGS, 1_234_567)
    counts = {**store.counts, "events": every}
    monkeypatch.setattr(
        "clinical.pipeline.prepare", lambda *_: Store(Path("x"), {"counts": counts})
    )
    monkeypatch.setattr("clinical.experiment.Run.read", lambda *_: None)
    code, out, _ = command("prepare", "x.yaml")
    assert code == cli.DONE
    assert max(len(line) for line in out.splitlines()) <= 80
    for meaning in (*MEANINGS.values(), *CAPTIONS.values()):
        assert meaning in out
    assert "…" not in out


def test_score_writes_predictions_and_counts_them(command, finished, tmp_path):
    code, out, err = command("score", finished.bundle, finished.extract, "--out", "scores.parquet")
    assert code == cli.DONE, err
    assert "rows scored" in out
    assert "predictions: scores.parquet" in out
    scores = pd.read_parquet(tmp_path / "scores.parquet")
    assert len(scores) > 200
    n_notes = scores["modalities"].str.contains("notes").sum()
    assert re.search(rf"^ *notes +{n_notes} .* 100\.0 % *$", out, flags=re.MULTILINE)
    assert "unknown: events of codes that the model has not learned" in out


def test_score_says_in_80_columns_which_variables_are_missing_and_nothing_of_a_patient(
    command, finished, hospital_tools, tmp_path
):
    own = pl.col("numeric_value").is_not_null() & pl.col("time").is_not_null()
    foreign = hospital_tools.alter(
        finished.extract,
        tmp_path / "foreign",
        lambda frame: frame.with_columns(
            code=pl.when(own & (pl.col("code") != "HR"))
            .then(pl.lit("LOCAL//") + pl.col("code"))
            .otherwise("code")
        ),
    )
    out_file = ("--out", "scores.parquet")
    code, out, err = command("score", finished.bundle, foreign, "--split", "train", *out_file)
    assert code == cli.USER_ERROR
    assert "metadata/subject_splits.parquet: there is none" in err
    rule = ("--at", "ICU_ADMISSION + 24h", "--every", "2d", "--coverage", "0.8")
    code, out, err = command("score", finished.bundle, foreign, *rule, *out_file)
    assert code == cli.DONE, err
    assert max(len(line) for line in out.splitlines() if not line.startswith("note:")) <= 80
    assert re.search(r"events +20 +19 +19 ", out)
    assert "and 13 more" in out
    assert str(hospital_tools.FIRST)[:6] not in out + err
    assert set(pd.read_parquet(tmp_path / "scores.parquet")["coverage"].dropna()) == {0.8}


def test_score_writes_the_columns_of_meds_evaluation(command, finished, tmp_path):
    asked = ("--format", "meds-evaluation", "--out", "five.parquet")
    code, out, err = command("score", finished.bundle, finished.extract, *asked)
    assert code == cli.DONE, err
    assert "rows written" in out
    assert "meds-evaluation: five.parquet" in out
    assert len(pd.read_parquet(tmp_path / "five.parquet").columns) == 5


def test_an_interrupted_score_ends_with_130_and_says_how_to_go_on(command, monkeypatch, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("clinical.score_file.score_extract", interrupted)
    code, _, err = command("score", tmp_path / "bundle", tmp_path / "extract")
    assert code == cli.screen.INTERRUPTED
    assert err == "interrupted; the same command goes on\n"


def test_embed_writes_a_representation_of_each_sample(command, finished, tmp_path):
    arguments = (finished.bundle, finished.extract, "--out", "embedded.parquet")
    for aspect in ("same_unit", TASK):
        code, out, err = command("embed", *arguments, "--aspect", aspect)
        assert code == cli.DONE, err
        assert "samples embedded" in out
        assert "embeddings: embedded.parquet" in out
        found = pd.read_parquet(tmp_path / "embedded.parquet")
        expected = clinical.embed(finished.bundle, finished.extract, aspect=aspect)
        pd.testing.assert_frame_equal(found, expected, check_dtype=False)
    code, _, err = command("embed", *arguments, "--aspect", "mortality")
    assert code == cli.USER_ERROR
    assert f"aspect: the model has no task or relation mortality; did you mean {TASK}?" in err


def test_explain_shows_what_each_relation_does_at_a_glance(
    command, finished, monkeypatch, tmp_path
):
    monkeypatch.setenv("COLUMNS", "80")
    arguments = ("--context", finished.extract, "--top", 1, "--inputs", "inputs", "--highest", 40)
    code, out, err = command("explain", finished.bundle, finished.extract, *arguments)
    assert code == cli.DONE, err
    assert max(len(line) for line in out.splitlines()) <= 80
    found = pd.read_parquet(tmp_path / "explanation.parquet")
    whole = found[found["neighbour"].isna() & (found["relation"] == "same_unit")]
    share = 100 * (whole["n_neighbours"] > 0).mean()
    moves = whole[whole["n_neighbours"] > 0]["effect"].abs().median()
    assert f"{TASK}: what each relation does to the scores of {len(whole)} samples" in out
    assert re.search(rf"^ *same_unit +{share:.1f} % +{moves:.4f} ", out, flags=re.MULTILINE)
    assert re.search(r"^ *similar +100\.0 % ", out, flags=re.MULTILINE)
    assert found["neighbour"].notna().sum() > len(whole)
    assert "explanation: explanation.parquet" in out
    parts = pd.read_parquet(tmp_path / "inputs" / "modalities.parquet")
    images = parts[(parts["part"] == "images") & parts["present"]]["shapley"]
    has, size = 100 * len(images) / len(whole), images.abs().median()
    line = rf"^ *images +{has:.1f} % +{re.escape(f'{images.median():+.3f}')} +{size:.3f} "
    assert re.search(line, out, flags=re.MULTILINE)
    words = pd.read_parquet(tmp_path / "inputs" / "words.parquet")
    assert 0 < words["subject_id"].nunique() <= 40
    assert "text" not in words
    assert "inputs: inputs" in out


def test_scoring_an_extract_with_other_codes_is_told(finished, hospital_tools, tmp_path, caplog):
    foreign = hospital_tools.alter(
        finished.extract,
        tmp_path / "foreign",
        lambda frame: frame.with_columns(
            pl.when(pl.col("numeric_value").is_not_null())
            .then("LOCAL//" + pl.col("code"))
            .otherwise("code")
            .alias("code")
        ),
    )
    clinical.score(finished.bundle, foreign)
    assert "nothing the model knows of events is visible for any sample" in caplog.text
    assert "of notes is visible" not in caplog.text


def test_evaluate_fits_into_80_columns_and_names_the_task(command, finished, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    baseline = finished.out / "predictions_baseline.parquet"
    code, out, err = command(
        "evaluate",
        finished.out / "predictions.parquet",
        "--baseline",
        baseline,
        "--resamples",
        20,
        "--figures",
        "pictures",
        "--thresholds",
        "0.05,0.2,0.3,0.4",
    )
    assert code == cli.DONE, err
    assert "at thresholds that were chosen on other patients" in out
    assert out.count("alerts per true alert") == 2  # a table for each three thresholds
    assert max(len(line) for line in out.splitlines() if not line.startswith("note")) <= 80
    assert f"{TASK}: 30 rows of " in out
    assert "…" not in out
    for text in ("AUROC", "calibration slope", "model", "baseline", "difference", "chance: "):
        assert text in out
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        "roc.png",
        "pr.png",
        "calibration.png",
        "net_benefit.png",
    }


def test_evaluate_judges_groups_of_an_extract_or_of_a_table(
    command, finished, monkeypatch, tmp_path
):
    monkeypatch.setenv("COLUMNS", "80")
    many = pd.concat(
        [
            finished.predictions.assign(subject_id=lambda t, k=k: t["subject_id"] + 1000 * k)
            for k in range(9)
        ]
    )
    many.to_parquet(tmp_path / "many.parquet")
    groups = many[["subject_id"]].drop_duplicates()
    groups = groups.assign(ward=np.where(groups["subject_id"] % 2 == 0, "[east]", "west"))
    groups.to_parquet(tmp_path / "groups.parquet")
    code, out, err = command(
        "evaluate", tmp_path / "many.parquet", "--by", tmp_path / "groups.parquet", "--resamples", 5
    )
    assert code == cli.DONE, err
    table = out.split("groups of patients")[1]
    assert "[east]" in table
    assert max(len(line) for line in table.splitlines()) <= 80
    predictions = finished.out / "predictions.parquet"
    code, out, err = command("evaluate", predictions, "--by", finished.extract, "--resamples", 5)
    assert code == cli.DONE, err
    assert "not shown" in out.split("groups of patients")[1]
    code, _, err = command("evaluate", predictions, "--by", tmp_path / "none.parquet")
    assert code == cli.USER_ERROR
    assert "groups: there is no such file" in err


def test_evaluate_shows_what_each_part_is_worth(command, finished, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    whole = finished.predictions.assign(left_out=pd.Series(dtype="string"))
    less = [
        whole.assign(left_out=part, score=whole["score"].to_numpy()[::step])
        for part, step in (("notes", -1), ("[graph]", 1))
    ]
    pd.concat([whole, *less]).to_parquet(tmp_path / "parts.parquet")
    code, out, err = command("evaluate", tmp_path / "parts.parquet", "--resamples", 20)
    assert code == cli.DONE, err
    assert f"{TASK}: 30 rows of " in out
    table = out.split("without each part")[1]
    assert max(len(line) for line in table.splitlines()) <= 80
    for text in ("nothing", "notes", "[graph]", "AUROC", "AUPRC", "+0.000 (+0.000 to +0.000)"):
        assert text in table


def test_evaluate_without_any_label_says_how_to_give_them(command, finished, tmp_path):
    finished.predictions.drop(columns="label").to_parquet(tmp_path / "bare.parquet")
    before = files(tmp_path)
    line = refused(*command("evaluate", tmp_path / "bare.parquet"), before, tmp_path)
    assert "give --labels FILE_OR_FOLDER" in line


def test_evaluate_of_one_class_says_not_defined(command, finished, tmp_path):
    predictions = finished.predictions.assign(label=0.0)
    predictions.to_parquet(tmp_path / "one.parquet")
    code, out, _ = command("evaluate", tmp_path / "one.parquet", "--resamples", 20)
    assert code == cli.DONE
    assert "not defined (no positives)" in out
    assert "nan" not in out.lower()


def test_evaluate_says_how_many_rows_have_no_score(command, finished, tmp_path):
    predictions = finished.predictions.copy()
    predictions.loc[predictions.index[:3], "score"] = np.nan
    predictions.to_parquet(tmp_path / "some.parquet")
    code, out, _ = command("evaluate", tmp_path / "some.parquet", "--resamples", 20)
    assert code == cli.DONE
    assert f"{TASK}: 27 rows of " in out
    assert "left out: 3 without a score" in out


def test_evaluate_shows_a_table_for_each_task(command, finished, tmp_path):
    first = finished.predictions
    both = pd.concat([first, first.assign(task="[second]")])
    both.to_parquet(tmp_path / "both.parquet")
    code, out, _ = command("evaluate", tmp_path / "both.parquet", "--resamples", 20)
    assert code == cli.DONE
    assert f"{TASK}: 30 rows" in out
    assert "[second]: 30 rows" in out


def test_the_help_names_every_verb_and_the_version_is_told(command):
    code, out, _ = command("--version")
    assert (code, out) == (0, f"clinical {clinical.__version__}\n")
    code, out, _ = command("--help")
    assert code == cli.DONE
    for verb in (
        "import",
        "synthesize",
        "validate",
        "prepare",
        "pretrain",
        "finetune",
        "run",
        "score",
        "embed",
        "explain",
        "evaluate",
    ):
        assert verb in out


def test_no_verb_shows_the_help(command):
    code, out, err = command()
    assert code == cli.USER_ERROR
    assert "Usage" in out + err


def test_a_mistake_is_one_line_and_no_library_speaks_beside_it(hospital):
    call = [sys.executable, "-m", "clinical.cli", "cohort", "mortalty", str(hospital)]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == cli.USER_ERROR
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: mortalty: there is no such task")

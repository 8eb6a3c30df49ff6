"""Rows of a file of scores are explained beside it, for those who asked."""

import clinical
from clinical.cli import app
from clinical.closer_look import Chosen, look_closer
from clinical.errors import ConfigError, SchemaError

import numpy as np
import pandas as pd
import polars as pl
import pytest
from typer.testing import CliRunner

KEYS = ["subject_id", "prediction_time"]


@pytest.fixture(scope="module")
def asked(finished, tmp_path_factory):
    """`clinical score --explain-pages 3,1`, its folder and what it said."""
    folder = tmp_path_factory.mktemp("scored")
    arguments = ["score", str(finished.bundle), str(finished.extract)]
    more = ["--out", str(folder / "scores.parquet"), "--explain-pages", "3,1", "--threads", "1"]
    said = CliRunner().invoke(app, [*arguments, *more], catch_exceptions=False)
    assert said.exit_code == 0
    return folder, said.output


def test_columns_share_out_every_score_and_leave_it_as_it_is(finished, asked):
    explained = pd.read_parquet(asked[0] / "scores.parquet")
    plain = clinical.score(finished.bundle, finished.extract, threads=1)
    pd.testing.assert_frame_equal(explained[plain.columns], plain)
    shares = explained.filter(like="shapley_")
    assert shares.shape == (len(plain), 6)
    total = explained["logit"] - explained["logit_nothing"]
    np.testing.assert_allclose(shares.sum(axis=1), total, rtol=0, atol=1e-9)


def test_tables_and_pages_are_of_the_rows_asked_for_and_nobody_else(asked):
    folder = asked[0] / "scores.explained"
    names = ["modalities", "neighbours", "regions", "variables", "words"]
    pages = ["row-1.html", "row-3.html"]
    assert sorted(p.name for p in folder.iterdir()) == sorted(
        [*(f"{n}.parquet" for n in names), *pages]
    )
    scores = pd.read_parquet(asked[0] / "scores.parquet")
    chosen = set(scores.loc[[1, 3], "subject_id"])
    for name in names:
        assert set(pd.read_parquet(folder / f"{name}.parquet")["subject_id"]) <= chosen
    for row in (1, 3):
        text = (folder / f"row-{row}.html").read_text()
        assert f"subject {scores.loc[row, 'subject_id']}," in text
        assert f"{scores.loc[row, 'score']:.4f}" in text
    assert "text" not in pd.read_parquet(folder / "words.parquet")


def test_what_is_said_names_nobody_and_quotes_no_note(finished, asked):
    folder, said = asked
    scores = pd.read_parquet(folder / "scores.parquet")
    assert not [str(s) for s in scores["subject_id"].unique() if str(s) in said]
    assert "row-3.html shows a patient's data" in " ".join(said.split())


def scores_of(**columns) -> pl.DataFrame:
    n = 5
    base = {
        "subject_id": range(n),
        "prediction_time": [0] * n,
        "task": ["a", "a", "b", "a", "b"],
        "kind": ["binary"] * 4 + ["regression"],
        "score": [0.1, 0.9, 0.5, None, 0.2],
        "logit": [-2.0, 2.0, 0.0, None, None],
    }
    return pl.DataFrame({**base, **columns})


def test_rows_come_as_asked_for_each_once():
    chosen = Chosen.of("2, 0,2")
    assert chosen.with_pages
    assert chosen.among(scores_of())["place"].to_list() == [2, 0]


def test_the_highest_are_those_of_each_binary_task():
    found = Chosen.of("highest:1").among(scores_of())
    assert sorted(found["place"].to_list()) == [1, 2]
    assert not Chosen.of(None).with_pages


@pytest.mark.parametrize("given", ["", "first", "1,-2", "highest:0", "highest", "1;2", "1.5"])
def test_what_names_no_rows_is_refused(given):
    with pytest.raises(ConfigError, match="give rows of the file from 0, as in 12,57"):
        Chosen.of(given)


@pytest.mark.parametrize(
    ("rows", "words"),
    [("0,5", "no row 5; its 5 rows"), ("3", "row 3 has no score"), ("4", "row 4 has no score, or")],
)
def test_rows_that_cannot_be_explained_are_refused(rows, words):
    with pytest.raises(ConfigError, match=words):
        Chosen.of(rows).among(scores_of())


def test_scores_of_something_else_are_not_explained(finished, asked, tmp_path):
    other = tmp_path / "other.parquet"
    frame = pl.read_parquet(asked[0] / "scores.parquet")
    frame.with_columns(score=pl.col("score") * 0.9).write_parquet(other)
    with pytest.raises(SchemaError, match="scores of the file are not those of this bundle"):
        look_closer(finished.bundle, finished.extract, other, Chosen.of("1"), threads=1)
    assert [p.name for p in tmp_path.iterdir()] == ["other.parquet"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--explain", "--format", "meds-evaluation"], "meds-evaluation has no columns for it"),
        (["--explain-pages", "all"], "explain-pages: all is not understood"),
    ],
)
def test_what_cannot_be_explained_is_told_before_anything_is_scored(
    finished, tmp_path, more, words
):
    arguments = ["score", str(finished.bundle), str(finished.extract)]
    out = ["--out", str(tmp_path / "scores.parquet")]
    with pytest.raises(ConfigError, match=words):
        CliRunner().invoke(app, [*arguments, *out, *more], catch_exceptions=False)
    assert list(tmp_path.iterdir()) == []

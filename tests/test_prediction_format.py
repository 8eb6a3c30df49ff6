"""Predictions as other tools read them: the five columns of meds-evaluation."""

import clinical
from clinical.bundle import Bundle
from clinical.errors import ConfigError
from clinical.prediction_format import MEDS_EVALUATION, MedsEvaluation, Predictions
from clinical.score_file import score_extract

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from meds_evaluation.evaluate import evaluate_binary_classification
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

TASK = "in_hospital_mortality"


@pytest.fixture(scope="module")
def written(finished, tmp_path_factory):
    """The file of five columns, and what was said of it."""
    out = tmp_path_factory.mktemp("meds-evaluation") / "predictions.parquet"
    return score_extract(finished.bundle, finished.extract, out=out, form="meds-evaluation")


def test_the_file_has_exactly_the_five_columns_with_their_types(written):
    fields = {field.name: field.type for field in pq.read_schema(written.out)}
    assert fields == {
        "subject_id": pa.int64(),
        "prediction_time": pa.timestamp("us"),
        "boolean_value": pa.bool_(),
        "predicted_boolean_value": pa.bool_(),
        "predicted_boolean_probability": pa.float64(),
    }
    table = pq.read_table(written.out)
    assert not any(column.null_count for column in table.columns)


def test_the_rows_are_the_scores_and_labels_of_the_predictions(written, finished):
    found = pd.read_parquet(written.out)
    expected = clinical.score(finished.bundle, finished.extract)
    assert found["predicted_boolean_probability"].tolist() == expected["score"].tolist()
    assert found["boolean_value"].tolist() == (expected["label"] == 1).tolist()
    assert found["predicted_boolean_value"].tolist() == (expected["score"] >= 0.5).tolist()
    assert written.counts["rows written"] == len(expected)


def test_meds_evaluation_judges_the_file_as_scikit_learn_does(written):
    judged = evaluate_binary_classification(pl.read_parquet(written.out))
    found = judged["samples_equally_weighted"]
    frame = pd.read_parquet(written.out)
    truth = frame["boolean_value"].to_numpy()
    # The tool rounds probabilities to single precision.
    score = frame["predicted_boolean_probability"].to_numpy().astype(np.float32)
    assert found["roc_auc_score"] == pytest.approx(roc_auc_score(truth, score))
    assert found["average_precision_score"] == pytest.approx(average_precision_score(truth, score))
    assert found["brier_score"] == pytest.approx(brier_score_loss(truth, score))


def frame(**columns) -> pd.DataFrame:
    n = len(columns["score"])
    return pd.DataFrame(
        {
            "subject_id": range(n),
            "prediction_time": pd.Timestamp("2150-01-01"),
            "task": "died",
            "label": np.nan,
            **columns,
        }
    )


def test_rows_without_a_score_or_a_label_are_left_out_and_counted():
    rows, counts = MedsEvaluation("died").rows(
        frame(score=[0.5, np.nan, 0.2, 0.9], label=[1.0, 0.0, np.nan, 0.0])
    )
    assert rows["subject_id"].to_pylist() == [0, 3]
    assert rows["predicted_boolean_value"].to_pylist() == [True, True]
    assert counts == {"rows written": 2, "left out: no score": 1, "left out: no label": 1}


def test_rows_of_other_tasks_are_no_rows_of_this_one():
    both = pd.concat(
        [frame(score=[0.1], label=[1.0]), frame(score=[3.0], label=[2.0], task="stay")]
    )
    rows, _ = MedsEvaluation("died").rows(both)
    assert rows.schema.equals(MEDS_EVALUATION)
    assert rows.num_rows == 1


def test_an_extract_without_labels_is_refused_for_this_format(finished, hospital_tools, tmp_path):
    bare = hospital_tools.alter(finished.extract, tmp_path / "bare", lambda events: events)
    with pytest.raises(ConfigError, match="no row of in_hospital_mortality has both"):
        score_extract(finished.bundle, bare, out=tmp_path / "x.parquet", form="meds-evaluation")
    assert [path.name for path in tmp_path.iterdir()] == ["bare"]


def test_several_binary_tasks_ask_for_one(finished):
    config = Bundle.read(finished.bundle).config
    task = config.tasks[TASK]
    two = config.model_copy(update={"tasks": {"died": task, "sepsis": task}})
    with pytest.raises(ConfigError, match="has 2: name one of died, sepsis"):
        MedsEvaluation.of(two, None)
    assert MedsEvaluation.of(two, "sepsis").task == "sepsis"
    with pytest.raises(ConfigError, match=r"no binary task sepsi; did you mean sepsis\?"):
        MedsEvaluation.of(two, "sepsi")
    with pytest.raises(ConfigError, match="predictions hold every task"):
        Predictions.of(two, "sepsis")


def test_a_portion_in_which_a_column_is_all_null_has_the_types_of_the_others(finished):
    scores = clinical.score(finished.bundle, finished.extract)
    empty = scores.assign(score=np.nan, label=np.nan, in_set=pd.NA, reason="nothing visible")
    some, _ = Predictions().rows(scores)
    none, counts = Predictions().rows(empty)
    assert none.schema.remove_metadata() == some.schema.remove_metadata()
    assert counts == {"rows scored": 0, "without a score": len(scores)}

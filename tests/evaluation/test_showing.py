"""What an evaluation shows in a notebook: every figure once, its notes, and nothing unescaped."""

from clinical.evaluation import evaluate
from clinical.evaluation.showing import table_html

import re

import numpy as np
import pandas as pd


def test_an_interval_stands_below_its_value_and_other_brackets_stay():
    rows = pd.DataFrame({"metric": ["AUPRC (average precision)"], "value": ["−0.1 (−0.2 to 0.0)"]})
    shown = table_html(rows)
    assert ">AUPRC (average precision)</td>" in shown
    assert ">−0.1<br><small>(−0.2 to 0.0)</small></td>" in shown
    assert "&lt;b&gt;" in table_html(pd.DataFrame({"<b>": ["x"]}))


def test_each_task_has_its_headline_and_tables_and_a_note_stands_once_below_them():
    generator = np.random.default_rng(0)
    score = generator.random(80)
    table = pd.DataFrame(
        {
            "subject_id": np.arange(80),
            "prediction_time": pd.Timestamp("2150-01-01"),
            "task": np.repeat(["a", "b"], 40),
            "score": score,
            "label": (generator.random(80) < score).astype(float),
        }
    )
    less = table.assign(left_out="notes", score=score[::-1])
    whole = pd.concat([table.assign(left_out=None), less])
    evaluation = evaluate(whole, thresholds=[0.5], resamples=20)
    shown = evaluation._repr_html_()
    assert re.findall(r"<b>(\w): 40 rows of 40 subjects", shown) == ["a", "b"]
    assert shown.count("<table>") == 6
    assert shown.count("resamples overstate it") == 2
    for value in evaluation.table["value"]:
        assert f">{value:.3f}".replace("-", "−") in shown

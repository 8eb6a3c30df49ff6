"""The report of tasks of every kind; tests/test_reporting.py has that of a real run."""

from clinical.evaluation import evaluate, page
from clinical.evaluation.report import Facts, report_page
from clinical.evaluation.report_facts import description
from clinical.evaluation.report_pictures import pictures_of

import re

import numpy as np
import pandas as pd

N = 240
CONFIG = {
    "modalities": {"events": {"encoder": "event_set"}},
    "graph": {"relations": {}},
    "window_hours": None,
    "ensemble": 2,
    "experts": ["lightgbm"],
    "pretrain": None,
}
METRICS = {"split": "held_out", "baseline": "LightGBM", "counts": {"samples": {"train": 500}}}


def rows(task, kind, score, label, **others):
    return pd.DataFrame(
        {
            "subject_id": np.arange(N),
            "prediction_time": pd.Timestamp("2150-01-01"),
            "task": task,
            "kind": kind,
            "score": score,
            "label": label,
            **others,
        }
    )


def of_every_kind(*, few=0):
    """Predictions of five tasks; with `few`, that many are of class z."""
    generator = np.random.default_rng(0)
    shares = generator.dirichlet([2, 2, 2], N)
    truth = np.array([generator.choice(3, p=p) for p in shares])
    if few:
        truth = np.where(truth == 2, 0, truth)
        truth[:few] = 2
    risk = generator.beta(1, 2, N)
    yes = (generator.random(N) < risk).astype(float)
    classes = [
        rows("ward", "multiclass", shares[:, c], (truth == c) * 1.0, **{"class": name})
        for c, name in enumerate("xyz")
    ]
    labels = [
        rows("organs", "multilabel", risk, generator.permutation(yes), **{"class": name})
        for name in ("renal", "liver")
    ]
    timed = [
        rows(
            "death",
            "time_to_event",
            risk,
            np.where(yes == 1, 10.0, 90.0),
            horizon_hours=hours,
            label_observed=yes == 1,
        )
        for hours in (24.0, 48.0)
    ]
    value = rows("days", "regression", risk * 10, risk * 10 + generator.normal(0, 2, N))
    table = pd.concat([rows("yes", "binary", risk, yes), *classes, *labels, *timed, value])
    return table.reset_index(drop=True)


def written(table, *, left_out=False, **others):
    kinds = table.groupby("task", sort=False)["kind"].first()
    tasks = {name: {"kind": kind} for name, kind in kinds.items()}
    swapped = table.groupby("task")["score"].transform(lambda scores: scores.to_numpy()[::-1])
    less = table.assign(left_out="notes", score=swapped)
    whole = pd.concat([table.assign(left_out=None), less])
    evaluation = evaluate(whole if left_out else table, thresholds=[0.3], resamples=10)
    sex = pd.DataFrame({"subject_id": np.arange(N), "sex": np.where(np.arange(N) % 2, "F", "M")})
    sex["modalities"] = np.where(np.arange(N) % 3, "everything", "without notes")
    facts = Facts(
        config=CONFIG | {"tasks": tasks},
        metrics=METRICS,
        evaluation=evaluation,
        groups=evaluation.by(sex),
        trend=None,
        about={},
        smallest=10,
        **others,
    )
    return report_page(facts)


def headings(text):
    return re.findall(r"<h2>Performance: (.*?)</h2>", text)


def test_every_kind_of_task_has_its_figures_and_pictures():
    text = written(of_every_kind())
    assert headings(text) == [
        "yes",
        "ward",
        "ward/x",
        "ward/y",
        "ward/z",
        "organs",
        "organs/renal",
        "organs/liver",
        "death",
        "death by 24 h",
        "death by 48 h",
        "days",
    ]
    assert "Alerts from thresholds frozen on other patients" in text
    for words in ("integrated Brier", "macro AUROC", "concordance", "MAE", "Groups of patients"):
        assert words in text
    # Six yes-or-no pictures of four, two decision curves, one of values; groups of each.
    pictures = re.findall(r'<img alt="(.*?) of ', text)
    assert pictures.count("roc") == pictures.count("calibration") == 6
    assert pictures.count("net benefit") == 8
    assert pictures.count("values") == 1
    cells = re.findall(r"<td>(.*?)</td>", text)
    assert len(cells) > 500
    assert not {"nan", "None", "&lt;NA&gt;"} & set(cells)


def test_where_one_class_is_of_few_none_is_shown_by_itself():
    text = written(of_every_kind(few=4))
    found = headings(text)
    assert "ward" in found
    assert not any(name.startswith("ward/") for name in found)
    patients = text.partition(">Patients</h2>")[2].partition("</section>")[0]
    assert "<td>4</td>" not in patients


def missing_section(text):
    return text.partition(">When inputs are missing</h2>")[2].partition("</section>")[0]


def test_missing_inputs_have_a_section_of_their_own_for_every_kind_of_task():
    text = written(of_every_kind(), left_out=True)
    section = missing_section(text)
    assert re.findall(r"<h3>(.*?)</h3>", section) == headings(text)
    # What a part costs once a task, and groups by what patients have.
    assert len(re.findall(r'<img alt="[^"]* without each part', section)) == 12
    assert section.count("<td>without notes</td>") == 12
    assert "MAE difference" in section
    # They are not told a second time among the other groups.
    assert text.count("<td>without notes</td>") == 12
    assert "not measured" in missing_section(written(of_every_kind()))


def test_what_pretraining_hid_and_how_it_was_weighed_is_said():
    said = "Pretrained without labels by hiding and predicting: values, static"
    config = CONFIG | {"tasks": {}, "pretrain": {"objectives": {"values": {}, "static": {}}}}
    assert description(config)[-1] == said  # a run of before has no balance
    for balance, more in (
        ("fixed", ""),
        ("uncertainty", "; balanced by what each one's loss usually is"),
    ):
        own = config["pretrain"] | {"balance": balance}
        assert description(config | {"pretrain": own})[-1] == said + more


def test_no_picture_of_a_report_has_a_point_of_few_people(monkeypatch):
    table = of_every_kind()
    table = table[table["task"].isin(["yes", "days"])].reset_index(drop=True)
    scores = table.groupby("task")["score"]
    is_lowest = scores.transform("min") == table["score"]
    tied = table["score"].where(is_lowest, table["score"].clip(lower=scores.transform("median")))
    evaluation = evaluate(table.assign(score=tied), resamples=10)
    figures = []
    monkeypatch.setattr(page, "picture", lambda figure, alt, _: figures.append((alt, figure)) or "")
    for judged in evaluation.judged:
        pictures_of(evaluation, judged, 10)
    drawn = {alt.partition(" of ")[0]: figure.axes[0] for alt, figure in figures}
    for kind, judged in zip(("calibration", "values"), evaluation.judged, strict=True):
        (points,) = (one.get_xdata() for one in drawn[kind].lines if one.get_marker() == "o")
        # The lowest score of all is one patient's, and the first point is of more.
        assert points.min() > judged.scores.min() + 1e-6
        assert 2 <= len(points) <= 10
    assert "rows by predicted risk" not in {text.get_text() for text in drawn["calibration"].texts}

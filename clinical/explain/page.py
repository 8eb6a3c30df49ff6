"""One patient's page: what made a score, with the values behind it and where each stands.

It shows a patient's data, and says so; nothing of it is fetched from elsewhere or sent anywhere.
"""

from clinical.explain.drawing import signed
from clinical.explain.marks import STYLE, bar, before, curve, number, source, table

import html
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import polars as pl

SHOWN = 12
"""Variables at a glance; the others are folded away."""
ALIKE = 3
"""Neighbours of a relation that are named."""


@dataclass(frozen=True)
class Patient:
    """Of one score, the rows of each table about it.

    Attributes:
        one: subject_id, prediction_time, task and score.
        row: of the file of scores, if it is of one.
        parts, variables, words, regions: of the tables of `InputExplanation`.
        neighbours: of `InputExplanation.neighbours`; None without relations.
        events: behind the variables.
        notes: HTML of the notes; None if there is none.
        pictures: PNG of the images as base64, if there is any.
    """

    one: pd.Series
    row: int | None
    parts: pd.DataFrame
    variables: pd.DataFrame
    words: pd.DataFrame
    regions: pd.DataFrame
    neighbours: pd.DataFrame | None
    events: pl.DataFrame
    notes: str | None
    pictures: str | None


def page_of(patient: Patient) -> str:
    """The whole page."""
    title = f"{patient.one['task']}: what made this score"
    sections = [
        ("What each part of the record adds", _parts(patient)),
        ("What was measured", _variables(patient)),
        ("Notes", _notes(patient)),
        ("Images", _pictures(patient)),
        ("Related patients", _neighbours(patient)),
        ("How to read this, and where the numbers stand", _method(patient)),
    ]
    body = "".join(f"<section><h2>{name}</h2>{content}</section>" for name, content in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="robots" content="noindex"><title>A patient\'s score, explained</title>'
        f"<style>{STYLE}</style></head><body>"
        '<p class="patient">This page shows a patient\'s data. Keep it where the extract may be '
        "kept, and pass it on to nobody who may not see that. It is about a model and not meant "
        f"for decisions about the patient.</p><h1>{html.escape(title)}</h1>{_score(patient)}"
        f"{body}</body></html>\n"
    )


def _score(patient: Patient) -> str:
    one, first = patient.one, patient.parts.iloc[0]
    row = "" if patient.row is None else f", row {patient.row} of the file of scores"
    return (
        f'<div class="score"><b>{100 * one["score"]:.1f} %</b><span>calibrated score '
        f"{one['score']:.4f}; log odds before calibration {signed(first['logit'])}</span></div>"
        f'<p class="small">subject {one["subject_id"]}, predicted at '
        f"{one['prediction_time']:%Y-%m-%d %H:%M}{row}</p>"
    )


def _parts(patient: Patient) -> str:
    parts = patient.parts
    first, shown = parts.iloc[0], parts[parts["present"]]
    order = shown["shapley"].abs().sort_values(ascending=False, kind="stable").index
    strongest = float(shown["shapley"].abs().max())
    rows = [_line("with nothing known", first["logit_nothing"], "", of="logit_nothing")]
    for each in shown.loc[order].to_dict("records"):
        mark = bar(each["shapley"], strongest=strongest)
        rows.append(_line(each["part"], each["shapley"], mark, of="shapley"))
    rows.append(_line("log odds of the score", first["logit"], "", of="logit"))
    absent = ", ".join(parts["part"][~parts["present"]])
    text = f"<p class='small'>Not recorded: {html.escape(absent)}.</p>" if absent else ""
    heads = ["part", "adds (log odds)", "lowers | raises", "modalities.parquet"]
    return table(heads, rows, last="sum") + text


def _line(name: str, value: float, mark: str, *, of: str) -> list[tuple[str, str]]:
    return [("", html.escape(name)), ("number", signed(value)), ("bar", mark), ("source", of)]


def _variables(patient: Patient) -> str:
    told = patient.variables
    if not len(told):
        return "<p>Nothing was measured.</p>"
    order = told["attribution"].abs().sort_values(ascending=False, kind="stable").index
    ranked = told.loc[order].reset_index(drop=True)
    named, rest = ranked[ranked["variable"].notna()], ranked[ranked["variable"].isna()]
    curves = _curves(patient)
    strongest = float(named["attribution"].abs().max())
    words = {
        (modality, variable): (description, unit)
        for modality, variable, description, unit in patient.events.select(
            "modality", "variable", "description", "unit"
        ).iter_rows()
    }
    rows = [
        _variable(each, patient.one["prediction_time"], curves, words, strongest)
        for each in named.to_dict("records")
    ]
    heads = [
        "variable",
        "adds (log odds)",
        "lowers | raises",
        "newest value",
        "when",
        "values, lowest to highest",
        "newest stands in",
    ]
    sums = told.groupby("modality", sort=False)["attribution"].sum()
    shares = ", ".join(f"{name} {signed(value)}" for name, value in sums.items())
    heard = ", ".join(
        f"{each['modality']} {signed(each['attribution'])}"
        for each in rest.to_dict("records")
        if abs(each["attribution"]) >= 0.005
    )
    text = f"All variables of a part add up to what the part adds: {shares}."
    text += f" In it are the neighbours that the part chose: {heard}." if heard else ""
    folded = ""
    if len(rows) > SHOWN:
        left = float(named["attribution"].iloc[SHOWN:].sum())
        folded = (
            f"<details><summary>{len(rows) - SHOWN} more variables, {signed(left)} together"
            f"</summary>{table(heads, rows[SHOWN:])}</details>"
        )
    return f'{table(heads, rows[:SHOWN])}<p class="small">{html.escape(text)}</p>{folded}'


def _variable(
    each: Mapping[Hashable, Any],
    prediction: pd.Timestamp,
    curves: Mapping[tuple[str, str], str],
    words: Mapping[tuple[str, str], tuple[str | None, str | None]],
    strongest: float,
) -> list[tuple[str, str]]:
    key = (str(each["modality"]), str(each["variable"]))
    description, unit = words.get(key, (None, None))
    name = html.escape(key[1])
    if description:
        name = f"{html.escape(description)}<br><span class='small'>{name}</span>"
    value, error = float(each["attribution"]), float(each["standard_error"])
    adds = signed(value) + (f" ± {error:.2f}" if error >= 0.005 else "")
    newest = number(float(each["value"]))
    newest += f" {html.escape(unit)}" if newest and unit else ""
    is_old = key[0] == "static"
    return [
        ("name", name),
        ("number", adds),
        ("bar", bar(value, strongest=strongest)),
        ("number", newest or "recorded"),
        ("when", "" if is_old else before(pd.Timestamp(each["time"]), prediction)),
        ("", curves.get(key, "")),
        ("source", source(each["file"], each["file_row"])),
    ]


def _curves(patient: Patient) -> dict[tuple[str, str], str]:
    """Of each variable of the events, drawn over the same time."""
    numbers = patient.events.filter(
        (pl.col("modality") == "events")
        & pl.col("value").is_finite()
        & pl.col("time").is_not_null()
    )
    if numbers.is_empty():
        return {}
    first = numbers["time"].to_list()
    start, end = min(first), patient.one["prediction_time"].to_pydatetime()
    return {
        ("events", str(variable)): curve(
            of["time"].to_list(), of["value"].to_list(), first=start, last=end
        )
        for (variable,), of in numbers.group_by("variable", maintain_order=True)
    }


def _notes(patient: Patient) -> str:
    if patient.notes is None:
        return "<p>No note was read.</p>"
    words = float(patient.words["attribution"].sum())
    text = (
        f"As a part, on average over what else may be known, notes add {_share(patient, 'notes')}; "
        f"word by word, for the networks alone and with all else known, {signed(words)}."
    )
    return f'<p class="small">{text}</p>{patient.notes}'


def _share(patient: Patient, part: str) -> str:
    return signed(float(patient.parts.set_index("part")["shapley"][part]))


def _pictures(patient: Patient) -> str:
    if patient.pictures is None:
        return "<p>No image was read.</p>"
    rows = [
        f"image {image}: {source(file, row)}"
        for image, file, row in patient.regions[["image", "file", "file_row"]]
        .drop_duplicates("image")
        .itertuples(index=False)
    ]
    text = (
        f"As a part, images add {_share(patient, 'images')}. The map says where the networks look, "
        f"by the method below, and does not add up to that. {'; '.join(rows)}."
    )
    alt = "each image beside itself under the map of what its regions add"
    picture = f'<img alt="{alt}" src="data:image/png;base64,{patient.pictures}">'
    return f'<p class="small">{text}</p>{picture}'


def _neighbours(patient: Patient) -> str:
    told = patient.neighbours
    if told is None:
        return "<p>The model knows no related patients.</p>"
    rows = []
    for relation, of in told.groupby("relation", sort=False):
        whole, single = of[of["neighbour"].isna()].iloc[0], of[of["neighbour"].notna()].head(ALIKE)
        named = [
            f"{each['source']} {each['neighbour']} (weight {each['weight']:.2f}): "
            f"{signed(each['effect_logit'])}"
            for each in single.to_dict("records")
        ]
        rows.append(
            [
                ("", html.escape(str(relation))),
                ("number", f"{whole['n_neighbours']}"),
                ("number", signed(whole["effect_logit"])),
                ("number", f"{whole['score_without']:.4f}"),
                ("small", "<br>".join(map(html.escape, named)) or "none"),
            ]
        )
    heads = ["relation", "neighbours", "change of log odds", "score without", "strongest ones"]
    text = (
        "What leaving out a relation or one neighbour does to the calibrated score; these are no "
        "shares and add up to nothing. Neighbours are rows of the bundle's references or of the "
        "context; from neighbours.parquet."
    )
    return table(heads, rows) + f'<p class="small">{text}</p>'


def _method(patient: Patient) -> str:
    lines: Sequence[str] = (
        "Parts: exact Shapley values over the modalities on record and the graph. Begin with a "
        "patient of whom nothing is known; what the parts add leads to the log odds of the score, "
        "which calibration then turns into the score.",
        "Variables: Owen values, shares of their part's Shapley value, from drawn orders, hence "
        "the standard error behind ±. A variable is left out as if never measured.",
        "Notes and images: integrated gradients of the networks, from masked notes and from even "
        "images of the same brightness; of frozen backbones of images Grad-CAM, to first order. "
        "Neither counts what experts make of them.",
        "Where a number comes from: modalities, variables, words, regions and neighbours.parquet "
        f"hold all of them, in the rows of this subject_id, prediction_time and task "
        f"({patient.one['task']}). Files and rows (from 0) are those of the extract's events.",
        "All of it is about the model: what moves a score need not be why the patient is ill.",
    )
    return "".join(f'<p class="small">{html.escape(line)}</p>' for line in lines)

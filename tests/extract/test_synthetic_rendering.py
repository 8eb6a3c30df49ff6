"""What each modality shows: its reading nearly exactly, and nothing of the outcome."""

from clinical.extract.synthetic import phrases
from clinical.extract.synthetic.causes import CHRONIC, FRAILTY, INFILTRATE, SEVERITY
from clinical.extract.synthetic.render_admissions import render_admissions, render_static
from clinical.extract.synthetic.render_codes import render_codes
from clinical.extract.synthetic.render_events import MEASUREMENTS, render_events
from clinical.extract.synthetic.render_images import draw_films, render_images
from clinical.extract.synthetic.render_notes import render_notes
from clinical.extract.synthetic.stays import Stays, draw_stays
from clinical.extract.variables import plausible_ranges

import dataclasses
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import cross_val_predict

VALUE = pl.col("numeric_value")


@pytest.fixture(scope="module")
def stays() -> Stays:
    return draw_stays(np.random.default_rng(21), 2500, outbreak=True)


def visible(rows: pl.DataFrame, stays: Stays) -> pl.DataFrame:
    prediction = pl.Series(stays.prediction).gather(rows["stay"])
    return rows.filter(pl.col("minute").is_null() | (pl.col("minute") <= prediction))


def explained(features: object, reading: np.ndarray, strength: float = 3.0) -> float:
    """Share of a reading's variance that a ridge regression predicts, cross-validated."""
    predicted = cross_val_predict(Ridge(strength), features, reading, cv=4)
    return float(1 - np.var(predicted - reading) / np.var(reading))


def per_variable(rows: pl.DataFrame, **summaries: pl.Expr) -> np.ndarray:
    wide = rows.group_by("stay", "code").agg(**summaries).pivot(on="code", index="stay")
    table = wide.sort("stay").drop("stay").to_numpy().astype(float)
    table = np.where(np.isnan(table), np.nanmean(table, axis=0), table)
    return (table - table.mean(axis=0)) / table.std(axis=0)


# -- Nothing before the prediction time follows the outcome.


@pytest.fixture(scope="module")
def swapped(stays: Stays) -> tuple[Stays, Stays]:
    some = stays.take(np.arange(200))
    return some, dataclasses.replace(some, died=~some.died)


@pytest.mark.parametrize(
    "render", [render_static, render_admissions, render_codes, render_events, render_notes]
)
def test_the_other_outcome_changes_no_visible_row(swapped, render):
    was, would_be = (render(np.random.default_rng(1), stays) for stays in swapped)
    columns, some = was.columns, swapped[0]
    assert visible(was, some).sort(columns).equals(visible(would_be, some).sort(columns))
    if render in (render_admissions, render_events, render_notes):
        assert not was.sort(columns).equals(would_be.sort(columns))


def test_the_other_outcome_changes_only_later_films(swapped, tmp_path):
    seen = []
    for number, stays in enumerate(swapped):
        rows = render_images(np.random.default_rng(1), stays, tmp_path, str(number))
        is_visible = rows["image_path"].is_in(visible(rows, stays)["image_path"].to_list())
        films = [np.asarray(Image.open(Path(tmp_path, path))) for path in rows["image_path"]]
        seen.append((is_visible.to_numpy(), np.stack(films)))
    (is_visible, was), (_, would_be) = seen
    assert 0.05 < (~is_visible).mean() < 0.25
    differs = (was != would_be).any(axis=(1, 2))
    assert not differs[is_visible].any()
    assert differs[~is_visible].all()


# -- Vitals and labs.


@pytest.fixture(scope="module")
def measured(stays: Stays) -> pl.DataFrame:
    rows = visible(render_events(np.random.default_rng(2), stays), stays)
    admission = pl.Series(stays.admission).gather(rows["stay"])
    return rows.with_columns(hour=(pl.col("minute") - admission) / 60).sort("stay", "hour")


def test_averages_miss_the_severity_that_courses_show(stays, measured):
    severity = stays.readings[:, SEVERITY]
    logs = VALUE.clip(0.01).log()
    hour = pl.col("hour")
    slope = ((logs - logs.mean()) * (hour - hour.mean())).sum()
    courses = per_variable(
        measured, mean=logs.mean(), last=logs.last(), first=logs.first(), slope=slope, n=pl.len()
    )
    assert explained(per_variable(measured, mean=VALUE.mean()), severity) < 0.45
    assert explained(courses, severity) > 0.9


def test_the_outbreaks_marker_is_read_from_levels(stays, measured):
    levels = per_variable(measured, mean=VALUE.clip(0.01).log().mean())
    assert explained(levels, stays.marker) > 0.9


def test_sicker_patients_are_measured_more_often(stays, measured):
    counts = measured.group_by("stay").len().sort("stay")["len"].to_numpy()
    assert np.corrcoef(counts, stays.readings[:, SEVERITY])[0, 1] > 0.4
    assert 60 < np.median(counts) < 150


def test_a_panel_is_measured_as_a_whole(measured):
    chemistry = ["Na", "K", "HCO3", "BUN", "Creatinine", "Glucose"]
    panel = measured.filter(pl.col("code").is_in(chemistry))
    at_once = panel.group_by("stay", "minute").agg(pl.col("code").n_unique())
    assert at_once["code"].unique().to_list() == [len(chemistry)]


def test_values_lie_within_the_plausible_ranges(measured):
    codes = {measurement.code for measurement in MEASUREMENTS}
    ranges = plausible_ranges().filter(pl.col("code").is_in(codes))
    joined = measured.join(ranges, on="code")
    assert joined["code"].n_unique() >= len(codes) - 1
    assert joined.filter((pl.col("low") > VALUE) | (pl.col("high") < VALUE)).is_empty()


# -- Notes.


@pytest.fixture(scope="module")
def texts(stays: Stays) -> pl.DataFrame:
    rows = visible(render_notes(np.random.default_rng(3), stays), stays)
    return rows.group_by("stay").agg(pl.col("text_value").sort_by("minute")).sort("stay")


def read_statements(text: str) -> list[tuple[int, bool]]:
    """A perfect reader: each activity that the note says the patient has lost or kept."""
    found = []
    for sentence in re.split(r"(?<=[.:]) ", text):
        frame = next((f for f in (*phrases.PRESENT, phrases.DENIAL) if f in sentence), None)
        if frame is not None:
            rest = sentence.removeprefix(frame).strip()
            is_negated = frame == phrases.DENIAL or rest.startswith(phrases.NEGATIONS)
            is_dependent = any(predicate in rest for predicate in phrases.DEPENDENT)
            activity = next(i for i, a in enumerate(phrases.ACTIVITIES) if a in rest)
            found.append((activity, is_dependent != is_negated))
    return found


def test_counting_words_misses_the_frailty_that_statements_tell(stays, texts):
    frailty = stays.readings[texts["stay"].to_numpy(), FRAILTY]
    joined = texts["text_value"].list.join(" ").to_list()
    told = np.zeros((len(joined), len(phrases.ACTIVITIES), 2))
    for row, text in enumerate(joined):
        for activity, is_lost in read_statements(text):
            told[row, activity, int(is_lost)] += 1
    # The reading lies above what is lost and below what is kept.
    ladder = np.arange(len(phrases.ACTIVITIES))
    lost = np.where(told[:, :, 1] > 0, ladder, -1).max(axis=1)
    kept = np.where(told[:, :, 0] > 0, ladder, len(ladder)).min(axis=1)
    place = (lost + kept) / 2
    assert explained(np.stack([place, place**2, place**3 / 100], axis=1), frailty) > 0.9
    assert explained(TfidfVectorizer(min_df=3).fit_transform(joined), frailty) < 0.4
    pairs = TfidfVectorizer(ngram_range=(1, 2), min_df=3).fit_transform(joined)
    assert explained(pairs, frailty) < 0.75


def test_notes_are_short_and_of_few_words(texts):
    lengths = texts["text_value"].explode().str.split(" ").list.len()
    assert lengths.min() > 60
    assert lengths.quantile(0.99) <= 150
    words = CountVectorizer().fit(texts["text_value"].explode().to_list()).vocabulary_
    assert 200 < len(words) < 600
    assert set(texts["text_value"].list.len().unique()) == {1, 2, 3}


def test_stays_without_notes_have_none(stays, texts):
    assert np.array_equal(texts["stay"].to_numpy(), np.flatnonzero(stays.has_note))


# -- Codes.


def test_the_set_of_codes_tells_the_burden_of_disease(stays):
    rows = render_codes(np.random.default_rng(4), stays)
    first = np.flatnonzero(np.concatenate([[True], stays.subject[1:] != stays.subject[:-1]]))
    history = rows.filter(pl.col("stay").is_in(first.tolist())).unique(["stay", "code"])
    sets = history.with_columns(n=1).pivot(on="code", index="stay", values="n").sort("stay")
    has_code = sets.drop("stay").fill_null(0).to_numpy().astype(float)
    owners = sets["stay"].to_numpy()
    assert len(owners) > 0.99 * len(first)
    assert explained(has_code, stays.readings[owners, CHRONIC]) > 0.9


def test_every_code_of_a_later_stay_was_in_the_history_too(stays):
    rows = render_codes(np.random.default_rng(4), stays)
    subject = pl.Series(stays.subject).gather(rows["stay"])
    per_subject = rows.with_columns(subject=subject)
    before = pl.Series(stays.admission).gather(rows["stay"]) > rows["minute"]
    again, history = per_subject.filter(~before), per_subject.filter(before)
    assert again.join(history, on=["subject", "code"], how="anti").is_empty()


# -- Images.


def test_the_opacity_shows_locally_and_not_in_the_mean_brightness():
    rng = np.random.default_rng(5)
    readings = rng.normal(0, 1.1, 1200)
    films = np.concatenate([draw_films(rng, part) for part in np.array_split(readings, 20)])
    assert np.corrcoef(films.mean(axis=(1, 2)), readings)[0, 1] ** 2 < 0.1
    local = films.reshape(-1, 16, 6, 16, 6).mean(axis=(2, 4)).reshape(len(films), -1)
    local = (local - local.mean(axis=1, keepdims=True)) / local.std(axis=1, keepdims=True)
    assert explained(local, readings, strength=10.0) > 0.75


def test_the_film_of_a_stay_shows_the_infiltrate_of_that_stay(stays, tmp_path):
    order = np.argsort(stays.readings[:, INFILTRATE])
    some = stays.take(np.concatenate([order[:30], order[-30:]]))
    rows = visible(render_images(np.random.default_rng(6), some, tmp_path, "films"), some)
    assert np.array_equal(rows["stay"].to_numpy(), np.flatnonzero(some.has_image))
    films = np.stack([np.asarray(Image.open(tmp_path / path)) for path in rows["image_path"]])
    # An opacity is on one side only; the heart lies below these rows.
    right, left = films[:, 20:48, 20:38].mean(axis=(1, 2)), films[:, 20:48, 58:76].mean(axis=(1, 2))
    asymmetry = np.abs(right - left) / films.std(axis=(1, 2))
    is_high = rows["stay"].to_numpy() >= 30
    assert asymmetry[is_high].mean() > 2 * asymmetry[~is_high].mean()

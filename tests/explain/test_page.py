"""A patient's page says what it is, and every number on it is one of the tables'."""

from clinical.explain import explain_inputs
from clinical.explain.drawing import signed
from clinical.explain.marks import bar, curve

import html.parser
import re
from dataclasses import replace
from datetime import datetime

import polars as pl
import pytest


class Texts(html.parser.HTMLParser):
    """The cells of all tables, every link or source, and which tags stay open."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.links, self.tags, self.cell = [], [], [], None

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.links += [v for k, v in named.items() if k in ("href", "src", "action", "xlink:href")]
        if tag in ("meta", "img", "br", "circle", "path", "polyline"):
            return
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.cell = ""

    def handle_endtag(self, tag):
        if tag in ("circle", "path", "polyline"):
            return
        assert self.tags.pop() == tag
        if tag in ("td", "th"):
            self.rows[-1].append(self.cell)
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell += data


@pytest.fixture(scope="module")
def explained(small_predictor, small_extract):
    return explain_inputs(small_predictor, small_extract, task="death", highest=8, steps=2)


@pytest.fixture(scope="module")
def rank(explained):
    """Of a patient with images."""
    having = set(explained.regions["subject_id"])
    return next(i for i, s in enumerate(explained.samples["subject_id"]) if s in having)


@pytest.fixture(scope="module")
def page(explained, rank):
    return explained.page_html(rank, row=57)


def read(page: str) -> Texts:
    texts = Texts()
    texts.feed(page)
    assert texts.tags == []
    return texts


def test_a_page_says_that_it_shows_a_patients_data(page):
    assert page.index("shows a patient's data") < page.index("<h1>")
    assert "row 57 of the file of scores" in page


def test_a_page_fetches_nothing(page):
    texts = read(page)
    assert len(texts.links) == 1
    assert texts.links[0].startswith("data:image/png;base64,")
    assert not re.search(r"https?:|//cdn|<script|<link|url\(|@import", page)


def test_its_parts_are_the_tables_and_lead_from_nothing_to_the_score(explained, rank, page):
    one = explained.samples.iloc[rank]
    own = explained.modalities[explained.modalities["subject_id"] == one["subject_id"]]
    own = own[own["prediction_time"] == one["prediction_time"]]
    rows = {row[0]: row[1] for row in read(page).rows}
    for each in own[own["present"]].itertuples():
        assert rows[each.part] == signed(each.shapley)
    assert rows["with nothing known"] == signed(own["logit_nothing"].iloc[0])
    assert rows["log odds of the score"] == signed(own["logit"].iloc[0])
    assert f"{100 * one['score']:.1f} %" in page


def test_every_variable_stands_there_with_its_value_and_its_row(explained, rank, page):
    one = explained.samples.iloc[rank]
    own = explained.variables[explained.variables["subject_id"] == one["subject_id"]]
    own = own[(own["prediction_time"] == one["prediction_time"]) & own["variable"].notna()]
    rows = [row for row in read(page).rows if row[-1].startswith("data/")]
    assert len(rows) == len(own) >= 5
    said = {row[-1]: row for row in rows}
    for each in own.itertuples():
        row = said[f"{each.file}, row {each.file_row}"]
        assert each.variable in row[0]
        assert row[1].startswith(signed(each.attribution))
        if each.modality == "events":
            assert row[3].startswith(f"{each.value:.4g}".replace("-", "−"))
            assert f"{each.time:%Y-%m-%d %H:%M}" in row[4]


def test_the_whole_note_and_its_source_stand_there_escaped(explained, rank, page):
    one = explained.samples.iloc[rank]
    note = explained.notes.filter(explained.notes["row"] == one["row"]).row(0, named=True)
    plain = re.sub(r"<[^>]+>", "", page)
    assert note["text_value"] in plain
    assert f"{note['file']}, row {note['file_row']}" in plain


def test_text_of_a_note_cannot_become_part_of_the_page(explained, rank):
    notes = explained.notes.with_columns(text_value=pl.lit("<script>alert(1)</script>" * 4))
    page = replace(explained, notes=notes).page_html(rank)
    assert "<script" not in page
    assert "&lt;" in page


def test_a_patient_without_images_has_a_page(explained):
    without = replace(explained, regions=explained.regions.iloc[:0])
    assert "No image was read" in without.page_html(0)


def test_a_page_is_the_same_whoever_else_is_explained(
    explained, rank, small_predictor, small_extract
):
    who = explained.samples.iloc[[rank]][["subject_id", "prediction_time"]]
    alone = explain_inputs(small_predictor, small_extract, samples=who, task="death", steps=2)

    def numbers(page: str) -> list[list[str]]:
        return read(page).rows

    assert numbers(alone.page_html(0)) == numbers(explained.page_html(rank))


def test_bars_go_right_for_what_raises_and_left_for_what_lowers():
    assert "left:50.0%;width:25.0%" in bar(0.5, strongest=1.0)
    assert "left:25.0%;width:25.0%" in bar(-0.5, strongest=1.0)
    assert "width:50.0%" in bar(-9.0, strongest=1.0)
    assert "width:0.0%" in bar(0.0, strongest=0.0)


def test_a_curve_runs_from_the_first_time_to_the_last_and_higher_is_up():
    times = [datetime(2020, 1, 1, hour) for hour in (0, 6, 12)]
    drawn = curve(times, [1.0, 3.0, 2.0], first=times[0], last=times[-1], size=(108, 28))
    assert 'points="4.0,24.0 54.0,4.0 104.0,14.0"' in drawn
    assert "3: 1 to 3" in drawn


@pytest.mark.parametrize(
    ("value", "text"), [(0.004, "0.00"), (-0.004, "0.00"), (-1.234, "−1.23"), (0.5, "+0.50")]
)
def test_a_log_odds_has_its_sign_unless_it_rounds_to_nothing(value, text):
    assert signed(value) == text

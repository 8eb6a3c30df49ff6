"""Words made of cells."""

from clinical.extract.importers.flat.templates import Template

import polars as pl
import pytest


def render(text, **cells):
    frame = pl.DataFrame(cells, schema=dict.fromkeys(cells, pl.String))
    columns = {name: pl.col(name) for name in cells}
    return frame.select(Template.parse(text).render(columns).alias("words"))["words"].to_list()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("HR", ["HR"]),
        ("{a}", ["x", None]),
        ("A//{a}", ["A//x", None]),
        ("A//{a|none}", ["A//x", "A//none"]),
        ("A//{a|}", ["A//x", "A"]),
        ("{a|}//B", ["x//B", "B"]),
        ("{a|}", ["x", None]),
        ("p{a}/s{b}.jpg", ["px/sy.jpg", None]),
        ("A//{a|}//{b|}", ["A//x//y", "A//z"]),
        ("A//{a}//{b|}", ["A//x//y", None]),
        ("A//{a|}-{b}", ["A//x-y", "A//-z"]),
    ],
)
def test_a_template_is_filled_or_left_empty(text, expected):
    assert render(text, a=["x", None], b=["y", "z"])[: len(expected)] == expected


@pytest.mark.parametrize("text", ["{", "a}", "{a", "{}", "{{a}}"])
def test_a_brace_without_its_other_half_is_refused(text):
    with pytest.raises(ValueError, match="a brace without its other half"):
        Template.parse(text)


def test_a_template_names_its_columns_in_order():
    assert Template.parse("A//{b}//{a|x}").columns == ("b", "a")

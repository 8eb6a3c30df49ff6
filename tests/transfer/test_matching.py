"""Which variable is which: by the user's mapping, by code, by unit and description, or not."""

import clinical  # noqa: F401
from clinical.errors import ConfigError
from clinical.transfer.matching import (
    Vocabulary,
    check_mapping,
    match,
    normal,
    read_mapping,
    rows_of,
)
from clinical.transfer.units import is_convertible, is_same

import pytest


def words(description: str | None = None, unit: str | None = None) -> dict[str, str]:
    given = {"description": description, "unit": unit}
    return {name: value for name, value in given.items() if value is not None}


def sources(ours, theirs, mapping=None):
    return {m.code: (m.source, m.by) for m in match(ours, theirs, mapping or {})}


def test_the_same_code_is_the_same_variable_and_a_strange_one_begins_anew():
    found = sources(Vocabulary(["HR", "NEW"]), Vocabulary(["LAC", "HR"]))
    assert found == {"HR": ("HR", "code"), "NEW": (None, "")}


def test_a_mapping_counts_before_the_code_and_null_forbids_a_match():
    theirs = Vocabulary(["HR", "PULSE", "LAC"])
    found = sources(Vocabulary(["HR", "LAC"]), theirs, {"HR": "PULSE", "LAC": None})
    assert found == {"HR": ("PULSE", "mapping"), "LAC": (None, "")}


def test_descriptions_match_whatever_their_case_and_punctuation_if_the_unit_is_the_same():
    ours = Vocabulary(["a1", "a2"], {"a1": words("HEART-RATE", "bpm"), "a2": words("Lactate", "%")})
    theirs = Vocabulary(
        ["b1", "b2"], {"b1": words("heart rate.", "1/min"), "b2": words("lactate", "mmol/L")}
    )
    assert sources(ours, theirs) == {"a1": ("b1", "unit and description"), "a2": (None, "")}
    (_, lactate) = match(ours, theirs, {})
    assert lactate.note == "described alike, but % here and mmol/L there"


@pytest.mark.parametrize(("n_ours", "n_theirs"), [(2, 1), (1, 2)])
def test_what_several_are_called_is_not_matched_by_description(n_ours, n_theirs):
    ours = [f"a{i}" for i in range(n_ours)]
    theirs = [f"b{i}" for i in range(n_theirs)]
    found = match(
        Vocabulary(ours, {code: words("Heart rate") for code in ours}),
        Vocabulary(theirs, {code: words("Heart rate") for code in theirs}),
        {},
    )
    assert {each.source for each in found} == {None}
    assert {each.note for each in found} == {"several are described alike"}


def test_equal_codes_of_other_descriptions_match_only_where_the_mapping_says_so():
    ours = Vocabulary(["50912"], {"50912": words("Creatinine", "mg/dL")})
    theirs = Vocabulary(
        ["50912", "7"], {"50912": words("Heart rate"), "7": words("Creatinine, blood", "mg/dL")}
    )
    (found,) = match(ours, theirs, {})
    assert (found.source, found.by) == (None, "")
    assert found.note == "the same code is Creatinine here and Heart rate there"
    assert sources(ours, theirs, {"50912": "50912"}) == {"50912": ("50912", "mapping")}
    theirs.words["7"]["description"] = "creatinine"
    assert sources(ours, theirs) == {"50912": ("7", "unit and description")}


def test_a_match_without_units_is_by_description_alone():
    ours, theirs = Vocabulary(["a"], {"a": words("Stay")}), Vocabulary(["b"], {"b": words("stay")})
    assert sources(ours, theirs) == {"a": ("b", "description")}


def test_what_is_matched_by_code_is_not_matched_again_by_description():
    said = words("Heart rate", "1/min")
    ours = Vocabulary(["HR", "PULSE"], {"HR": said, "PULSE": said})
    assert sources(ours, Vocabulary(["HR"], {"HR": said})) == {
        "HR": ("HR", "code"),
        "PULSE": (None, ""),
    }


def test_codes_without_a_description_match_nothing_by_it():
    assert sources(Vocabulary(["a"]), Vocabulary(["b"])) == {"a": (None, "")}


def test_one_code_in_units_without_a_known_conversion_begins_anew():
    def vocabulary(unit):
        return Vocabulary(["X"], {"X": words(unit=unit)})

    (kept,) = match(vocabulary("degF"), vocabulary("Cel"), {})
    assert (kept.source, kept.note) == ("X", "degF here, Cel there")
    (lost,) = match(vocabulary("mmHg"), vocabulary("Cel"), {})
    assert (lost.source, lost.note) == (None, "mmHg here, Cel there, and no conversion is known")
    # The user may know better, and the account says what was done.
    (told,) = match(vocabulary("mmHg"), vocabulary("Cel"), {"X": "X"})
    assert (told.source, told.by) == ("X", "mapping")
    assert "no conversion is known" in told.note


def test_a_number_is_no_category():
    ours = Vocabulary(["SEX"], numbers=frozenset({"SEX"}))
    (found,) = match(ours, Vocabulary(["SEX"], numbers=frozenset()), {})
    assert found.source is None
    assert "category" in found.note


def test_rows_point_to_the_bundle_and_unknown_to_unknown():
    ours, theirs = Vocabulary([None, "A", "B"]), Vocabulary([None, "C", "A"])
    assert rows_of(ours, theirs, match(ours, theirs, {})).tolist() == [0, 2, -1]
    assert rows_of(ours, Vocabulary([]), match(ours, Vocabulary([]), {})).tolist() == [-1, -1, -1]


@pytest.mark.parametrize(
    ("unit", "other", "same", "convertible"),
    [
        ("bpm", "1/min", True, True),
        ("Cel", "degC", True, True),
        ("°F", "Cel", False, True),
        ("mg/dL", "mmol/L", False, True),
        ("%", "1", False, True),
        ("mmHg", "kPa", False, True),
        ("mmHg", "mmol/L", False, False),
        ("s", "1/s", False, False),
        (None, "Cel", False, True),
        (None, None, True, True),
    ],
)
def test_units_that_can_be_one_quantity(unit, other, same, convertible):
    assert is_same(unit, other) is is_same(other, unit) is same
    assert is_convertible(unit, other) is is_convertible(other, unit) is convertible


def test_a_description_is_read_without_case_and_punctuation():
    assert normal(" Heart-Rate (ECG)") == normal("heart rate: ecg") == "heart rate ecg"
    assert normal(None) == normal("--") == ""


def test_a_mapping_names_codes_that_exist(tmp_path):
    path = tmp_path / "mapping.yaml"
    path.write_text("HR: PULSE\nLAC: null\n'12': OLD\n")
    mapping = read_mapping(path)
    assert mapping == {"HR": "PULSE", "LAC": None, "12": "OLD"}
    check_mapping(mapping, here={"HR", "LAC", "12"}, bundle={"PULSE", "OLD"})
    with pytest.raises(ConfigError, match=r"1 codes that the extract doesn't have \(12\) and 1 "):
        check_mapping(mapping, here={"HR", "LAC"}, bundle={"PULSE"})


def test_a_mapping_to_something_else_than_a_code_is_refused(tmp_path):
    path = tmp_path / "mapping.yaml"
    path.write_text("HR: [PULSE]\n")
    with pytest.raises(ConfigError, match=r"gives HR no code"):
        read_mapping(path)
    with pytest.raises(ConfigError, match="there is no such file"):
        read_mapping(tmp_path / "none.yaml")

"""What looks like an identifier is found, what only resembles one is not, and neither is shown."""

from clinical.extract.privacy.patterns import (
    BIRTH,
    EMAIL,
    LONGEST_EXAMPLE,
    NAME,
    OLD,
    PATTERNS,
    PHONE,
    RECORD,
    ROUGH,
    SOCIAL,
    identifiers,
    mask,
    suspicious,
)

import re

import polars as pl
import pytest

HAS = [
    (EMAIL, "write to anna.muster@ward7.example.org today"),
    (PHONE, "call (617) 555-0143 at night"),
    (PHONE, "her daughter, 617-555-0143."),
    (PHONE, "+1 617.555.0143"),
    (PHONE, "mother reached under +41 44 255 11 11"),
    (PHONE, "Phone: 2551111"),
    (PHONE, "fax number is 831-5926"),
    (SOCIAL, "SSN 219099999"),
    (SOCIAL, "(219-09-9999)"),
    (RECORD, "MRN: 4821397"),
    (RECORD, "Medical record number AB-482139"),
    (RECORD, "Unit No:  48 is new, Unit No: 4821397"),
    (NAME, "Patient Name: Anna Muster"),
    (NAME, "Admission note\nName:  MUSTER, ANNA\nDOB:"),
    (NAME, "HISTORY,PATIENT:  Muster, Anna,AGE"),
    (NAME, "dictated for MUSTER^ANNA"),
    (BIRTH, "DOB: 3/14/1950"),
    (BIRTH, "date of birth 1950-03-14"),
    (OLD, "a 93-year-old woman"),
    (OLD, "The patient is 101 yo."),
    (OLD, "Age: 90"),
]
HAS_NOT = [
    "BP 120/80, HR 90, saturation 98 @ 2 L",
    "seen at 14:30 on 2150-03-14, bed 12-04",
    "LAB//50868//mEq/L",
    "LOINC/2345-7",
    "NDC 00338-0049-04 and 0002-3228-30",
    "CAS 7732-18-5",
    "Name: ___ Unit No: ___ Date of Birth: ___",
    "MR#: 0000000, Dear Dr. XYZ",
    "Medication name: aspirin",
    "the patient: well developed, well nourished",
    "smoked for 89 years, 45-year-old",
    "weight 93 kg, 100 years ago",
    "5/4 @ elbow",
    "dose 617 mg, 555 mL, 0143",
    "10.1148/rg.242035193",
    "medical record was reviewed 12 times",
    "ICD10CM//N18.3",
]


@pytest.mark.parametrize(("kind", "text"), HAS)
def test_what_looks_like_an_identifier_is_found(kind, text):
    assert [found for found, _ in identifiers(text)] == [kind]
    assert suspicious(pl.Series([text, "cough", None])).to_list() == [text]


@pytest.mark.parametrize("text", HAS_NOT)
def test_what_only_resembles_one_is_not(text):
    assert list(identifiers(text)) == []


@pytest.mark.parametrize("code", ["PATIENT_NAME//Anna Muster", "ID//last name//Muster"])
def test_a_code_that_names_is_found_and_a_drug_s_name_is_none(code):
    assert [kind for kind, _ in identifiers(code, is_code=True)] == [NAME]
    assert list(identifiers("DRUG_NAME//Aspirin", is_code=True)) == []


@pytest.mark.parametrize(("kind", "text"), HAS)
def test_an_example_has_no_letter_and_no_digit_of_the_identifier(kind, text):
    ((_, example),) = identifiers(text)
    assert not any(character.isdigit() for character in example)
    for word in ("anna", "muster", "ward7", "example"):
        assert word not in example.lower()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_search_looks_at_a_bounded_stretch_from_each_place_of_a_text(pattern):
    # Then its work grows with the length of the text, and not with its square.
    without_classes = re.sub(r"\\.|\[[^\]]*\]", "x", pattern.found.pattern)
    assert not re.search(r"[*+]|\{\d*,\}", without_classes)
    assert max(map(int, re.findall(r"(\d+)\}", without_classes)), default=0) < 100


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (EMAIL, "a" * 300 + "@ward7.example.org"),
        (PHONE, "Phone: " + "255 1111 " * 30),
        (SOCIAL, "SSN" + "_" * 90 + " " * 90 + "219099999"),
        (RECORD, "MRN: " + "4821397" * 50),
        (NAME, "Name: " + "Anna " * 100 + "Muster"),
        (NAME, "Patient:" + " " * 90 + "Muster, Anna"),
        (NAME, "M" * 300 + "^ANNA"),
        (BIRTH, "DOB" + " " * 90 + ":" + " " * 90 + "3/14/1950"),
    ],
)
def test_what_is_long_is_found_too_and_its_example_is_short_and_masked(kind, text):
    ((found, example),) = identifiers(text)
    assert found == kind
    assert suspicious(pl.Series([text])).to_list() == [text]
    assert len(example) <= LONGEST_EXAMPLE
    assert not re.search(r"\d|(?i:anna|muster|mmm|aaa|ward)", example)


def test_a_long_name_of_a_header_is_shown_in_short():
    name = "^".join(["MUSTER"] * 10_000)
    assert mask(name, name) == "Aa^" * 26 + "A…"


@pytest.mark.parametrize("pattern", [p for p in PATTERNS if not p.only_codes])
def test_the_rough_search_misses_nothing_that_the_exact_one_finds(pattern):
    found = [text for _, text in HAS if pattern.found.search(text)]
    assert found
    texts = pl.Series(found)
    assert texts.str.contains(pattern.rough).all()
    assert texts.str.contains(ROUGH).all()

"""Units and physical limits of measured variables."""

from clinical.extract.variables import (
    code_table,
    count_implausible,
    is_implausible,
    plausible_ranges,
    read_variables,
)

import polars as pl
import pytest

# The 41 parameters of the PhysioNet 2012 challenge, without the record's number.
PHYSIONET = """
Age Gender Height ICUType Weight Albumin ALP ALT AST Bilirubin BUN Cholesterol Creatinine DiasABP
FiO2 GCS Glucose HCO3 HCT HR K Lactate Mg MAP MechVent Na NIDiasABP NIMAP NISysABP PaCO2 PaO2 pH
Platelets RespRate SaO2 SysABP Temp TroponinI TroponinT Urine WBC
"""


def events(code: str, *values: float | None) -> pl.DataFrame:
    return pl.DataFrame(
        {"code": [code] * len(values), "numeric_value": values},
        schema={"code": pl.String, "numeric_value": pl.Float32},
    )


def test_every_parameter_of_the_challenge_has_a_unit_and_a_range():
    parameters = set(PHYSIONET.split())
    assert len(parameters) == 41
    assert parameters <= {variable.code for variable in read_variables()}


def test_a_code_or_synonym_means_one_variable():
    codes = plausible_ranges()["code"]
    assert codes.n_unique() == len(codes)
    for variable in read_variables():
        assert variable.plausible[0] < variable.plausible[1]
        assert variable.unit
        assert variable.description


@pytest.mark.parametrize(
    ("code", "possible", "impossible"),
    [
        ("Temp", (10.0, 36.6, 42.2, 50.0), (-17.8, 0.0, 9.99, 98.6)),
        ("pH", (6.8, 7.4), (0.0, 73.5, 735.0)),
        ("Weight", (0.2, 472.0), (0.0, -1.0)),
        ("Height", (140.0, 190.5), (-1.0, 1.75, 406.4)),
        ("FiO2", (0.1, 0.21, 1.0), (0.0, 21.0, 100.0)),
        ("SaO2", (1.06, 100.0), (100.1,)),
        ("HR", (0.0, 300.0), (-1.0, 900.0)),
        ("WBC", (0.1, 600.0), (12500.0,)),
        ("temperature", (39.0,), (102.0,)),
    ],
)
def test_limits_are_physical_and_belong_to_the_range(code, possible, impossible):
    assert count_implausible(events(code, *possible)).is_empty()
    counted = count_implausible(events(code, *possible, *impossible))
    assert counted["count"].to_list() == [len(impossible)]
    assert counted["code"].to_list() == [code]


def test_only_a_value_with_a_range_can_be_impossible():
    frame = pl.concat([events("HR", None, 80.0, 900.0, float("nan")), events("LAB//unknown", -1e9)])
    kept = frame.filter(~is_implausible())
    assert kept["code"].to_list() == ["HR", "HR", "HR", "LAB//unknown"]
    assert 900.0 not in kept["numeric_value"].to_list()


def test_the_code_table_describes_what_is_known():
    table = code_table(["HR", "IMAGE//chest", "HR"])
    assert table.rows() == [("HR", "Heart rate", "1/min"), ("IMAGE//chest", None, None)]

from clinical.errors import ConfigError
from clinical.modalities.codes import Codes, ancestors

import numpy as np
import polars as pl
import pytest


@pytest.fixture
def histories(make_frame) -> pl.DataFrame:
    """I10 of four subjects, E11 of three, RARE of two, and one with RARE twenty times."""
    rows = [{"sample": s, "hours": 5.0, "code": "I10"} for s in range(4)]
    rows += [{"sample": s, "hours": 4.0, "code": "E11"} for s in range(3)]
    rows += [{"sample": s, "hours": 3.0, "code": "RARE"} for s in range(2)]
    rows += [{"sample": 0, "hours": 2.0, "code": "RARE"} for _ in range(20)]
    return make_frame(sorted(rows, key=lambda row: row["sample"]))


def test_a_code_needs_enough_subjects_not_enough_events(histories) -> None:
    assert Codes().fit(lambda: [histories], seed=0)["vocabulary"] == ["I10", "E11"]
    assert Codes(max_codes=1).fit(lambda: [histories], seed=0)["vocabulary"] == ["I10"]


def test_each_code_stands_once_with_its_newest_occurrence(
    histories, make_frame, tmp_path, no_images
) -> None:
    modality = Codes()
    statistics = modality.fit(lambda: [histories], seed=0)
    hours = [("I10", 90.0), ("E11", 50.0), ("NEW", 40.0), ("I10", 30.0)]
    frame = make_frame([{"sample": 1, "hours": h, "code": code} for code, h in hours])
    counts = modality.write(frame, 2, statistics, tmp_path, read_image=no_images)
    assert counts == {"unknown_codes": 1}
    reader = modality.open([tmp_path], statistics)
    batch = reader.collate(np.array([0, 1]))
    assert batch.mask.tolist() == [[False, False], [True, True]]
    assert batch.code[1].tolist() == [1, 0]
    assert batch.time_hours[1].tolist() == [50.0, 30.0]
    assert reader.present.tolist() == [False, True]


def test_a_code_without_a_time_counts_as_of_now(histories, make_frame, tmp_path, no_images) -> None:
    modality = Codes()
    statistics = modality.fit(lambda: [histories], seed=0)
    frame = make_frame([{"sample": 0, "hours": None, "code": "I10"}])
    modality.write(frame, 1, statistics, tmp_path, read_image=no_images)
    assert modality.open([tmp_path], statistics).collate(np.array([0])).time_hours.tolist() == [[0]]


def test_ancestors_are_found_through_parents_outside_the_vocabulary() -> None:
    parents = {"E11.9": ["E11"], "E11": ["E10-E14"], "E10-E14": ["E"], "E": ["E11"]}
    assert ancestors(["E11.9", "E", "I10"], parents) == [[1], [], []]


def test_parents_are_read_from_the_code_table(histories) -> None:
    table = pl.DataFrame(
        {"code": ["I10", "E11", "ROOT"], "parent_codes": [["ROOT"], ["I10", "ROOT"], None]}
    )
    statistics = Codes().fit(lambda: [histories], seed=0, codes=table)
    assert statistics["parents"] == [[], [0]]
    without = Codes().fit(lambda: [histories], seed=0, codes=table.drop("parent_codes"))
    assert without["parents"] == [[], []]


def test_a_size_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^codes: min_subjects and max_codes"):
        Codes(min_subjects=0)

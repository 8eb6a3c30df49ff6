from clinical.errors import ConfigError
from clinical.modalities import codes as codes_module
from clinical.modalities.codes import Codes, ancestors, rows_of

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


@pytest.fixture
def table() -> pl.DataFrame:
    """E11 is a case of I10, and all are of ROOT; ALONE has nothing above it."""
    parents = [["ROOT"], ["I10", "ROOT"], None, ["E11"], ["MISSING"], None]
    codes = ["I10", "E11", "ROOT", "UNSEEN", "RARE", "ALONE"]
    return pl.DataFrame({"code": [*codes, "MISSING"], "parent_codes": [*parents, ["ROOT"]]})


def test_parents_are_read_from_the_code_table(histories, table) -> None:
    statistics = Codes().fit(lambda: [histories], seed=0, codes=table)
    # As common as each other: ROOT is above all that I10's subjects have.
    assert statistics["vocabulary"] == ["I10", "ROOT", "E11"]
    assert statistics["parents"] == [[1], [], [0, 1]]
    without = Codes().fit(lambda: [histories], seed=0, codes=table.drop("parent_codes"))
    assert without["vocabulary"] == ["I10", "E11"]
    assert without["parents"] == [[], []]


def test_a_class_is_known_by_the_subjects_of_its_rare_cases(make_frame) -> None:
    rows = [{"sample": s, "hours": 1.0, "code": f"CASE{s}"} for s in range(3)]
    table = pl.DataFrame({"code": [f"CASE{s}" for s in range(3)], "parent_codes": [["CLASS"]] * 3})
    statistics = Codes().fit(lambda: [make_frame(rows)], seed=0, codes=table)
    assert statistics["vocabulary"] == ["CLASS"]
    assert statistics["subjects"] == [0]
    assert statistics["n_subjects"] == 3
    assert statistics["stands_as"] == {}
    rows = rows_of(["CASE1", "CLASS", "OTHER"], statistics, table)
    assert rows == {"CLASS": 0, "CASE1": 0}
    assert rows_of(["CASE1"], statistics, None) == {}


def test_only_codes_that_enough_train_subjects_have_are_named(
    histories, table, monkeypatch
) -> None:
    asked = []
    upwards = codes_module._upwards
    monkeypatch.setattr(codes_module, "_upwards", lambda *a: asked.append(a[0]) or upwards(*a))
    statistics = Codes(max_codes=1).fit(lambda: [histories], seed=0, codes=table)
    assert statistics["vocabulary"] == ["I10"]
    # RARE has two subjects, and UNSEEN none.
    assert statistics["stands_as"] == {"E11": 0}
    assert set(asked) == {"I10", "E11", "RARE"}
    assert rows_of(["E11"], statistics, None) == {"E11": 0}


def test_subjects_are_of_the_code_itself_and_small_counts_are_not_told(histories, table) -> None:
    statistics = Codes().fit(lambda: [histories, histories], seed=0, codes=table)
    assert statistics["vocabulary"] == ["I10", "ROOT", "E11", "MISSING", "RARE"]
    assert statistics["subjects"] == [8, 0, 6, 0, 4]
    assert Codes().fit(lambda: [histories], seed=0, codes=table)["subjects"] == [4, 0, 3]
    assert statistics["n_subjects"] == 8


def test_nobody_is_asked_about_a_code_that_another_modality_shows_or_a_case_of_it(
    histories, table, caplog
) -> None:
    def subjects(elsewhere):
        found = Codes(min_subjects=2).fit(
            lambda: [histories], seed=0, codes=table, elsewhere=frozenset(elsewhere)
        )
        return dict(zip(found["vocabulary"], found["subjects"], strict=True))

    with caplog.at_level("INFO"):
        assert subjects(["HR", "ALONE"]) == {"I10": 4, "ROOT": 0, "E11": 3, "MISSING": 0, "RARE": 2}
    assert not caplog.records
    with caplog.at_level("INFO"):
        # No subject has UNSEEN as a code, but it is a case of E11, which is one of I10.
        assert subjects(["UNSEEN"]) == {"I10": 0, "ROOT": 0, "E11": 0, "MISSING": 0, "RARE": 2}
    assert "nobody is asked about 2 of 3 codes" in caplog.text
    assert subjects(["I10"]) == {"I10": 0, "ROOT": 0, "E11": 3, "MISSING": 0, "RARE": 2}


def test_a_code_outside_the_vocabulary_stands_as_the_nearest_class_above_it(
    histories, table, make_frame, tmp_path, no_images
) -> None:
    modality = Codes()
    statistics = modality.fit(lambda: [histories], seed=0, codes=table)
    seen = ["UNSEEN", "RARE", "ALONE", "I10"]
    frame = make_frame([{"sample": 0, "hours": 9.0 - i, "code": c} for i, c in enumerate(seen)])
    counts = modality.write(frame, 1, statistics, tmp_path, read_image=no_images, codes=table)
    assert counts == {"unknown_codes": 1}
    batch = modality.open([tmp_path], statistics).collate(np.array([0]))
    assert batch.mask.all()
    # Oldest first: UNSEEN is a case of E11, and RARE of ROOT through a class that no one has.
    assert [statistics["vocabulary"][row] for row in batch.code[0]] == ["E11", "ROOT", "I10"]


def test_an_empty_vocabulary_knows_nothing(make_frame, tmp_path, no_images) -> None:
    modality = Codes()
    frame = make_frame([{"sample": 0, "hours": 1.0, "code": "RARE"}])
    statistics = modality.fit(lambda: [frame], seed=0)
    counts = modality.write(frame, 1, statistics, tmp_path, read_image=no_images)
    assert counts == {"unknown_codes": 1}
    assert not modality.open([tmp_path], statistics).present.any()


def test_a_size_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^codes: min_subjects and max_codes"):
        Codes(min_subjects=0)

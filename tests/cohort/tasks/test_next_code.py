from clinical.cohort.tasks.next_code import NONE, SEVERAL, NextCode

import pytest

IN, HOME, SNF = "ICU_ADMISSION//M", "HOSPITAL_DISCHARGE//HOME", "HOSPITAL_DISCHARGE//SNF"
TO = ("HOSPITAL_DISCHARGE//(.*)",)


@pytest.mark.parametrize(
    ("keys", "rows", "label"),
    [
        ({"codes": TO}, [(0, IN), (90, SNF), (900, HOME)], "SNF"),
        ({"codes": (HOME, SNF)}, [(0, IN), (90, SNF)], SNF),
        ({"codes": ("A", "(B).*")}, [(0, IN), (30, "BEE"), (40, "A"), (90, HOME)], "B"),
        ({"codes": ("A",)}, [(0, IN), (10, "A"), (90, HOME)], None),  # seen, not next
        ({"codes": ("A",), "otherwise": "none"}, [(0, IN), (90, HOME)], "none"),
        ({"codes": ("A",), "otherwise": "none"}, [(0, IN)], None),
        ({"codes": ("A|B",)}, [(0, IN), (30, "B"), (30, "A"), (90, HOME)], None),
        ({"codes": ("A",)}, [(0, IN), (30, "A"), (30, "A"), (90, HOME)], "A"),
        ({"codes": ("A",), "within_hours": 6}, [(0, IN), (30, "A")], "A"),
        ({"codes": ("A",), "within_hours": 6}, [(0, IN), (31, "A")], None),
        ({"codes": ("A",), "gap_hours": 6}, [(0, IN), (30, "A"), (40, "A"), (90, HOME)], None),
    ],
)
def test_the_first_code_after_the_prediction_time_is_the_class(events, keys, rows, label):
    found = NextCode(**keys).build(events(*rows), kind="multiclass").samples
    assert found["categorical_value"].to_list() == [label]


def test_why_there_is_no_class_is_counted(events):
    rows = events((0, IN), (30, "B"), (30, "A"), (90, HOME))
    lines = NextCode(codes=("A|B",)).build(rows, kind="multiclass").flow.lines
    assert dict(lines.select("what", "samples").iter_rows())[SEVERAL] == 1
    lines = NextCode(codes=("C",)).build(rows, kind="multiclass").flow.lines
    assert dict(lines.select("what", "samples").iter_rows())[NONE] == 1

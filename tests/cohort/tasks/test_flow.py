from clinical.cohort.tasks.flow import Flow, Sift
from clinical.cohort.tasks.flow_picture import boxes

import polars as pl
import pytest


@pytest.fixture
def flow():
    samples = pl.DataFrame({"sample": [0, 1, 2, 3], "subject_id": [1, 1, 2, 3]})
    sift = Sift.begin(5, samples, "A").leave_out(samples.filter(pl.col("sample") == 1), "late")
    sift = sift.leave_out(samples.filter(pl.col("subject_id") == 2), "dead")
    labels = sift.samples.with_columns(why=pl.Series(["lost", None]), value=pl.Series([None, True]))
    return sift.label(labels, ["lost", "other"], "value")


def test_each_step_counts_who_leaves_and_whose_last_sample_that_was(flow):
    assert flow.lines.rows() == [
        ("extract", "subjects of the extract", None, 5),
        ("no anchor", "no event A", None, 2),
        ("anchor", "events A", 4, 3),
        ("left out", "late", 1, 0),
        ("left out", "dead", 1, 1),
        ("eligible", "samples", 2, 2),
        ("no label", "lost", 1, 1),
        ("no label", "other", 0, 0),
        ("labelled", "labels", 1, 1),
        ("outcome", "yes", 1, 1),
    ]


def test_the_flows_of_shards_add_up_in_the_same_order(flow):
    nobody = Flow(
        flow.lines.filter(pl.col("stage") != "outcome").with_columns(
            pl.lit(0, pl.Int64).alias("subjects")
        )
    )
    both = Flow.together([nobody, flow, flow])
    assert both.lines["what"].to_list() == flow.lines["what"].to_list()
    assert both.lines["subjects"].to_list() == [2 * n for n in flow.lines["subjects"]]
    assert both.lines["samples"][0] is None


def test_outcomes_stand_in_the_same_order_whichever_shard_has_which():
    lines = [("extract", "subjects of the extract", None, 1), ("outcome", "b", 1, 1)]
    first, second = Flow.of(lines), Flow.of([*lines[:1], ("outcome", "a", 2, 1)])
    for flows in ([first, second], [second, first]):
        assert Flow.together(flows).lines["what"].to_list()[1:] == ["a", "b"]


def test_the_picture_says_what_the_table_says(flow):
    main, beside = boxes(flow.lines)
    assert [box[0] for box in main] == [
        "5 subjects of the extract",
        "4 events A",
        "2 samples of 2 subjects",
        "1 labels of 1 subjects",
    ]
    assert main[-1][1:] == ["1 yes"]
    assert beside[0] == ["2 subjects: no event A"]
    assert [line.split() for line in beside[1]] == [
        ["2", "left", "out"],
        ["1", "late"],
        ["1", "dead"],
    ]
    drawn = {text.get_text() for text in flow.plot().texts}
    assert {"\n".join(box) for box in (*main, *beside)} <= drawn


def test_who_is_lost_is_told_in_a_line(flow):
    assert flow.lost() == "1 late; 1 dead; 1 lost"

"""Which labels a draw sees: as many as asked, nobody's who is held out, and no other."""

from clinical.cohort.store import Store
from clinical.errors import ConfigError
from clinical.few_shot.draws import (
    NEGATIVE,
    POSITIVE,
    Size,
    draw_rows,
    labelled_rows,
    labelled_store,
    too_few,
)

import numpy as np
import pytest

THERE = {
    ("train", NEGATIVE): np.arange(0, 800),
    ("train", POSITIVE): np.arange(800, 900),
    ("tuning", NEGATIVE): np.arange(900, 990),
    ("tuning", POSITIVE): np.arange(990, 1000),
}


def counts(rows: np.ndarray) -> list[int]:
    return [int(np.isin(rows, of).sum()) for of in THERE.values()]


def test_a_draw_has_as_many_negatives_as_positives_of_either_split():
    assert counts(draw_rows(Size(positives=8), THERE, seed=(1, 0))) == [8, 8, 8, 8]


@pytest.mark.parametrize(
    ("share", "expected"),
    [(0.1, [80, 10, 9, 1]), (0.01, [8, 2, 1, 0]), (1.0, [800, 100, 90, 10])],
)
def test_a_share_is_of_each_outcome_with_two_positives_of_train(share, expected):
    assert counts(draw_rows(Size(share=share), THERE, seed=(1, 0))) == expected


def test_a_larger_draw_holds_the_smaller_and_another_number_is_another_draw():
    few, many, other = (
        set(draw_rows(Size(positives=k), THERE, seed=(1, number)))
        for k, number in ((2, 0), (8, 0), (8, 1))
    )
    assert few < many
    assert many != other
    assert set(draw_rows(Size(share=0.05), THERE, seed=(1, 0))) < set(
        draw_rows(Size(share=0.5), THERE, seed=(1, 0))
    )


def test_what_is_not_there_cannot_be_drawn():
    assert too_few(Size(positives=10), THERE) is None
    assert too_few(Size(positives=11), THERE) == "tuning has 10 positives, fewer than 11"
    with pytest.raises(ConfigError, match="tuning has 10 positives"):
        draw_rows(Size(positives=11), THERE, seed=(1, 0))
    lone = {**THERE, ("train", POSITIVE): np.arange(1)}
    assert too_few(Size(share=0.5), lone) == "train has 1 positives, fewer than 2"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"positives": 0}, "0 is none"),
        ({"share": 1.5}, "1.5 is not above 0 and up to 1"),
        ({"share": 0.0}, "0 is not above 0"),
        ({}, "give a number of positives, or a share"),
        ({"positives": 1, "share": 0.1}, "give a number of positives, or a share"),
    ],
)
def test_a_size_that_makes_no_sense_is_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        Size(**wrong)


def test_names_say_how_many():
    assert [Size(positives=16).name, Size(share=0.05).name] == ["16", "5%"]


def test_no_label_but_those_drawn_is_in_the_store_of_a_draw(finished, hospital_tools, tmp_path):
    store, task = Store.open(finished.out / "store"), hospital_tools.TASK
    there = labelled_rows(store, task)
    rows = draw_rows(Size(positives=2), there, seed=(0, 0))
    few = labelled_store(store, rows, tmp_path / "few")
    label = f"label.{task}"
    assert np.flatnonzero(few.is_labelled).tolist() == rows.tolist()
    assert few.samples[label][rows].to_list() == store.samples[label][rows].to_list()
    assert few.samples.drop(label).equals(store.samples.drop(label))
    assert [shard.resolve() for shard in few.shards] == [s.resolve() for s in store.shards]
    assert not few.is_labelled[store.rows("held_out")].any()
    for (split, _), own in there.items():
        assert np.isin(own, store.rows("held_out")).sum() == 0, split

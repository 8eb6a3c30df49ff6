"""Means over draws and paired differences, against numbers worked out by hand."""

from clinical.few_shot.draws import Size
from clinical.few_shot.judging import (
    Draw,
    HeldOut,
    by_draw,
    by_size,
    difference_table,
    mean_table,
    resampled,
)

import numpy as np
import pandas as pd
import pytest

# AUROC by hand: of 2 x 2 pairs, those in order.
HELD_OUT = HeldOut(np.arange(4), np.array([0.0, 0.0, 1.0, 1.0]))
RIGHT, HALF, WRONG = ([0.1, 0.2, 0.8, 0.9], [0.2, 0.8, 0.1, 0.9], [0.9, 0.8, 0.2, 0.1])


def draw(line: str, number: int, scores: list[float], *, size: int = 1) -> Draw:
    return Draw(line, Size(positives=size), number, 4 * size, 2 * size, np.array(scores))


def judged(draws: list[Draw], held_out: HeldOut = HELD_OUT, resamples: int = 200):
    values = resampled(draws, held_out, resamples=resamples, seed=0)
    means = by_size(draws, values, seed=0)
    return by_draw(draws, values), mean_table(means), difference_table(means)


def test_each_draw_and_the_mean_of_them_are_what_they_are_by_hand():
    draws = [draw("ours", 0, RIGHT), draw("ours", 1, HALF), draw("bar", 0, WRONG)]
    table, means, differences = judged([*draws, draw("bar", 1, HALF)])
    assert table["auroc"].tolist() == [1.0, 0.5, 0.0, 0.5]
    assert table[["labels", "positives_seen"]].drop_duplicates().values.tolist() == [[4, 2]]
    assert means.set_index("line")["auroc"].to_dict() == {"ours": 0.75, "bar": 0.25}
    assert differences[["line", "other"]].values.tolist() == [["ours", "bar"]]
    assert differences["auroc"].tolist() == [0.5]


def test_the_order_in_which_draws_were_made_changes_nothing():
    draws = [draw("ours", n, s) for n, s in enumerate((RIGHT, HALF, WRONG))]
    backwards = judged(draws[::-1])[1]
    pd.testing.assert_frame_equal(judged(draws)[1], backwards)


def noisy(line: str, number: int, held_out: HeldOut, *, noise: float, size: int = 1) -> Draw:
    generator = np.random.default_rng([number, size])
    scores = held_out.labels + noise * generator.normal(size=len(held_out.labels))
    return draw(line, number, list(1 / (1 + np.exp(-scores))), size=size)


@pytest.fixture
def many() -> HeldOut:
    labels = (np.random.default_rng(0).random(400) < 0.3).astype(float)
    return HeldOut(np.arange(400), labels)


def test_the_same_scores_differ_by_nothing_and_their_interval_is_nothing(many):
    draws = [noisy(line, n, many, noise=2) for line in ("a", "b") for n in range(3)]
    _, means, differences = judged(draws, many)
    assert (differences[["auroc", "auroc_low", "auroc_high"]] == 0).all(axis=None)
    assert (means["auroc_low"] < means["auroc"]).all()
    assert (means["auroc"] < means["auroc_high"]).all()


def test_draws_that_differ_widen_the_interval_of_the_mean(many):
    alike = [noisy("a", 0, many, noise=1)] * 4
    alike = [Draw(d.line, d.size, n, 4, 2, d.scores) for n, d in enumerate(alike)]
    apart = [noisy("a", n, many, noise=noise) for n, noise in enumerate((0.2, 1, 5, 20))]
    widths = []
    for draws in (alike, apart):
        row = judged(draws, many)[1].iloc[0]
        widths.append(row["auroc_high"] - row["auroc_low"])
    assert widths[1] > 1.5 * widths[0]


def test_rows_of_a_subject_are_drawn_together(many):
    twice = HeldOut(np.repeat(many.subjects, 2), np.repeat(many.labels, 2))
    once = noisy("a", 0, many, noise=1)
    doubled = Draw("a", once.size, 0, 4, 2, np.repeat(once.scores, 2))
    columns = ["auroc", "auroc_low", "auroc_high"]
    (single,), (double,) = judged([once], many)[:1], judged([doubled], twice)[:1]
    assert double[columns].iloc[0].tolist() == pytest.approx(single[columns].iloc[0].tolist())


def test_each_size_has_its_own_mean(many):
    draws = [noisy("a", 0, many, noise=3 / size, size=size) for size in (1, 8)]
    means = judged(draws, many)[1]
    assert means["positives"].tolist() == [1, 8]
    assert means["auroc"].is_monotonic_increasing

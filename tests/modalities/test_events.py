from clinical.containers import SUMMARY_STATISTICS
from clinical.errors import ConfigError
from clinical.modalities.events import Events
from clinical.modalities.quantiles import Quantiles

import numpy as np
import polars as pl
import pytest
import torch

LAST = SUMMARY_STATISTICS.index("last")
COUNT = SUMMARY_STATISTICS.index("count")
SLOPE = SUMMARY_STATISTICS.index("slope")


@pytest.fixture
def stays(make_frame) -> pl.DataFrame:
    """Forty stays of HR every two hours, oldest first; every other one has GCS once."""
    generator = np.random.default_rng(0)
    rows = []
    for sample in range(40):
        for hours in (9.0, 7.0, 5.0, 3.0, 1.0):
            value = round(float(generator.normal(80, 10)), 1)
            rows.append({"sample": sample, "hours": hours, "code": "HR", "numeric_value": value})
        if sample % 2:
            rows.append({"sample": sample, "hours": 0.0, "code": "GCS", "numeric_value": 15.0})
    return make_frame(rows)


def write_and_open(modality, frame, n_samples, statistics, folder, no_images):
    counts = modality.write(frame, n_samples, statistics, folder, read_image=no_images)
    return counts, modality.open([folder], statistics)


def test_the_vocabulary_is_the_numbers_of_train_the_most_frequent_first(stays, make_frame) -> None:
    without = make_frame(
        [
            {"sample": 0, "hours": 1.0, "code": "TEXT", "text_value": "a"},
            {"sample": 0, "hours": 1.0, "code": "BAD", "numeric_value": float("nan")},
        ]
    )
    assert Events().fit(lambda: [stays, without], seed=0)["vocabulary"] == ["HR", "GCS"]
    assert Events(max_variables=1).fit(lambda: [stays], seed=0)["vocabulary"] == ["HR"]


def test_raw_values_come_back_from_stored_positions(stays, tmp_path, no_images) -> None:
    modality = Events()
    statistics = modality.fit(lambda: [stays], seed=0)
    _, reader = write_and_open(modality, stays, 40, statistics, tmp_path, no_images)
    batch = reader.collate(np.arange(40))
    knots = Quantiles.from_json(statistics["values"])
    raw = knots.invert(batch.value[batch.mask].numpy(), batch.variable[batch.mask].numpy())
    assert raw == pytest.approx(stays["numeric_value"].to_numpy(), abs=1e-4)
    assert batch.time_hours[batch.mask].tolist() == stays["hours"].to_list()


def test_padding_stands_behind_the_events_and_is_empty(stays, tmp_path, no_images) -> None:
    modality = Events()
    statistics = modality.fit(lambda: [stays], seed=0)
    _, reader = write_and_open(modality, stays, 40, statistics, tmp_path, no_images)
    batch = reader.collate(np.array([0, 1]))
    assert batch.mask.tolist() == [[True] * 5 + [False], [True] * 6]
    assert torch.equal(batch.observed, batch.mask)
    assert batch.variable.tolist() == [[0] * 6, [0] * 5 + [1]]
    assert (batch.value[0, 5], batch.time_hours[0, 5]) == (0, 0)
    assert batch.summary_observed.tolist() == [[True, False], [True, True]]
    assert batch.summary[0, 1].tolist() == [0.0] * len(SUMMARY_STATISTICS)


def test_the_newest_events_are_kept_and_summaries_stay_exact(stays, tmp_path, no_images) -> None:
    full, cut = Events(), Events(max_events=2)
    statistics = full.fit(lambda: [stays], seed=0)
    (tmp_path / "full").mkdir()
    (tmp_path / "cut").mkdir()
    _, whole = write_and_open(full, stays, 40, statistics, tmp_path / "full", no_images)
    counts, part = write_and_open(cut, stays, 40, statistics, tmp_path / "cut", no_images)
    assert counts == {"cut_events": 40 * 3 + 20}
    rows = np.arange(40)
    assert part.collate(rows).time_hours[:2].tolist() == [[3.0, 1.0], [1.0, 0.0]]
    assert torch.equal(part.collate(rows).summary, whole.collate(rows).summary)


def test_summaries_are_positions_among_the_train_summaries(stays, tmp_path, no_images) -> None:
    modality = Events()
    statistics = modality.fit(lambda: [stays], seed=0)
    _, reader = write_and_open(modality, stays, 40, statistics, tmp_path, no_images)
    batch = reader.collate(np.arange(40))
    newest = stays.filter(pl.col("code") == "HR").group_by("sample", maintain_order=True).last()
    rank = newest["numeric_value"].rank("average").to_numpy() - 1
    # 40 distinct values at most have more knots than 32, so ranks are met within a knot's width.
    assert batch.summary[:, 0, LAST].numpy() == pytest.approx(rank / 39, abs=0.04)
    assert batch.summary[:, 0, COUNT].tolist() == [0.5] * 40


def test_the_slope_of_a_single_value_stands_where_a_slope_of_zero_does(
    make_frame, tmp_path, no_images
) -> None:
    rising = [
        {"sample": s, "hours": h, "code": "HR", "numeric_value": s * (2.0 - h)}
        for s in range(1, 6)
        for h in (2.0, 1.0, 0.0)
    ]
    single = [{"sample": 0, "hours": 1.0, "code": "HR", "numeric_value": 3.0}]
    frame = make_frame(single + rising)
    modality = Events()
    statistics = modality.fit(lambda: [frame], seed=0)
    knots = Quantiles.from_json(statistics["summaries"])
    # Slopes 1 to 5 per hour were seen; the undefined one of the single value was not learned.
    assert knots.apply([1.0, 5.0], [SLOPE, SLOPE]).tolist() == [0.0, 1.0]
    _, reader = write_and_open(modality, frame, 6, statistics, tmp_path, no_images)
    slope = reader.collate(np.array([0])).summary[0, 0, SLOPE]
    assert slope == pytest.approx(float(knots.apply([0.0], [SLOPE])[0])) == pytest.approx(-0.25)


def test_what_cannot_be_used_is_counted_and_left_out(
    stays, make_frame, tmp_path, no_images
) -> None:
    modality = Events()
    statistics = modality.fit(lambda: [stays], seed=0)
    frame = make_frame(
        [
            {"sample": 0, "hours": None, "code": "HR", "numeric_value": 80.0},
            {"sample": 0, "hours": 5.0, "code": "NEW", "numeric_value": 1.0},
            {"sample": 0, "hours": 4.0, "code": "HR", "numeric_value": float("nan")},
            {"sample": 0, "hours": 3.0, "code": "HR", "numeric_value": float("-inf")},
            {"sample": 0, "hours": 2.0, "code": "HR"},
            {"sample": 0, "hours": 1.0, "code": "HR", "numeric_value": 80.0},
        ]
    )
    counts, reader = write_and_open(modality, frame, 1, statistics, tmp_path, no_images)
    assert counts == {"without_time": 1, "unknown_codes": 1, "not_finite": 2, "without_number": 1}
    assert reader.lengths.tolist() == [1]


def test_only_the_most_frequent_variables_have_summaries(stays, tmp_path, no_images) -> None:
    modality = Events(summary_variables=1)
    statistics = modality.fit(lambda: [stays], seed=0)
    assert modality.sizes(statistics) == {"variables": 2, "summary_variables": 1}
    _, reader = write_and_open(modality, stays, 40, statistics, tmp_path, no_images)
    assert reader.collate(np.arange(3)).summary.shape == (3, 1, len(SUMMARY_STATISTICS))


@pytest.mark.parametrize(
    "options",
    [{"max_variables": 0}, {"max_events": 0}, {"quantiles": 1}, {"summary_variables": -1}],
)
def test_a_size_that_makes_no_sense_is_refused(options) -> None:
    with pytest.raises(ConfigError, match=r"^events: .*max_events must be at least 1"):
        Events(**options)

from clinical.errors import ConfigError
from clinical.modalities.static import Static

import numpy as np
import polars as pl
import pytest
import torch


@pytest.fixture
def people(make_frame) -> pl.DataFrame:
    """Eleven people aged 20 to 70, men and women in turn; some weights."""
    rows = []
    for sample in range(11):
        rows.append({"sample": sample, "code": "AGE", "numeric_value": 20.0 + 5 * sample})
        rows.append({"sample": sample, "code": "SEX//M" if sample % 2 else "SEX//F"})
        if sample < 5:
            rows.append({"sample": sample, "code": "WEIGHT", "numeric_value": 60.0 + sample})
    return make_frame(rows)


def test_columns_are_numbers_or_categories(people, tmp_path, no_images) -> None:
    modality = Static()
    statistics = modality.fit(lambda: [people], seed=0)
    assert statistics["columns"] == ["SEX//F", "SEX//M", "WEIGHT", "age_years"]
    assert modality.sizes(statistics) == {"columns": 4}
    modality.write(people, 11, statistics, tmp_path, read_image=no_images)
    vector = modality.open([tmp_path], statistics).collate(np.array([0, 10]))
    assert vector.observed.tolist() == [[True, False, True, True], [True, False, False, True]]
    assert vector.value.tolist() == [[1.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 1.0]]


def test_the_newest_number_counts(people, make_frame, tmp_path, no_images) -> None:
    modality = Static()
    statistics = modality.fit(lambda: [people], seed=0)
    weights = [60.0, 64.0, float("nan")]
    frame = make_frame([{"sample": 0, "code": "WEIGHT", "numeric_value": w} for w in weights])
    counts = modality.write(frame, 1, statistics, tmp_path, read_image=no_images)
    assert counts == {"without_number": 1}
    assert modality.open([tmp_path], statistics).collate(np.array([0])).value[0, 2] == 1.0


def test_what_train_never_saw_is_unknown(people, make_frame, tmp_path, no_images) -> None:
    modality = Static()
    statistics = modality.fit(lambda: [people], seed=0)
    frame = make_frame([{"sample": 0, "code": "SEX//X"}])
    counts = modality.write(frame, 1, statistics, tmp_path, read_image=no_images)
    assert counts == {"unknown_codes": 1}
    assert not modality.open([tmp_path], statistics).present.any()


def test_a_code_with_a_stray_number_is_still_a_category(make_frame, tmp_path, no_images) -> None:
    rows = [{"sample": s, "code": "ICU//A"} for s in range(5)]
    frame = make_frame([{**rows[0], "numeric_value": 1.0}, *rows[1:]])
    modality = Static()
    statistics = modality.fit(lambda: [frame], seed=0)
    modality.write(frame, 5, statistics, tmp_path, read_image=no_images)
    vector = modality.open([tmp_path], statistics).collate(np.arange(5))
    assert torch.equal(vector.value, torch.ones(5, 1))


def test_the_most_frequent_codes_become_columns(people) -> None:
    assert Static(max_columns=2).fit(lambda: [people], seed=0)["columns"] == ["SEX//F", "age_years"]


def test_a_size_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^static: max_columns must be at least 1"):
        Static(max_columns=0)

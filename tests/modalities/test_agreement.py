from clinical.modalities.agreement import Agreement

import numpy as np
import pytest
from scipy.sparse import csr_matrix

RECORDS, PARTS, WIDTH = 1500, 4, 60


def draw_counts(shared: float, *, seed: int = 0) -> tuple[csr_matrix, np.ndarray, np.ndarray]:
    """Counts of parts, in which a record's own level raises one half of the columns.

    Returns:
        Counts [records * PARTS, WIDTH], the record of each row and the level of each record.
    """
    rng = np.random.default_rng(seed)
    level = rng.standard_normal(RECORDS)
    sign = np.repeat([1.0, -1.0], WIDTH // 2)
    rate = np.exp(-1.0 + shared * np.repeat(level, PARTS)[:, None] * sign)
    counts = rng.poisson(rate).astype(np.float32)
    return csr_matrix(counts), np.repeat(np.arange(RECORDS), PARTS), level


def test_the_level_of_a_record_is_the_first_direction() -> None:
    counts, record, _ = draw_counts(0.2)
    vectors, center = Agreement.of(counts, record, record, seed=0).directions(8)
    other, _, level = draw_counts(0.2, seed=1)
    said = (other @ vectors - center).reshape(RECORDS, PARTS, -1).mean(1)
    assert abs(np.corrcoef(said[:, 0], level)[0, 1]) > 0.85
    assert vectors.shape[1] < 4
    assert abs(said.mean(0)).max() < 0.1


def test_the_spread_along_a_direction_is_its_reliability() -> None:
    counts, record, _ = draw_counts(0.15)
    vectors, _ = Agreement.of(counts, record, record, seed=0).directions(8)
    claimed = (counts @ vectors[:, 0]).reshape(RECORDS, PARTS).mean(1).std()
    fresh, _, _ = draw_counts(0.15, seed=1)
    parts = (fresh @ vectors[:, 0]).reshape(RECORDS, PARTS)
    pairs = np.cov(parts.T)
    between = pairs[~np.eye(PARTS, dtype=bool)].mean()
    assert claimed == pytest.approx(between / parts.mean(1).var(), abs=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_parts_that_share_nothing_have_no_direction(seed) -> None:
    counts, record, _ = draw_counts(0.0, seed=seed)
    assert Agreement.of(counts, record, record, seed=seed).directions(8)[0].shape == (WIDTH, 0)


def test_records_of_one_part_say_nothing_of_agreement() -> None:
    counts, record, _ = draw_counts(0.2)
    alone = np.arange(len(record))
    assert Agreement.of(counts, alone, alone, seed=0).directions(8)[0].shape == (WIDTH, 0)


def test_the_folds_keep_a_subject_together() -> None:
    counts, record, _ = draw_counts(0.2)
    one = Agreement.of(counts, record, np.zeros_like(record), seed=0)
    filled = [bool(total.any()) for total in one.total]
    assert sum(filled) == 1


def test_no_direction_is_sought_where_none_is_wanted() -> None:
    counts, record, _ = draw_counts(0.2)
    vectors, center = Agreement.of(counts, record, record, seed=0).directions(0)
    assert vectors.shape == (WIDTH, 0)
    assert len(center) == 0

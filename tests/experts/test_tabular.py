"""Flat features: against a naive loop, and the same for a sample alone as in any batch."""

from clinical.containers import Images
from clinical.experts.tabular import BLOCKS, S, Tabulator
from clinical.modalities import MODALITIES

import numpy as np
import pytest
import torch


def tabulator(synthetic) -> Tabulator:
    return Tabulator.of(synthetic.make_config(), synthetic.SIZES)


def naive(batch, sizes) -> list[list[float]]:
    """The features of each sample, one number after the other."""
    nan, rows = float("nan"), []
    for b in range(len(batch)):
        row = []
        events, static = batch.inputs["events"], batch.inputs["static"]
        for v in range(sizes["events"]["summary_variables"]):
            seen = bool(events.summary_observed[b, v])
            row += [float(x) if seen else nan for x in events.summary[b, v]]
        for v in range(sizes["static"]["columns"]):
            row.append(float(static.value[b, v]) if static.observed[b, v] else nan)
        notes, counts = batch.inputs["notes"], [0] * sizes["notes"]["vocabulary"]
        for i in range(len(notes.sample)):
            for piece, stands in zip(notes.ids[i].tolist(), notes.mask[i].tolist(), strict=True):
                counts[piece] += int(stands and int(notes.sample[i]) == b)
        row += [float(np.log1p(count)) for count in counts]
        images, newest = batch.inputs["images"], None
        for i in range(len(images.sample)):
            if int(images.sample[i]) == b and (
                newest is None or images.time_hours[i] <= images.time_hours[newest]
            ):
                newest = i
        for y in range(8):
            for x in range(8):
                patch = None if newest is None else images.pixels[newest, 0, 4 * y : 4 * y + 4]
                row.append(nan if patch is None else float(patch[:, 4 * x : 4 * x + 4].mean()))
        codes = batch.inputs["codes"]
        has = {int(c) for c, m in zip(codes.code[b], codes.mask[b], strict=True) if m}
        row += [float(c in has) for c in range(sizes["codes"]["codes"])]
        rows.append(row)
    return rows


def test_the_features_are_those_of_a_naive_loop(synthetic):
    batches = [synthetic.make_batch(7, seed=1), synthetic.make_batch(4, seed=2)]
    order, features = tabulator(synthetic).table(batches)
    assert order.tolist() == [*range(7), *range(4)]
    expected = [row for batch in batches for row in naive(batch, synthetic.SIZES)]
    np.testing.assert_allclose(features, expected, rtol=2e-5, atol=1e-5)
    assert np.isnan(features).any()
    assert features.dtype == np.float32


def test_a_sample_has_the_same_features_bit_for_bit_alone_and_among_others(synthetic):
    batch = synthetic.make_batch(9, seed=3)
    together = tabulator(synthetic).features(batch)
    for sample in range(9):
        alone = tabulator(synthetic).features(synthetic.take(batch, torch.tensor([sample])))
        assert np.array_equal(alone[0], together[sample], equal_nan=True)


@pytest.mark.parametrize("name", list(BLOCKS))
def test_a_modality_left_out_looks_as_if_never_recorded(synthetic, name):
    batch = synthetic.make_batch(6, seed=5)
    nobody = torch.ones(6, dtype=torch.bool)
    absent = batch.replace(**{name: batch.inputs[name].drop(nobody)})
    found = tabulator(synthetic).features(batch, frozenset({name, "graph"}))
    assert np.array_equal(found, tabulator(synthetic).features(absent), equal_nan=True)
    assert not np.array_equal(found, tabulator(synthetic).features(batch), equal_nan=True)


def test_the_number_of_columns_is_known_without_a_batch(synthetic):
    features = tabulator(synthetic).features(synthetic.make_batch(3))
    assert tabulator(synthetic).n_columns == features.shape[1]
    config = synthetic.make_config(modalities=("static", "codes"))
    assert Tabulator.of(config, synthetic.SIZES).n_columns == 4 + 15


def test_every_shipped_modality_has_columns():
    assert set(BLOCKS) == set(MODALITIES)


@pytest.mark.parametrize("hours", [[5.0, 1.0, 9.0], [1.0, 1.0, 9.0], [9.0, 9.0, 1.0]])
@pytest.mark.parametrize("channels", [1, 3])
def test_only_the_newest_image_of_a_sample_counts(synthetic, hours, channels):
    batch = synthetic.make_batch(2)
    pixels = torch.full((3, channels, 32, 32), 7.0)  # of the neighbours in a stack
    pixels[:, channels // 2] = torch.arange(3.0)[:, None, None]
    observed = torch.ones(3, 4, 4, dtype=torch.bool)
    images = Images(
        pixels=pixels,
        observed=observed,
        time_hours=torch.tensor(hours),
        view=torch.zeros(3, dtype=torch.int64),
        position=torch.full((3,), 0.5),
        sample=torch.tensor([1, 1, 1]),
        size=2,
    )
    features = tabulator(synthetic).features(batch.replace(images=images))
    start = 5 * S + 4 + 40
    shown = features[:, start : start + 64]
    newest = max(i for i in range(3) if hours[i] == min(hours))
    assert np.isnan(shown[0]).all()
    assert (shown[1] == newest).all()

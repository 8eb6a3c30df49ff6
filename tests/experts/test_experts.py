"""The line beside every model: flat features against a naive loop, and trees on them."""

from clinical.batch import Images
from clinical.experts import baseline
from clinical.experts.baseline import baseline_name, baseline_scores
from clinical.experts.tabular import tabulate

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def synthetic():
    """The module of small random batches, loaded by path."""
    path = Path(__file__).resolve().parents[1] / "clinical_batches.py"
    spec = importlib.util.spec_from_file_location("clinical_batches", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    order, features = tabulate(batches, synthetic.SIZES)
    assert order.tolist() == [*range(7), *range(4)]
    expected = [row for batch in batches for row in naive(batch, synthetic.SIZES)]
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-6)
    assert np.isnan(features).any()
    assert features.dtype == np.float32


@pytest.mark.parametrize("hours", [[5.0, 1.0, 9.0], [1.0, 1.0, 9.0], [9.0, 9.0, 1.0]])
def test_only_the_newest_image_of_a_sample_counts(synthetic, hours):
    batch = synthetic.make_batch(2)
    pixels = torch.stack([torch.full((1, 32, 32), float(i)) for i in range(3)])
    observed = torch.ones(3, 4, 4, dtype=torch.bool)
    images = Images(pixels, observed, torch.tensor(hours), torch.tensor([1, 1, 1]), 2)
    _, features = tabulate([batch.replace(images=images)], synthetic.SIZES)
    _, without = tabulate([batch], {**synthetic.SIZES, "codes": {"codes": 15}})
    start = 5 * len(synthetic.SUMMARY_STATISTICS) + 4 + 40
    shown = features[:, start : start + 64]
    newest = max(i for i in range(3) if hours[i] == min(hours))
    assert np.isnan(shown[0]).all()
    assert (shown[1] == newest).all()
    assert features.shape == without.shape


def table(n: int, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draws = np.random.default_rng(seed)
    features = draws.normal(size=(n, 6)).astype(np.float32)
    labels = (features[:, 2] + 0.5 * draws.normal(size=n) > 0).astype(np.float64)
    features[draws.random((n, 6)) < 0.1] = np.nan
    return features, labels


@pytest.fixture(params=["LightGBM", "HistGradientBoosting"])
def library(request, monkeypatch) -> str:
    if request.param == "LightGBM":
        pytest.importorskip("lightgbm")
    else:
        monkeypatch.setattr(baseline.importlib.util, "find_spec", lambda _: None)
    return str(request.param)


def test_trees_find_a_planted_signal_in_features_with_gaps(library):
    assert baseline_name() == library
    train, labels = table(400, seed=0)
    others, truth = table(300, seed=1)
    scores = baseline_scores(train, labels, others, seed=0, threads=1)
    assert scores.shape == (300,)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (scores[truth == 1][:, None] > scores[truth == 0]).mean() > 0.85


def test_the_same_seed_gives_the_same_trees(library):
    train, labels = table(200, seed=0)
    others, _ = table(50, seed=1)
    first, second = (baseline_scores(train, labels, others, seed=3, threads=1) for _ in "ab")
    assert np.array_equal(first, second)

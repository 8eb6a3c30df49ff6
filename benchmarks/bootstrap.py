"""How fast the bootstrap is, and how often its intervals hold the truth.

    python benchmarks/bootstrap.py --repeats 2000

Speed: 1,000 resamples of 100,000 rows, each of another subject, on one thread. Coverage: risks are
drawn from a beta distribution and events follow them, so that every figure's true value is known by
integration; each repeat draws 2,000 rows anew and asks whether the 95 % interval of 1,000 resamples
holds it.
"""

from clinical.evaluation.bootstrap import bootstrap, percentile_interval
from clinical.evaluation.metrics import NAMES, Scored, compute

import argparse
import time
from collections.abc import Iterator

import numpy as np
from scipy.integrate import quad
from scipy.stats import beta

COVERED = (
    "AUROC",
    "Brier",
    "AUPRC (average precision)",
    "log loss",
    "calibration intercept",
    "calibration slope",
)
RISKS = {"half of all have the event": (1.0, 1.0), "one in ten": (1.0, 9.0)}
"""Parameters of the beta distribution that risks come from."""


def truth(a: float, b: float) -> dict[str, float]:
    """The figures of endless rows with risks from Beta(a, b)."""
    ill, well, rate = beta(a + 1, b), beta(a, b + 1), a / (a + b)

    def precision(s: float) -> float:
        return float(rate * ill.sf(s) / beta(a, b).sf(s))

    def surprise(s: float) -> float:
        return float(-(s * np.log(s) + (1 - s) * np.log1p(-s)) * beta(a, b).pdf(s))

    return {
        "AUROC": quad(lambda s: ill.pdf(s) * well.cdf(s), 0, 1)[0],
        "Brier": a * b / ((a + b) * (a + b + 1)),
        "AUPRC (average precision)": quad(lambda s: precision(s) * ill.pdf(s), 0, 1)[0],
        "log loss": quad(surprise, 0, 1)[0],
        "calibration intercept": 0.0,
        "calibration slope": 1.0,
    }


def drawn(
    n: int, a: float, b: float, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Risks [n], and labels that follow them."""
    scores = generator.beta(a, b, n)
    return scores, (generator.random(n) < scores).astype(float)


def hits(
    n: int, a: float, b: float, *, repeats: int, resamples: int, seed: int
) -> Iterator[dict[str, bool]]:
    """For each repeat whether each figure's interval holds its true value."""
    generator = np.random.default_rng(seed)
    expected = truth(a, b)
    for _ in range(repeats):
        scored = Scored.of(*drawn(n, a, b, generator))
        (values,) = bootstrap(
            [lambda weights, one=scored: compute(one, weights, COVERED)],
            np.arange(n),
            resamples=resamples,
            generator=generator,
        )
        found = {name: percentile_interval(values[name]) for name in COVERED}
        yield {name: found[name].low <= expected[name] <= found[name].high for name in COVERED}


def seconds(n: int, resamples: int, metrics: tuple[str, ...]) -> tuple[float, float]:
    """By the clock and of the core."""
    scored = Scored.of(*drawn(n, *RISKS["one in ten"], np.random.default_rng(0)))
    started, busy = time.perf_counter(), time.process_time()
    bootstrap(
        [lambda weights: compute(scored, weights, metrics)],
        np.arange(n),
        resamples=resamples,
        generator=np.random.default_rng(0),
    )
    return time.perf_counter() - started, time.process_time() - busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--rows", type=int, default=100_000)
    given = parser.parse_args()
    for metrics in (("AUROC", "Brier"), NAMES):
        clock, core = seconds(given.rows, given.resamples, metrics)
        what = ", ".join(metrics) if len(metrics) < 3 else f"all {len(metrics)} figures"
        print(
            f"{given.resamples:,} resamples of {given.rows:,} rows, {what}: {clock:.1f} s by the "
            f"clock, {core:.1f} s of the core"
        )
    for name, (a, b) in RISKS.items():
        found = list(hits(2000, a, b, repeats=given.repeats, resamples=given.resamples, seed=1))
        print(f"coverage, {given.repeats:,} repeats of 2,000 rows, {name}:")
        for metric in COVERED:
            share = np.mean([one[metric] for one in found])
            print(f"  {metric}: {100 * share:.1f} %")


if __name__ == "__main__":
    main()

"""Time and peak memory of finding who shares rare codes with whom.

    python benchmarks/shares_code.py --references 1000000 --samples 300

Codes are drawn independently, by a power law cut at 20 % of the patients: patients who have
groups of codes in common, as real ones do, are told apart sooner.
"""

from clinical.relations.overlap import heaviest_overlap

import numpy as np
import typer
from measuring import measured

CODES = 5000
MOST = 32
SHARE = 0.2
K = 16


def lists(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes [n, C], rarest first, of patients, and the weight of each code of the vocabulary."""
    generator = np.random.default_rng(seed)
    share = 0.6 / np.arange(1, CODES + 1) ** 0.8
    share = share[share <= SHARE]
    codes = np.full((n, MOST), -1, dtype=np.int32)
    for start in range(0, n, 20_000):
        size = min(20_000, n - start)
        drawn = np.repeat(np.arange(len(share)), generator.poisson(share * size))
        pairs = np.unique(np.stack([generator.integers(0, size, len(drawn)), -drawn], 1), axis=0)
        row, code = pairs[:, 0], -pairs[:, 1]
        place = np.arange(len(row)) - np.searchsorted(row, row)
        kept = place < MOST
        codes[start + row[kept], place[kept]] = code[kept]
    return codes, np.round(-np.log(share) * 1e6).astype(np.int64)


def search(n_references: int, n_samples: int) -> None:
    """Make the patients and find the neighbours of the first of them; none: make them alone."""
    reference, weight = lists(n_references, 0)
    everyone = np.arange(n_references)
    heaviest_overlap(
        reference[:n_samples],
        reference,
        weight=weight,
        typical=int(np.append(weight, 0)[reference].sum(1).mean()),
        query_subject=everyone[:n_samples],
        reference_subject=everyone,
        reference_row=everyone,
        k=K,
    )


def main(references: int = 100_000, samples: int = 500) -> None:
    """Compare a search for some samples with one for none, so that what both do is left out."""
    none, some = (measured(search, references, n) for n in (0, samples))
    milliseconds = 1000 * (some.core_seconds - none.core_seconds) / samples
    print(
        f"{references:,} references: {milliseconds:.2f} ms of a core a sample, "
        f"{some.peak_mb / 1000:.2f} GB"
    )


if __name__ == "__main__":
    typer.run(main)

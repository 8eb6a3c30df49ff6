"""Time and peak memory of finding who shares rare codes with whom.

    python benchmarks/shares_code.py --references 1000000 --samples 1000

Codes are drawn independently, by a power law, and those count that no more than 20 % and no more
than MAX_REFERENCES of the patients have. Making the lists, once when a model is trained, is timed
apart.
"""

from clinical.relations.overlap import Postings, heaviest_overlap

import time

import numpy as np
import typer
from measuring import measured

CODES = 5000
MOST = 32
SHARE = 0.2
K = 16


def lists(n: int, seed: int, max_references: int) -> tuple[np.ndarray, np.ndarray]:
    """Codes [n, C], rarest first, of patients, and the weight of each code of the vocabulary."""
    generator = np.random.default_rng(seed)
    share = 0.6 / np.arange(1, CODES + 1) ** 0.8
    share = share[share <= min(SHARE, max_references / n)]
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


def search(n_references: int, n_samples: int, max_references: int) -> None:
    """Make the patients and their lists, and time finding neighbours of the first of them."""
    reference, weight = lists(n_references, 0, max_references)
    everyone = np.arange(n_references)
    started = time.process_time()
    postings = Postings.of(reference, weight)
    made = time.process_time()
    heaviest_overlap(
        reference[:n_samples],
        postings,
        weight=weight,
        typical=int(postings.total.mean()),
        query_subject=everyone[:n_samples],
        reference_subject=everyone,
        k=K,
    )
    milliseconds = 1000 * (time.process_time() - made) / n_samples
    print(
        f"{n_references:,} references: {milliseconds:.2f} ms of a core a sample; lists "
        f"{made - started:.1f} s"
    )


def main(references: int = 100_000, samples: int = 1000, max_references: int = 5_000) -> None:
    """Do it in a process of its own."""
    cost = measured(search, references, samples, max_references)
    print(f"{cost.peak_mb / 1000:.2f} GB at most, the making of the patients included")


if __name__ == "__main__":
    typer.run(main)

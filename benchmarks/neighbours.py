"""What neighbours among many patients cost, and how many of the nearest are found.

    python benchmarks/neighbours.py --references 10000 --references 100000 --references 1000000

Keys of unit length, rounded as those of `similar` are; two samples a subject. For each number of
references a fresh process builds the index (none up to 50,000), finds the neighbours of all of
them, and five times those of 1,000 new patients, of which the table has the median. Peak memory
includes the keys. Recall is that of the tables against exact search, on a sample of references.

    records    principal components whose deviation falls with the root of their rank
    clusters   200 groups, as wide in all directions as they are apart
    isotropic  no structure at all: the worst case for any index
"""

from clinical.relations import Keyed
from clinical.relations.similar import Similar

import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from measuring import measured
from threadpoolctl import threadpool_limits

SCORED, REPEATS, CHECKED, BLOCK = 1000, 5, 200, 50_000


def make_keys(kind: str, n: int, width: int, seed: int) -> np.ndarray:
    """Keys [n, width] float64 of unit length."""
    centres = np.random.default_rng(0).normal(size=(200, width))
    spread = 1 / np.sqrt(np.arange(1, width + 1)) if kind == "records" else np.ones(width)
    draws, keys = np.random.default_rng(seed), np.empty((n, width))
    for start in range(0, n, BLOCK):
        block = keys[start : start + BLOCK]
        block[:] = draws.normal(size=block.shape) * spread
        if kind == "clusters":
            block += centres[draws.integers(0, len(centres), len(block))]
        block /= np.sqrt(np.square(block).sum(1, keepdims=True))
        np.round(block, 6, out=block)
    return keys


def make_patients(kind: str, n: int, width: int, *, new: bool) -> Keyed:
    """Samples with their keys; new ones share no subject with the others."""
    keys = {"key": make_keys(kind, n, width, seed=2 if new else 1), "known": np.ones(n, np.uint8)}
    return Keyed(keys, np.arange(n) // 2 + (2**40 if new else 0), np.arange(n))


def run(kind: str, n: int, width: int, k: int, threads: int, results: Path) -> None:
    """Build, make the tables, score; times and some of the neighbours go to a file."""
    relation, parameters = Similar(), {"typical_distance": np.ones(1)}
    reference = make_patients(kind, n, width, new=False)
    asked = make_patients(kind, SCORED, width, new=True)
    with threadpool_limits(threads):
        started = time.perf_counter()
        parameters |= relation.index(reference, parameters, k=k)
        built = time.perf_counter()
        rows = relation.neighbours(reference, reference, parameters, k=k).rows
        tabled = time.perf_counter()
        scoring = []
        for _ in range(REPEATS):
            begun = time.perf_counter()
            relation.neighbours(asked, reference, parameters, k=k)
            scoring.append(time.perf_counter() - begun)
    np.savez(
        results,
        build=built - started,
        tables=tabled - built,
        scoring=np.median(scoring),
        lists=len(parameters.get("index_centroids", ())),
        probed=parameters.get("index_n_probe", [0])[0],
        stored_recall=parameters.get("index_recall", [1.0])[0],
        rows=rows[_checked(n)],
    )


def compare(kind: str, n: int, width: int, k: int, results: Path) -> None:
    """Add the recall of the tables to a file of results."""
    reference = make_patients(kind, n, width, new=False)
    asked = reference.take(_checked(n))
    parameters = {"typical_distance": np.ones(1)}
    exact = Similar().neighbours(asked, reference, parameters, k=k).rows
    found = dict(np.load(results))
    hits = [np.isin(line, there) for line, there in zip(exact, found["rows"], strict=True)]
    np.savez(results, **found, recall=np.mean(hits))


def _checked(n: int) -> np.ndarray:
    return np.random.default_rng(3).permutation(n)[:CHECKED]


def main(
    references: Annotated[list[int], typer.Option(help="how many; give it again for more")],
    kind: Annotated[str, typer.Option(help="of keys: records, clusters or isotropic")] = "records",
    width: Annotated[int, typer.Option(help="of the keys")] = 64,
    k: Annotated[int, typer.Option(help="neighbours")] = 16,
    threads: Annotated[int, typer.Option(help="of matrix products")] = 2,
) -> None:
    """Print a line for each number of references."""
    if kind not in ("records", "clusters", "isotropic"):
        raise typer.BadParameter("kind is records, clusters or isotropic")
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.npz"
        for n in references:
            cost = measured(run, kind, n, width, k, threads, results)
            measured(compare, kind, n, width, k, results)
            found = np.load(results)
            lines.append(
                {
                    "references": n,
                    "lists": int(found["lists"]),
                    "probed": int(found["probed"]),
                    "build s": round(float(found["build"]), 1),
                    "tables s": round(float(found["tables"]), 1),
                    "peak MB": round(cost.peak_mb),
                    "recall": round(float(found["recall"]), 3),
                    "stored recall": round(float(found["stored_recall"]), 3),
                    "scoring us/patient": round(float(found["scoring"]) / SCORED * 1e6),
                }
            )
    typer.echo(f"{kind} keys of width {width}, k = {k}, {threads} threads")
    typer.echo(pd.DataFrame(lines).to_string(index=False))


if __name__ == "__main__":
    typer.run(main)

"""What scoring a patient costs beside few and beside many reference patients.

    python benchmarks/scoring.py runs/benchmark-scoring --references 10000 --references 1000000

Trains configs/demo.yaml for one epoch with `similar`, `same_unit` and `shares_code`, and fills its
bundle up with copies of its reference patients: keys of `similar` with noise, other times, units
and lists of codes of one another. Each number of references then scores extracts of 300 and 1,300
patients, preparation included, in turns; what the 1,000 more cost is the figure, a median. What
costs the same however many are scored (reading the bundle, which is timed apart) does not count.
"""

import clinical

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from synthetic_hospital import CONFIG

RELATIONS = (
    "{similar: {k: 16}, same_unit: {k: 32, codes: 'UNIT//.*', window_hours: 168}, "
    "shares_code: {k: 16}}"
)
FEW, MANY = 300, 1300
NOISE = 0.05


def train(out: Path) -> Path:
    """The bundle, made once."""
    run = out / "run"
    if not (run / "bundle" / "manifest.json").exists():
        own = [f"extract={out / 'train'}", f"out={run}", "overwrite=true", "trainer.threads=1"]
        quick = ["pretrain.epochs=1", "finetune.epochs=1", "finetune.try_relations=false"]
        overrides = [*own, *quick, f"graph.relations={RELATIONS}", "evaluate.resamples=20"]
        clinical.run(clinical.Run.read(CONFIG, overrides))
    return run / "bundle"


def filled_up(folder: Path, n: int) -> clinical.Predictor:
    """The predictor of a bundle with so many reference patients."""
    from clinical.bundle import Bundle, Network
    from clinical.graph import EmbeddingMemory
    from clinical.relations import Keyed
    from clinical.relations.linking import relations_of

    bundle, draws = Bundle.read(folder), np.random.default_rng(0)
    fitted, networks = bundle.fitted, []
    copies = {
        name: draws.integers(0, len(fitted.reference_subject), n) for name in fitted.reference
    }
    subject, sample = draws.integers(0, 2**62, (2, n))
    reference, parameters = {}, {}
    for name, relation in relations_of(bundle.config).items():
        keys = {key: array[copies[name]] for key, array in fitted.reference[name].items()}
        if name == "similar":
            keys["key"] = keys["key"] + NOISE * draws.normal(size=keys["key"].shape)
            keys["key"] = keys["key"].round(6).astype(fitted.reference[name]["key"].dtype)
        if "time" in keys:
            keys["time"] = keys["time"] + draws.integers(-(10**12), 10**12, n)
        reference[name] = keys
        keyed = Keyed(keys, subject, np.arange(n))
        k = bundle.config.graph.relations[name].k
        learned = fitted.parameters[name]
        parameters[name] = {**learned, **relation.index(keyed, learned, k=k)}
    for network in bundle.networks:
        rows = network.memory[torch.from_numpy(copies["similar"])]
        network.model.reference_memory = EmbeddingMemory(n, network.model.width)
        network.model.set_memory(rows)
        networks.append(Network(network.model, rows))
    fitted = replace(
        fitted,
        reference=reference,
        parameters=parameters,
        reference_subject=subject,
        reference_sample=sample,
    )
    return clinical.Predictor(replace(bundle, fitted=fitted, networks=tuple(networks)))


def spent(predictor: clinical.Predictor, extract: Path, context: Path | None) -> float:
    """Seconds of a score."""
    start = time.perf_counter()
    predictor.score(extract, context=context)
    return time.perf_counter() - start


def main(
    out: Path,
    references: Annotated[list[int], typer.Option()] = [10_000, 1_000_000],  # noqa: B006
    turns: int = 3,
) -> None:
    """Print milliseconds a patient by the number of references."""
    torch.set_num_threads(1)
    for name, subjects, seed in (("train", 800, 1), ("few", FEW, 2), ("many", MANY, 3)):
        if not (out / name).exists():
            clinical.synthesize(out / name, subjects=subjects, seed=seed)
    folder = train(out)
    patients = [len(pd.read_parquet(out / name / "samples.parquet")) for name in ("few", "many")]
    rows = []
    for n in references:
        start = time.perf_counter()
        predictor = filled_up(folder, n)
        made = time.perf_counter() - start
        for turn in range(turns):
            few, many = (spent(predictor, out / name, None) for name in ("few", "many"))
            each = 1000 * (many - few) / (patients[1] - patients[0])
            rows.append({"references": n, "turn": turn, "ms a patient": each, "fixed s": few})
            print(rows[-1], f"index {made:.0f} s", flush=True)
    table = pd.DataFrame(rows).groupby("references")[["ms a patient", "fixed s"]].median()
    typer.echo(table.round(2).to_string())


if __name__ == "__main__":
    typer.run(main)

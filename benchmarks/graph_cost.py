"""What the patient graph adds to a training step, and what bringing its memory up to date costs.

    python benchmarks/graph_cost.py runs/benchmark-graph [modalities.images=null ...]

Networks of configs/demo.yaml with its graph and without any take turns step by step (forward, loss,
backward, AdamW) on the same batches of the 10,000 train stays of `benchmarks/graph.py`, so that
whatever else the machine does hits both; the figures are medians, and that of the ratio is over
pairs of steps. The refresh encodes every reference once, as after every epoch.
"""

import clinical

import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from synthetic_hospital import CONFIG, TRAIN_SUBJECTS, synthesize_once

WARM_UP = 5


def main(
    out: Path,
    overrides: Annotated[list[str] | None, typer.Argument(help="of the configuration")] = None,
    steps: int = 60,
    threads: int = 1,
) -> None:
    """Print what a step and a refresh take."""
    from clinical.datamodule import make_loader
    from clinical.training.build import build_model, references

    torch.set_num_threads(threads)
    extract = synthesize_once(out / "train", subjects=TRAIN_SUBJECTS, seed=1)
    with tempfile.TemporaryDirectory() as folder:
        own = [f"extract={extract}", f"out={folder}/run", *(overrides or [])]
        with_graph = clinical.Run.read(CONFIG, own)
        without = clinical.Run.read(CONFIG, [*own, "graph.relations={}"])
        store = clinical.prepare(with_graph)
        models = [build_model(config, store) for config in (without, with_graph)]
        found, refresh = references(with_graph, store), []
        for _ in range(2):
            start = time.perf_counter()
            found.refresh(models[1], device=torch.device("cpu"))
            refresh.append(time.perf_counter() - start)
        loader = make_loader(
            store.folder,
            with_graph,
            store.rows("train"),
            batch_size=with_graph.finetune.batch_size,
            workers=0,
            shuffle_seed=0,
        )
        trainees = [Trainee(model) for model in models]
        batches = islice(loader, WARM_UP + steps)
        spent = np.array([[trainee.step(batch) for trainee in trainees] for batch in batches])
    spent = spent[WARM_UP:]
    plain, graph = 1000 * np.median(spent, axis=0)
    share = np.median(spent[:, 1] / spent[:, 0]) - 1
    typer.echo(f"{len(store.reference_rows):,} references, {', '.join(with_graph.modalities)}")
    typer.echo(f"a step: {plain:.0f} ms, with the graph {graph:.0f} ms, {share:+.1%}")
    typer.echo(
        f"refresh: {min(refresh):.1f} s; an epoch of steps: "
        f"{plain / 1000 * len(store.rows('train')) / with_graph.finetune.batch_size:.1f} s"
    )


class Trainee:
    """A network and its optimizer."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model.train()
        self.optimizer = torch.optim.AdamW(model.parameters())

    def step(self, batch: "object") -> float:
        """Seconds of one training step."""
        start = time.perf_counter()
        logits = self.model(batch).logits
        losses = [self.model.head(task).loss(z, batch.targets[task]) for task, z in logits.items()]
        self.optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        self.optimizer.step()
        return time.perf_counter() - start


if __name__ == "__main__":
    typer.run(main)

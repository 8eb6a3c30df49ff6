"""Stays a second of a training step (forward, backward, AdamW) of the encoders of vitals and labs.

    python benchmarks/throughput.py ../shared/data/physionet2012 --threads 2

Beside each stands a padded `nn.TransformerEncoder` of equal width, layers and heads over the same
embedded triplets: at 512, 880 and 4,000 events a stay, and on batches of PhysioNet 2012 set-b's own
lengths. Models take turns step by step, so that whatever else the machine does hits all of them;
the figures are medians. Peak memory is that of one more step in a fresh process.
"""

import clinical
from clinical.containers import SUMMARY_STATISTICS, TimeSeries
from clinical.encoders import ENCODERS, Encoding

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import pandas as pd
import torch
import typer
from measuring import measured
from torch import Tensor, nn

CONFIG = Path(__file__).parents[1] / "configs" / "physionet2012.yaml"
BATCH, VARIABLES, WIDTH, LAYERS, HEADS = 32, 37, 64, 2, 4
LENGTHS = (512, 880, 4000)
SIZES = {"variables": VARIABLES, "summary_variables": VARIABLES}
MODELS = ("event_set", "event_set, full", "two_axis", "plain transformer")


class PlainTransformer(nn.Module):
    """PyTorch's own encoder over padded triplets: what one writes without thinking of cost."""

    def __init__(self) -> None:
        super().__init__()
        self.variable = nn.Embedding(VARIABLES, WIDTH)
        self.numbers = nn.Linear(2, WIDTH)
        # With dropout PyTorch leaves its fused attention, and 4,000 events need over 20 GB.
        layer = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 2 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)

    def forward(self, events: TimeSeries) -> Encoding:
        """Encode; the summary is the mean of the events."""
        numbers = torch.stack((events.value, events.time_hours.log1p()), -1)
        tokens = self.variable(events.variable) + self.numbers(numbers)
        tokens = self.layers(tokens, src_key_padding_mask=~events.mask)
        stands = events.mask[..., None]
        summary = (tokens * stands).sum(1) / stands.sum(1).clamp(min=1)
        return Encoding(summary=summary, tokens=tokens, token_mask=events.mask, states=tokens)


def build(name: str) -> nn.Module:
    """A model by its name in `MODELS`."""
    torch.manual_seed(0)
    if name == "plain transformer":
        return PlainTransformer()
    encoder, _, full = name.partition(", ")
    options = {"latents": None} if full else {}
    return ENCODERS[encoder](SIZES, width=WIDTH, layers=LAYERS, heads=HEADS, **options)


def generated(steps: int) -> TimeSeries:
    """A batch of full stays of so many events."""
    draws = torch.Generator().manual_seed(steps)
    mask = torch.ones(BATCH, steps, dtype=torch.bool)
    return TimeSeries(
        variable=torch.randint(VARIABLES, mask.shape, generator=draws),
        value=torch.rand(mask.shape, generator=draws),
        time_hours=48 * torch.rand(mask.shape, generator=draws),
        mask=mask,
        observed=mask,
        summary=torch.rand(BATCH, VARIABLES, len(SUMMARY_STATISTICS), generator=draws),
        summary_observed=torch.ones(BATCH, VARIABLES, dtype=torch.bool),
    )


def set_b(source: Path, folder: Path) -> Iterator[TimeSeries]:
    """Training batches of set-b, bucketed by length as training has them."""
    from clinical.datamodule import make_loader

    extract = folder / "extract"
    outcomes = source / "Outcomes-b.txt"
    clinical.import_extract("physionet2012", source / "set-b.tar.gz", extract, outcomes=outcomes)
    run = clinical.Run.read(CONFIG, [f"extract={extract}", f"out={folder / 'run'}"])
    store = clinical.prepare(run)
    rows = store.rows("train")
    for batch in make_loader(store.folder, run, rows, batch_size=BATCH, workers=0, shuffle_seed=0):
        yield batch.inputs["events"]


class Trainee:
    """A model with a head, an optimizer and a target that its steps go towards."""

    def __init__(self, name: str) -> None:
        self.model = build(name)
        self.head = nn.Linear(WIDTH, 1)
        both = [*self.model.parameters(), *self.head.parameters()]
        self.optimizer = torch.optim.AdamW(both, lr=1e-4)

    def step(self, events: TimeSeries) -> float:
        """Seconds of one training step."""
        started = time.perf_counter()
        logits: Tensor = self.head(self.model(events).summary)[:, 0]
        wanted = (torch.arange(len(logits)) % 2).to(logits.dtype)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, wanted)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return time.perf_counter() - started


def take_one_step(name: str, steps: int, threads: int) -> None:
    """What a fresh process does whose memory is measured."""
    torch.set_num_threads(threads)
    Trainee(name).step(generated(steps))


def stays_a_second(batches: list[TimeSeries], *, turns: int) -> dict[str, float]:
    """Median over the turns; in each turn every model takes every batch once."""
    trainees = {name: Trainee(name) for name in MODELS}
    seconds: dict[str, list[float]] = {name: [] for name in MODELS}
    for turn in range(turns + 1):
        for name, trainee in trainees.items():
            spent = sum(trainee.step(events) for events in batches)
            if turn:  # the first warms up
                seconds[name].append(spent)
    stays = sum(len(events.mask) for events in batches)
    return {name: stays / pd.Series(spent).median() for name, spent in seconds.items()}


def main(
    source: Path,
    threads: Annotated[int, typer.Option(help="of torch")] = 2,
    turns: Annotated[int, typer.Option(help="repeats of each measurement")] = 5,
) -> None:
    """Print stays a second and peak memory of every model."""
    torch.set_num_threads(threads)
    speed = {
        f"{steps} events": stays_a_second([generated(steps)], turns=turns) for steps in LENGTHS
    }
    with tempfile.TemporaryDirectory() as folder:
        own = list(set_b(source, Path(folder)))
        speed["set-b"] = stays_a_second(own[:20], turns=turns)
    memory = {
        f"{n} events": {m: measured(take_one_step, m, n, threads).peak_mb for m in MODELS}
        for n in LENGTHS
    }
    typer.echo(f"stays a second, batch {BATCH}, {threads} threads")
    typer.echo(pd.DataFrame(speed).round(1).to_string())
    typer.echo("times the plain transformer")
    table = pd.DataFrame(speed)
    typer.echo((table / table.loc["plain transformer"]).round(2).to_string())
    typer.echo("peak MB of a process that takes one step")
    typer.echo(pd.DataFrame(memory).round(0).to_string())


if __name__ == "__main__":
    typer.run(main)

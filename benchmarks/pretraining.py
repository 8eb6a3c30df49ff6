"""What a step of pretraining costs, beside that of each objective alone, and where its time goes.

    python benchmarks/pretraining.py runs/benchmark-pretraining [pretrain.objectives.static=1 ...]

Networks of configs/demo.yaml that learn all objectives together, and each by itself, take turns
step by step (hide, forward, losses, backward, AdamW) on the same batches of the synthetic hospital,
so that whatever else the machine does hits all of them; figures are medians, and ratios those of
the same batch. The joint step should cost no more than 1.1 times the dearest objective alone and
what the decoders cost. For the profile a joint step is taken apart: between its parts tensors are
cut from their graph, so that the forward and backward of each can be timed.
"""

import clinical
from clinical.datamodule import make_loader
from clinical.experiment import Run
from clinical.training.build import build_model, pretraining_stage
from clinical.training.members import members

import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import torch
import typer
from synthetic_hospital import CONFIG, synthesize_once
from torch import Tensor, nn

SUBJECTS = 1500
WARM_UP = 3
ALL = "all together"


class Trainee:
    """A stage and its optimizer, without a trainer."""

    def __init__(self, config: Run, store: Any) -> None:
        (member, *_) = members(config)
        model = build_model(config, store).train()
        # What the memory holds costs nothing; that it is filled is asked for.
        model.set_memory(torch.randn_like(model.memory))
        self.stage = pretraining_stage(member, store, model, settings=config.pretrain)
        self.stage.log_figures = lambda *_, **__: None
        modules = nn.ModuleList(self.stage.trained_modules())
        self.optimizer = torch.optim.AdamW(modules.parameters())

    def step(self, batch: Any, index: int) -> float:
        """Seconds of one step."""
        started = time.perf_counter()
        self.optimizer.zero_grad()
        self.stage.training_step(batch, index).backward()
        self.optimizer.step()
        return time.perf_counter() - started


class Profile:
    """Seconds of each part of a joint step, forward and backward."""

    def __init__(self, trainee: Trainee) -> None:
        self.stage, self.optimizer = trainee.stage, trainee.optimizer
        self.spent: dict[str, float] = {}
        self._cuts: list[tuple[str, list[tuple[Tensor, Tensor]]]] = []
        self._inside = 0.0
        for name, encoder in self.stage.model.encoders.items():
            encoder.register_forward_pre_hook(self._enter)
            encoder.register_forward_hook(partial(self._leave, f"encoder of {name}"))

    def step(self, batch: Any, index: int) -> dict[str, float]:
        """One step, taken apart."""
        self.spent, self._cuts = {}, []
        self.optimizer.zero_grad()
        for objectives in self.stage.passes:
            self._pass(batch, objectives, index)
        for name, pairs in reversed(self._cuts):
            given = [(made, leaf.grad) for made, leaf in pairs if leaf.grad is not None]
            if given:
                with self._timed(name):
                    torch.autograd.backward(*map(list, zip(*given, strict=True)))
        with self._timed("optimizer"):
            self.optimizer.step()
        return self.spent

    def _pass(self, batch: Any, objectives: Mapping[str, Any], index: int) -> None:
        model, weights = self.stage.model, self.stage.weights
        with self._timed("hide"):
            masked, hidden = self.stage.hide(batch, objectives, "train", 0, index)
        with self._timed("fusion"):
            encoded = model.encode(masked)
            fused = model.fuse(encoded)
        encoded, fused = self._cut("fusion", (encoded, fused))
        with self._timed("graph, aspects, heads"):
            outputs = model.answer(encoded, masked.neighbours, fused=fused)
        # Encodings and fused vectors are leaves already, by which the decoders' gradients arrive.
        outputs = replace(self._cut("graph, aspects, heads", outputs), fused=fused)
        outputs = replace(outputs, encodings=encoded.encodings)
        for name, objective in objectives.items():
            with self._timed("decoders"):
                (weights[name] * objective.loss(outputs, hidden[name]).total).backward()

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        """Add the time within to a part, less that of encoders, which is counted as theirs."""
        before, started = self._inside, time.perf_counter()
        yield
        seconds = time.perf_counter() - started - (self._inside - before)
        self.spent[name] = self.spent.get(name, 0.0) + seconds

    def _enter(self, *_: Any) -> None:
        self._entered = time.perf_counter()

    def _leave(self, name: str, _module: nn.Module, _inputs: Any, encoding: Any) -> Any:
        seconds = time.perf_counter() - self._entered
        self._inside += seconds
        self.spent[name] = self.spent.get(name, 0.0) + seconds
        return self._cut(name, encoding)

    def _cut(self, name: str, value: Any) -> Any:
        """What a part gives, cut from its graph; its backward is taken later."""
        pairs: list[tuple[Tensor, Tensor]] = []
        self._cuts.append((name, pairs))
        return _leaves(value, pairs)


def _leaves(value: Any, pairs: list[tuple[Tensor, Tensor]]) -> Any:
    """The same value with leaves for tensors, put into `pairs` behind what they stand for."""
    if isinstance(value, Tensor):
        if not value.requires_grad:
            return value
        leaf = value.detach().requires_grad_()
        pairs.append((value, leaf))
        return leaf
    if isinstance(value, tuple):
        return tuple(_leaves(each, pairs) for each in value)
    if isinstance(value, Mapping):
        return {name: _leaves(each, pairs) for name, each in value.items()}
    if is_dataclass(value):
        own = {field.name: _leaves(getattr(value, field.name), pairs) for field in fields(value)}
        return replace(value, **own)
    return value


def main(
    out: Path,
    overrides: Annotated[list[str] | None, typer.Argument(help="of the configuration")] = None,
    steps: int = 30,
    threads: int = 1,
) -> None:
    """Print what a step costs, and the profile of the joint one."""
    torch.set_num_threads(threads)
    extract = synthesize_once(out / "extract", subjects=SUBJECTS, seed=7)
    with tempfile.TemporaryDirectory() as folder:
        own = [f"extract={extract}", f"out={folder}/run", *(overrides or [])]
        config = clinical.Run.read(CONFIG, own)
        store = clinical.prepare(config)
        trainees = {ALL: Trainee(config, store)}
        for name, objective in config.pretrain.objectives.items():
            alone = config.pretrain.model_copy(update={"objectives": {name: objective}})
            trainees[name] = Trainee(config.model_copy(update={"pretrain": alone}), store)
        profile = Profile(Trainee(config, store))
        loader = make_loader(
            store.folder,
            config,
            store.rows("train"),
            batch_size=config.pretrain.batch_size,
            workers=0,
            shuffle_seed=0,
        )
        times, parts = [], []
        for index, (waited, batch) in enumerate(islice(_waited(loader), WARM_UP + steps)):
            times.append({name: trainee.step(batch, index) for name, trainee in trainees.items()})
            parts.append({"waiting for data": waited} | profile.step(batch, index))
    _show(pd.DataFrame(times[WARM_UP:]), pd.DataFrame(parts[WARM_UP:]))


def _waited(loader: Any) -> Iterator[tuple[float, Any]]:
    """Seconds that each batch took to come, nothing being read ahead, and the batch."""
    batches = iter(loader)
    while True:
        started = time.perf_counter()
        batch = next(batches, None)
        if batch is None:
            return
        yield time.perf_counter() - started, batch


def _show(times: pd.DataFrame, parts: pd.DataFrame) -> None:
    joint, alone, waited = times[ALL], times.drop(columns=ALL), parts["waiting for data"]
    dearest = alone.median().idxmax()
    ratio = (joint / alone[dearest]).median()
    with_decoders = (joint / (alone[dearest] + parts["decoders"])).median()
    typer.echo(f"a step, ms, median of {len(times)}")
    typer.echo((1000 * times.median()).round(1).to_string())
    typer.echo(
        f"the joint step takes {ratio:.2f} times the dearest alone ({dearest}), "
        f"{with_decoders:.2f} times that and the decoders"
    )
    typer.echo(f"waiting for data: {(waited / (joint + waited)).median():.1%}")
    whole = parts.median().sort_values(ascending=False)
    table = pd.DataFrame({"ms": (1000 * whole).round(1), "share": (whole / whole.sum()).round(3)})
    typer.echo(table.to_string())


if __name__ == "__main__":
    typer.run(main)

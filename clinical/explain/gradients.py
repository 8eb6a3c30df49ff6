"""Integrated gradients of notes (Sundararajan et al., 2017, arXiv:1703.01365).

The path leads from a blank note to the real one. In a blank note every word piece stands as
[MASK], the piece that says "something is here" and that pretraining has taught to mean nothing
in particular, and its counted phrases are those of an average note; the start and end pieces,
the positions and the note's time stay. On the way both change together, in equal steps.
"""

from clinical.containers import Tokens
from clinical.explain.line import slopes, versions
from clinical.explain.question import Question

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

NUMBERS_AT_ONCE = 2**20
"""In the word pieces' vectors of a pass with gradients: what bounds the memory."""


@dataclass(frozen=True)
class Path:
    """What a note's parts add to one logit of one network, between a blank note and the real one.

    Attributes:
        pieces: [R, L] float64, of each word piece; 0 for start, end and padding.
        phrases: [R, K] float64, gradient by what counted phrases say, averaged over the path.
        difference: of the logit, between the real notes and blank ones.
        gap: the difference less what all parts add, which is the error of the steps.
    """

    pieces: Tensor
    phrases: Tensor
    difference: float
    gap: float


def piece_table(question: Question) -> nn.Embedding | None:
    """Where the encoder of notes looks up its word pieces, if it says so."""
    table = getattr(question.model.encoders["notes"], "piece_table", None)
    return table if isinstance(table, nn.Embedding) else None


def integrate(
    question: Question, notes: Tokens, *, tasks: Sequence[str], steps: int
) -> dict[str, Path]:
    """Task -> what each part of a sample's notes adds to its logit.

    Args:
        question: about the sample.
        notes: of the sample alone, not encoded yet.
        tasks: binary ones.
        steps: in which the path is walked; the midpoint of each is looked at.
    """
    table = piece_table(question)
    assert table is not None, "the encoder of notes does not say where its words are"
    with torch.no_grad():
        real, blank = table(notes.ids), table(_blank(question, notes))

    def ask(words: Tensor, phrases: Tensor) -> Mapping[str, Tensor]:
        return _ask(question, notes, table, words, phrases)

    ends = [(blank, real), (torch.zeros_like(notes.phrases), notes.phrases)]
    way = (torch.arange(steps, dtype=real.dtype) + 0.5) / steps
    slope = {task: torch.zeros_like(real, dtype=torch.float64) for task in tasks}
    slant = {task: torch.zeros_like(notes.phrases, dtype=torch.float64) for task in tasks}
    for part in way.split(max(1, NUMBERS_AT_ONCE // max(real.numel(), 1))):
        for task, (_, each) in slopes(ask, ends, part, tasks=tasks).items():
            slope[task] += each[0].sum(0) / steps
            slant[task] += each[1].sum(0) / steps
    with torch.no_grad():
        logits = ask(*(torch.stack(pair) for pair in ends))
    found = {}
    for task in tasks:
        pieces = (slope[task] * (real - blank).double()).sum(-1)
        told = float((slant[task] * notes.phrases.double()).sum())
        difference = float(logits[task][1].double() - logits[task][0].double())
        gap = difference - float(pieces.sum()) - told
        found[task] = Path(pieces, slant[task], difference, gap)
    return found


def _blank(question: Question, notes: Tokens) -> Tensor:
    """[R, L] ids of the notes with every word piece masked."""
    sizes = question.model.sizes["notes"]
    fixed = ~notes.mask | (notes.ids == sizes["cls"]) | (notes.ids == sizes["sep"])
    return torch.where(fixed, notes.ids, torch.full_like(notes.ids, sizes["mask"]))


def _ask(
    question: Question, notes: Tokens, table: nn.Embedding, words: Tensor, phrases: Tensor
) -> Mapping[str, Tensor]:
    """Task -> [S] logits for S versions of the notes: words [S, R, L, D] and phrases [S, R, K]."""
    size = len(words)
    # Which of the vectors each piece is, in place of its id: an encoder may sort its rows and read
    # them in parts. Padding stays what it is, since some families tell positions by it.
    pad = question.model.sizes["notes"]["pad"]
    first, mask = pad + 1, notes.mask.repeat(size, 1)
    numbers = torch.arange(first, first + mask.numel(), device=mask.device).view(mask.shape)
    ids = numbers.where(mask, pad)
    repeated = versions(notes, size, ids=ids, phrases=phrases.flatten(0, 1))
    with _given(table, words.flatten(0, 2), first=first):
        encoding = question.model.encoders["notes"](repeated)
    return question.logits("notes", encoding)


@contextmanager
def _given(table: nn.Embedding, words: Tensor, *, first: int) -> Iterator[None]:
    """While open, the table has the words' vectors [N, D] under the numbers from `first` on."""
    asked: list[Tensor] = []

    def note(module: nn.Module, ids: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        asked.append(ids[0])
        return (ids[0].clamp(max=first - 1),)

    def exchange(module: nn.Module, ids: tuple[Tensor, ...], found: Tensor) -> Tensor:
        numbers = asked.pop() - first
        if words.requires_grad:  # a frozen part runs without gradients; here they are wanted
            torch.set_grad_enabled(True)
        return torch.where((numbers >= 0)[..., None], words[numbers.clamp(min=0)], found)

    handles = table.register_forward_pre_hook(note), table.register_forward_hook(exchange)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

"""Visible frames by hand."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SCHEMA = {
    "sample": pl.Int64,
    "event": pl.Int64,
    "subject": pl.Int64,
    "hours": pl.Float64,
    "code": pl.String,
    "numeric_value": pl.Float32,
    "text_value": pl.String,
    "image_path": pl.String,
}

MakeFrame = Callable[[Sequence[Mapping[str, Any]]], pl.DataFrame]


@pytest.fixture
def make_frame() -> MakeFrame:
    """Rows as mappings; an event and a subject of their own unless they say otherwise."""

    def make(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
        filled = [
            {"event": number, "subject": row["sample"], "code": "X", **row}
            for number, row in enumerate(rows)
        ]
        return pl.DataFrame(
            {name: [row.get(name) for row in filled] for name in SCHEMA}, schema=SCHEMA
        )

    return make


@pytest.fixture
def no_images() -> Callable[[str], Path]:
    """For modalities that must not ask for an image."""

    def refuse(path: str) -> Path:
        raise AssertionError("no image was expected to be read")

    return refuse


WARD_TEXT = ["Mild dyspnoea, no oedema. Pain (12/8) and aches; a café visit.", "No pain today."]


@pytest.fixture(scope="session")
def byte_level() -> Tokenizer:
    """A byte-level BPE as ModernBERT has it, its special pieces last."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(WARD_TEXT * 5, trainer)
    tokenizer.add_special_tokens(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"])
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=ends
    )
    return tokenizer

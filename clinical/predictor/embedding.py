"""A patient's representation, as one network of a bundle forms it for what is asked."""

from clinical.cohort.store import Store
from clinical.config_file import likely
from clinical.errors import ConfigError
from clinical.links import as_pretrained, learned_relations
from clinical.predictor.panel import Panel, encode

import numpy as np
import torch


def check_aspect(panel: Panel, aspect: str | None) -> None:
    """Refuse an aspect that the networks have no representation for.

    Raises:
        ConfigError: with the name that was probably meant.
    """
    config = panel.bundle.config
    relations = learned_relations(config)
    if aspect is None or aspect in config.tasks or aspect in relations:
        return
    if aspect in config.graph.relations:
        raise ConfigError(
            f"aspect: the model was never asked who is linked by {aspect}; train it with edges "
            "among pretrain.objectives, which takes a relation that has neighbours by then"
        )
    known = [*config.tasks, *relations]
    raise ConfigError(f"aspect: the model has no task or relation {aspect}{likely(aspect, known)}")


@torch.inference_mode()
def embeddings(panel: Panel, store: Store, *, rows: np.ndarray, aspect: str | None) -> np.ndarray:
    """[N, D] float32, the first network's representations of rows of a store.

    That of a relation is the pretrained network's, since fine-tuning asks for tasks alone, and of
    what it was asked with.

    Args:
        panel: whose first network is asked; the spaces of others are other ones.
        store: of the samples, and of their context.
        rows: [N].
        aspect: task or relation; None for the fused summary, before anybody else is looked at.
    """
    config = panel.bundle.config
    of_relation = aspect in config.graph.relations
    if of_relation:
        panel = panel.as_pretrained()
    first = panel.of_first_network()
    model = first.bundle.networks[0].model
    # The fused summary needs nobody else.
    memory = None if aspect is None else first.memories(store)[0][0]
    found: np.ndarray = np.full((store.n_samples, model.width), np.nan, dtype=np.float32)
    for batch in first.batches(store, rows):
        batch = as_pretrained(config, batch) if of_relation else batch
        encoded = encode(model, batch)
        if aspect is None:
            vectors = model.fuse(encoded)
        else:
            vectors = model.answer(encoded, batch.neighbours, memory=memory).aspects[aspect]
        found[batch.row.numpy()] = vectors.numpy()
    asked: np.ndarray = found[rows]
    return asked

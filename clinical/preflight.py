"""What is refused before anything is prepared, since preparing can take hours."""

from clinical.config import RunConfig
from clinical.encoders import ENCODERS
from clinical.errors import ConfigError
from clinical.experts import EXPERTS
from clinical.given_weights import local_weights
from clinical.objectives import OBJECTIVES
from clinical.training.recipes import check_recipe
from clinical.transfer import Source

import torch


def check_machine(config: RunConfig) -> None:
    """Refuse a run that this machine, or any, could not finish.

    Raises:
        BundleError: that of `finetune.init` is none, or damaged.
        ConfigError: there is no such accelerator here, an encoder, expert or recipe lacks
            something, or an objective has nothing to learn from; the bundle of `finetune.init`
            doesn't fit.
    """
    _check_accelerator(config.trainer.accelerator)
    _check_objectives(config)
    _check_encoders(config)
    if config.finetune.init is not None:
        Source.read(config, config.finetune.init)
    check_recipe(config.finetune.recipe, config.modalities)
    for name in (*config.experts, *config.finetune.teachers):
        EXPERTS[name].check()


def _check_accelerator(name: str) -> None:
    has = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    has["gpu"] = any(has.values())
    if not has.get(name, True):
        raise ConfigError(f"trainer.accelerator: there is no {name} here; use cpu or auto")


def _check_encoders(config: RunConfig) -> None:
    for name, modality in config.modalities.items():
        encoder, where = ENCODERS[modality.encoder], f"modalities.{name}"
        weights = local_weights(name, modality) if encoder.is_fetched else modality.weights
        try:
            encoder.check(where, modality.options, weights=weights)
        except ConfigError as error:
            if str(error).startswith(where):
                raise
            raise ConfigError(f"{where}: {error}") from error


def _check_objectives(config: RunConfig) -> None:
    if config.pretrain is None:
        return
    frozen = [k for k, own in config.modalities.items() if own.options.get("train") == "frozen"]
    for name, own in config.pretrain.objectives.items():
        OBJECTIVES[name].check(own.options, modalities=tuple(config.modalities), frozen=frozen)

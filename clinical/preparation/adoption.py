"""What a run takes over from the bundle that it begins from, so that its weights mean something.

Vocabularies and scales are always learned from the run's own train split; of notes, the tokenizer
and the phrases are the bundle's, since its weights are rows and columns of these.
"""

from clinical.cohort.fitted import read_statistics
from clinical.config import RunConfig
from clinical.manifest import check_manifest
from clinical.modalities import Statistics
from clinical.modalities.contract import Adopting
from clinical.modalities.shards import modalities_of

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def given_statistics(config: RunConfig) -> dict[str, Statistics]:
    """Modality -> what the bundle's run learned, of those that adopt any of it.

    Raises:
        BundleError: It is none, or damaged.
    """
    init = config.finetune.init
    if init is None:
        return {}
    wanted = [name for name, each in modalities_of(config).items() if isinstance(each, Adopting)]
    if not wanted:
        return {}
    check_manifest(init.bundle)
    learned = read_statistics(init.bundle)
    return {name: learned[name] for name in wanted if name in learned}


def told_apart(given: Mapping[str, Statistics]) -> dict[str, Any]:
    """What a store depends on beside the run's own settings; nothing where nothing is given."""
    text = json.dumps(given, sort_keys=True)
    return {"given": hashlib.sha256(text.encode()).hexdigest()} if given else {}


def adopted(
    config: RunConfig, statistics: Mapping[str, Statistics], given: Mapping[str, Statistics]
) -> dict[str, Statistics]:
    """What each modality learned, with what it takes over.

    Raises:
        ConfigError: One network can't read both.
    """
    found = dict(statistics)
    for name, modality in modalities_of(config).items():
        if isinstance(modality, Adopting) and name in given:
            found[name] = modality.adopt(found[name], given[name])
    return found

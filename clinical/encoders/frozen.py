"""Which frozen weights an encoder has, so that what they made of a row can be kept."""

from clinical.encoders.encoding import Encoder

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def frozen_digest(encoder: Encoder, *, sizes: Mapping[str, Any], keys: Mapping[str, Any]) -> str:
    """SHA-256 of all that decides what `encode_rows` says of a row.

    Args:
        encoder: with a frozen part.
        sizes, keys: that it was built of, plain values.
    """
    built_of = {
        "sizes": {name: of for name, of in sizes.items() if name not in encoder.beside_frozen},
        "keys": dict(keys),
    }
    learned = {name for name, each in encoder.named_parameters() if each.requires_grad}
    total = hashlib.sha256(type(encoder).__name__.encode())
    total.update(json.dumps(built_of, sort_keys=True, default=str).encode())
    for name, tensor in encoder.state_dict().items():
        if name not in learned:
            total.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
            total.update(tensor.contiguous().cpu().numpy().tobytes())
    return total.hexdigest()

"""Encoders, one family a modality: a container of a batch becomes an `Encoding`."""

from clinical.encoders.bag import BagEncoder
from clinical.encoders.bert import BertEncoder
from clinical.encoders.cnn import CNNEncoder
from clinical.encoders.encoding import Encoder, Encoding
from clinical.encoders.event_set import EventSetEncoder
from clinical.encoders.mlp import MLPEncoder
from clinical.encoders.two_axis import TwoAxisEncoder

ENCODERS: dict[str, type[Encoder]] = {
    "event_set": EventSetEncoder,
    "two_axis": TwoAxisEncoder,
    "mlp": MLPEncoder,
    "bert": BertEncoder,
    "cnn": CNNEncoder,
    "bag": BagEncoder,
}

__all__ = ["ENCODERS", "Encoder", "Encoding"]

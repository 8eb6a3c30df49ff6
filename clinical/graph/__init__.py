"""The patient graph: what references look like, what they tell a sample, and who asks."""

from clinical.graph.aspects import AspectReadout
from clinical.graph.links import LinkHead, PairHead, link_aspect, popularity
from clinical.graph.memory import EmbeddingMemory
from clinical.graph.messages import Message, MessagePassing

__all__ = [
    "AspectReadout",
    "EmbeddingMemory",
    "LinkHead",
    "Message",
    "MessagePassing",
    "PairHead",
    "link_aspect",
    "popularity",
]

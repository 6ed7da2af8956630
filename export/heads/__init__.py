"""The heads of a user's model: found by shape and position (`finding`), made as modules (`layers`), and turned into the
two outputs that the graph has (`outputs`)."""

from export.heads.finding import FoundHead, find_heads
from export.heads.layers import ACTIVATIONS, Epsilons, build_layers
from export.heads.outputs import HeadPair, two_heads

__all__ = ["ACTIVATIONS", "Epsilons", "FoundHead", "HeadPair", "build_layers", "find_heads", "two_heads"]

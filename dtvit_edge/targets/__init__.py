"""What a target will refuse, decompose or not fuse, from a bundle's manifest alone: no GPU, no onnx, no TensorRT."""

from dtvit_edge.targets.compatibility import Compatibility, StackCompatibility, compat
from dtvit_edge.targets.facts import SEVERITIES, Finding
from dtvit_edge.targets.model_files import FileCompatibility

__all__ = ["SEVERITIES", "Compatibility", "FileCompatibility", "Finding", "StackCompatibility", "compat"]

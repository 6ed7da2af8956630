"""What a target will refuse, decompose or not fuse, from a bundle's manifest alone: no GPU, no onnx, no TensorRT."""

from dtvit_edge.targets.compat import Explanation, StackVerdict, explain
from dtvit_edge.targets.facts import SEVERITIES, Finding
from dtvit_edge.targets.model_files import FileVerdict

__all__ = ["SEVERITIES", "Explanation", "FileVerdict", "Finding", "StackVerdict", "explain"]

"""What a target will refuse, decompose or not fuse, from a bundle's manifest alone: no GPU, no onnx, no TensorRT."""

from dtvit_edge.explain.facts import SEVERITIES, Finding
from dtvit_edge.explain.files import FileVerdict
from dtvit_edge.explain.verdict import Explanation, StackVerdict, explain

__all__ = ["SEVERITIES", "Explanation", "FileVerdict", "Finding", "StackVerdict", "explain"]

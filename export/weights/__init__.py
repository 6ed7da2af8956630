"""Weights as people have them: files of any usual ending, nested in any usual way, become tensors by plain key.

`reading` opens a file without running anything in it, `choosing` takes the state dict out of what it holds, `sanity`
refuses numbers that no trained model has.
"""

from export.weights.choosing import Choice, choose_tensors
from export.weights.reading import ENDINGS, read_weights
from export.weights.sanity import check_values, widened

__all__ = ["ENDINGS", "Choice", "check_values", "choose_tensors", "read_weights", "widened"]

"""The one place that imports torchvision and timm, in the order that works.

timm needs torchvision, and torchvision's CUDA wheel beside a CPU torch loads no operators: its import then
ends with `operator torchvision::nms does not exist`. Declaring the two operators' schemas is enough to import
it; nothing here ever calls them. Where torchvision imports by itself, nothing is declared.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

# The schemas of torchvision's own csrc/ops/nms.cpp and csrc/ops/quantized/cpu/qnms_kernel.cpp.
SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

# A library's declarations live as long as the object does.
declared: list[torch.library.Library] = []


def import_torchvision() -> ModuleType:
    """Import torchvision, declaring its operators only where it cannot be imported without."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    # Submodules that were imported before the failure stay in sys.modules and would be found half made.
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for schema in SCHEMAS:
        library.define(schema)  # type: ignore[no-untyped-call]
    declared.append(library)
    return importlib.import_module("torchvision")


torchvision = import_torchvision()
timm = importlib.import_module("timm")

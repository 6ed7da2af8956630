"""The bundle: what a checkpoint becomes, and what travels to a device. `docs/bundle-format.md` lists every field."""

from dtvit_edge.bundle.bundle import BUILT_SUFFIXES, ENGINES, NOT_HERE, SUFFIX, Bundle
from dtvit_edge.bundle.golden import GOLDEN_FILES, GOLDEN_LOGITS, GOLDEN_PIXELS, GOLDEN_STORED, Golden
from dtvit_edge.bundle.manifest import MANIFEST, REFUSED, FileRecord, GoldenSlice, Manifest, Reference
from dtvit_edge.bundle.memory_copy import MemoryCopy, source_of
from dtvit_edge.bundle.signature import SIGNATURE, SignatureState, Trust, write_signature
from dtvit_edge.bundle.thresholds import THRESHOLDS, Threshold, Thresholds, remove_thresholds, write_thresholds
from dtvit_edge.bundle.tolerances import FP32_FLOOR, MOST_ROUNDING, tolerance_of
from dtvit_edge.bundle.writing import write_bundle
from dtvit_edge.precisions import MODEL_FILES, REFERENCE_PRECISION

__all__ = [
    "BUILT_SUFFIXES",
    "ENGINES",
    "FP32_FLOOR",
    "GOLDEN_FILES",
    "GOLDEN_LOGITS",
    "GOLDEN_PIXELS",
    "GOLDEN_STORED",
    "MANIFEST",
    "MODEL_FILES",
    "MOST_ROUNDING",
    "NOT_HERE",
    "REFERENCE_PRECISION",
    "REFUSED",
    "SIGNATURE",
    "SUFFIX",
    "THRESHOLDS",
    "Bundle",
    "FileRecord",
    "Golden",
    "GoldenSlice",
    "Manifest",
    "MemoryCopy",
    "Reference",
    "SignatureState",
    "Threshold",
    "Thresholds",
    "Trust",
    "remove_thresholds",
    "source_of",
    "tolerance_of",
    "write_bundle",
    "write_signature",
    "write_thresholds",
]

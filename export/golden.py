"""Golden slices: phantom slices' model bytes with the reference's fp32 logits. Never a patient's pixels.

Every bundle carries them, so that any device can be asked for the same numbers.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dtvit_edge.bundle import GOLDEN_LOGITS, GOLDEN_PIXELS, FileRecord
from dtvit_edge.errors import ConfigError
from dtvit_edge.phantom.study import plan_study, render_plan
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import LOCATION_LABELS, OUTPUT_NAMES, PixelEncoding, PreprocessSpec
from export.model import DTViT, normalise

# One study for each location and one without a haemorrhage.
STUDIES: tuple[tuple[int, str | None], ...] = (*enumerate(LOCATION_LABELS), (len(LOCATION_LABELS), None))
SLICES_PER_STUDY = 3
# Where in its stack a study without a haemorrhage is looked at, as shares of its height.
HEIGHTS = (0.3, 0.7)


def golden_pixels(spec: PreprocessSpec) -> NDArray[np.uint8]:
    """The golden slices as model bytes: (12, C, 224, 224) uint8, the same for the same spec.

    Raises:
        ConfigError: this spec finds no head in one of them, so that they would test nothing.
    """
    preprocess = CpuPreprocessor(spec)
    # Phantoms are in HU already: stored values are HU, seen as 16-bit patterns.
    encoding = PixelEncoding(bits_stored=16, high_bit=15, signed=True, slope=1.0, intercept=0.0)
    rows = []
    for seed, location in STUDIES:
        plan = plan_study(seed, location)
        if plan.positive:
            first = min(plan.positive[0], plan.slice_count - SLICES_PER_STUDY)
            last = max(plan.positive[-1], first + SLICES_PER_STUDY - 1)  # a small bleeding brings its neighbours
        else:
            first, last = (int(height * plan.slice_count) for height in HEIGHTS)
        for index in np.linspace(first, last, SLICES_PER_STUDY).round().astype(int):
            hu = render_plan(plan, [int(index)]).slices[0].hu
            prepared = preprocess(np.ascontiguousarray(hu).view(np.uint16), encoding)
            if not prepared.has_head:
                raise ConfigError(f"this spec finds no head in phantom {seed}, slice {index}: see its windows")
            rows.append(prepared.pixels)
    return np.stack(rows)


def reference_logits(model: DTViT, pixels: NDArray[np.uint8], spec: PreprocessSpec) -> dict[str, NDArray[np.float32]]:
    """PyTorch's fp32 logits by output name, (N, 2) and (N, 3), slice by slice in eval mode."""
    model = model.eval()
    with torch.no_grad():
        outputs = [model(normalise(torch.from_numpy(row[None].copy()), spec)) for row in pixels]
    return {name: torch.cat([o[i] for o in outputs]).numpy() for i, name in enumerate(OUTPUT_NAMES)}


def golden_files(
    pixels: NDArray[np.uint8], logits: dict[str, NDArray[np.float32]]
) -> tuple[dict[str, FileRecord], dict[str, bytes]]:
    """The golden arrays as a bundle's records (digests still empty) and files."""
    arrays: dict[str, NDArray[Any]] = {
        GOLDEN_PIXELS: pixels,
        **{file: logits[name] for name, file in GOLDEN_LOGITS.items()},
    }
    files = {}
    for file, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        files[file] = buffer.getvalue()
    return {file: FileRecord(file, "", 0) for file in files}, files

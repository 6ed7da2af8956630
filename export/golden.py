"""Golden slices: phantom slices as files store them, the model's bytes, the reference's logits; nobody's pixels.

Every bundle carries them, so that any device can be asked for the same numbers, from stored pixels on.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from dtvit_edge.bundle import Golden
from dtvit_edge.errors import CheckpointError, ConfigError
from dtvit_edge.phantom.study import plan_study, render_plan
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import LOCATION_LABELS, OUTPUT_NAMES, PixelEncoding, PreprocessSpec
from export.golden_arrays import Logits, as_stored
from export.golden_arrays import spread_of as spread_of
from export.model import DTViT, normalise

# One study for each location and one without a haemorrhage.
STUDIES: tuple[tuple[int, str | None], ...] = (*enumerate(LOCATION_LABELS), (len(LOCATION_LABELS), None))
SLICES_PER_STUDY = 3
# Where in its stack a study without a haemorrhage is looked at, as shares of its height.
HEIGHTS = (0.3, 0.7)
PADDING_VALUE = -2000
# Scanners store HU in these ways; every golden slice takes the next one.
ENCODINGS = (
    PixelEncoding(),
    PixelEncoding(bits_stored=12, high_bit=11, signed=False, intercept=-1024.0),
    PixelEncoding(padding=(PADDING_VALUE, PADDING_VALUE)),
    PixelEncoding(bits_stored=12, high_bit=15, signed=False, intercept=-1024.0),
    PixelEncoding(bits_stored=16, high_bit=15, signed=False, slope=0.5, intercept=-1024.0),
)
# How much of the matrix is left, rows and columns: square, wider and higher than square, and a coarse one.
CUTS = ((512, 512), (448, 512), (512, 480), (256, 256))


def golden_slices(spec: PreprocessSpec) -> tuple[list[NDArray[np.uint16]], list[PixelEncoding], NDArray[np.uint8]]:
    """The golden slices, the same for the same spec.

    Returns:
        Stored pixels, (rows, columns) uint16 each; their encodings; the model's bytes, (12, C, side, side) uint8.

    Raises:
        ConfigError: this spec finds no head in one of them, so that they would test nothing.
    """
    preprocess = CpuPreprocessor(spec)
    stored, encodings, rows = [], [], []
    for number, (seed, index, hu) in enumerate(_phantom_slices()):
        encoding = ENCODINGS[number % len(ENCODINGS)]
        pixels = as_stored(_cut(hu, *CUTS[number % len(CUTS)]), encoding)
        prepared = preprocess(pixels, encoding)
        if not prepared.has_head:
            raise ConfigError(f"this spec finds no head in phantom {seed}, slice {index}: see its windows")
        stored.append(pixels)
        encodings.append(encoding)
        rows.append(prepared.pixels)
    return stored, encodings, np.stack(rows)


def golden_pixels(spec: PreprocessSpec) -> NDArray[np.uint8]:
    """The model's bytes of the golden slices, (12, C, side, side) uint8."""
    return golden_slices(spec)[2]


def reference_logits(
    model: DTViT, pixels: NDArray[np.uint8], spec: PreprocessSpec, dtype: torch.dtype = torch.float64
) -> Logits:
    """PyTorch's logits by output name, (N, 2) and (N, 3) float64, slice by slice in eval mode.

    Args:
        dtype: what the model computes in. In float64 that is the reference; the model comes back as it was.

    Raises:
        CheckpointError: a logit that is not finite.
    """
    model = model.eval().to(dtype)
    try:
        with torch.no_grad():
            outputs = [model(normalise(torch.from_numpy(row[None].copy()), spec, dtype)) for row in pixels]
    finally:
        model.to(torch.float32)  # exact: its weights were float32
    logits = {name: torch.cat([o[i] for o in outputs]).double().numpy() for i, name in enumerate(OUTPUT_NAMES)}
    for name, values in logits.items():
        if not np.isfinite(values).all():
            raise CheckpointError(f"these weights give {name} that are not finite; there is nothing to export")
    return logits


@cache  # two seconds to render, the same for every spec
def _phantom_slices() -> tuple[tuple[int, int, NDArray[np.int16]], ...]:
    """Phantom, place in its stack and HU of each golden slice; read-only."""
    slices = []
    for seed, location in STUDIES:
        plan = plan_study(seed, location)
        if plan.positive:
            first = min(plan.positive[0], plan.slice_count - SLICES_PER_STUDY)
            last = max(plan.positive[-1], first + SLICES_PER_STUDY - 1)  # a small bleeding brings its neighbours
        else:
            first, last = (int(height * plan.slice_count) for height in HEIGHTS)
        for index in np.linspace(first, last, SLICES_PER_STUDY).round().astype(int).tolist():
            hu = render_plan(plan, [index]).slices[0].hu
            hu.flags.writeable = False
            slices.append((seed, index, hu))
    return tuple(slices)


def _cut(hu: NDArray[np.int16], rows: int, columns: int) -> NDArray[np.int16]:
    """The middle of a slice; of a small matrix every other pixel."""
    step = 2 if max(rows, columns) <= hu.shape[0] // 2 else 1
    coarse = hu[::step, ::step]
    top, left = (coarse.shape[0] - rows) // 2, (coarse.shape[1] - columns) // 2
    return np.ascontiguousarray(coarse[top : top + rows, left : left + columns])


def rounding_of(model: DTViT, golden: Golden, spec: PreprocessSpec) -> float:
    """The largest |logit difference| of PyTorch's float32 to the golden logits."""
    single = reference_logits(model, golden.pixels, spec, torch.float32)
    return float(np.max([np.abs(single[name] - golden.logits[name]).max() for name in OUTPUT_NAMES]))

"""Stated shifts of the scanner, made from slices that are there: how would another scanner have shown the same heads?

A gate that judges at home alone cannot see what int8 loses elsewhere: its ranges come from slices like those that it is
judged on. `shifted_sets` gives, by the name of each shift, the same slices as another scanner might have stored them:

    sets = shifted_sets(test_set, spec, seed=0, count=256)
    for name in sets:  # "HU +10", "HU -10", "noise", ... (`SHIFTS` says what each one is)
        pixels, labels = sets[name].pixels, sets[name].labels

It needs `SliceSet.sources`, which `sampling.load_set` fills in. A shift acts on Hounsfield units before preprocessing,
and everything after it is the runtime's own, head mask included. What the runtime would skip (no head, no brain in
view) is left out of that shift's set, so that sets may be shorter than the one they were made from. Labels and patients
stay; digests are those of the shifted bytes. The same seed gives the same bytes, whatever the order of the slices.

Of images that are windowed already (PNG, JPEG), the bytes are taken as HU by the spec's window. What the window clipped
cannot come back: a shift of the scale leaves solid black and white areas (air, fat, bone) as they are, noise likewise,
and a kernel sees an edge to bone as one of the window's height, so that such images are changed less than HU would be.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dtvit_edge.errors import ConfigError
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.progress import Progress, silent
from dtvit_edge.spec import AIR_HU, WINDOWED_8_BIT, PixelEncoding, PreprocessSpec, digest_bytes
from evaluation.images import StoredSlice
from evaluation.sampling import SliceSet

SHIFT_SLICES = 256
# Lengths in millimetres need a size of pixels, which an image does not say: adults' heads are shown in 215 to 265 mm.
FIELD_MM = 230.0
# Sizes of the shifts; `SHIFTS` says where each comes from.
NOISE_HU = 5.0
SOFTER_MM, SHARPER_MM, SHARPER_GAIN = 0.5, 0.7, 1.0
ZOOM, TURN_DEG, GANTRY_DEG = 0.88, 8.0, 20.0
# The grain of noise and what is too coarse to be any, as the sigma of a blur; what counts as brain in measuring it.
_GRAIN_MM, _COARSE_MM = 0.4, 1.8
_LEAST_NOISE_HU, _MOST_NOISE_HU = 2.0, 8.0
_BRAIN_HU = (10.0, 60.0)
_SIGNED_HU = PixelEncoding()  # whole HU, as a scanner stores them
_LOWEST_HU, _HIGHEST_HU = -1024.0, 3071.0  # of 12 bits

Image = NDArray[np.float32]


@dataclass(frozen=True)
class ScannerShift:
    """One stated change of the scanner.

    Attributes:
        name: as tables and manifests have it; meaning: what it stands for, and where its size comes from.
        apply: from (rows, columns) float32 HU, a source of chance, and millimetres a pixel to the shifted HU.
        moves: whether pixels go elsewhere, so that what was clipped moves along; else it stays clipped.
    """

    name: str
    meaning: str
    apply: Callable[[Image, np.random.Generator, float], Image]
    moves: bool = False


def shifted_sets(
    slices: SliceSet,
    spec: PreprocessSpec,
    *,
    seed: int,
    count: int = SHIFT_SLICES,
    shifts: Sequence[ScannerShift] | None = None,
    progress: Progress = silent,
) -> dict[str, SliceSet]:
    """The slices under each shift, by its name.

    Args:
        count: the largest number of slices; the first by digest, which spreads them over patients.
        shifts: `SHIFTS` where not said.

    Raises:
        ConfigError: the set does not know its stored pixels, or no slice shows brain under a shift.
    """
    chosen = SHIFTS if shifts is None else tuple(shifts)
    if len(slices.sources) != len(slices):
        raise ConfigError("a set of slices without their stored pixels cannot be shifted")
    places = range(min(count, len(slices)))
    prepare = CpuPreprocessor(spec)
    pixels: dict[str, list[NDArray[np.uint8]]] = {shift.name: [] for shift in chosen}
    kept: dict[str, list[int]] = {shift.name: [] for shift in chosen}
    with progress("shifting the scanner", len(places)) as step:
        for i in places:
            source = slices.sources[i]()
            for shift in chosen:
                prepared = prepare(*shifted(source, shift, spec, seed=_seed(seed, slices.labels.digests[i], shift)))
                if prepared.brain_share >= spec.min_brain_share and prepared.has_head:
                    pixels[shift.name].append(prepared.pixels)
                    kept[shift.name].append(i)
            step(1)
    if empty := [name for name, images in pixels.items() if not images]:
        raise ConfigError(f"no slice shows brain under these shifts of the scanner: {', '.join(empty)}")
    return {name: _subset(slices, kept[name], np.stack(pixels[name])) for name in pixels}


def shifted(stored: StoredSlice, shift: ScannerShift, spec: PreprocessSpec, *, seed: Sequence[int]) -> StoredSlice:
    """One slice as the shifted scanner would have stored it: pixels (rows, columns) uint16 and their encoding.

    Padding becomes air, as the runtime takes it.
    """
    pixels, encoding = stored
    rng = np.random.default_rng(list(seed))
    pixel_mm = FIELD_MM / max(pixels.shape)
    if encoding.windowed:
        return _shifted_bytes(pixels.astype(np.uint8), shift, spec, rng, pixel_mm), WINDOWED_8_BIT
    hu = encoding.values(pixels).astype(np.float32) * np.float32(encoding.slope) + np.float32(encoding.intercept)
    if encoding.padding is not None:
        hu[encoding.is_padding(pixels)] = AIR_HU
    changed = np.rint(np.clip(shift.apply(hu, rng, pixel_mm), _LOWEST_HU, _HIGHEST_HU)).astype(np.int16)
    return np.ascontiguousarray(changed).view(np.uint16), _SIGNED_HU


def _shifted_bytes(
    image: NDArray[np.uint8], shift: ScannerShift, spec: PreprocessSpec, rng: np.random.Generator, pixel_mm: float
) -> NDArray[np.uint16]:
    """A windowed image: HU between the ends of the window, shifted and windowed again."""
    low = np.float32(spec.windows[0].center_hu - spec.windows[0].width_hu / 2)
    scale = np.float32(spec.windows[0].width_hu / 255)
    moved = shift.apply(low + image.astype(np.float32) * scale, rng, pixel_mm)
    changed = np.rint(np.clip((moved - low) / scale, 0, 255)).astype(np.uint8)
    if not shift.moves:
        for end in (0, 255):
            # Single clipped pixels are noise at the end of the window; areas lie far outside of it.
            solid = cv2.morphologyEx((image == end).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
            changed[solid > 0] = end
    return changed.astype(np.uint16)


def _offset(by_hu: float) -> Callable[[Image, np.random.Generator, float], Image]:
    return lambda hu, rng, pixel_mm: hu + np.float32(by_hu)


def _add_noise(hu: Image, rng: np.random.Generator, pixel_mm: float) -> Image:
    noise = rng.standard_normal(hu.shape, dtype=np.float32)
    noise *= np.float32(NOISE_HU)
    noise += hu
    return noise


def _halve_dose(hu: Image, rng: np.random.Generator, pixel_mm: float) -> Image:
    """As much noise again as the slice has, with the grain of a filtered back projection: no low frequencies."""
    noise: Any = cv2.GaussianBlur(rng.standard_normal(hu.shape, dtype=np.float32), (0, 0), _GRAIN_MM / pixel_mm)
    noise -= cv2.GaussianBlur(noise, (0, 0), _COARSE_MM / pixel_mm)
    changed: Image = hu + noise * np.float32(noise_of(hu, pixel_mm) / noise.std())
    return changed


def noise_of(hu: Image, pixel_mm: float) -> float:
    """The standard deviation of a slice's noise in HU, within `_LEAST_NOISE_HU` and `_MOST_NOISE_HU`.

    From the median absolute deviation of what a blur takes away, inside the range of brain: edges are few there.
    """
    smooth = cv2.GaussianBlur(hu, (0, 0), _COARSE_MM / pixel_mm)
    inside = (smooth > _BRAIN_HU[0]) & (smooth < _BRAIN_HU[1])
    if not inside.any():
        return _LEAST_NOISE_HU
    rest = (hu - smooth)[inside]
    deviation = 1.4826 * float(np.median(np.abs(rest - np.median(rest))))
    return min(max(deviation, _LEAST_NOISE_HU), _MOST_NOISE_HU)


def _sharpen(hu: Image, rng: np.random.Generator, pixel_mm: float) -> Image:
    wide = cv2.GaussianBlur(hu, (0, 0), SHARPER_MM / pixel_mm)
    return np.asarray(cv2.addWeighted(hu, 1 + SHARPER_GAIN, wide, -SHARPER_GAIN, 0), np.float32)


def _soften(hu: Image, rng: np.random.Generator, pixel_mm: float) -> Image:
    return np.asarray(cv2.GaussianBlur(hu, (0, 0), SOFTER_MM / pixel_mm), np.float32)


def _zoom(hu: Image, rng: np.random.Generator, pixel_mm: float) -> Image:
    return _warped(hu, np.diag([ZOOM, ZOOM]))


def _tilt(hu: Image, rng: np.random.Generator, pixel_mm: float) -> Image:
    cos, sin = math.cos(math.radians(TURN_DEG)), math.sin(math.radians(TURN_DEG))
    gantry = np.diag([1.0, 1 / math.cos(math.radians(GANTRY_DEG))])
    return _warped(hu, gantry @ np.array([[cos, -sin], [sin, cos]]))


def _warped(hu: Image, matrix: NDArray[np.float64]) -> Image:
    """About the image's centre; what comes in from outside is air."""
    rows, columns = hu.shape
    centre = np.array([(columns - 1) / 2, (rows - 1) / 2])
    affine = np.column_stack([matrix, centre - matrix @ centre])
    warped = cv2.warpAffine(
        hu, affine, (columns, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=AIR_HU
    )
    return np.asarray(warped, np.float32)


SHIFTS = (
    ScannerShift(
        "HU +10",
        "The scale reads 10 HU more. Quality control takes water from -5 to +5 HU (American College of Radiology, CT "
        "Quality Control Manual), so that two scanners that passed can differ by so much.",
        _offset(10.0),
    ),
    ScannerShift("HU -10", "The scale reads 10 HU less, as above.", _offset(-10.0)),
    ScannerShift(
        "noise",
        "White noise of 5 HU is added: about as much as a routine slice of a head has (2 to 5 HU), without the "
        "smoothing by which a scanner hides it.",
        _add_noise,
    ),
    ScannerShift(
        "half dose",
        "Half the dose: the variance of the noise is the inverse of the dose (Brooks and Di Chiro, 1976), so that the "
        "slice gets as much again as it has, 2 to 8 HU, with the grain of a filtered back projection.",
        _halve_dose,
    ),
    ScannerShift(
        "sharper kernel",
        "Half of the contrast is left at 5.1 instead of 3.7 line pairs a centimetre (an unsharp mask of 0.7 mm and "
        "gain 1): a step of reconstruction kernels up from one for the brain; its noise grows with it.",
        _sharpen,
    ),
    ScannerShift(
        "softer kernel",
        "Half of the contrast is left at 2.6 instead of 3.7 line pairs a centimetre (a Gaussian of 0.5 mm): a step of "
        "reconstruction kernels down.",
        _soften,
    ),
    ScannerShift(
        "zoom",
        "The field of view is 1/0.88 of what it was, 261 mm for 230: heads are shown in 215 to 265 mm.",
        _zoom,
        moves=True,
    ),
    ScannerShift(
        "tilt",
        "The head lies turned by 8 degrees, and the gantry tilts by 20, which makes a section 1/cos(20) as long. Which "
        "other anatomy a tilted plane would cut cannot be made from one slice.",
        _tilt,
        moves=True,
    ),
)


def _seed(seed: int, digest: str, shift: ScannerShift) -> tuple[int, ...]:
    """Of one slice under one shift: neither the order of slices nor other shifts change it."""
    return (seed, int(digest[:16], 16), int(digest_bytes(shift.name.encode())[:8], 16))


def _subset(slices: SliceSet, kept: Sequence[int], pixels: NDArray[np.uint8]) -> SliceSet:
    digests = tuple(digest_bytes(image.tobytes()) for image in pixels)
    return SliceSet(pixels, replace(slices.at(kept).labels, digests=digests))

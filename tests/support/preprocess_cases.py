"""The one table of reference cases; every preprocessor runs through it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from dtvit_edge.phantom import render_study
from dtvit_edge.spec import PixelEncoding, PreprocessSpec, Window, WindowKind

PLAIN = PreprocessSpec()
LINEAR = PreprocessSpec(windows=(Window(40, 80, WindowKind.LINEAR),))
THREE = PreprocessSpec(windows=(Window(40, 80), Window(80, 200), Window(600, 2800, WindowKind.LINEAR)))
NO_RESIZE = PreprocessSpec(resize=None)
BICUBIC = PreprocessSpec(filter="bicubic")
SQUASH = PreprocessSpec(fit="squash", resize=224)
UNMASKED = replace(THREE, device_mask=False, filter="bicubic", fit="squash", crop=96, resize=130)
TWO = PreprocessSpec(windows=(Window(40, 80), Window(80, 200)), mean=(0.5, 0.4), std=(0.2, 0.3))

SIGNED = PixelEncoding()
UNSIGNED = PixelEncoding(signed=False, intercept=-1024.0)
PADDED = PixelEncoding(padding=(-1500, -1500))
PADDED_RANGE = PixelEncoding(signed=False, intercept=-1024.0, padding=(63000, 65535))
TWELVE_OF_16 = PixelEncoding(bits_stored=12, high_bit=11, signed=False, intercept=-1024.0)
TWELVE_SIGNED = PixelEncoding(bits_stored=12, high_bit=11, signed=True)
TWELVE_HIGH = PixelEncoding(bits_stored=12, high_bit=15, signed=False, intercept=-1024.0)
FRACTIONAL = PixelEncoding(signed=False, slope=0.37, intercept=-1000.25)
WINDOWED = PixelEncoding(bits_stored=8, high_bit=7, signed=False, windowed=True)

SIZES = (
    (32, 32),
    (33, 1024),
    (1024, 33),
    (64, 64),
    (223, 225),
    (256, 256),
    (511, 513),
    (512, 512),
    (512, 630),
    (1024, 1024),
)


@dataclass(frozen=True)
class Case:
    name: str
    stored: NDArray[np.uint16]
    encoding: PixelEncoding
    spec: PreprocessSpec = PLAIN

    def __post_init__(self) -> None:
        self.stored.flags.writeable = False


@cache
def cases() -> tuple[Case, ...]:
    """Every case; read-only."""
    return (*_phantoms(), *_noise(), *_borders(), *_shapes())


def store(hu: NDArray[np.floating] | NDArray[np.integer], encoding: PixelEncoding, junk: int = 0) -> NDArray[np.uint16]:
    """HU to patterns; `junk` fills the bits outside BitsStored, which must change nothing."""
    value = np.rint((np.asarray(hu, dtype=np.float64) - encoding.intercept) / encoding.slope).astype(np.int64)
    full = 1 << encoding.bits_stored
    low, high = (-full // 2, full // 2 - 1) if encoding.signed else (0, full - 1)
    shift = encoding.high_bit + 1 - encoding.bits_stored
    kept = (full - 1) << shift
    pattern = (np.clip(value, low, high) & (full - 1)) << shift
    return (pattern | (junk & ~kept & 0xFFFF)).astype(np.uint16)


def _phantoms() -> Iterator[Case]:
    study = render_study(3, "deep", indices=(2, 9, 15, 22))
    slices = [s.hu for s in study.slices]
    for i, hu in enumerate(slices):
        yield Case(f"phantom-{i}-signed", store(hu, SIGNED), SIGNED)
    hu = slices[2]
    for name, encoding, junk in (
        ("unsigned", UNSIGNED, 0),
        ("12-bit-junk-above", TWELVE_OF_16, 0xF000),
        ("12-bit-signed-junk", TWELVE_SIGNED, 0xA000),
        ("12-bit-high-junk-below", TWELVE_HIGH, 0x000B),
        ("fractional-slope", FRACTIONAL, 0),
    ):
        yield Case(f"phantom-{name}", store(hu, encoding, junk), encoding)
    for name, spec in (("linear", LINEAR), ("three-windows", THREE), ("no-resize", NO_RESIZE), ("bicubic", BICUBIC),
                       ("squash", SQUASH), ("unmasked", UNMASKED), ("two-windows", TWO)):  # fmt: skip
        yield Case(f"phantom-{name}", store(hu, SIGNED), SIGNED, spec)
        yield Case(f"phantom-{name}-nonsquare", store(cv2.resize(hu, (630, 512)), SIGNED), SIGNED, spec)
    padded = hu.copy()
    rows, columns = np.indices(hu.shape)
    padded[(rows - 256) ** 2 + (columns - 256) ** 2 > 250**2] = -1500
    yield Case("phantom-padded", store(padded, PADDED), PADDED)
    high = store(hu, PADDED_RANGE)
    high[:40] = 64000  # padding that would be far above the window if it were taken for HU
    yield Case("phantom-padded-range", high, PADDED_RANGE)
    yield Case("phantom-nonsquare", store(cv2.resize(hu, (630, 512)), SIGNED), SIGNED)
    windowed = np.clip((hu.astype(np.float64)) / 80 * 255, 0, 255).astype(np.uint16)
    yield Case("phantom-windowed-8-bit", windowed, WINDOWED)


def _noise() -> Iterator[Case]:
    rng = np.random.default_rng(2024)
    for rows, columns in SIZES:
        anything = rng.integers(0, 1 << 16, (rows, columns), dtype=np.uint16)
        yield Case(f"noise-patterns-{rows}x{columns}", anything, TWELVE_OF_16)
        yield Case(f"noise-patterns-bicubic-{rows}x{columns}", anything, TWELVE_OF_16, BICUBIC)
        smooth = cv2.GaussianBlur(rng.normal(0, 1, (rows, columns)).astype(np.float32), (0, 0), 4)
        hu = smooth / max(float(smooth.std()), 1e-6) * 60 + 10
        yield Case(f"noise-blobs-{rows}x{columns}", store(hu, SIGNED), SIGNED)
        dense = store(np.where(rng.random((rows, columns)) < 0.97, 40, -1000), SIGNED)
        yield Case(f"noise-dense-{rows}x{columns}", dense, SIGNED, THREE if rows == columns else PLAIN)


def _borders() -> Iterator[Case]:
    for name, region in (
        ("left", np.s_[100:400, 0:200]),
        ("right", np.s_[100:400, 300:512]),
        ("top", np.s_[0:200, 100:400]),
        ("bottom-right-corner", np.s_[300:512, 300:512]),
        ("edge-columns-only", np.s_[100:400, 0:12]),
        ("everything", np.s_[:, :]),
    ):
        hu = np.full((512, 512), -1000.0)
        hu[region] = 35
        yield Case(f"border-{name}", store(hu, SIGNED), SIGNED)
    ring = np.full((512, 512), -1000.0)  # a hole that is open to the border is not a hole
    ring[100:400, 0:300] = 35
    ring[200:300, 0:100] = -1000
    ring[150:170, 150:170] = -1000
    yield Case("border-open-hole", store(ring, SIGNED), SIGNED)


def _shapes() -> Iterator[Case]:
    yield Case("empty-air", store(np.full((512, 512), -1000.0), SIGNED), SIGNED)
    yield Case("empty-unmasked", store(np.full((512, 512), 20.0) * (np.arange(512) % 9 == 0), SIGNED), SIGNED, UNMASKED)
    thin = np.full((512, 512), -1000.0)
    thin[::9, :] = 40  # nothing that an erosion leaves
    yield Case("empty-after-erosion", store(thin, SIGNED), SIGNED)
    twins = np.full((512, 512), -1000.0)
    twins[300:360, 60:120] = twins[100:160, 300:360] = 40  # equal areas: the upper one wins
    yield Case("tie-of-two", store(twins, SIGNED), SIGNED)
    diagonal = np.full((512, 512), -1000.0)
    for i in range(12):  # squares that touch at corners once eroded: 8-connected, not 4-connected
        diagonal[40 + i * 20 : 68 + i * 20, 40 + i * 20 : 68 + i * 20] = 40
    diagonal[300:400, 60:160] = 40
    yield Case("diagonal-chain", store(diagonal, SIGNED), SIGNED)
    specks = np.full((64, 64), 40.0)
    specks[::7, ::7] = -1000
    yield Case("holes-everywhere", store(specks, SIGNED), SIGNED)

"""`native.c` as a library that ctypes calls: found beside this file, checked, and never led out of bounds.

A platform wheel brings the library, and `make` builds it for a checkout (hatch_build.py); nothing is compiled here. One
that was built from another source than the file beside it is refused. The calls keep no state and hold no lock of
Python, so that threads prepare slices side by side. Where the library is not, or does not take a spec or a matrix,
`opencv` gives the same bytes.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.preprocess.resample import PRECISION_BITS, AxisWeights, resample_plan
from dtvit_edge.preprocess.rescale_table import PATTERNS, brain_bytes, rescale_table
from dtvit_edge.spec import MAX_MATRIX, MOST_CHANNELS, PixelEncoding, PreprocessSpec, digest_bytes, digest_file

log = logging.getLogger(__name__)
_loading = threading.RLock()  # a signal's handler may ask in the thread that has it

SOURCE = Path(__file__).with_name("native.c")
# Named as no module is: Python takes `native.so` for one.
LIBRARY = Path(__file__).with_name("libdtvit_native.so")
SWITCH = "DTVIT_NATIVE"  # an environment variable; 0 leaves the library alone

_MAX_DISK_ROWS = 31
_ALIGNMENT = 64


class _Table(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_void_p), ("first_zero", ctypes.c_int32), ("zeros", ctypes.c_int32))


class _Axis(ctypes.Structure):
    _fields_ = (
        ("start", ctypes.c_void_p),
        ("count", ctypes.c_void_p),
        ("weights", ctypes.c_void_p),
        ("length", ctypes.c_int32),
        ("width", ctypes.c_int32),
    )


class _Plan(ctypes.Structure):
    _fields_ = (
        ("tables", _Table * MOST_CHANNELS),
        ("horizontal", _Axis),
        ("vertical", _Axis),
        *((name, ctypes.c_int32) for name in ("rows", "columns", "channels", "device_mask", "threshold")),
        *((name, ctypes.c_int32) for name in ("edge_columns", "brain_low", "brain_high", "disk_rows")),
        ("half_widths", ctypes.c_int32 * _MAX_DISK_ROWS),
    )


class _Counts(ctypes.Structure):
    _fields_ = (("head_pixels", ctypes.c_int64), ("brain_pixels", ctypes.c_int64))


class NotNative(Exception):
    """The library is not used; the text says why."""


class NativePlan:
    """What the library has to know of a slice besides its pixels; it may be used by any number of threads.

    Attributes:
        stored_shape, shape: of a slice, (rows, columns), and of the result, (C, h, w).
        arrays: the table (C, 65536), and of both axes, columns first, start, count and weights.
        structure: `plan_t` of `native.c`, which points into them.

    Raises:
        ConfigError: as `resample_plan` and `rescale_table`.
        NotNative: the library is not here, or does not take the spec or the matrix.
    """

    def __init__(self, rows: int, columns: int, encoding: PixelEncoding, spec: PreprocessSpec, crop: bool) -> None:
        found = library()
        if not isinstance(found, Library):
            raise NotNative(found)
        self._library = found
        axes = resample_plan(rows, columns, spec, crop)
        table = rescale_table(encoding, spec)
        _check(rows, columns, spec)
        self.stored_shape = (rows, columns)
        self.shape = (spec.channels, len(axes.vertical.start), len(axes.horizontal.start))
        sides = _arrays(axes.horizontal, columns), _arrays(axes.vertical, rows)
        self.arrays = (table, *sides)
        plan = self.structure = _Plan()
        for channel, bytes_ in enumerate(table):
            plan.tables[channel] = _Table(bytes_.ctypes.data, *_zeros(bytes_))
        for name, (start, count, weights) in zip(("horizontal", "vertical"), sides, strict=True):
            pointers = (array.ctypes.data for array in (start, count, weights))
            setattr(plan, name, _Axis(*pointers, *weights.shape))
        low, high = brain_bytes(spec)
        plan.rows, plan.columns, plan.channels = rows, columns, spec.channels
        plan.device_mask, plan.threshold = bool(spec.device_mask), spec.mask_threshold
        plan.edge_columns = spec.edge_columns
        plan.brain_low, plan.brain_high = max(low, 1), high  # as `opencv`
        plan.disk_rows = len(spec.disk_half_widths)
        plan.half_widths[: plan.disk_rows] = spec.disk_half_widths
        self._address = ctypes.byref(plan)
        self._scratch_bytes = found.scratch_bytes(self._address)

    def prepare(self, stored: NDArray[np.uint16], *, anywhere: bool = False) -> tuple[NDArray[np.uint8], int, int]:
        """One slice: its bytes, the pixels of its head, and those of them that are brain.

        Args:
            stored: (rows, columns) of the plan, uint16 of any strides and byte order; it is only read.
            anywhere: takes the code that runs on every processor of the kind, where another would be faster.
        """
        if stored.shape != self.stored_shape or not takes(stored):  # the library would read beyond
            raise ValueError(
                f"the plan is for (rows, columns) = {self.stored_shape} uint16, found {stored.shape} {stored.dtype}"
            )
        pixels = np.ascontiguousarray(stored, dtype=np.uint16)
        out = np.empty(self.shape, np.uint8)
        counts = _Counts()
        call = self._library.prepare_anywhere if anywhere else self._library.prepare
        held, memory = _scratch.at_least(self._scratch_bytes)
        call(self._address, pixels.ctypes.data, out.ctypes.data, memory, ctypes.byref(counts))
        del held  # until here: a signal's handler may prepare a larger slice in this thread
        return out, counts.head_pixels, counts.brain_pixels


@lru_cache(maxsize=64)
def native_plan(
    rows: int, columns: int, encoding: PixelEncoding, spec: PreprocessSpec, crop: bool = True
) -> NativePlan | None:
    """The plan for slices of one size and encoding, or None where `opencv` has to prepare them.

    Raises:
        ConfigError: as `NativePlan`.
    """
    try:
        return NativePlan(rows, columns, encoding, spec, crop)
    except NotNative:
        return None


def takes(stored: NDArray[np.generic]) -> bool:
    """Whether these are patterns of 16 bits, in any byte order."""
    return stored.ndim == 2 and stored.dtype.kind == "u" and stored.dtype.itemsize == 2


class Library:
    """The loaded library.

    Attributes:
        prepare_anywhere: `dtvit_prepare` of `native.c`, for every processor of the kind.
        prepare: the fastest that this processor runs.
        scratch_bytes: `dtvit_scratch_bytes`.
        name: the file's, and the instructions that `prepare` takes.

    Raises:
        NotNative: it is not there, damaged, switched off, built from another source, or cannot be loaded.
    """

    def __init__(self) -> None:
        if os.environ.get(SWITCH) == "0":
            raise NotNative(f"switched off by {SWITCH}=0")
        if not LIBRARY.is_file():
            raise NotNative(f"this installation has no {LIBRARY.name}")
        try:
            if not _is_whole(LIBRARY.read_bytes()):
                raise NotNative(f"{LIBRARY.name} is damaged")
            loaded = ctypes.CDLL(str(LIBRARY))
            source = (ctypes.c_char * 64).in_dll(loaded, "dtvit_source").raw.decode("ascii", "replace")
            if source != digest_file(SOURCE):
                raise NotNative(f"{LIBRARY.name} was built from another {SOURCE.name} than the one beside it")
            avx2 = bool(loaded.dtvit_has_avx2())
            self.prepare_anywhere = loaded.dtvit_prepare
            self.prepare = loaded.dtvit_prepare_avx2 if avx2 else loaded.dtvit_prepare
            self.scratch_bytes = loaded.dtvit_scratch_bytes
        except (OSError, ValueError, AttributeError) as error:
            raise NotNative(f"{LIBRARY.name} cannot be loaded: {error}") from error
        for function in (self.prepare_anywhere, self.prepare):
            function.argtypes, function.restype = [ctypes.c_void_p] * 5, None
        self.scratch_bytes.argtypes, self.scratch_bytes.restype = [ctypes.c_void_p], ctypes.c_int64
        self.name = f"{LIBRARY.name}{', AVX2' if avx2 else ''}"


def _is_whole(data: bytes) -> bool:
    """Whether a library ends with the sha256 of what stands before it, as hatch_build.py leaves it."""
    return digest_bytes(data[:-64]).encode() == data[-64:]


def library() -> Library | str:
    """The library, loaded once; or why slices are prepared without it."""
    with _loading:  # else threads that ask at the same time each load it, and each say why not
        return _loaded()


@lru_cache(maxsize=1)
def _loaded() -> Library | str:
    try:
        return Library()
    except NotNative as reason:
        log.info("slices are prepared with OpenCV: %s", reason)
        return str(reason)


def description() -> str:
    """What prepares slices on this machine's CPU, for `doctor`: the library, or OpenCV and why."""
    found = library()
    return found.name if isinstance(found, Library) else f"OpenCV and NumPy: {found}"


class _Scratch(threading.local):
    """Memory of a thread, as much as its largest slice asked for."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def at_least(self, nbytes: int) -> tuple[NDArray[np.uint8], int]:
        """So many bytes, to be held as long as they are used, and their address."""
        memory = self._memory
        if memory.nbytes < nbytes + _ALIGNMENT:
            memory = self._memory = np.empty(nbytes + _ALIGNMENT, np.uint8)
        return memory, -(-memory.ctypes.data // _ALIGNMENT) * _ALIGNMENT


_scratch = _Scratch()


def _check(rows: int, columns: int, spec: PreprocessSpec) -> None:
    """Refuse what the library would read beyond its memory for, or means something else by.

    Raises:
        NotNative: with the reason.
    """
    widths, radius = spec.disk_half_widths, len(spec.disk_half_widths) // 2
    numbers = (spec.mask_threshold, spec.edge_columns, *widths)
    if not all(type(number) is int for number in numbers) or not 0 <= spec.edge_columns <= MAX_MATRIX:
        raise NotNative("a spec with numbers that are no whole columns, rows or bytes")
    if len(widths) > _MAX_DISK_ROWS or len(widths) % 2 == 0 or not all(0 <= width <= radius for width in widths):
        raise NotNative(f"a disk that has not an odd number of rows up to {_MAX_DISK_ROWS}, or is wider than high")
    if not (1 <= rows <= MAX_MATRIX and 1 <= columns <= MAX_MATRIX):
        raise NotNative(f"a {rows} x {columns} matrix")


def _arrays(axis: AxisWeights, source: int) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Of every output its first source, how many it has, and their weights, none of them outside of `source` pixels.

    Raises:
        NotNative: a weight other than 0 is outside, or sums would pass 31 bits.
    """
    start, weights = (np.ascontiguousarray(array, np.int32) for array in (axis.start, axis.taps))
    width = weights.shape[1]
    count = (width - np.argmax(weights[:, ::-1] != 0, axis=1)).astype(np.int32)
    most = np.abs(weights.astype(np.int64)).sum(axis=1).max() * 255 + (1 << PRECISION_BITS)
    if not weights.any(axis=1).all() or start.min() < 0 or (start + count).max() > source or most >= 1 << 31:
        raise NotNative("weights of a resize that reach outside of the slice")
    return start, count, weights


def _zeros(table: NDArray[np.uint8]) -> tuple[int, int]:
    """Where the longest run of patterns with byte 0 begins, and its length; past the last pattern comes the first."""
    others = np.flatnonzero(table)
    if len(others) == 0:
        return 0, PATTERNS
    gaps = np.diff(others, append=others[0] + PATTERNS) - 1
    longest = int(gaps.argmax())
    return (int(others[longest]) + 1) % PATTERNS, int(gaps[longest])

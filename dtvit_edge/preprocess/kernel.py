"""What `preprocess.cu` is launched with, as plain arrays: the same on a GPU and in the tests' build for the CPU.

The structures are those of the kernel's source; their layout is the C compiler's for 64 bits.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.errors import ConfigError
from dtvit_edge.preprocess.resample import AxisWeights, resample_plan
from dtvit_edge.preprocess.rescale_table import PATTERNS, brain_bytes, rescale_table
from dtvit_edge.spec import MAX_MATRIX, PixelEncoding, PreprocessSpec

SOURCE = Path(__file__).with_name("preprocess.cu")
WHOLE = "preprocess"  # a slice a block
SPREAD = ("preprocess_binarise", "preprocess_mask", "preprocess_resize")  # in this order
ENTRIES = (WHOLE, *SPREAD)
THREADS = dict(zip(ENTRIES, (512, 256, 1024, 256), strict=True))

TILES = 32  # of a slice that is spread: 16 rows of 512, so that a slice alone has work for 32 processors
MAX_DISK_ROWS = 31
SMALL_WORDS = 36 + MAX_MATRIX + 4
NARROW_BYTES, LINES_BYTES = 24 << 10, 16 << 10  # of the resize, which needs no labels any more
ROOM_BYTES = NARROW_BYTES + LINES_BYTES
_LABEL_BYTES = 3 * 4  # run, parent and weight
PREPARED, TOO_MANY_RUNS = 0, 1
RUN_CAPACITY = 1 << 14  # 315 real slices and 74 of phantoms asked for 2,027 at most
_LEAST_SHARED_RUNS = 1 << 10  # masks in shared memory are not worth having labels of most slices in scratch
_ALIGNMENT = 16
_PIXELS_AT_ONCE = 8

SLICE_INPUT = np.dtype([("stored", "<u8"), ("rows", "<i4"), ("columns", "<i4"), ("table", "<u4"), ("horizontal", "<u4"),
                ("vertical", "<u4"), ("reserved", "<u4")])  # fmt: skip
SPEC = np.dtype([("channels", "<i4"), ("crop", "<i4"), ("threshold", "<i4"), ("edge_columns", "<i4"),
                 ("brain_low", "<i4"), ("brain_high", "<i4"), ("device_mask", "<i4"), ("disk_rows", "<i4"),
                 ("half_widths", "<i4", (MAX_DISK_ROWS,))])  # fmt: skip
SCRATCH = np.dtype([("memory", "<u8"), ("bytes", "<u8"), ("run_capacity", "<u4"), ("shared_runs", "<u4"),
                    ("tiles", "<u4"), ("masks_in_shared", "<i4")])  # fmt: skip
HEAD_STATS = np.dtype([("head", "<u4"), ("brain", "<u4"), ("status", "<u4"), ("runs", "<u4")])
ARGUMENTS = np.dtype([("inputs", "<u8"), ("constants", "<u8"), ("out", "<u8"), ("stats", "<u8"), ("scratch", SCRATCH),
                      ("spec", SPEC), ("count", "<i4")])  # fmt: skip

Shape = tuple[int, int]


class PlacedSlice(NamedTuple):
    """A slice that the GPU can read: where what `write_stored` wrote lies, (rows, columns), its encoding."""

    address: int
    shape: Shape
    encoding: PixelEncoding


class Constants:
    """Where tables and resize weights lie in one piece of memory, each once; for one spec.

    Attributes:
        end: bytes that they take.
    """

    def __init__(self, spec: PreprocessSpec) -> None:
        self.end = 0
        self._spec = spec
        self._starts: dict[Hashable, int] = {}

    def add(self, slices: Iterable[PlacedSlice]) -> list[tuple[int, NDArray[np.uint8]]]:
        """What these slices need and is not there yet: where it goes, and its bytes.

        Raises:
            ConfigError: a matrix or an encoding that the spec or the kernel does not take; nothing is added then.
        """
        needed: dict[Hashable, NDArray[np.uint8]] = {}
        for _, shape, encoding in slices:
            if encoding not in self._starts and encoding not in needed:
                needed[encoding] = rescale_table(encoding, self._spec).reshape(-1)
            if shape not in self._starts and shape not in needed:
                needed[shape], needed[_vertical(shape)] = _axes(shape, self._spec)
        added = []
        for key, part in needed.items():
            self._starts[key] = self.end
            added.append((self.end, part))
            self.end += aligned(part.nbytes)
        return added

    def inputs(self, slices: Sequence[PlacedSlice]) -> NDArray[np.void]:
        """(N,) of `SLICE_INPUT`, of slices that were added."""
        starts = self._starts
        rows = [
            (address, *shape, starts[encoding], starts[shape], starts[_vertical(shape)], 0)
            for address, shape, encoding in slices
        ]
        return np.array(rows, SLICE_INPUT)

    def clear(self) -> None:
        """Forget everything; what was launched before must be through."""
        self.end = 0
        self._starts.clear()


@dataclass(frozen=True)
class SharedMemory:
    """How a block uses its shared memory.

    Attributes:
        nbytes: dynamic shared memory of a block; masks: both masks lie in it; runs: labels that it holds.
    """

    nbytes: int
    masks: bool
    runs: int

    @classmethod
    def within(cls, limit: int, rows: int, columns: int) -> SharedMemory:
        """The best use of `limit` bytes for slices up to this size: labels of most slices, then masks, then labels."""
        fixed, mask = 4 * SMALL_WORDS, mask_bytes(rows, columns)
        area = limit - fixed
        masks = area >= max(mask + ROOM_BYTES, 2 * mask + _LABEL_BYTES * _LEAST_SHARED_RUNS)
        runs = min(max(area - 2 * mask * masks, 0) // _LABEL_BYTES, RUN_CAPACITY)
        return cls(fixed + max(mask * masks + ROOM_BYTES, 2 * mask * masks + _LABEL_BYTES * runs), masks, runs)


def source_files(source: Path = SOURCE) -> list[Path]:
    """The kernel's source and what it includes from beside it."""
    return [source, *sorted(source.parent.glob("*.cuh"))]


def spec_of(spec: PreprocessSpec) -> NDArray[np.void]:
    """The spec as the kernel takes it: one `SPEC`.

    Raises:
        ConfigError: a disk that the kernel does not take.
    """
    widths = spec.disk_half_widths
    if len(widths) > MAX_DISK_ROWS or len(widths) % 2 == 0 or not all(0 <= width < 32 for width in widths):
        raise ConfigError(f"the kernel takes disks of an odd number of rows up to {MAX_DISK_ROWS}, half as wide as 31")
    low, high = brain_bytes(spec)
    kernel_spec = np.zeros((), SPEC)
    kernel_spec["channels"], kernel_spec["crop"] = spec.channels, spec.crop
    kernel_spec["threshold"], kernel_spec["edge_columns"] = spec.mask_threshold, spec.edge_columns
    kernel_spec["brain_low"], kernel_spec["brain_high"] = max(low, 1), high  # as the CPU path
    kernel_spec["device_mask"] = spec.device_mask
    kernel_spec["disk_rows"] = len(widths)
    kernel_spec["half_widths"][: len(widths)] = widths
    return kernel_spec


def stored_bytes(shape: Shape) -> int:
    """Of a slice's pixels as the kernel reads them: rows are padded, so that each begins where 16 bytes can be read."""
    return 2 * shape[0] * _padded(shape[1])


def write_stored(stored: NDArray[np.uint16], memory: NDArray[np.uint8]) -> None:
    """Copy (rows, columns) patterns to the first `stored_bytes` of memory; what pads the rows stays as it is."""
    rows, columns = stored.shape
    padded = memory[: stored_bytes((rows, columns))].view(np.uint16).reshape(rows, _padded(columns))
    padded[:, :columns] = stored


def read_stored(memory: NDArray[np.uint8], shape: Shape) -> NDArray[np.uint16]:
    """What `write_stored` wrote: (rows, columns), a view."""
    return memory[: stored_bytes(shape)].view(np.uint16).reshape(shape[0], _padded(shape[1]))[:, : shape[1]]


def largest(slices: Sequence[PlacedSlice]) -> Shape:
    """Most rows and most columns of any slice."""
    return max(s.shape[0] for s in slices), max(s.shape[1] for s in slices)


def mask_bytes(rows: int, columns: int) -> int:
    """Of one bit-packed mask, its rows an odd number of words apart."""
    return aligned(4 * rows * (-(-columns // 32) | 1))


def scratch_bytes(rows: int, columns: int, channels: int, run_capacity: int) -> int:
    """Of global memory for a block, or for a slice that is spread."""
    parts = [HEAD_STATS.itemsize, channels * rows * _padded(columns), *[4 * run_capacity] * 3]
    return sum(map(aligned, parts)) + 3 * mask_bytes(rows, columns)


def aligned(nbytes: int) -> int:
    """As many bytes or a few more, so that whatever comes next is aligned."""
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


def _padded(columns: int) -> int:
    return -(-columns // _PIXELS_AT_ONCE) * _PIXELS_AT_ONCE


def _vertical(shape: Shape) -> Hashable:
    return "vertical", shape


def _axes(shape: Shape, spec: PreprocessSpec) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Horizontal and vertical axis as `resize.cuh` takes them."""
    if max(shape) > MAX_MATRIX:
        raise ConfigError(f"a {shape[0]} x {shape[1]} matrix is larger than {MAX_MATRIX}")
    plan = resample_plan(*shape, spec)
    band = np.array([_band(plan.vertical, spec.crop)], np.int32)
    horizontal, vertical = _axis(plan.horizontal), np.concatenate([band, _axis(plan.vertical)])
    return horizontal.view(np.uint8), vertical.view(np.uint8)


def _axis(axis: AxisWeights) -> NDArray[np.int32]:
    taps = np.array([axis.taps.shape[1]], np.int32)
    return np.concatenate([taps, axis.start.astype(np.int32), axis.taps.T.ravel().astype(np.int32)])


def _band(axis: AxisWeights, crop: int) -> int:
    """Output rows at a time: as many as have all of their source rows in the kernel's `narrow`."""
    most, taps = NARROW_BYTES // _padded(crop), axis.taps.shape[1]
    assert taps <= most  # in the bounds of specs and matrices it is a third of that at most

    def fits(band: int) -> bool:
        last = np.minimum(np.arange(crop) + band, crop) - 1
        return bool((axis.start[last] + taps - axis.start).max() <= most)

    return next((band for band in range(crop, 1, -1) if fits(band)), 1)


assert PATTERNS == 65536  # the kernel's constant

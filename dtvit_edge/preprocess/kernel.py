"""What `preprocess.cu` is launched with, as plain arrays: the same on a GPU and in the tests' build for the CPU.

The structures are those of the kernel's source; their layout is the C compiler's for 64 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.errors import ConfigError
from dtvit_edge.preprocess.resample import AxisWeights, resample_plan
from dtvit_edge.preprocess.rescale_table import PATTERNS, brain_bytes, rescale_table
from dtvit_edge.spec import MAX_MATRIX, PixelEncoding, PreprocessSpec

SOURCE = Path(__file__).with_name("preprocess.cu")
ENTRY = "preprocess"

MAX_DISK_ROWS = 31
SMALL_WORDS = MAX_MATRIX + 8
PREPARED, TOO_MANY_RUNS = 0, 1
RUN_CAPACITY = 1 << 14  # 315 real slices and 74 of phantoms asked for 2,027 at most
_ALIGNMENT = 16

SLICE_INPUT = np.dtype([("stored", "<u8"), ("rows", "<i4"), ("columns", "<i4"), ("table", "<i4"), ("horizontal", "<i4"),
                ("vertical", "<i4"), ("reserved", "<i4")])  # fmt: skip
SPEC = np.dtype([("channels", "<i4"), ("crop", "<i4"), ("threshold", "<i4"), ("edge_columns", "<i4"),
                 ("brain_low", "<i4"), ("brain_high", "<i4"), ("device_mask", "<i4"), ("disk_rows", "<i4"),
                 ("half_widths", "<i4", (MAX_DISK_ROWS,))])  # fmt: skip
SCRATCH = np.dtype([("memory", "<u8"), ("bytes", "<u8"), ("run_capacity", "<u4"), ("masks_in_shared", "<i4")])
HEAD_STATS = np.dtype([("head", "<u4"), ("brain", "<u4"), ("status", "<u4"), ("runs", "<u4")])


@dataclass(frozen=True)
class Layout:
    """Where the parts of a batch begin in its bytes, and where the last one ends."""

    inputs: int
    tables: int
    axes: int
    stored: int
    end: int


@dataclass(frozen=True)
class Batch:
    """Slices of any sizes and encodings, to be copied as one piece of bytes.

    Attributes:
        inputs: (N,) of `SLICE_INPUT`.
        stored: each slice's patterns, (rows, columns) uint16; possibly views of files.
        tables: each (C, 65536) uint8, one for each encoding among the slices.
        axes: int32, each axis as the kernel's `SliceInput` says.
    """

    inputs: NDArray[np.void]
    stored: tuple[NDArray[np.uint16], ...]
    tables: tuple[NDArray[np.uint8], ...]
    axes: NDArray[np.int32]

    @property
    def largest(self) -> tuple[int, int]:
        """Most rows and most columns of any slice."""
        return int(self.inputs["rows"].max()), int(self.inputs["columns"].max())

    @property
    def layout(self) -> Layout:
        """Where `write` puts what; the small parts come first, so that they stay in place from batch to batch."""
        sizes = (self.inputs.nbytes, sum(t.nbytes for t in self.tables), self.axes.nbytes)
        starts = [0]
        for size in (*sizes, sum(s.nbytes for s in self.stored)):
            starts.append(starts[-1] + aligned(size))
        return Layout(*starts)

    def write(self, memory: NDArray[np.uint8]) -> Layout:
        """Copy everything once, into (at least `layout.end`,) bytes."""
        layout = self.layout
        memory[layout.inputs :][: self.inputs.nbytes] = self.inputs.view(np.uint8)
        memory[layout.axes :][: self.axes.nbytes] = self.axes.view(np.uint8)
        for start, parts in ((layout.tables, self.tables), (layout.stored, self.stored)):
            for part in parts:
                memory[start : start + part.nbytes] = part.reshape(-1).view(np.uint8)
                start += part.nbytes
        return layout


def pack(slices: Sequence[tuple[NDArray[np.uint16], PixelEncoding]], spec: PreprocessSpec) -> Batch:
    """A batch of (rows, columns) uint16 patterns with their encodings.

    Raises:
        ConfigError: a matrix that the spec or the kernel does not take.
    """
    encodings = list(dict.fromkeys(encoding for _, encoding in slices))
    inputs = np.zeros(len(slices), SLICE_INPUT)
    axes: list[NDArray[np.int32]] = []
    axis_starts: dict[tuple[int, int], tuple[int, int]] = {}
    end = offset = 0
    for slice_input, (stored, encoding) in zip(inputs, slices, strict=True):
        rows, columns = stored.shape
        if max(rows, columns) > MAX_MATRIX:
            raise ConfigError(f"a {rows} x {columns} matrix is larger than {MAX_MATRIX}")
        if (rows, columns) not in axis_starts:
            plan = resample_plan(rows, columns, spec)
            starts = []
            for axis in (plan.horizontal, plan.vertical):
                axes.append(_axis(axis))
                starts.append(end)
                end += len(axes[-1])
            axis_starts[rows, columns] = (starts[0], starts[1])
        slice_input["stored"], slice_input["rows"], slice_input["columns"] = offset, rows, columns
        slice_input["table"] = encodings.index(encoding)
        slice_input["horizontal"], slice_input["vertical"] = axis_starts[rows, columns]
        offset += rows * columns
    tables = tuple(rescale_table(encoding, spec) for encoding in encodings)
    return Batch(inputs, tuple(stored for stored, _ in slices), tables, np.concatenate(axes))


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


def mask_bytes(rows: int, columns: int) -> int:
    """Of one bit-packed mask."""
    return 4 * rows * -(-columns // 32)


def shared_bytes(rows: int, columns: int, *, masks: bool) -> int:
    """Dynamic shared memory of a block whose largest slice has this size."""
    return 4 * SMALL_WORDS + (2 * mask_bytes(rows, columns) if masks else 0)


def scratch_bytes(rows: int, columns: int, crop: int, run_capacity: int, *, masks: bool) -> int:
    """Of one block's scratch, `masks` lying in shared memory or not."""
    parts = [4 * run_capacity] * 3 + [rows * columns, rows * crop]
    return sum(map(aligned, parts)) + (0 if masks else aligned(2 * mask_bytes(rows, columns)))


def aligned(nbytes: int) -> int:
    """As many bytes or a few more, so that whatever comes next is aligned."""
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


def _axis(axis: AxisWeights) -> NDArray[np.int32]:
    taps = axis.taps.shape[1]
    return np.concatenate([np.array([taps], np.int32), axis.start.astype(np.int32), axis.taps.ravel().astype(np.int32)])


assert PATTERNS == 65536  # the kernel's constant

"""Golden slices: stored pixels, the bytes that preprocessing makes of them, and the reference's logits.

With stored pixels in them the whole chain can be proved on a device: reading aside, everything from the pixels of a
file to the logits, the preprocessing kernel included.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.bundle.manifest import GoldenSlice
from dtvit_edge.errors import BundleError
from dtvit_edge.spec import OUTPUT_NAMES, OUTPUT_SIZES, PixelEncoding

GOLDEN_STORED = "golden/stored.npy"
GOLDEN_PIXELS = "golden/pixels.npy"
GOLDEN_LOGITS = {name: f"golden/{name}.npy" for name in OUTPUT_NAMES}
GOLDEN_FILES = (GOLDEN_STORED, GOLDEN_PIXELS, *GOLDEN_LOGITS.values())

_MOST_HEADER_BYTES = 512


@dataclass(frozen=True)
class Golden:
    """The golden slices of a bundle, N of them.

    Attributes:
        stored: (rows, columns) uint16 each, raw patterns; encodings: of each.
        pixels: (N, C, side, side) uint8: what preprocessing makes of them, bit for bit on every device.
        logits: (N, 2) and (N, 3) float64 by output name: PyTorch's in float64.
    """

    stored: tuple[NDArray[np.uint16], ...]
    encodings: tuple[PixelEncoding, ...]
    pixels: NDArray[np.uint8]
    logits: dict[str, NDArray[np.float64]]

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def slices(self) -> tuple[GoldenSlice, ...]:
        """What the manifest says of the stored pixels."""
        pairs = zip(self.stored, self.encodings, strict=True)
        return tuple(GoldenSlice(p.shape[0], p.shape[1], encoding) for p, encoding in pairs)

    @property
    def spread(self) -> dict[str, float]:
        """The largest standard deviation of a logit between slices, by output: what tells slices apart."""
        return {name: float(values.std(axis=0).max()) for name, values in self.logits.items()}

    def to_files(self) -> dict[str, bytes]:
        """The arrays as NumPy files, by path inside the bundle."""
        arrays: dict[str, NDArray[Any]] = {
            GOLDEN_STORED: np.concatenate([pixels.reshape(-1) for pixels in self.stored]).astype("<u2"),
            GOLDEN_PIXELS: self.pixels,
            **{file: self.logits[name].astype("<f8") for name, file in GOLDEN_LOGITS.items()},
        }
        return {file: _npy(array) for file, array in arrays.items()}

    @classmethod
    def from_files(cls, files: Mapping[str, bytes], slices: Sequence[GoldenSlice], shape: tuple[int, ...]) -> Golden:
        """Read the arrays back.

        Args:
            files: the bytes of `GOLDEN_FILES`, by path, their digests checked.
            slices: of the manifest; shape: (C, side, side) of the model's input.

        Raises:
            BundleError: arrays of other shapes or types than the manifest says.
        """
        count = len(slices)
        sizes = [entry.rows * entry.columns for entry in slices]
        stored = _load(files, GOLDEN_STORED, "<u2", (sum(sizes),))
        ends = np.cumsum(sizes)
        return cls(
            tuple(
                np.ascontiguousarray(stored[end - size : end].reshape(entry.rows, entry.columns).astype(np.uint16))
                for entry, size, end in zip(slices, sizes, ends, strict=True)
            ),
            tuple(entry.encoding for entry in slices),
            _load(files, GOLDEN_PIXELS, "|u1", (count, *shape)),
            {name: _load(files, file, "<f8", (count, OUTPUT_SIZES[name])) for name, file in GOLDEN_LOGITS.items()},
        )


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _load(files: Mapping[str, bytes], path: str, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array whose header says what is expected; nothing is allocated for one that does not."""
    data = files.get(path, b"")
    buffer = io.BytesIO(data)
    try:
        if np.lib.format.read_magic(buffer) != (1, 0):
            raise ValueError("another version of NumPy's file format")
        if int.from_bytes(data[8:10], "little") > _MOST_HEADER_BYTES:  # NumPy evaluates it as Python's literals
            raise ValueError("its header is longer than any")
        header = np.lib.format.read_array_header_1_0(buffer)
        if header != (shape, False, np.dtype(dtype)):
            raise ValueError(f"{header[2]} of shape {header[0]}, the manifest says {np.dtype(dtype)} of {shape}")
        array = np.frombuffer(buffer.read(), dtype).reshape(shape)
    except Exception as error:  # NumPy evaluates the header, and lets pass whatever that raises, tokenize's errors too
        raise BundleError(f"{path}: not the array that is expected: {error}") from error
    if not np.isfinite(array).all():
        raise BundleError(f"{path}: a value is not finite")
    return array

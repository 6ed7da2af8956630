"""Files of several frames, plain and RLE, in every way that they may be written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.pixels.encoders import RLELosslessEncoder
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from tests.support.dicom_files import enhanced, save

FRAMES, ROWS, COLUMNS = 5, 63, 79  # odd: frames of bytes do not begin at even places
WORDS: NDArray[np.uint16] = np.random.default_rng(1).integers(0, 4096, (FRAMES, ROWS, COLUMNS), dtype=np.uint16)
BYTES: NDArray[np.uint8] = (WORDS >> 4).astype(np.uint8)


def plain(pixels: NDArray[Any] = WORDS, **changes: Any) -> FileDataset:
    """Explicit little endian; bytes are padded to an even length."""
    ds = enhanced(pixels, shared_rescale=True, intercepts=[-1024.0] * len(pixels))
    ds.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    ds["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    bits = 8 * pixels.itemsize
    for keyword, value in {"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1, **changes}.items():
        setattr(ds, keyword, value)
    return ds


def rle(pixels: NDArray[Any] = WORDS, *, table: str = "basic", parts: int = 1, **changes: Any) -> FileDataset:
    """RLE with an offset table (`basic`, `extended` or `none`), each frame in so many fragments."""
    ds = plain(pixels, **changes)
    compressed = [rle_frame(frame) for frame in pixels]
    if table == "extended":
        ds.PixelData, ds.ExtendedOffsetTable, ds.ExtendedOffsetTableLengths = encapsulate_extended(compressed)
    else:
        ds.PixelData = encapsulate(compressed, fragments_per_frame=parts, has_bot=table == "basic")
    return compressed_as(ds, RLELossless)


def rle_frame(frame: NDArray[Any]) -> bytes:
    """One frame by pylibjpeg-rle."""
    rows, columns = frame.shape
    bits = 8 * frame.itemsize
    return RLELosslessEncoder.encode(
        frame, rows=rows, columns=columns, samples_per_pixel=1, bits_allocated=bits, bits_stored=bits,
        pixel_representation=0, photometric_interpretation="MONOCHROME2", number_of_frames=1,
        encoding_plugin="pylibjpeg",  # gdcm ends the process at rows of an odd number of bytes
    )  # fmt: skip


def compressed_as(ds: FileDataset, syntax: str) -> FileDataset:
    """The dataset as one whose pixel data are encapsulated already."""
    ds.file_meta.TransferSyntaxUID = syntax
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return ds


def implicit(path: Path) -> Path:
    """Plain frames in implicit VR."""
    ds = plain()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return save(path, ds)


def big_endian(path: Path) -> Path:
    """Plain frames in big endian."""
    ds = plain()
    swapped = Dataset()
    swapped.update(ds)
    swapped.PixelData = WORDS.byteswap().tobytes()
    swapped["PixelData"].VR = "OW"
    swapped.file_meta = ds.file_meta
    swapped.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    pydicom.dcmwrite(path, swapped, implicit_vr=False, little_endian=False, enforce_file_format=True)
    return path


SIGNED_BYTES = BYTES.view(np.int8).astype(np.int16).view(np.uint16)  # as patterns

# Every frame is at a known place. By name: how the file is written, and the patterns of its frames.
LOCATED: dict[str, tuple[Callable[[Path], Path], NDArray[np.uint16]]] = {
    "plain": (lambda path: save(path, plain()), WORDS),
    "implicit": (implicit, WORDS),
    "big endian": (big_endian, WORDS),
    "bytes": (lambda path: save(path, plain(BYTES)), BYTES.astype(np.uint16)),
    "signed bytes": (lambda path: save(path, plain(BYTES, PixelRepresentation=1)), SIGNED_BYTES),
    "RLE": (lambda path: save(path, rle()), WORDS),
    "RLE without a table": (lambda path: save(path, rle(table="none")), WORDS),
    "RLE with an extended table": (lambda path: save(path, rle(table="extended")), WORDS),
    "RLE of bytes": (lambda path: save(path, rle(BYTES)), BYTES.astype(np.uint16)),
    "RLE of signed bytes": (lambda path: save(path, rle(BYTES, PixelRepresentation=1)), SIGNED_BYTES),
}

"""Whole DICOM images in every encoding that can be written here, and seeded damage to their bytes."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import gdcm
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from dtvit_edge.errors import VerdictError
from dtvit_edge.phantom import render_study, write_study

SIDE = 64  # pixels: decoding is fast, and no part of a decoder needs more
FRAMES = 3
_STEP = 512 // SIDE
# gdcm's names of what it writes of 16 bits.
_BY_GDCM = ("JPEGLosslessProcess14", "JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEGLSNearLossless", "JPEG2000")
_SHORTS = (0, 1, 2, 8, 12, 15, 16, 17, 31, 32, 63, 65, 128, 1024, 1025, 0x7FFF, 0xFFFF)
# Elements of VR US that say how pixels are stored: samples, rows, columns, bits, sign.
_NUMBERS = (0x00280002, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102, 0x00280103)
_HEAD = 2048  # bytes: of a phantom's file the header and the begin of its pixel data
_PIXEL_DATA = b"\xe0\x7f\x10\x00"


def phantoms(folder: Path) -> list[bytes]:
    """One slice of a phantom, single and as several frames, in each encoding; made in `folder`."""
    (file,) = write_study(render_study(1, "deep", indices=(14,)), folder)
    slice_ = pydicom.dcmread(file)
    pixels = slice_.pixel_array[::_STEP, ::_STEP]
    slice_.Rows = slice_.Columns = SIDE
    slice_.PixelData = pixels.tobytes()
    frames = pydicom.dcmread(file)
    frames.Rows = frames.Columns = SIDE
    frames.NumberOfFrames = FRAMES
    frames.PixelData = np.stack([pixels + i for i in range(FRAMES)]).astype(pixels.dtype).tobytes()
    made = []
    for dataset in (slice_, frames):
        dataset.save_as(file)
        plain = file.read_bytes()
        made += [plain, *(_compressed(plain, file, uid) for uid in (RLELossless, JPEG2000Lossless))]
        made += [_rewritten(plain, file, uid) for uid in (ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)]
        made.append(_big_endian(dataset, file))
        file.write_bytes(plain)
        made += [_by_gdcm(file, folder / "other", name) for name in _BY_GDCM]
    return made


def _compressed(plain: bytes, file: Path, syntax: str) -> bytes:
    file.write_bytes(plain)
    dataset = pydicom.dcmread(file)
    dataset.compress(syntax, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    dataset.save_as(file)
    return file.read_bytes()


def _rewritten(plain: bytes, file: Path, syntax: str) -> bytes:
    file.write_bytes(plain)
    dataset = pydicom.dcmread(file)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(file, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    return file.read_bytes()


def _big_endian(dataset: FileDataset, file: Path) -> bytes:
    swapped = Dataset()
    swapped.update(dataset)
    swapped.file_meta = dataset.file_meta
    swapped.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    swapped.PixelData = np.frombuffer(dataset.PixelData, "<u2").byteswap().tobytes()
    pydicom.dcmwrite(file, swapped, implicit_vr=False, little_endian=False, enforce_file_format=True)
    return file.read_bytes()


def _by_gdcm(file: Path, target: Path, name: str) -> bytes:
    reader = gdcm.ImageReader()
    reader.SetFileName(str(file))
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(target))
    if not reader.Read():
        raise VerdictError("gdcm cannot read the phantom")
    change.SetInput(reader.GetImage())
    if not change.Change():
        raise VerdictError(f"gdcm cannot write {name}")
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    if not writer.Write():
        raise VerdictError(f"gdcm cannot write {name}")
    return target.read_bytes()


def damaged(images: Sequence[bytes], seed: int, number: int) -> bytes:
    """One image with one to six changes, the same for the same images, seed and number."""
    rng = random.Random(f"{seed}/{number}")
    data = bytearray(rng.choice(images))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        rng.choice(_CHANGES)(data, rng, images)
    return bytes(data)


def _place(data: bytearray, rng: random.Random) -> int:
    """Somewhere: in the header, where compressed pixels begin, or anywhere."""
    where = rng.random()
    if where < 0.4:
        return rng.randrange(min(len(data), _HEAD))
    if where < 0.75 and (begin := data.rfind(_PIXEL_DATA)) >= 0:
        return min(begin + rng.randrange(300), len(data) - 1)
    return rng.randrange(len(data))


def _byte(data: bytearray, rng: random.Random, images: Sequence[bytes]) -> None:
    data[_place(data, rng)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _bit(data: bytearray, rng: random.Random, images: Sequence[bytes]) -> None:
    data[_place(data, rng)] ^= 1 << rng.randrange(8)


def _number(data: bytearray, rng: random.Random, images: Sequence[bytes]) -> None:
    """How pixels are stored, or how many frames there are, becomes something else."""
    if rng.random() < 0.2 and (found := re.search(rb"\x28\x00\x08\x00IS\x02\x00", data)):
        data[found.end() : found.end() + 2] = rng.choice((b"0 ", b"1 ", b"2 ", b"4 ", b"99", b"-1", b"9."))
        return
    tag = rng.choice(_NUMBERS)
    place = data.find(struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, b"US", 2))
    if place >= 0:
        data[place + 8 : place + 10] = struct.pack("<H", rng.choice(_SHORTS))


def _long(data: bytearray, rng: random.Random, images: Sequence[bytes]) -> None:
    """Four bytes become another length or offset."""
    place = _place(data, rng)
    data[place : place + 4] = struct.pack("<I", rng.choice((0, 1, 8, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, len(data))))


def _cut(data: bytearray, rng: random.Random, images: Sequence[bytes]) -> None:
    place = _place(data, rng)
    del data[place : place + rng.choice((1, 2, 8, 100))]
    data += b"\0" * (not data)


def _doubled(data: bytearray, rng: random.Random, images: Sequence[bytes]) -> None:
    place = _place(data, rng)
    data[place:place] = data[place : place + rng.choice((1, 2, 8, 100, 4000))]


def _zeroed(data: bytearray, rng: random.Random, images: Sequence[bytes]) -> None:
    place = _place(data, rng)
    piece = data[place : place + rng.choice((4, 64, 1000))]
    data[place : place + len(piece)] = bytes(len(piece))


def _ended(data: bytearray, rng: random.Random, images: Sequence[bytes]) -> None:
    del data[max(1, _place(data, rng)) :]


def _spliced(data: bytearray, rng: random.Random, images: Sequence[bytes]) -> None:
    """The pixels of another encoding behind this header, or a piece of another file."""
    other = rng.choice(images)
    here, there = data.rfind(_PIXEL_DATA), other.rfind(_PIXEL_DATA)
    if rng.random() < 0.5 and here >= 0 and there >= 0:
        data[here:] = other[there:]
        return
    place, begin = _place(data, rng), rng.randrange(len(other))
    piece = other[begin : begin + rng.choice((4, 64, 1000))]
    data[place : place + len(piece)] = piece


_CHANGES: tuple[Callable[[bytearray, random.Random, Sequence[bytes]], None], ...] = (
    _byte, _byte, _byte, _bit, _bit, _number, _number, _long, _cut, _doubled, _zeroed, _ended, _spliced,
)  # fmt: skip

"""What compressed frames say of their size, and that nothing is decoded that says another one than its header."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pydicom.pixels
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import HTJ2KLossless, JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless

from dtvit_edge.dicom.codestream import FrameSize, begins_frame, frame_size
from dtvit_edge.dicom.header import read_headers
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.errors import SliceRejected
from tests.support.dicom_files import dataset, save

ODD = (48, 80)  # rows, columns


def jpeg(marker: int, rows: int, columns: int, *, bits: int = 16, samples: int = 1, before: bytes = b"") -> bytes:
    """The beginning of a JPEG up to its frame header."""
    return b"\xff\xd8" + before + struct.pack(">BBHBHHB", 0xFF, marker, 8 + 3 * samples, bits, rows, columns, samples)


def jpeg_2000(rows: int, columns: int, *, bits: int = 16, samples: int = 1, step: int = 1, left: int = 0) -> bytes:
    """The beginning of a JPEG 2000 codestream: SOC and SIZ."""
    size = struct.pack(">HIIIIIIIIH", 0, columns + left, rows, left, 0, columns + left, rows, 0, 0, samples)
    components = struct.pack(">BBB", bits - 1 | 0x80, step, step) * samples
    return b"\xff\x4f\xff\x51" + struct.pack(">H", 2 + len(size) + len(components)) + size + components


def jp2(codestream: bytes) -> bytes:
    """A JP2 file."""
    signature = b"\0\0\0\x0cjP  \r\n\x87\n"
    return signature + struct.pack(">I4s", 20, b"ftyp") + bytes(12) + struct.pack(">I4s", 0, b"jp2c") + codestream


COMMENT = b"\xff\xfe" + struct.pack(">H", 6) + b"\xff\xc3ab"  # a start of frame in a comment is none


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (jpeg(0xC3, *ODD), FrameSize(48, 80, 16, 1)),
        (jpeg(0xF7, *ODD, bits=12, samples=3), FrameSize(48, 80, 12, 3)),
        (jpeg(0xC0, *ODD, bits=8, before=COMMENT + b"\xff\xff"), FrameSize(48, 80, 8, 1)),
        (jpeg_2000(*ODD, bits=12), FrameSize(48, 80, 12, 1)),
        (jpeg_2000(*ODD, left=1000), FrameSize(48, 80, 16, 1)),
        (jp2(jpeg_2000(*ODD, samples=3)), FrameSize(48, 80, 16, 3)),
        (jpeg_2000(*ODD, step=2), None),
        (jpeg_2000(*ODD)[:30], None),
        (jpeg(0xC3, *ODD)[:-4], None),
        (jpeg(0xC4, *ODD), None),
        (b"\xff\xd8" + b"\xff\xfe\0\2" * 5000, None),
        (b"\xff\xd8" + b"\xff\xfe\0\0" * 5000, None),
        (jp2(b""), None),
        (b"\0" * 100, None),
        (b"", None),
    ],
    ids=["JPEG", "JPEG-LS", "comment and fill bytes", "JPEG 2000", "offset", "JP2", "sub-sampled", "cut SIZ", "cut SOF",
         "tables alone", "comments alone", "lengths of 0", "an empty JP2", "zeros", "nothing"],
)  # fmt: skip
def test_a_frame_says_its_size_or_nothing(data: bytes, size: FrameSize | None) -> None:
    assert frame_size(data) == size


@pytest.mark.parametrize(
    ("syntax", "frame"),
    [
        (JPEG2000Lossless, jpeg_2000(40_000, 40_000)),
        (JPEG2000Lossless, jpeg_2000(512, 512, bits=38)),
        (HTJ2KLossless, jpeg_2000(512, 4_784_640)),
        (JPEGLSLossless, jpeg(0xF7, 65_535, 65_535)),
        (JPEGLosslessSV1, jpeg(0xC3, 512, 0)),
        (JPEGLosslessSV1, jpeg(0xC3, 512, 512, samples=3)),
        (JPEGLSLossless, b"\0" * 64),
    ],
    ids=["40000 x 40000", "38 bits", "long rows", "65535 x 65535", "no rows", "colour", "no codestream"],
)
@pytest.mark.parametrize("frames", [1, 2])
def test_what_does_not_say_the_headers_size_reaches_no_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, syntax: str, frame: bytes, frames: int
) -> None:
    ds = dataset(PixelData=encapsulate([frame] * frames), NumberOfFrames=frames)
    ds["PixelData"].is_undefined_length = True
    ds.file_meta.TransferSyntaxUID = syntax
    get_decoder = pydicom.pixels.get_decoder
    asked: list[str] = []

    class Watched:
        def __init__(self, syntax: str) -> None:
            self._decoder = get_decoder(syntax)
            self.is_available = self._decoder.is_available
            self.available_plugins = self._decoder.available_plugins

        def as_array(self, *arguments: object, **options: object) -> None:
            asked.append("decoded")

    monkeypatch.setattr(pydicom.pixels, "get_decoder", Watched)
    header = read_headers(save(tmp_path / "a", ds), "a")[-1]
    with pytest.raises(SliceRejected) as caught:
        SliceReader(fast=False).read(header)
    assert caught.value.reason.code == "decode_failed"
    assert "compressed" in caught.value.detail and asked == []


def test_what_an_encoder_writes_says_its_size(tmp_path: Path) -> None:
    ds = dataset()
    stored = ds.pixel_array.view(np.uint16)
    ds.compress(JPEG2000Lossless)
    (header,) = read_headers(save(tmp_path / "a", ds), "a")
    np.testing.assert_array_equal(SliceReader().read(header).stored, stored)


@pytest.mark.parametrize(
    ("start", "begins"),
    [
        (jpeg(0xC3, 512, 512), True),
        (jpeg_2000(512, 512), True),
        (b"\2\0\0\0\x40\0\0\0" + bytes(56), True),
        (b"\2\0\0\0\x40\0\0\0" + bytes(55), False),
        (b"\0\0\0\0\x40\0\0\0" + bytes(56), False),
        (b"\x10\0\0\0\x40\0\0\0" + bytes(56), False),
        (b"\xff\xd9" * 40, False),
        (b"", False),
    ],
    ids=["JPEG", "JPEG 2000", "RLE", "a cut head of RLE", "no segments", "16 segments", "the end of a JPEG", "nothing"],
)
def test_a_fragment_shows_whether_it_begins_a_frame(start: bytes, begins: bool) -> None:
    assert begins_frame(start) == begins

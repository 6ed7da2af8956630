"""Frames at their place in the file: the pixels that pydicom decodes, and what a file cannot have."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from dtvit_edge.dicom.header import FileRejected, read_headers
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.dicom.planned_file import present_state
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.errors import SliceRejected
from tests.support.dicom_files import dataset, save
from tests.support.multi_frame_files import (
    FRAMES,
    LOCATED,
    WORDS,
    compressed_as,
    plain,
    rle,
    rle_frame,
)

TRAILING_PADDING = b"\xfc\xff\xfc\xffOB\0\0\x04\0\0\0abcd"


def answer(reader: SliceReader, header: SliceHeader) -> bytes | str:
    try:
        return reader.read(header).stored.tobytes()
    except SliceRejected as error:
        return f"{error.reason.code} {error.detail}".rstrip()


@pytest.mark.parametrize("name", LOCATED)
def test_frames_at_a_known_place_are_those_that_pydicom_decodes(tmp_path: Path, name: str) -> None:
    write, expected = LOCATED[name]
    headers = read_headers(write(tmp_path / "a"), "a")
    assert [header.frame for header in headers] == list(range(1, FRAMES + 1))
    assert all(header.pixel_location is not None for header in headers)
    located, decoded = SliceReader(), SliceReader(fast=False)
    for header, frame in zip(reversed(headers), reversed(expected), strict=True):
        assert answer(located, header) == frame.tobytes() == answer(decoded, header)
    assert not located._kept, "the file was held whole"


@pytest.mark.parametrize("length", [b"\0\0\0\0", b"\1\0\0\0"])
def test_a_stray_end_of_an_item_before_the_pixels_ends_the_dataset_for_both_readers(
    tmp_path: Path, length: bytes
) -> None:
    file = save(tmp_path / "a")
    data = file.read_bytes()
    place = data.rindex(b"\xe0\x7f\x10\0OW")
    file.write_bytes(data[:place] + b"\xfe\xff\x0d\xe0" + length + data[place:])
    answers = {answer(SliceReader(fast=fast), read_headers(file, "a", fast=fast)[0]) for fast in (True, False)}
    assert len(answers) == 1 and "truncated" in answers.pop()


def deflated() -> FileDataset:
    ds = plain()
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return ds


def swapped_table() -> FileDataset:
    """The first two frames stand in the other order, and the offset table says so."""
    ds = rle()
    first, second, *rest = struct.unpack_from(f"<{FRAMES}I", ds.PixelData, 8)
    ds.PixelData = ds.PixelData[:8] + struct.pack(f"<{FRAMES}I", second, first, *rest) + ds.PixelData[8 + 4 * FRAMES :]
    return ds


ELSEWHERE: dict[str, tuple[Callable[[], FileDataset], bytes, list[int]]] = {
    "deflated": (deflated, b"", [0, 1, 2, 3, 4]),
    "another order": (swapped_table, b"", [1, 0, 2, 3, 4]),
    "two fragments a frame": (lambda: rle(parts=2), b"", [0, 1, 2, 3, 4]),
    "elements behind plain pixels": (plain, TRAILING_PADDING, [0, 1, 2, 3, 4]),
    "elements behind RLE": (rle, TRAILING_PADDING, [0, 1, 2, 3, 4]),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_frames_whose_place_is_not_plain_are_left_to_pydicom(tmp_path: Path, name: str) -> None:
    made, behind, order = ELSEWHERE[name]
    file = save(tmp_path / "a", made())
    file.write_bytes(file.read_bytes() + behind)
    headers = read_headers(file, "a")
    assert [header.pixel_location for header in headers] == [None] * FRAMES
    reader = SliceReader()
    assert [answer(reader, header) for header in headers] == [WORDS[i].tobytes() for i in order]


def j2k(frames: int, *, has_table: bool = True) -> FileDataset:
    """JPEG 2000 of all frames, in a file that says that it has so many."""
    ds = plain(BitsStored=12, HighBit=11)
    ds.compress(JPEG2000Lossless, encoding_plugin="pylibjpeg", generate_instance_uid=False)
    compressed = list(generate_frames(ds.PixelData, number_of_frames=FRAMES))
    ds.PixelData, ds.NumberOfFrames = encapsulate(compressed, has_bot=has_table), frames
    return compressed_as(ds, JPEG2000Lossless)


SIZE = WORDS.nbytes
ENDED = "truncated the pixel data end within an item"
LIES: dict[str, tuple[Callable[[], FileDataset], int, list[str]]] = {
    "the last frame is cut": (plain, 100, [f"truncated {SIZE - 100} bytes of pixel data, expected {SIZE}"] * 5),
    "a byte is missing": (plain, 1, [f"truncated {SIZE - 1} bytes of pixel data, expected {SIZE}"] * 5),
    "one frame too few": (
        lambda: plain(NumberOfFrames=6),
        0,
        [f"truncated {SIZE} bytes of pixel data, expected {SIZE // 5 * 6}"] * 6,
    ),
    "frames that nobody counts": (
        lambda: plain(NumberOfFrames=3),
        0,
        [f"pixel_format {SIZE} bytes of pixel data, expected {SIZE // 5 * 3}"] * 3,
    ),
    "the last RLE frame is cut": (rle, 100, [ENDED] * 5),
    "RLE without its delimiter": (rle, 8, [ENDED] * 5),
    "JPEG 2000 is cut": (lambda: j2k(5), 100, [ENDED] * 5),
    "RLE frames that nobody counts": (
        lambda: rle(table="none", NumberOfFrames=3),
        0,
        ["pixel_format 5 compressed frames, expected 3"] * 3,
    ),
    "JPEG 2000 frames that nobody counts": (lambda: j2k(3), 0, ["pixel_format 5 compressed frames, expected 3"] * 3),
    "frames beside the only one": (
        lambda: j2k(1, has_table=False),
        0,
        ["pixel_format 5 compressed frames, expected 1"],
    ),
    "RLE frames beside the only one": (
        lambda: rle(NumberOfFrames=1),
        0,
        ["pixel_format 5 compressed frames, expected 1"],
    ),
}


@pytest.mark.parametrize("fast", [True, False], ids=["located", "pydicom"])
@pytest.mark.parametrize("name", LIES)
def test_more_or_fewer_frames_than_a_file_says_are_told_of_each(tmp_path: Path, name: str, fast: bool) -> None:
    made, cut, expected = LIES[name]
    file = save(tmp_path / "a", made())
    file.write_bytes(file.read_bytes()[: -cut or None])
    reader = SliceReader(fast=fast)
    assert [answer(reader, header) for header in read_headers(file, "a", fast=fast)] == expected


@pytest.mark.parametrize("table", ["basic", "none"])
def test_compressed_frames_that_are_there_are_read_beside_those_that_are_not(tmp_path: Path, table: str) -> None:
    headers = read_headers(save(tmp_path / "a", rle(table=table, NumberOfFrames=7)), "a")
    missing = "truncated 5 fragments of compressed pixels for 7 frames"
    reader = SliceReader()
    assert [answer(reader, header) for header in headers] == [*(frame.tobytes() for frame in WORDS), missing, missing]


@pytest.mark.parametrize("made", [plain, rle, lambda NumberOfFrames: j2k(NumberOfFrames)], ids=["plain", "RLE", "J2K"])
def test_a_count_of_frames_that_no_such_file_could_hold_is_one_row(
    tmp_path: Path, made: Callable[..., FileDataset]
) -> None:
    with pytest.raises(FileRejected, match="truncated: 16000 frames in") as caught:
        read_headers(save(tmp_path / "a", made(NumberOfFrames=16_000)), "a")
    assert caught.value.frames == 1
    assert caught.value.identity.sop_uid == "2.25.501"


def test_a_single_slice_with_a_second_compressed_frame_is_refused_by_both_readers(tmp_path: Path) -> None:
    ds = dataset(Rows=63, Columns=79, PixelData=WORDS[0].tobytes())
    ds.PixelData = encapsulate([rle_frame(WORDS[0]), rle_frame(WORDS[1])], has_bot=False)
    (header,) = read_headers(save(tmp_path / "a", compressed_as(ds, RLELossless)), "a")
    for fast in (True, False):
        assert answer(SliceReader(fast=fast), header) == "pixel_format 2 compressed frames, expected 1"


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "RLE"])
def test_single_slices_that_the_fast_header_leaves_to_pydicom_are_read_at_their_place(
    tmp_path: Path, compressed: bool
) -> None:
    ds = dataset(SpecificCharacterSet="ISO_IR 13")
    stored = ds.pixel_array.view(np.uint16)
    if compressed:
        ds.compress(RLELossless)
    (header,) = read_headers(save(tmp_path / "a", ds), "a")
    assert header.pixel_location is not None and header.pixel_location.header_length <= 1 << 14
    reader = SliceReader()
    np.testing.assert_array_equal(reader.read(header).stored, stored)


def test_memory_does_not_grow_with_the_frames_of_a_file(tmp_path: Path) -> None:
    def peak(frames: int) -> int:
        path = save(tmp_path / str(frames), plain(np.zeros((frames, 64, 64), np.uint16)))
        headers = read_headers(path, "a")
        reader = SliceReader()
        tracemalloc.start()
        try:
            for header in headers:
                reader.read(header)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # what is made once
    assert peak(60) < peak(6) + 64 * 64 * 2, "a frame more at most"


def test_a_replacement_within_one_tick_is_told_also_where_the_uids_lie_behind_long_elements(tmp_path: Path) -> None:
    def written(uid: str) -> Path:
        ds = plain(SOPInstanceUID=uid)
        ds.private_block(0x0009, "dtvit_edge", create=True).add_new(1, "OB", b"x" * 40_000)
        return save(tmp_path / "a", ds)

    header = read_headers(written("2.25.11"), "a")[2]
    assert header.pixel_location is not None and header.pixel_location.header_length > 40_000
    assert answer(SliceReader(), header) == WORDS[2].tobytes()
    written("2.25.12")
    assert answer(SliceReader(), replace(header, state=present_state(header.file))) == "not_the_planned"

"""The common case's reader against pydicom: the same fields and pixels, or it stands aside."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from dtvit_edge.dicom.fast_header import HEADER_REACHES, parse, read_fast_header
from dtvit_edge.dicom.header import FileRejected, read_headers
from dtvit_edge.dicom.located_pixels import read_pixels
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.dicom.planned_file import present_state
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.dicom.walk import walk
from dtvit_edge.errors import SliceRejected
from tests.support.data import real
from tests.support.dicom_files import dataset, save


def outcome(file: Path, fast: bool) -> list[Any]:
    """Everything that reading a file gives: headers and pixels, or reasons."""
    try:
        headers = read_headers(file, file.name, fast=fast)
    except FileRejected as error:
        return [error.reason.code, error.detail, error.identity, error.frames]
    reader = SliceReader(fast=fast)
    answers: list[Any] = []
    for header in headers:
        try:
            stored = reader.read(header).stored
            assert stored.dtype == np.uint16 and stored.flags.c_contiguous
            answers += [header, stored.tobytes()]
        except SliceRejected as error:
            answers += [header, error.reason.code, error.detail]
    return answers


def first(file: Path) -> SliceHeader | None:
    try:
        return read_headers(file, file.name)[0]
    except FileRejected:
        return None


def read(header: SliceHeader) -> np.ndarray[Any, Any] | None:
    assert header.pixel_location is not None
    return read_pixels(header.file, header.pixel_location, header.rows, header.columns, header.state)


def test_every_real_file_reads_the_same_both_ways() -> None:
    # Not `hostile`: decoders crash on it, and SliceReader decodes in this very process.
    folders = [real("studies"), real("transfer-syntaxes"), real("odd")]
    files = [entry.file for entry in walk(folders).files]
    assert len(files) > 80
    assert sum(read_fast_header(file) is not None for file in files) > 45
    fast = [header for file in files if (header := first(file)) is not None and header.pixel_location is not None]
    assert sum(read(header) is not None for header in fast) > 30
    for file in files:
        assert outcome(file, fast=True) == outcome(file, fast=False), file.name


def nested() -> Sequence:
    """A sequence of undefined length, with items of both kinds and another sequence inside."""
    inner, outer, defined = Dataset(), Dataset(), Dataset()
    inner.CodeMeaning = "x"
    outer.PurposeOfReferenceCodeSequence = [inner]
    outer["PurposeOfReferenceCodeSequence"].is_undefined_length = True
    outer.is_undefined_length_sequence_item = True
    defined.ReferencedSOPInstanceUID = "1.2.3"
    return Sequence([outer, defined])


PLAIN: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "padding and its limit": {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990},
    "unsigned": {"PixelRepresentation": 0, "PixelPaddingValue": 63536},
    "several kernels": {"ConvolutionKernel": ["Hr40f", "3"]},
    "several words": {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"], "ProtocolName": "Head  routine "},
    "an agent": {"ContrastBolusAgent": "OMNIPAQUE"},
    "empty numbers": {"KVP": "", "SliceThickness": "", "InstanceNumber": "", "AcquisitionNumber": ""},
    "no optional tags": {"KVP": None, "SliceThickness": None, "ConvolutionKernel": None, "BodyPartExamined": None},
    "numbers with blanks": {"KVP": "120.0 ", "RescaleIntercept": " -1024"},
    "a scout": {"ImageType": ["DERIVED", "SECONDARY", "LOCALIZER"]},
    "another modality": {"Modality": "MR"},
    "UTF-8": {"SpecificCharacterSet": "ISO_IR 192"},
    "a sequence": {"ReferencedImageSequence": nested()},
}
STRANGE: dict[str, dict[str, Any]] = {
    "an umlaut": {"StudyDescription": "Schädel", "SpecificCharacterSet": "ISO_IR 100"},
    "another character set": {"SpecificCharacterSet": "ISO_IR 13"},
    "two study UIDs": {"StudyInstanceUID": ["1.2", "1.3"]},
    "an agent's sequence": {"ContrastBolusAgentSequence": [Dataset()]},
    "a lookup table": {"ModalityLUTSequence": [Dataset()]},
    "a region": {"AnatomicRegionSequence": [Dataset()]},
    "frames": {"NumberOfFrames": 1, "Rows": 256},
    "eight bits": {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
    "more pixels than there are": {"Rows": 513},
    "something behind the pixels": {"DataSetTrailingPadding": b"\0\0"},
}


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("name", [*PLAIN, *STRANGE])
def test_a_file_reads_the_same_both_ways(tmp_path: Path, name: str, implicit: bool) -> None:
    changed = dataset(**(PLAIN | STRANGE)[name])
    if "ReferencedImageSequence" in changed:
        changed["ReferencedImageSequence"].is_undefined_length = True
    if implicit:
        changed.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    file = save(tmp_path / "a", changed)
    assert (read_fast_header(file) is not None) == (name in PLAIN)
    assert outcome(file, fast=True) == outcome(file, fast=False)


def test_pixels_are_a_read_only_view_of_the_files_bytes(tmp_path: Path) -> None:
    file = save(tmp_path / "a")
    (header,) = read_headers(file, "a")
    stored = SliceReader().read(header).stored
    assert not stored.flags.writeable and not stored.flags.owndata
    pixels = read(header)
    assert pixels is not None and np.shares_memory(pixels, np.frombuffer(pixels.base, np.uint8))


def test_a_header_larger_than_the_first_look_is_read_all_the_same(tmp_path: Path) -> None:
    changed = dataset()
    block = changed.private_block(0x0029, "dtvit-edge test", create=True)
    block.add_new(1, "OB", b"x" * HEADER_REACHES[0])
    file = save(tmp_path / "a", changed)
    assert read_fast_header(file) is not None
    assert outcome(file, fast=True) == outcome(file, fast=False)


def test_what_is_no_plain_file_is_left_to_pydicom(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("x" * 4000)
    for name in ("empty", "text", "none"):
        assert read_fast_header(tmp_path / name) is None
    data = save(tmp_path / "a").read_bytes()
    assert data.count(b"1.2.840.10008.1.2.1\0") == 1 and parse(data, len(data)) is not None
    for syntax in (b"1.2.840.10008.1.2.2\0", b"1.2.840.10008.1.2.5\0"):  # big endian; RLE, which this is not
        changed = data.replace(b"1.2.840.10008.1.2.1\0", syntax)
        assert parse(changed, len(changed)) is None


def test_a_header_that_is_no_longer_the_one_that_was_read_is_noticed_without_a_clock(tmp_path: Path) -> None:
    file = save(tmp_path / "a")
    (header,) = read_headers(file, "a")
    uid = header.identity.sop_uid
    save(file, SOPInstanceUID=uid[:-1] + str((int(uid[-1]) + 1) % 10))
    now = replace(header, state=present_state(file))  # as where both fell into one tick of the clock
    with pytest.raises(SliceRejected, match="not_the_planned"):
        read(now)
    file.unlink()
    assert read(now) is None, "pydicom's way says why"


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_damage_never_makes_it_say_something_else_than_pydicom(tmp_path: Path, seed: int, compressed: bool) -> None:
    whole = dataset()
    if compressed:
        whole.compress(RLELossless)
    original = save(tmp_path / "a", whole).read_bytes()
    (offset, _) = read_fast_header(tmp_path / "a").pixels  # type: ignore[union-attr]
    offset += 100 * compressed  # the basic offset table and RLE's own header as well
    rng = random.Random(seed)
    accepted = 0
    for _ in range(150):
        data = bytearray(original)
        for _ in range(rng.choice((1, 1, 2, 5))):
            data[rng.randrange(offset)] = rng.choice((0, 1, 0xFF, rng.randrange(256)))
        damaged = tmp_path / "damaged"
        damaged.write_bytes(data)
        accepted += read_fast_header(damaged) is not None
        assert outcome(damaged, fast=True) == outcome(damaged, fast=False)
    assert accepted > 20, "damage that it refuses shows nothing"


def test_every_cut_is_a_surprise(tmp_path: Path) -> None:
    data = save(tmp_path / "a").read_bytes()
    for end in [*range(0, 2000, 7), len(data) - 1]:
        assert parse(data[:end], end) is None
    assert parse(data, len(data) + 1) is None


def test_sequences_in_sequences_without_end_do_not_go_on_for_ever(tmp_path: Path) -> None:
    data = save(tmp_path / "a").read_bytes()
    place = data.index(struct.pack("<HH", 8, 0x0060))
    item = struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    sequence = struct.pack("<HH2sHI", 8, 0x0051, b"SQ", 0, 0xFFFFFFFF) + item
    bomb = data[:place] + sequence * 5000 + data[place:]
    assert parse(bomb, len(bomb)) is None


@pytest.mark.parametrize("vr", [b"US", b"LO", b"SH"])
def test_a_transfer_syntax_of_another_type_than_a_uid_is_left_to_pydicom(vr: bytes, tmp_path: Path) -> None:
    data = save(tmp_path / "uid").read_bytes()
    assert parse(data, len(data)) is not None
    other = data.replace(b"\x02\x00\x10\x00UI", b"\x02\x00\x10\x00" + vr)
    assert other != data and parse(other, len(other)) is None

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from dtvit_edge.dicom.header import FileRejected, read_headers
from tests.support.data import real
from tests.support.dicom_files import _item, enhanced, save


def test_a_plain_slice_gives_one_header(tmp_path: Path) -> None:
    path = save(tmp_path / "a", PixelPaddingValue=-2000, ConvolutionKernel="h31s")
    (header,) = read_headers(path, "x/a")
    assert (header.path, header.frame, header.frames) == ("x/a", 1, 1)
    assert (header.rows, header.columns) == (512, 512)
    assert header.encoding.padding == (-2000, -2000)
    assert header.kernel == "H31S"
    assert header.kvp == 120
    assert header.position_mm is not None
    assert header.orientation is not None
    assert not header.contrast
    assert "HEAD" in header.body_part


def test_no_value_is_quoted_in_a_warning(tmp_path: Path) -> None:
    file = save(tmp_path / "a", StudyInstanceUID="2.25.x")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        (header,) = read_headers(file, "a", fast=False)
    assert header.identity.study_uid == "2.25.x" and not heard


REJECTED: dict[str, tuple[dict[str, Any], str]] = {
    "another modality": ({"Modality": "MR"}, "not_ct"),
    "no modality": ({"Modality": None}, "not_ct"),
    "a scout": ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "scout"),
    "a secondary capture": ({"SOPClassUID": SecondaryCaptureImageStorage}, "secondary_capture"),
    "RGB": ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "color"),
    "palette": ({"PhotometricInterpretation": "PALETTE COLOR"}, "color"),
    "a perfusion map": ({"ImageType": ["DERIVED", "PRIMARY", "PERFUSION", "RCBF"]}, "not_hu"),
    "another rescale type": ({"RescaleType": "OD"}, "not_hu"),
    "no rescale": ({"RescaleSlope": None}, "not_hu"),
    "a slope of zero": ({"RescaleSlope": 0}, "not_hu"),
    "no image": ({"Rows": None}, "not_an_image"),
    "31 rows": ({"Rows": 31}, "matrix_size"),
    "1025 columns": ({"Columns": 1025}, "matrix_size"),
    "absurd size": ({"Rows": 65535, "Columns": 65535}, "matrix_size"),
    "absurd frames": ({"NumberOfFrames": 2**30}, "too_large"),
    "many large frames": ({"NumberOfFrames": 9000}, "too_large"),
    "32 bits": ({"BitsAllocated": 32}, "pixel_format"),
    "bits that contradict": ({"BitsStored": 12, "HighBit": 5}, "pixel_format"),
    "no study": ({"StudyInstanceUID": None}, "bad_header"),
}


@pytest.mark.parametrize("name", REJECTED)
def test_what_cannot_be_scored_is_rejected_with_its_reason(tmp_path: Path, name: str) -> None:
    changes, code = REJECTED[name]
    with pytest.raises(FileRejected) as caught:
        read_headers(save(tmp_path / "a", **changes), "a")
    assert caught.value.reason.code == code
    if "StudyInstanceUID" not in changes:
        assert caught.value.identity.study_uid, "the row would not find its study"


def test_32_and_1024_pixels_are_accepted(tmp_path: Path) -> None:
    for rows, columns in ((32, 1024), (1024, 32)):
        (header,) = read_headers(save(tmp_path / "a", Rows=rows, Columns=columns), "a")
        assert (header.rows, header.columns) == (rows, columns)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ContrastBolusAgent": "ISOVUE300/100"}, True),
        ({"ContrastBolusAgent": ""}, False),
        ({"ContrastBolusAgent": "none"}, False),
        ({}, False),
    ],
    ids=["agent", "empty", "none", "absent"],
)
def test_contrast(tmp_path: Path, changes: dict[str, Any], expected: bool) -> None:
    (header,) = read_headers(save(tmp_path / "a", **changes), "a")
    assert header.contrast is expected


def test_a_contrast_sequence_counts(tmp_path: Path) -> None:
    path = save(tmp_path / "a", ContrastBolusAgentSequence=[_item(CodeMeaning="Iohexol")])
    assert read_headers(path, "a")[0].contrast


def test_missing_and_unreadable_optional_tags_are_none(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a",
        KVP=None,
        ConvolutionKernel=None,
        ImagePositionPatient=None,
        ImageOrientationPatient=None,
        SliceThickness=None,
        BodyPartExamined=None,
    )
    (header,) = read_headers(path, "a")
    assert (header.kvp, header.kernel, header.position_mm, header.orientation) == (None,) * 4
    assert header.thickness_mm is None
    assert header.body_part == ""


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "per-frame"])
def test_enhanced_ct_gives_a_header_a_frame_with_its_own_rescale(tmp_path: Path, shared: bool) -> None:
    frames = np.zeros((3, 64, 64), dtype=np.uint16)
    intercepts = [-1024.0] * 3 if shared else [-1024.0, -1000.0, -512.0]
    path = save(tmp_path / "multi", enhanced(frames, shared_rescale=shared, intercepts=intercepts))
    headers = read_headers(path, "multi")
    assert [h.frame for h in headers] == [1, 2, 3]
    assert [h.encoding.intercept for h in headers] == intercepts
    assert [h.position_mm for h in headers] == [(-120, -120, 0), (-120, -120, 5), (-120, -120, 10)]
    assert {(h.kvp, h.kernel, h.thickness_mm) for h in headers} == {(120, "H30S", 5)}


def test_real_multi_frame_files_give_a_row_a_frame() -> None:
    folder = real("odd", "enhanced-multiframe")
    for file in sorted(folder.iterdir()):
        with pytest.raises(FileRejected) as caught:
            read_headers(file, file.name)
        expected = (2, "not_hu") if file.name.startswith("CT0012") else (8, "not_ct")
        assert (caught.value.frames, caught.value.reason.code) == expected, file.name

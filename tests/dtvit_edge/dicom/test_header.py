from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import BasicTextSRStorage, ImplicitVRLittleEndian, SecondaryCaptureImageStorage

from dtvit_edge.dicom.header import FileRejected, read_headers
from dtvit_edge.dicom.header_text import headers_as_text, headers_from_text
from dtvit_edge.dicom.slice import SliceHeader
from tests.support.data import real
from tests.support.dicom_files import dataset, enhanced, item, save, with_raw


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
    "a report": ({"Rows": None, "SOPClassUID": BasicTextSRStorage}, "not_an_image"),
    "an image that ends in its header": ({"Rows": None}, "bad_header"),
    "a map among projections": ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL", "CSA MIP"]}, "not_hu"),
    "a material": ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "MAT_SPECIFIC"]}, "not_hu"),
    "a slope of 32": ({"RescaleSlope": 32}, "implausible_hu"),
    "padding that reaches into tissue": ({"PixelPaddingValue": 3000, "PixelPaddingRangeLimit": 1079}, "implausible_hu"),
    "a negative slope": ({"RescaleSlope": -1}, "implausible_hu"),
    "a high bit beyond the bits": ({"BitsAllocated": 8, "BitsStored": 8, "HighBit": 11}, "pixel_format"),
    "more bits stored than allocated": ({"BitsAllocated": 8, "BitsStored": 12, "HighBit": 7}, "pixel_format"),
    "a third pixel representation": ({"PixelRepresentation": 2}, "pixel_format"),
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


def both_ways(path: Path) -> SliceHeader:
    """The only header of a file, which both readers have to read alike."""
    (header,) = read_headers(path, "a")
    assert read_headers(path, "a", fast=False) == (header,)
    return header


def test_what_identity_completeness_and_suitability_ask_for_is_read(tmp_path: Path) -> None:
    header = both_ways(
        save(
            tmp_path / "a",
            PixelSpacing=[0.5, 0.4],
            SliceLocation="-12.5",
            ImagesInAcquisition=28,
            FrameOfReferenceUID="1.2.3",
            PatientAge="018M",
            StudyDescription="CT Schaedel",
            SeriesDescription="HeadRoutine 5.0 (J30s) o. KM",
            ProtocolName="01_Head^Trauma",
            ImageType=["DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 SPI DUAL"],
        )
    )
    assert (header.pixel_spacing_mm, header.slice_location_mm) == ((0.5, 0.4), -12.5)
    assert (header.images_in_acquisition, header.frame_of_reference_uid, header.age_years) == (28, "1.2.3", 1.5)
    assert (header.study_description, header.protocol) == ("CT SCHAEDEL", "01 HEAD TRAUMA")
    assert header.series_description == "HEAD ROUTINE 5.0 J30S O KM"
    assert header.image_type == "DERIVED PRIMARY AXIAL CT SOM5 SPI DUAL"
    assert not header.lossy


def test_patients_are_told_apart_by_id_and_issuer_without_keeping_the_id(tmp_path: Path) -> None:
    cases: list[dict[str, Any]] = [
        {"PatientID": "P-4711-X"},
        {"PatientID": "P-4711-X "},
        {"PatientID": "P-4712-X"},
        {"PatientID": "P-4711-X", "IssuerOfPatientID": "WARD"},
        {"PatientID": None, "IssuerOfPatientID": "WARD"},
        {"PatientID": "M\u00fcller", "SpecificCharacterSet": "ISO_IR 192"},
    ]
    headers = [both_ways(save(tmp_path / "a", **case)) for case in cases]
    patients = [header.patient for header in headers]
    assert patients[0] == patients[1] and len(set(patients)) == 5
    assert patients[4] == "" and {len(p) for p in patients} == {0, 17, 33}
    assert "P-4711" not in "".join(map(repr, headers))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"LossyImageCompression": "01"}, True), ({"LossyImageCompression": "00"}, False), ({}, False)],
)
def test_loss_is_read_from_its_tag(tmp_path: Path, changes: dict[str, Any], expected: bool) -> None:
    assert both_ways(save(tmp_path / "a", **changes)).lossy is expected


def test_loss_is_read_from_the_transfer_syntax() -> None:
    folder = real("transfer-syntaxes", "nema-ct1")
    lossy = {f.stem.removeprefix("CT1_") for f in folder.glob("*.dcm") if both_ways(f).lossy}
    assert lossy == {"J2KI", "JLSN"}


def test_decimal_commas_are_read_as_points(tmp_path: Path) -> None:
    changes = {
        "RescaleSlope": b"1,0 ",
        "RescaleIntercept": b"-1024,0 ",
        "ImagePositionPatient": b"-120,5\\-1,2\\3,25",
        "PixelSpacing": b"0,45\\0,45 ",
        "KVP": b"120,00",
    }
    header = both_ways(save(tmp_path / "a", with_raw(dataset(), **changes)))
    assert (header.encoding.slope, header.encoding.intercept) == (1.0, -1024.0)
    assert (header.position_mm, header.pixel_spacing_mm, header.kvp) == ((-120.5, -1.2, 3.25), (0.45, 0.45), 120.0)


@pytest.mark.parametrize("value", [b"one ", b"1,000.5 ", b"1\\1 ", b"0x10"])
def test_a_rescale_that_is_no_number_is_a_bad_header(tmp_path: Path, value: bytes) -> None:
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        with pytest.raises(FileRejected, match="bad_header"):
            read_headers(save(tmp_path / "a", with_raw(dataset(), **{keyword: value})), "a")


def test_an_optional_number_that_cannot_be_read_is_unknown(tmp_path: Path) -> None:
    values = {"KVP": b"Sn150 ", "InstanceNumber": b"12A ", "SliceThickness": b"thin", "ContrastBolusVolume": b"full"}
    header = both_ways(save(tmp_path / "a", with_raw(dataset(), **values)))
    assert (header.kvp, header.instance_number, header.thickness_mm, header.contrast) == (None,) * 4


def test_a_zero_where_nothing_can_be_zero_is_unknown(tmp_path: Path) -> None:
    header = both_ways(
        save(tmp_path / "a", KVP="0", SliceThickness="0", PixelSpacing=[0, 0], ImagesInAcquisition=0, PatientAge="000Y")
    )
    assert (header.kvp, header.thickness_mm, header.pixel_spacing_mm) == (None, None, None)
    assert (header.images_in_acquisition, header.age_years) == (None, None)


@pytest.mark.parametrize("implicit", [False, True], ids=["explicit", "implicit"])
@pytest.mark.parametrize(
    ("sign", "vr", "written", "padding"),
    [(1, "US", 63536, -2000), (0, "SS", -2000, 63536), (1, "SS", -2000, -2000), (0, "US", 63536, 63536)],
)
def test_padding_is_read_as_the_pixels_are_whatever_its_vr(
    tmp_path: Path, sign: int, vr: str, written: int, padding: int, implicit: bool
) -> None:
    ds = dataset(PixelRepresentation=sign)
    ds.add_new("PixelPaddingValue", vr, written)
    if implicit:
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert both_ways(save(tmp_path / "a", ds)).encoding.padding == (padding, padding)


def test_monochrome1_changes_no_hu(tmp_path: Path) -> None:
    plain, inverse = (
        both_ways(save(tmp_path / "a", PhotometricInterpretation=kind)) for kind in ("MONOCHROME2", "MONOCHROME1")
    )
    assert plain.encoding == inverse.encoding


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
    assert {h.pixel_spacing_mm for h in headers} == {(0.45, 0.45)}
    assert {h.image_type for h in headers} == {"ORIGINAL PRIMARY AXIAL ORIGINAL PRIMARY VOLUME NONE"}


def test_a_frames_own_spacing_type_and_contrast_outweigh_the_shared_ones(tmp_path: Path) -> None:
    ds = enhanced(np.zeros((2, 64, 64), dtype=np.uint16), shared_rescale=True, intercepts=[-1024.0] * 2)
    own = ds.PerFrameFunctionalGroupsSequence[1]
    own.PixelMeasuresSequence = [item(SliceThickness=1, PixelSpacing=[0.9, 0.9])]
    own.ContrastBolusUsageSequence = [item(ContrastBolusAgentAdministered="NO")]
    ds.ContrastBolusAgentSequence = [item(CodeMeaning="Iohexol")]
    first, second = read_headers(save(tmp_path / "multi", ds), "multi")
    assert (first.pixel_spacing_mm, first.thickness_mm, first.contrast) == ((0.45, 0.45), 5, True)
    assert (second.pixel_spacing_mm, second.thickness_mm, second.contrast) == ((0.9, 0.9), 1, False)
    own.CTImageFrameTypeSequence = [item(FrameType=["DERIVED", "PRIMARY", "VOLUME", "MAXIMUM"])]
    with pytest.raises(FileRejected, match="not_hu"):
        read_headers(save(tmp_path / "multi", ds), "multi")


def test_real_multi_frame_files_give_a_row_a_frame() -> None:
    folder = real("odd", "enhanced-multiframe")
    for file in sorted(folder.iterdir()):
        with pytest.raises(FileRejected) as caught:
            read_headers(file, file.name)
        expected = (2, "not_hu") if file.name.startswith("CT0012") else (8, "not_ct")
        assert (caught.value.frames, caught.value.reason.code) == expected, file.name


@pytest.mark.parametrize(("total", "expected"), [(3, ("2.25.9", 2, 3)), (None, ("2.25.9", 2, 0))])
def test_a_part_of_a_concatenation_says_which_it_is(
    tmp_path: Path, total: int | None, expected: tuple[str, int, int]
) -> None:
    more = {} if total is None else {"InConcatenationTotalNumber": total}
    file = save(tmp_path / "a", ConcatenationUID="2.25.9", InConcatenationNumber=2, **more)
    for fast in (True, False):
        (header,) = read_headers(file, "a", fast=fast)
        assert header.concatenation == expected
    assert headers_from_text(headers_as_text((header,)), file, "a", header.state) == (header,)

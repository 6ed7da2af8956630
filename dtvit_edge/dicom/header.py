"""From a dataset to slice headers: one for a classic file, one a frame for Enhanced CT (PS3.3 A.38)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtvit_edge import reasons
from dtvit_edge.dicom.contrast import tagged_contrast
from dtvit_edge.dicom.fast_header import FastHeader, read_fast_header
from dtvit_edge.dicom.header_values import (
    Tags,
    device_name,
    integer,
    items,
    joined,
    number,
    numbers,
    parts,
    positive,
    text,
    value,
    words,
)
from dtvit_edge.dicom.opening import BYTE_BUDGET, open_header
from dtvit_edge.dicom.own_objects import is_own
from dtvit_edge.dicom.pixel_data import FramePixels, PixelData
from dtvit_edge.dicom.pixel_encoding import check_pixels, encoding, is_lossy
from dtvit_edge.dicom.planned_file import FileState, present_state
from dtvit_edge.dicom.pydicom_warnings import quiet
from dtvit_edge.dicom.slice import PixelFault, PixelLocation, SliceHeader
from dtvit_edge.dicom.uids import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage
from dtvit_edge.dicom.vocabulary import NOT_HU_TYPES, SCOUT_TYPES
from dtvit_edge.dicom.wording import fold, pattern
from dtvit_edge.errors import SliceRejected
from dtvit_edge.results import Identity
from dtvit_edge.spec import MIN_MATRIX

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_CT_IMAGES = (CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame kin, .7.1 to .7.4
_NOT_HU_TYPE = pattern(NOT_HU_TYPES)
# The first header of each of the last series, by `FastHeader.series`.
_series: dict[tuple[Any, ...], SliceHeader] = {}
_MOST_SERIES = 256
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0}


class FileRejected(SliceRejected):
    """A whole file is rejected; `identity` and `frames` are what could still be read, for its rows."""

    def __init__(self, cause: SliceRejected, identity: Identity, frames: int) -> None:
        super().__init__(cause.reason, cause.detail)
        self.identity = identity
        self.frames = frames


def read_headers(
    file: Path, path: str, *, fast: bool = True, state: FileState | None = None
) -> tuple[SliceHeader, ...]:
    """The headers of a file's frames, in frame order.

    Args:
        fast: the common case is read without pydicom.
        state: what the file has to be, now and when its pixels are read; None takes it as it is now.

    Raises:
        FileRejected: not a CT slice that could be decoded; the reason says which rule.
    """
    state = state or present_state(file)
    headers = read_fast_headers(file, path, state) if fast else None
    if headers is not None:
        return headers
    with quiet():
        return _headers(lambda: open_header(file, state), file, path, state) or ()


def read_fast_headers(file: Path, path: str, state: FileState | None) -> tuple[SliceHeader, ...] | None:
    """The header of a file of the common case, without pydicom; None for other files.

    Raises:
        FileRejected: see `read_headers`.
    """
    return _headers(lambda: (read_fast_header(file, state), None), file, path, state)


def _headers(
    read: Callable[[], tuple[Tags | None, PixelData | None]], file: Path, path: str, state: FileState | None
) -> tuple[SliceHeader, ...] | None:
    identity, frames = Identity(), 1
    try:
        dataset, pixel_data = read()
        if dataset is None:
            return None
        if (known := _of_known_series(dataset, file, path, state)) is not None:
            return (known,)
        identity = identity_of(dataset)
        frames = _frame_count(dataset)
        _check_kind(dataset)
        check_pixels(dataset, frames)
        if not all((identity.study_uid, identity.series_uid, identity.sop_uid)):
            raise SliceRejected(reasons.BAD_HEADER, "a study, series or SOP instance UID is missing")
        if pixel_data is not None and frames > max(pixel_data.most_frames, 1):
            found, frames = f"{frames} frames in {pixel_data.length} bytes", 1  # again one row, not thousands
            raise SliceRejected(reasons.TRUNCATED, found)
        pixels = _frame_pixels(dataset, pixel_data, frames)
        headers = _frame_headers(dataset, file, path, state, identity, pixels)
        _remember_series(dataset, headers)
        return headers
    except SliceRejected as error:
        raise FileRejected(error, identity, frames) from error
    except Exception as error:  # values of the wrong type anywhere in the header
        raise FileRejected(SliceRejected(reasons.BAD_HEADER, type(error).__name__), identity, frames) from error


def _of_known_series(dataset: Tags, file: Path, path: str, state: FileState | None) -> SliceHeader | None:
    """The header of a slice whose series has given one before: what they share has passed every check."""
    if not isinstance(dataset, FastHeader) or (first := _series.get(dataset.series)) is None:
        return None
    if not (sop_uid := text(dataset, "SOPInstanceUID")):
        return None
    return replace(
        first,
        file=file,
        state=state,
        path=path,
        identity=Identity(first.identity.study_uid, first.identity.series_uid, sop_uid),
        pixel_location=dataset.pixel_location,
        **_of_slice(dataset.values.get),
    )


def _of_slice(find: Callable[[str], Any]) -> dict[str, Any]:
    """The fields of `fast_header.OF_SLICES`, from their values by keyword."""
    position = numbers(find("ImagePositionPatient"), 3)
    return {
        "position_mm": None if position is None else (position[0], position[1], position[2]),
        "instance_number": integer(find("InstanceNumber")),
        "slice_location_mm": number(find("SliceLocation")),
    }


def _remember_series(dataset: Tags, headers: tuple[SliceHeader, ...]) -> None:
    if isinstance(dataset, FastHeader):
        if len(_series) >= _MOST_SERIES:
            _series.clear()
        _series[dataset.series] = headers[0]


def identity_of(dataset: Tags) -> Identity:
    """The UIDs of study, series and instance; a missing one is empty."""
    return Identity(*(text(dataset, f"{level}InstanceUID") for level in ("Study", "Series", "SOP")))


def _check_kind(dataset: Tags) -> None:
    """Is it a CT image at all? The order makes the reason: a report is `not_an_image` whatever its modality."""
    if not isinstance(dataset, FastHeader) and is_own(dataset):  # none of ours is a grey frame of 16 bits
        raise SliceRejected(reasons.OWN_OBJECT)
    if "Rows" not in dataset or "Columns" not in dataset:
        if _storage_class(dataset) in _CT_IMAGES:  # a copy that ended in its header: skipped, it would go unseen
            raise SliceRejected(reasons.BAD_HEADER, "a CT image without Rows or Columns")
        raise SliceRejected(reasons.NOT_AN_IMAGE)
    modality = text(dataset, "Modality")
    if modality != "CT":
        raise SliceRejected(reasons.NOT_CT, f"modality is {modality or 'missing'}")
    image_type = words(dataset, "ImageType")
    if SCOUT_TYPES & set(image_type):
        raise SliceRejected(reasons.SCOUT)
    if text(dataset, "SOPClassUID").startswith(_SECONDARY_CAPTURE):
        raise SliceRejected(reasons.SECONDARY_CAPTURE)
    interpretation = text(dataset, "PhotometricInterpretation")
    if value(dataset, "SamplesPerPixel") not in (None, 1) or interpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise SliceRejected(reasons.COLOR)
    _check_type(fold(" ".join(image_type)))


def _check_type(image_type: str) -> None:
    if _names_map(image_type):
        raise SliceRejected(reasons.NOT_HU, "the type of image or frame names a map or a projection")


@lru_cache(maxsize=1024)
def _names_map(image_type: str) -> bool:
    return _NOT_HU_TYPE.search(image_type) is not None


def _storage_class(dataset: Tags) -> str:
    if found := text(dataset, "SOPClassUID"):
        return found
    return "" if isinstance(dataset, FastHeader) else text(dataset.file_meta, "MediaStorageSOPClassUID")


def _frame_pixels(dataset: Tags, pixel_data: PixelData | None, frames: int) -> list[FramePixels]:
    if isinstance(dataset, FastHeader):
        return [(dataset.pixel_location, None)]
    if pixel_data is None:
        return [(None, None)] * frames
    signed = integer(value(dataset, "PixelRepresentation")) == 1
    return pixel_data.frames(
        int(dataset.get("Rows")), int(dataset.get("Columns")), int(dataset.get("BitsAllocated")), signed, frames
    )


def _frame_headers(
    dataset: Tags, file: Path, path: str, state: FileState | None, identity: Identity, pixels: list[FramePixels]
) -> tuple[SliceHeader, ...]:
    """Frames without functional groups of their own differ in nothing but their pixels, and are not asked again."""
    own = len(items(dataset, "PerFrameFunctionalGroupsSequence"))
    headers: list[SliceHeader] = []
    for index, (location, fault) in enumerate(pixels):
        if index <= own:
            headers.append(_header(dataset, file, path, state, identity, index, len(pixels), location, fault))
        else:
            headers.append(replace(headers[-1], frame=index + 1, pixel_location=location, pixel_fault=fault))
    return tuple(headers)


def _header(
    dataset: Tags,
    file: Path,
    path: str,
    state: FileState | None,
    identity: Identity,
    index: int,
    frames: int,
    pixel_location: PixelLocation | None,
    pixel_fault: PixelFault | None,
) -> SliceHeader:
    groups = list(_functional_groups(dataset, index))

    def find(sequence: str, keyword: str) -> Any:
        """A value of the frame's functional groups, else of the dataset itself."""
        for group in groups:
            found = items(group, sequence)
            if found and keyword in found[0]:
                return value(found[0], keyword)
        return value(dataset, keyword)

    frame_type = [word.upper() for word in parts(find("CTImageFrameTypeSequence", "FrameType"))]
    if SCOUT_TYPES & set(frame_type):
        raise SliceRejected(reasons.SCOUT)
    technique = joined(find("CTImageFrameTypeSequence", "VolumeBasedCalculationTechnique"))
    _check_type(fold(" ".join([*frame_type, technique])))
    orientation = numbers(find("PlaneOrientationSequence", "ImageOrientationPatient"), 6)
    spacing = numbers(find("PixelMeasuresSequence", "PixelSpacing"), 2)
    administered = joined(find("ContrastBolusUsageSequence", "ContrastBolusAgentAdministered"))
    anatomy = [dataset] + [item for group in groups for item in items(group, "FrameAnatomySequence")]
    regions = [region for item in anatomy for region in items(item, "AnatomicRegionSequence")]
    body_parts = [joined(value(dataset, "BodyPartExamined")), *(joined(value(r, "CodeMeaning")) for r in regions)]
    return SliceHeader(
        file=file,
        state=state,
        path=path,
        identity=identity,
        frame=index + 1,
        frames=frames,
        rows=int(dataset.get("Rows")),
        columns=int(dataset.get("Columns")),
        encoding=encoding(dataset, find),
        **_of_slice(lambda keyword: find("PlanePositionSequence", keyword)),
        orientation=None
        if orientation is None
        else ((orientation[0], orientation[1], orientation[2]), (orientation[3], orientation[4], orientation[5])),
        thickness_mm=positive(find("PixelMeasuresSequence", "SliceThickness")),
        kernel=joined(find("CTReconstructionSequence", "ConvolutionKernel")) or None,
        kvp=positive(find("CTXRayDetailsSequence", "KVP")),
        contrast=tagged_contrast(dataset, administered),
        body_part=fold(" ".join(part for part in body_parts if part)),
        study_description=_folded(dataset, "StudyDescription"),
        series_description=_folded(dataset, "SeriesDescription"),
        protocol=_folded(dataset, "ProtocolName"),
        image_type=fold(" ".join([*words(dataset, "ImageType"), *frame_type])),
        age_years=_age_years(text(dataset, "PatientAge")),
        pixel_spacing_mm=None if spacing is None or min(spacing) <= 0 else (spacing[0], spacing[1]),
        images_in_acquisition=_count(value(dataset, "ImagesInAcquisition")),
        frame_of_reference_uid=text(dataset, "FrameOfReferenceUID"),
        patient=_patient(text(dataset, "PatientID"), text(dataset, "IssuerOfPatientID")),
        lossy=is_lossy(dataset),
        concatenation=_concatenation(dataset),
        accession_number=text(dataset, "AccessionNumber"),
        study_date=text(dataset, "StudyDate"),
        scanner=device_name(dataset, "Manufacturer", "ManufacturerModelName"),
        station=device_name(dataset, "StationName"),
        pixel_location=pixel_location,
        pixel_fault=pixel_fault,
    )


def _concatenation(dataset: Tags) -> tuple[str, int, int] | None:
    """PS3.3 C.7.6.16.2.2.4; the number of parts may be left out."""
    uid = text(dataset, "ConcatenationUID")
    if not uid:
        return None
    part, parts_ = (integer(value(dataset, f"InConcatenation{name}")) for name in ("Number", "TotalNumber"))
    return uid, part or 0, parts_ or 0


def _patient(patient_id: str, issuer: str) -> str:
    """Sixteen hexadecimal digits that tell patients apart; the id itself is kept nowhere."""
    if not patient_id:
        return ""
    return ":".join(hashlib.sha256(part.encode()).hexdigest()[:16] if part else "" for part in (patient_id, issuer))


def _age_years(age: str) -> float | None:
    """PatientAge (PS3.5 AS: 018M, 034Y) in years; None where it is missing, no age, or 0."""
    found = _AGE.fullmatch(age.upper())
    return (int(found.group(1)) * _YEARS[found.group(2)] or None) if found else None


def _count(found: Any) -> int | None:
    count = integer(found)
    return count if count is not None and count > 0 else None


def _folded(dataset: Tags, keyword: str) -> str:
    return fold(" ".join(parts(value(dataset, keyword))))


def _functional_groups(dataset: Tags, index: int) -> Iterator[Dataset]:
    """The frame's own groups, then the shared ones (PS3.3 C.7.6.16)."""
    per_frame = items(dataset, "PerFrameFunctionalGroupsSequence")
    if index < len(per_frame):
        yield per_frame[index]
    yield from items(dataset, "SharedFunctionalGroupsSequence")


def _frame_count(dataset: Tags) -> int:
    """NumberOfFrames, or 1; an absurd count is one row, not a million.

    Raises:
        SliceRejected: more frames than the byte budget could hold at one byte a pixel of the smallest matrix.
    """
    count = number(value(dataset, "NumberOfFrames")) or 1
    if not 1 <= count <= BYTE_BUDGET // (MIN_MATRIX * MIN_MATRIX) // 64:
        raise SliceRejected(reasons.TOO_LARGE, f"number of frames: {count:g}")
    return int(count)

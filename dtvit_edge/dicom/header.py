"""From a dataset to slice headers: one for a classic file, one a frame for Enhanced CT (PS3.3 A.38)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from pydicom.dataset import Dataset

from dtvit_edge import reasons
from dtvit_edge.dicom.fast_header import FastHeader, read_fast_header
from dtvit_edge.dicom.opening import BYTE_BUDGET, open_dataset
from dtvit_edge.dicom.planned_file import FileState, present_state
from dtvit_edge.dicom.pydicom_warnings import quiet
from dtvit_edge.dicom.slice import SliceHeader, Vector
from dtvit_edge.errors import ConfigError, SliceRejected
from dtvit_edge.results import Identity
from dtvit_edge.spec import MAX_MATRIX, MIN_MATRIX, PixelEncoding

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"  # and its multi-frame kin, .7.1 to .7.4
_SCOUT_WORDS = {"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW", "REF_SURVIEW"}
_DERIVED_MAP_WORDS = {"PERFUSION", "RCBF", "RCBV", "MTT", "TTP", "TMAX"}
Tags: TypeAlias = Dataset | FastHeader
_NO_AGENT = {"", "NO", "NONE", "N", "NO CONTRAST", "WITHOUT", "W/O", "NATIVE", "0"}


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
    with quiet():
        return _read_headers(file, path, fast, state or present_state(file))


def _read_headers(file: Path, path: str, fast: bool, state: FileState | None) -> tuple[SliceHeader, ...]:
    identity, frames = Identity(), 1
    try:
        dataset: Tags | None = read_fast_header(file, state) if fast else None
        dataset = dataset or open_dataset(file, stop_before_pixels=True, state=state)
        identity = identity_of(dataset)
        frames = _frame_count(dataset)
        _check_kind(dataset)
        _check_pixels(dataset, frames)
        if not all((identity.study_uid, identity.series_uid, identity.sop_uid)):
            raise SliceRejected(reasons.BAD_HEADER, "a study, series or SOP instance UID is missing")
        return tuple(_header(dataset, file, path, state, identity, i, frames) for i in range(frames))
    except SliceRejected as error:
        raise FileRejected(error, identity, frames) from error
    except Exception as error:  # values of the wrong type anywhere in the header
        raise FileRejected(SliceRejected(reasons.BAD_HEADER, type(error).__name__), identity, frames) from error


def identity_of(dataset: Tags) -> Identity:
    """The UIDs of study, series and instance; a missing one is empty."""
    return Identity(*(_text(dataset, f"{level}InstanceUID") for level in ("Study", "Series", "SOP")))


def _check_kind(dataset: Tags) -> None:
    """Is it a CT image at all? The order makes the reason: a report is `not_an_image` whatever its modality."""
    if "Rows" not in dataset or "Columns" not in dataset:
        raise SliceRejected(reasons.NOT_AN_IMAGE)
    modality = _text(dataset, "Modality")
    if modality != "CT":
        raise SliceRejected(reasons.NOT_CT, f"modality is {modality or 'missing'}")
    image_type = set(_words(dataset, "ImageType"))
    if image_type & _SCOUT_WORDS:
        raise SliceRejected(reasons.SCOUT)
    if _text(dataset, "SOPClassUID").startswith(_SECONDARY_CAPTURE):
        raise SliceRejected(reasons.SECONDARY_CAPTURE)
    if dataset.get("SamplesPerPixel", 1) != 1 or not _text(dataset, "PhotometricInterpretation").startswith(
        "MONOCHROME"
    ):
        raise SliceRejected(reasons.COLOR)
    if image_type & _DERIVED_MAP_WORDS:
        raise SliceRejected(reasons.NOT_HU, "the image type names a derived map")


def _check_pixels(dataset: Tags, frames: int) -> None:
    """Sizes and format, before anything is decoded."""
    rows, columns = int(dataset.get("Rows")), int(dataset.get("Columns"))
    if not all(MIN_MATRIX <= n <= MAX_MATRIX for n in (rows, columns)):
        raise SliceRejected(reasons.MATRIX_SIZE, f"{rows} x {columns} pixels")
    bits = dataset.get("BitsAllocated")
    if bits not in (8, 16):
        raise SliceRejected(reasons.PIXEL_FORMAT, f"bits allocated: {bits}")
    if rows * columns * bits // 8 * frames > BYTE_BUDGET:
        raise SliceRejected(reasons.TOO_LARGE, f"{frames} frames of {rows} x {columns}")


def _header(
    dataset: Tags, file: Path, path: str, state: FileState | None, identity: Identity, index: int, frames: int
) -> SliceHeader:
    groups = list(_functional_groups(dataset, index))

    def find(sequence: str, keyword: str) -> Any:
        """A value of the frame's functional groups, else of the dataset itself."""
        for group in groups:
            items = group.get(sequence)
            if items and keyword in items[0]:
                return items[0].get(keyword)
        return dataset.get(keyword)

    frame_type = {str(word).upper() for word in find("CTImageFrameTypeSequence", "FrameType") or ()}
    if frame_type & _SCOUT_WORDS:
        raise SliceRejected(reasons.SCOUT)
    if frame_type & _DERIVED_MAP_WORDS:
        raise SliceRejected(reasons.NOT_HU, "the frame type names a derived map")
    orientation = _numbers(find("PlaneOrientationSequence", "ImageOrientationPatient"), 6)
    position = _numbers(find("PlanePositionSequence", "ImagePositionPatient"), 3)
    kernel = find("CTReconstructionSequence", "ConvolutionKernel")
    anatomy = [dataset] + [item for group in groups for item in group.get("FrameAnatomySequence") or ()]
    return SliceHeader(
        file=file,
        state=state,
        path=path,
        identity=identity,
        frame=index + 1,
        frames=frames,
        pixel_location=dataset.pixel_location if isinstance(dataset, FastHeader) else None,
        rows=int(dataset.get("Rows")),
        columns=int(dataset.get("Columns")),
        encoding=_encoding(dataset, find),
        position_mm=_vector(position) if position else None,
        orientation=(_vector(orientation[:3]), _vector(orientation[3:])) if orientation else None,
        thickness_mm=_number(find("PixelMeasuresSequence", "SliceThickness")),
        instance_number=_integer(dataset.get("InstanceNumber")),
        acquisition_number=_integer(
            find("FrameContentSequence", "FrameAcquisitionNumber") or dataset.get("AcquisitionNumber")
        ),
        kernel=_joined(kernel) or None,
        kvp=_number(find("CTXRayDetailsSequence", "KVP")),
        contrast=_has_contrast(dataset, find),
        body_part=" ".join(
            word
            for word in (
                _joined(dataset.get("BodyPartExamined")),
                *(
                    _joined(region.get("CodeMeaning"))
                    for item in anatomy
                    for region in item.get("AnatomicRegionSequence") or ()
                ),
            )
            if word
        ),
        descriptions=" ".join(
            _joined(dataset.get(k)) for k in ("StudyDescription", "SeriesDescription", "ProtocolName")
        ).strip(),
    )


def _encoding(dataset: Tags, find: Any) -> PixelEncoding:
    """How patterns become HU.

    Raises:
        SliceRejected: no rescale, a rescale to something else than HU, or bits that contradict each other.
    """
    rescale = "PixelValueTransformationSequence"
    kind = _joined(find(rescale, "RescaleType"))
    if kind not in ("", "HU", "US"):  # US is "unspecified", which CT scanners write as well
        raise SliceRejected(reasons.NOT_HU, f"rescale type is {kind}")
    slope, intercept = _number(find(rescale, "RescaleSlope")), _number(find(rescale, "RescaleIntercept"))
    if slope is None or intercept is None or slope == 0 or "ModalityLUTSequence" in dataset:
        raise SliceRejected(reasons.NOT_HU, "no usable rescale slope and intercept")
    stored = int(dataset.get("BitsStored", dataset.get("BitsAllocated")))
    high = dataset.get("PixelPaddingRangeLimit")
    low = dataset.get("PixelPaddingValue", high)
    try:
        return PixelEncoding(
            bits_stored=stored,
            high_bit=int(dataset.get("HighBit", stored - 1)),
            signed=int(dataset.get("PixelRepresentation", 0)) == 1,
            slope=slope,
            intercept=intercept,
            padding=None if low is None else (int(low), int(low if high is None else high)),
            inverted=_text(dataset, "PhotometricInterpretation") == "MONOCHROME1",
        )
    except ConfigError as error:
        raise SliceRejected(reasons.PIXEL_FORMAT, str(error)) from error


def _has_contrast(dataset: Tags, find: Any) -> bool:
    if _joined(find("ContrastBolusUsageSequence", "ContrastBolusAgentAdministered")) == "NO":
        return False
    return bool(dataset.get("ContrastBolusAgentSequence")) or (
        _joined(dataset.get("ContrastBolusAgent")) not in _NO_AGENT
    )


def _functional_groups(dataset: Tags, index: int) -> Iterator[Dataset]:
    """The frame's own groups, then the shared ones (PS3.3 C.7.6.16)."""
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence")
    if per_frame and index < len(per_frame):
        yield per_frame[index]
    yield from dataset.get("SharedFunctionalGroupsSequence") or ()


def _frame_count(dataset: Tags) -> int:
    """NumberOfFrames, or 1; an absurd count is one row, not a million.

    Raises:
        SliceRejected: more frames than the byte budget could hold at one byte a pixel of the smallest matrix.
    """
    count = _integer(dataset.get("NumberOfFrames")) or 1
    if not 1 <= count <= BYTE_BUDGET // (MIN_MATRIX * MIN_MATRIX) // 64:
        raise SliceRejected(reasons.TOO_LARGE, f"number of frames: {count}")
    return count


def _text(dataset: Tags, keyword: str) -> str:
    return str(dataset.get(keyword) or "").strip()


def _words(dataset: Tags, keyword: str) -> list[str]:
    value = dataset.get(keyword) or ()
    return [str(word).strip().upper() for word in ((value,) if isinstance(value, str) else value)]


def _joined(value: Any) -> str:
    """A value, or several, as one upper-case text."""
    if value is None:
        return ""
    parts = [value] if isinstance(value, (str, int, float)) else list(value)
    return " ".join(str(part).strip() for part in parts).strip().upper()


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _integer(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _numbers(value: Any, count: int) -> list[float] | None:
    """Exactly `count` finite numbers, or None."""
    try:
        numbers = [_number(v) for v in value]
    except TypeError:
        return None
    finite = [n for n in numbers if n is not None]
    return finite if len(finite) == len(numbers) == count else None


def _vector(numbers: list[float]) -> Vector:
    return numbers[0], numbers[1], numbers[2]

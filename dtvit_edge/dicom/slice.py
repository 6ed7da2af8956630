"""What is known of a slice: its header, and the header with its stored pixels."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.dicom.planned_file import FileState
from dtvit_edge.reasons import Reason
from dtvit_edge.results import Identity
from dtvit_edge.spec import PixelEncoding

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class PixelLocation:
    """Where a file keeps a frame that this process reads itself (`located_pixels`), and behind which header.

    Attributes:
        offset, length: of the frame's bytes; rle: they are RLE, bare or encapsulated, else patterns as they are.
        header_digest: of the file's first `header_length` bytes, which hold at least the UIDs.
        dtype: of the frame once RLE is undone, as NumPy names it: `<u2`, `>u2`, `u1` or `i1`.
    """

    offset: int
    length: int
    rle: bool
    header_digest: bytes
    header_length: int
    dtype: str = "<u2"


@dataclass(frozen=True)
class PixelFault:
    """Why a frame cannot be read, seen when its file was planned; `detail` says what was found."""

    reason: Reason
    detail: str


@dataclass(frozen=True)
class SliceHeader:
    """One frame that can be decoded and looks like a CT slice; whether its series is suitable is decided later.

    Attributes:
        file: where to read it; state: what the file has to be then.
        path: relative to the folder that was given, with forward slashes.
        frame: counts from 1; frames: of the whole file.
        rows, columns: of the stored matrix.
        position_mm: ImagePositionPatient; orientation: ImageOrientationPatient, row then column cosines.
        thickness_mm: SliceThickness.
        kernel: ConvolutionKernel, in upper case; kvp: tube voltage, None for 0 as well.
        contrast: whether the tags of an agent name one; None where they say nothing (descriptions are not asked).
        pixel_location: where the pixels are, if they are plain or RLE; else pydicom reads them.
        pixel_fault: why they cannot be read, where that is known already.
        body_part: BodyPartExamined and anatomic regions.
        study_description, series_description, protocol: StudyDescription, SeriesDescription, ProtocolName.
        image_type: ImageType and the frame's own type. These five as `wording.fold` writes them.
        age_years: PatientAge; None where it is 0.
        pixel_spacing_mm: PixelSpacing, between rows and between columns.
        slice_location_mm: SliceLocation; images_in_acquisition: ImagesInAcquisition.
        frame_of_reference_uid: FrameOfReferenceUID; empty where it is missing.
        patient: digests of PatientID and of its issuer with a colon between, to tell patients apart; the second is
            empty where there is no issuer, all of it where there is no PatientID.
        lossy: the pixels have been compressed with loss, by the transfer syntax or LossyImageCompression.
        concatenation: ConcatenationUID, the part's number, and how many there are (0 where it does not say), where one
            image of many frames was cut into several files.
        accession_number, study_date: AccessionNumber and StudyDate, for those who ask to see whose study it is.
        scanner: Manufacturer and ManufacturerModelName; station: StationName.
        twin: another file claims to be the same image; their pixels tell.
        Optional ones are None (or empty) where their tag is missing.
    """

    file: Path
    path: str
    identity: Identity
    frame: int
    frames: int
    rows: int
    columns: int
    encoding: PixelEncoding
    position_mm: Vector | None = None
    orientation: tuple[Vector, Vector] | None = None
    thickness_mm: float | None = None
    instance_number: int | None = None
    kernel: str | None = None
    kvp: float | None = None
    contrast: bool | None = None
    body_part: str = ""
    study_description: str = ""
    series_description: str = ""
    protocol: str = ""
    image_type: str = ""
    age_years: float | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    slice_location_mm: float | None = None
    images_in_acquisition: int | None = None
    frame_of_reference_uid: str = ""
    patient: str = ""
    lossy: bool = False
    concatenation: tuple[str, int, int] | None = None
    accession_number: str = ""
    study_date: str = ""
    scanner: str = ""
    station: str = ""
    twin: bool = False
    pixel_location: PixelLocation | None = field(default=None, compare=False)
    pixel_fault: PixelFault | None = field(default=None, compare=False)
    state: FileState | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Slice:
    """A header with its pixels.

    Attributes:
        stored: (rows, columns) uint16, C-contiguous, raw patterns as stored; may be a read-only view.
    """

    header: SliceHeader
    stored: NDArray[np.uint16]


@dataclass(frozen=True)
class Series:
    """Slices that belong together: a series, or the part of it that is parallel and of one kind of kernel.

    Attributes:
        headers: in order from feet to head.
        refusal: why no result may come from it; None where it is suitable.
        warnings: codes of what could not be asked.
        doubts: codes of why a 0 of this series alone is not earned (`reasons.STUDY_REASONS`).
    """

    study_uid: str
    series_uid: str
    headers: tuple[SliceHeader, ...]
    refusal: Reason | None = None
    warnings: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True)
class SliceImage:
    """What a model is shown once: one slice, or thin slices that are averaged to the spec's thickness.

    Attributes:
        headers: at least one, in stored order along the normal.
        place: where it lies in its scan, counting from 1 at the feet; images in the same place share the number.
    """

    headers: tuple[SliceHeader, ...]
    place: int


@dataclass(frozen=True)
class Rejection:
    """A file, frame or folder that is no slice or cannot be read.

    Attributes:
        identity: what could still be read.
        path: relative to the folder that was given; file: the real one.
        detail: what was found, for the log; never a name of a patient or a folder.
    """

    identity: Identity
    frame: int
    path: str
    reason: Reason
    file: Path | None = None
    detail: str = ""

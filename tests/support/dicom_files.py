"""DICOM files for tests, made from one phantom slice: real files, changed in one respect."""

from __future__ import annotations

import copy
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian

from dtvit_edge.phantom import render_study, write_study


@lru_cache(maxsize=1)
def _original() -> FileDataset:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        study = render_study(3, "deep", indices=(12,))
        return pydicom.dcmread(write_study(study, Path(folder))[0])


def dataset(**changes: Any) -> FileDataset:
    """A valid CT slice of a head; keywords set attributes, None deletes them."""
    ds = copy.deepcopy(_original())
    for keyword, value in changes.items():
        if value is None:
            if keyword in ds:
                delattr(ds, keyword)
        elif keyword.startswith("PixelPadding"):  # its VR depends on the pixels' sign
            ds.add_new(tag_for_keyword(keyword), "SS" if ds.PixelRepresentation else "US", value)
        else:
            setattr(ds, keyword, value)
    if "SOPInstanceUID" in changes:
        ds.file_meta.MediaStorageSOPInstanceUID = changes["SOPInstanceUID"]
    return ds


def with_raw(ds: FileDataset, **values: bytes) -> FileDataset:
    """The dataset with values that no library would write, as the bytes that the file will hold (even in number)."""
    for keyword, data in values.items():
        tag = Tag(keyword)
        ds[tag] = RawDataElement(tag, dictionary_VR(tag), len(data), data, 0, False, True)
    return ds


def save(path: Path, ds: FileDataset | None = None, **changes: Any) -> Path:
    """Write a slice; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pydicom.config.disable_value_validation():
        ds = dataset(**changes) if ds is None else ds
        ds.save_as(path, enforce_file_format=True)
    return path


def series(
    folder: Path, positions: list[float], *, uid: str = "2.25.77", study: str = "2.25.7", **changes: Any
) -> list[Path]:
    """One axial series without tilt, a slice at each position, named so that names say nothing of the order.

    No two slices have the same pixels: the n-th is n HU brighter.
    """
    files = []
    pixels = _original().pixel_array
    for i, z in enumerate(positions):
        files.append(
            save(
                folder / f"{(i * 7919) % 1000:03d}-{i}",
                StudyInstanceUID=study,
                SeriesInstanceUID=uid,
                SOPInstanceUID=f"{uid}.{i}",
                InstanceNumber=i + 1,
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
                ImagePositionPatient=[-120, -120, z],
                **{"PixelData": (pixels + i).astype(pixels.dtype).tobytes(), **changes},
            )
        )
    return files


def enhanced(frames: np.ndarray, *, shared_rescale: bool, intercepts: list[float]) -> FileDataset:
    """Enhanced CT (PS3.3 A.38): `frames` (N, rows, columns) uint16, 5 mm apart, rescale per frame or shared."""
    ds = dataset(
        SOPClassUID=EnhancedCTImageStorage,
        SOPInstanceUID="2.25.501",
        SeriesInstanceUID="2.25.50",
        StudyInstanceUID="2.25.5",
        NumberOfFrames=len(frames),
        PixelRepresentation=0,
        PixelData=frames.tobytes(),
        Rows=frames.shape[1],
        Columns=frames.shape[2],
        **dict.fromkeys(
            (
                "RescaleSlope",
                "RescaleIntercept",
                "RescaleType",
                "ImagePositionPatient",
                "ImageOrientationPatient",
                "SliceThickness",
                "PixelSpacing",
                "ConvolutionKernel",
                "KVP",
                "PixelPaddingValue",
            )
        ),
    )
    ds.file_meta.MediaStorageSOPClassUID = EnhancedCTImageStorage
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    shared = Dataset()
    shared.PlaneOrientationSequence = [item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]
    shared.PixelMeasuresSequence = [item(SliceThickness=5, PixelSpacing=[0.45, 0.45])]
    shared.CTReconstructionSequence = [item(ConvolutionKernel="H30s")]
    shared.CTXRayDetailsSequence = [item(KVP=120)]
    shared.CTImageFrameTypeSequence = [item(FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"])]
    per_frame = []
    for i, intercept in enumerate(intercepts):
        group = Dataset()
        group.PlanePositionSequence = [item(ImagePositionPatient=[-120, -120, 5.0 * i])]
        rescale = [item(RescaleSlope=1, RescaleIntercept=intercept, RescaleType="HU")]
        if shared_rescale:
            shared.PixelValueTransformationSequence = rescale
        else:
            group.PixelValueTransformationSequence = rescale
        per_frame.append(group)
    ds.SharedFunctionalGroupsSequence = [shared]
    ds.PerFrameFunctionalGroupsSequence = per_frame
    return ds


def item(**values: Any) -> Dataset:
    """An item of a sequence."""
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made

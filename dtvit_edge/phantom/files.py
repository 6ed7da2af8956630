"""Phantom studies as files: CT Image Storage, and the truth beside them as CSV."""

from __future__ import annotations

import contextlib
import csv
import datetime
import hashlib
import io
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from dtvit_edge.errors import ConfigError
from dtvit_edge.files import disk_fault, make_folder, open_file, write_atomically
from dtvit_edge.phantom import tissues
from dtvit_edge.phantom.study import PhantomSlice, PhantomStudy, render_study
from dtvit_edge.spec import LOCATION_LABELS

TRUTH_COLUMNS = ("path", "patient", "ich", "location", "slice", "haemorrhage_mm2")

_IMPLEMENTATION = "dtvit-edge-phantom-1"
# A path as `write_phantoms` writes it into truth.csv.
_EARLIER = re.compile(r"study-[0-9]{4,}/IM[0-9]{4,}")
_FIRST_DAY = datetime.date(2020, 1, 6)


def phantom_uid(*what: object) -> UID:
    """A UID under 2.25 derived from what it names: the same names give the same UID, on any machine."""
    digest = hashlib.sha256("/".join(("dtvit-edge phantom", *map(str, what))).encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:15], 'big')}")


def write_study(study: PhantomStudy, folder: Path | str, patient: str = "0001") -> list[Path]:
    """Write a study's slices as DICOM files; returns their paths in the order of `study.slices`.

    `folder` is made if need be. File names (IM0001, ...) are shuffled: only the geometry gives the order. They are not
    flushed to the disk one by one, since the same seed makes them again.
    `patient` is the number in PatientName and PatientID.
    """
    folder = Path(folder)
    make_folder(folder)
    numbers = _shuffled(study.seed, len(study.slices))
    paths = []
    for number, phantom_slice in zip(numbers, study.slices, strict=True):
        path = folder / f"IM{number:04d}"
        dataset = slice_dataset(study, phantom_slice, patient)
        try:
            with open(open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
                dataset.save_as(file, enforce_file_format=True)
        except OSError as error:
            raise disk_fault(path, error) from error
        paths.append(path)
    return paths


def write_phantoms(
    folder: Path | str,
    studies: int,
    seed: int = 0,
    *,
    overwrite: bool = False,
    progress: Callable[[], None] = lambda: None,
) -> Path:
    """Write `studies` studies below `folder`, and last `folder/truth.csv`, whose path is returned.

    Every second study is positive, the three locations in turn, in an order drawn from the seed. The CSV has
    one row per file: `TRUTH_COLUMNS`, where `path` is relative to the CSV, `slice` counts from 0 at the base,
    and `location` is empty where `ich` is 0.

    Args:
        overwrite: replace the phantoms of an earlier call, which are the files that its truth.csv names; anything else
            in the folder stays.
        progress: called once a study.

    Raises:
        ConfigError: fewer than one study; a folder that is not empty without `overwrite`, since slices of an earlier
            call would lie among the new ones, without a row in the truth; or one that no earlier call wrote.
        DiskFault: the disk is full, read-only, gone or broken.
    """
    if studies < 1:
        raise ConfigError(f"studies is {studies}, expected 1 or more")
    folder = Path(folder)
    make_folder(folder)
    truth = folder / "truth.csv"
    if any(folder.iterdir()):
        if not overwrite:
            raise ConfigError(f"{folder} is not empty; give another folder or --overwrite")
        _remove_earlier(folder, truth)
    rows: list[tuple[object, ...]] = []
    for number, (own_seed, location) in enumerate(collection_seeds(studies, seed), start=1):
        study = render_study(own_seed, location)
        patient = f"{number:04d}"
        paths = write_study(study, folder / f"study-{patient}", patient)
        for path, s in sorted(zip(paths, study.slices, strict=True), key=lambda pair: pair[0]):
            name, area = path.relative_to(folder).as_posix(), f"{s.haemorrhage_mm2:.1f}"
            rows.append((name, f"PHANTOM-{patient}", int(s.ich), s.location or "", s.index, area))
        progress()
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([TRUTH_COLUMNS, *rows])
    write_atomically(truth, text.getvalue())
    return truth


def _remove_earlier(folder: Path, truth: Path) -> None:
    """Remove the phantoms that an earlier call listed, and the folders that this leaves empty; nothing else.

    Raises:
        ConfigError: no earlier call wrote here, or a file lies where one of its folders will.
    """
    try:
        with truth.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            listed = [row["path"] for row in reader] if tuple(reader.fieldnames or ()) == TRUTH_COLUMNS else None
    except (OSError, UnicodeDecodeError, csv.Error, KeyError):
        listed = None
    if listed is None or not all(_EARLIER.fullmatch(path) for path in listed):
        raise ConfigError(f"{folder} holds something else than the phantoms of an earlier call; give another folder")
    for path in listed:
        (folder / path).unlink(missing_ok=True)
    for study in {folder / path.split("/")[0] for path in listed}:
        with contextlib.suppress(OSError):  # not empty: something of the user's lies in it
            study.rmdir()
    truth.unlink()


def collection_seeds(studies: int, seed: int = 0) -> tuple[tuple[int, str | None], ...]:
    """Seed and location of each study of `write_phantoms(folder, studies, seed)`, for `render_study`.

    Half of them have no haemorrhage; the first has one.
    """
    rng = np.random.default_rng([seed, studies])
    order = [str(v) for v in rng.permutation(LOCATION_LABELS)]
    seeds = (int(np.random.SeedSequence([seed, i]).generate_state(1, np.uint32)[0]) for i in range(1, studies + 1))
    return tuple((study_seed, order[i // 2 % len(order)] if i % 2 == 0 else None) for i, study_seed in enumerate(seeds))


def _shuffled(seed: int, count: int) -> list[int]:
    """Numbers 1 to `count` in an order that runs neither up nor down (where `count` allows it)."""
    rng = np.random.default_rng([seed, count])
    numbers = [int(v) for v in rng.permutation(count) + 1]
    if count > 2 and numbers in (sorted(numbers), sorted(numbers, reverse=True)):
        numbers[0], numbers[1] = numbers[1], numbers[0]
    return numbers


def slice_dataset(study: PhantomStudy, phantom_slice: PhantomSlice, patient: str = "0001") -> Dataset:
    """One slice as a CT Image Storage dataset with file meta information, ready for `save_as`."""
    names = (study.seed, study.location, study.slice_count)
    sop = phantom_uid("instance", *names, phantom_slice.index)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = sop
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = phantom_uid("implementation", _IMPLEMENTATION)
    dataset.file_meta.ImplementationVersionName = "DTVIT_PHANTOM_1"

    day = (_FIRST_DAY + datetime.timedelta(days=study.seed % 1500)).strftime("%Y%m%d")
    minute = study.seed // 1500 % 1440
    time = f"{minute // 60:02d}{minute % 60:02d}00"
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = sop
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = day
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = time
    dataset.AccessionNumber = ""
    dataset.Modality = "CT"
    dataset.Manufacturer = "dtvit-edge phantom"
    dataset.ManufacturerModelName = "analytic head"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "HEAD W/O CONTRAST (SYNTHETIC PHANTOM)"
    dataset.SeriesDescription = f"AXIAL {study.thickness_mm:g} MM {study.kernel}"
    dataset.PatientName = f"PHANTOM^{patient}"
    dataset.PatientID = f"PHANTOM-{patient}"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = "Synthetic: no patient was ever imaged"
    dataset.BurnedInAnnotation = "NO"
    dataset.BodyPartExamined = "HEAD"
    dataset.PatientPosition = "HFS"
    dataset.StudyInstanceUID = phantom_uid("study", *names)
    dataset.SeriesInstanceUID = phantom_uid("series", *names)
    dataset.FrameOfReferenceUID = phantom_uid("frame", *names)
    dataset.PositionReferenceIndicator = ""
    dataset.StudyID = patient[-16:]
    dataset.SeriesNumber = 2
    dataset.AcquisitionNumber = 1
    dataset.InstanceNumber = phantom_slice.index + 1
    _add_acquisition(dataset, study, phantom_slice)
    _add_pixels(dataset, study, phantom_slice)
    return dataset


def _add_acquisition(dataset: Dataset, study: PhantomStudy, phantom_slice: PhantomSlice) -> None:
    dataset.KVP = "120"
    dataset.XRayTubeCurrent = "200"
    dataset.ExposureTime = "1000"
    dataset.Exposure = "200"
    dataset.ScanOptions = "AXIAL MODE"
    dataset.ConvolutionKernel = study.kernel
    dataset.ReconstructionDiameter = f"{study.pixel_spacing_mm * tissues.MATRIX:.3f}"
    dataset.GantryDetectorTilt = f"{study.tilt_deg:.1f}"
    dataset.SliceThickness = f"{study.thickness_mm:g}"
    dataset.SpacingBetweenSlices = f"{study.spacing_mm:g}"
    dataset.PixelSpacing = [f"{study.pixel_spacing_mm:.6f}"] * 2
    dataset.ImagePositionPatient = [f"{v:.6f}" for v in phantom_slice.position_mm]
    dataset.ImageOrientationPatient = [f"{v:.9f}" for v in study.orientation]
    dataset.SliceLocation = f"{phantom_slice.position_mm[2]:.6f}"


def _add_pixels(dataset: Dataset, study: PhantomStudy, phantom_slice: PhantomSlice) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = phantom_slice.hu.shape
    dataset.BitsAllocated = 16
    dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1
    dataset.WindowCenter = "40"
    dataset.WindowWidth = "80"
    dataset.RescaleIntercept = str(study.rescale_intercept)
    dataset.RescaleSlope = "1"
    dataset.RescaleType = "HU"
    stored = phantom_slice.hu.astype(np.int32) - study.rescale_intercept
    dataset.PixelData = stored.astype("<i2").tobytes()
    dataset["PixelData"].VR = "OW"

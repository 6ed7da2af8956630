"""What a radiographer would shrug at: odd, and no reason against the study. Other series are in `shrug_series`."""

from __future__ import annotations

import copy
import os
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
    XRayRadiationDoseSRStorage,
)

from benchmarks.measure.faults.file_faults import archive, other_names
from benchmarks.measure.faults.studies import (
    Delivery,
    File,
    hu_values,
    intercept_hu,
    new_uid,
    put_values,
    replace_number,
)
from benchmarks.measure.faults.targets import Kind, Rng, some

NO_AGENT = (
    "NONE", "NON CONTRAST", "W/O", "WITHOUT", "UNENHANCED", "PLAIN", "N/A", "NIL", "-", "NO", "OHNE KM", "NATIV",
    "SANS", "SANS INJECTION", "SIN CONTRASTE", "SENZA MDC", "SEM CONTRASTE", "", "0",
)  # fmt: skip
NOT_NEEDED = (
    "SliceLocation", "InstanceNumber", "AcquisitionNumber", "ConvolutionKernel", "KVP", "BodyPartExamined",
    "RescaleType", "SpacingBetweenSlices", "FrameOfReferenceUID", "WindowCenter", "PatientBirthDate",
    "GantryDetectorTilt", "SeriesDescription",
)  # fmt: skip


def lossy_twin(d: Delivery, rng: Rng) -> str:
    """One slice, or a few, lie there with loss as well, under the same UIDs, before or after the good ones."""
    files = some(d.slices(), rng, int(rng.integers(1, 4)))
    for file in files:
        folder, name = os.path.split(file.name)
        twin = File(f"{folder}/{rng.choice(['0', 'z'])}-{name}", copy.deepcopy(file.content), file.index, owned=True)
        ds = d.edit(twin)
        ds.LossyImageCompression, ds.LossyImageCompressionRatio = "01", "10"
        if rng.random() < 0.5:
            ds.compress(JPEG2000, encoding_plugin="pylibjpeg", j2k_cr=[10], generate_instance_uid=False)
        else:
            put_values(ds, (hu_values(ds) - intercept_hu(ds)) // 4 * 4, signed=True)
        d.files.append(twin)
    return f"{len(files)} slices"


def zip_at_root(d: Delivery, rng: Rng) -> str:
    """An archive lies at the root, above the study's folder."""
    d.files.append(File("export.zip", archive([("readme.txt", b"old scans\n")])))
    return ""


def dicomdir(d: Delivery, rng: Rng) -> str:
    """A DICOMDIR lies at the root or beside the slices."""
    ds = _other(d, MediaStorageDirectoryStorage, "directory")
    ds.FileSetID = "CD1"
    ds.DirectoryRecordSequence = Sequence()
    d.files.append(File(str(rng.choice(["DICOMDIR", f"{_folder(d)}/DICOMDIR"])), ds))
    return ""


def scout(d: Delivery, rng: Rng) -> str:
    """A scout in a series of its own, or in the studied one."""
    ds = copy.deepcopy(d.scan.datasets[len(d.scan.datasets) // 2])
    ds.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    ds.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    retag(ds, "scout", series=bool(rng.random() < 0.7))
    d.files.append(File(f"{_folder(d)}/SCOUT1", ds))
    return ""


def dose_report(d: Delivery, rng: Rng) -> str:
    """A structured report of the dose."""
    ds = _other(d, XRayRadiationDoseSRStorage, "dose")
    ds.Modality, ds.ValueType = "SR", "CONTAINER"
    d.files.append(File(f"{_folder(d)}/DOSE.dcm", ds))
    return ""


def secondary_capture(d: Delivery, rng: Rng) -> str:
    """A secondary capture of the protocol page, with Modality CT or OT."""
    ds = copy.deepcopy(d.scan.datasets[0])
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    ds.ImageType, ds.Modality = ["DERIVED", "SECONDARY"], str(rng.choice(["CT", "OT"]))
    del ds.ImagePositionPatient, ds.ImageOrientationPatient
    retag(ds, "capture")
    d.files.append(File(f"{_folder(d)}/SC1", ds))
    return ""


def litter(d: Delivery, rng: Rng) -> str:
    """Files that file systems and viewers leave: README, .DS_Store, AppleDouble, Thumbs.db, a viewer's settings."""
    folder = _folder(d)
    slices = d.slices()
    double = f"{folder}/._{os.path.basename(slices[0].name)}"
    for name, data in (
        (f"{folder}/.DS_Store", b"\x00\x00\x00\x01Bud1" + bytes(6140)),
        (double, b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(4072)),
        (f"{folder}/Thumbs.db", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500)),
        ("README.txt", b"These are the scans.\n"),
        (f"{folder}/README", b"These are the scans.\n"),
        ("AUTORUN.INF", b"[autorun]\r\nopen=viewer.exe\r\n"),
        (f"{folder}/export.log", b"24 objects\n"),
        (f"{folder}/checksums.md5", b"d41d8cd98f00b204e9800998ecf8427e  IM0001\n"),
    ):
        if rng.random() < 0.6:
            d.files.append(File(name, data))
    return ""


def acquisition_per_rotation(d: Delivery, rng: Rng) -> str:
    """AcquisitionNumber counts up with every rotation."""
    step = int(rng.integers(1, 5))
    for file in d.slices():
        d.edit(file).AcquisitionNumber = 1 + (file.index or 0) // step
    return f"every {step}"


def folder_twice(d: Delivery, rng: Rng) -> str:
    """The study was copied twice, all of it or some."""
    files = d.slices() if rng.random() < 0.6 else some(d.slices(), rng, 5)
    d.files.extend([File(f"copy/{file.name}", d.encode(file), file.index) for file in files])
    return f"{len(files)} slices"


def orientation_noise(d: Delivery, rng: Rng) -> str:
    """Orientations differ by 1e-4 from slice to slice, about a value that rounds either way."""
    center = float(rng.choice([0.0, 0.005]))
    for file in d.slices():
        ds = d.edit(file)
        turned = np.array(ds.ImageOrientationPatient, float) + rng.uniform(-1e-4, 1e-4, 6)
        turned[5] += center
        ds.ImageOrientationPatient = [f"{v:.6f}" for v in turned]
    return f"about {center}"


def unknown_kvp(d: Delivery, rng: Rng) -> str:
    """KVP is 0, empty or missing."""
    return _set_all(d, "KVP", ["0", "", None][int(rng.integers(3))])


def no_thickness(d: Delivery, rng: Rng) -> str:
    """SliceThickness is missing, or empty."""
    return _set_all(d, "SliceThickness", [None, ""][int(rng.integers(2))])


def no_agent(d: Delivery, rng: Rng) -> str:
    """ContrastBolusAgent says in words that none was given."""
    return _set_all(d, "ContrastBolusAgent", str(rng.choice(NO_AGENT)))


def other_body_part(d: Delivery, rng: Rng) -> str:
    """BodyPartExamined says chest or neck, the descriptions say brain; or one odd slice does."""
    part = str(rng.choice(["CHEST", "NECK"]))
    files = d.slices() if rng.random() < 0.5 else some(d.slices(), rng, 1)
    for file in files:
        ds = d.edit(file)
        ds.BodyPartExamined, ds.StudyDescription = part, "CT BRAIN W/O CONTRAST"
    return f"{part} on {len(files)}"


def monochrome1(d: Delivery, rng: Rng) -> str:
    """MONOCHROME1 over a true rescale."""
    return _set_all(d, "PhotometricInterpretation", "MONOCHROME1")


def unsigned12(d: Delivery, rng: Rng) -> str:
    """Stored unsigned in 12 bits from -1024 HU on, as many scanners do."""
    for file in d.slices():
        ds = d.edit(file)
        put_values(ds, np.clip(hu_values(ds) + 1024, 0, 4095), signed=False, bits=12)
        ds.RescaleIntercept = "-1024"
    return ""


def padded_circle(d: Delivery, rng: Rng) -> str:
    """Outside the reconstruction circle lies padding far below air, declared or not."""
    value = int(rng.choice([-2000, -3024, -2048]))
    declared = bool(rng.random() < 0.5)
    for file in d.slices():
        ds = d.edit(file)
        hu = hu_values(ds)
        y, x = np.ogrid[: ds.Rows, : ds.Columns]
        hu[(y - ds.Rows / 2) ** 2 + (x - ds.Columns / 2) ** 2 > (ds.Rows / 2) ** 2] = value
        put_values(ds, hu - intercept_hu(ds), signed=True)
        if declared:
            ds.add_new("PixelPaddingValue", "SS", value - int(intercept_hu(ds)))
    return f"{value}, {'declared' if declared else 'not declared'}"


def other_syntax(d: Delivery, rng: Rng) -> str:
    """The slices are stored in another transfer syntax, all or some of them."""
    uid = (ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless)[int(rng.integers(3))]
    files = d.slices() if rng.random() < 0.7 else some(d.slices(), rng, 6)
    for file in files:
        ds = d.edit(file)
        if uid == RLELossless:
            ds.compress(uid, encoding_plugin="pylibjpeg", generate_instance_uid=False)
        else:
            ds.file_meta.TransferSyntaxUID = uid
    return f"{uid.name} on {len(files)}"


def fewer_tags(d: Delivery, rng: Rng) -> str:
    """Attributes that nobody needs for the result are missing."""
    keywords = some_words(rng, NOT_NEEDED)
    for file in d.slices():
        for keyword in keywords:
            if keyword in (ds := d.edit(file)):
                delattr(ds, keyword)
    return ",".join(keywords)


def decimal_comma(d: Delivery, rng: Rng) -> str:
    """The intercept is written with a decimal comma."""
    for file in d.slices():
        ds = d.edit(file)
        ds.RescaleIntercept = text = f"{intercept_hu(ds):.3f}"
        file.content = replace_number(d.encode(file), text, text.replace(".", ","))
    return ""


def fifo(d: Delivery, rng: Rng) -> str:
    """A FIFO lies at the root; it must not be waited for."""
    d.special.append(lambda folder: os.mkfifo(folder / "pipe"))
    return ""


def inner_link(d: Delivery, rng: Rng) -> str:
    """A link leads to another folder of those given, or to the folder that it lies in."""
    target = str(rng.choice([".", _folder(d)]))

    def link(folder: Path) -> None:
        (folder / "again").symlink_to(folder / target)

    d.special.append(link)
    return target


def some_words(rng: Rng, words: tuple[str, ...]) -> list[str]:
    """One to half of the words, in their order."""
    count = int(rng.integers(1, len(words) // 2 + 1))
    return [words[int(i)] for i in sorted(rng.permutation(len(words))[:count])]


def retag(ds: Dataset, word: str, number: int = 0, *, series: bool = True) -> Dataset:
    """Make it an instance of its own, by default of a series of its own."""
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = new_uid(word, ds.StudyInstanceUID, number)
    if series:
        ds.SeriesInstanceUID = new_uid(word, "series", ds.StudyInstanceUID)
        ds.SeriesNumber = 9
    return ds


def _other(d: Delivery, sop_class: str, word: str) -> Dataset:
    """An object of the patient's study that is no image."""
    first = d.scan.datasets[0]
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "StudyDate"):
        setattr(ds, keyword, getattr(first, keyword))
    return retag(ds, word)


def _set_all(d: Delivery, keyword: str, value: str | None) -> str:
    for file in d.slices():
        ds = d.edit(file)
        if value is not None:
            setattr(ds, keyword, value)
        elif keyword in ds:
            delattr(ds, keyword)
    return repr(value)


def _folder(d: Delivery) -> str:
    return os.path.dirname(d.slices()[0].name)


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        lossy_twin, zip_at_root, dicomdir, scout, dose_report, secondary_capture, litter, acquisition_per_rotation,
        folder_twice, orientation_noise, unknown_kvp, no_thickness, no_agent, other_body_part, monochrome1,
        unsigned12, padded_circle, other_syntax, fewer_tags, decimal_comma, fifo, inner_link, other_names,
    )
}  # fmt: skip

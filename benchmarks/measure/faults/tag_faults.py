"""Faults of identity and description: UIDs, patients, numbers, words that say what a slice is."""

from __future__ import annotations

from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage, SecondaryCaptureImageStorage

from benchmarks.measure.faults.studies import Delivery, File, new_uid, replace_number, retag_instance
from benchmarks.measure.faults.targets import Kind, Rng, each, targets


def one_instance_uid(d: Delivery, rng: Rng) -> str:
    """Slices share one SOPInstanceUID."""
    files, which = targets(d, rng)
    if rng.random() < 0.5 and len(slices := d.slices()) > len(files):  # one that another slice has as well
        files = [slices[0], *[f for f in files if f is not slices[0]]]
    for file in files:
        retag_instance(d.edit(file), new_uid("one instance"))
    return which


def instance_uid(d: Delivery, rng: Rng) -> str:
    """The SOPInstanceUID of the dataset and that of the file meta information differ, or one is missing."""
    mode = str(rng.choice(["differ", "no meta", "none"]))

    def change(ds: Dataset, file: File) -> None:
        if mode == "differ":
            ds.SOPInstanceUID = new_uid("other instance", file.index)
        elif mode == "no meta":
            ds.file_meta.MediaStorageSOPInstanceUID = "0"
        else:
            ds.SOPInstanceUID = ""

    return f"{each(d, rng, change)}, {mode}"


def series_uid(d: Delivery, rng: Rng) -> str:
    """Some slices, or each by itself, carry another SeriesInstanceUID."""
    alone = bool(rng.random() < 0.5)
    return each(d, rng, lambda ds, f: setattr(ds, "SeriesInstanceUID", new_uid("series", f.index if alone else 0)))


def study_uid(d: Delivery, rng: Rng) -> str:
    """Some slices carry another StudyInstanceUID."""
    alone = bool(rng.random() < 0.2)
    return each(d, rng, lambda ds, f: setattr(ds, "StudyInstanceUID", new_uid("study", f.index if alone else 0)))


def empty_uids(d: Delivery, rng: Rng) -> str:
    """StudyInstanceUID or SeriesInstanceUID is missing or empty."""
    keyword = str(rng.choice(["StudyInstanceUID", "SeriesInstanceUID"]))
    value = [None, ""][int(rng.integers(2))]
    return f"{_set(d, rng, keyword, value)}, {keyword} {value!r}"


def frame_of_reference(d: Delivery, rng: Rng) -> str:
    """Some slices carry another FrameOfReferenceUID, or none."""
    value = [None, new_uid("frame")][int(rng.integers(2))]
    return _set(d, rng, "FrameOfReferenceUID", value)


def patient(d: Delivery, rng: Rng) -> str:
    """Some slices carry another PatientID, or none."""
    value = ["PHANTOM-OTHER", "", None][int(rng.integers(3))]
    return f"{_set(d, rng, 'PatientID', value)}, {value!r}"


def instance_number(d: Delivery, rng: Rng) -> str:
    """InstanceNumber is missing, the same everywhere, or in another order."""
    mode = str(rng.choice(["none", "same", "shuffled"]))
    order = rng.permutation(200)

    def change(ds: Dataset, file: File) -> None:
        value = {"none": None, "same": 1, "shuffled": int(order[file.index or 0])}[mode]
        _assign(ds, "InstanceNumber", value)

    return f"{each(d, rng, change)}, {mode}"


def acquisition_number(d: Delivery, rng: Rng) -> str:
    """AcquisitionNumber counts slices or rotations; one position was scanned twice."""
    step = int(rng.integers(1, 5))
    slices = d.slices()
    for file in slices:
        d.edit(file).AcquisitionNumber = 1 + (file.index or 0) // step
    if not slices:
        return "nothing"
    repeated = slices[int(rng.integers(len(slices)))]
    again = File(repeated.name + "-again", repeated.content, repeated.index)
    retag_instance(d.edit(again), new_uid("repeat", repeated.index))
    d.edit(again).AcquisitionNumber = 99
    d.files.append(again)
    return f"every {step}, slice {repeated.index} again"


def kernel(d: Delivery, rng: Rng) -> str:
    """Another ConvolutionKernel: bone, several, or none."""
    value = [["BONE"], ["H70h"], ["Hr40f", "3"], [""]][int(rng.integers(4))]
    return f"{_set(d, rng, 'ConvolutionKernel', value)}, {value}"


def contrast(d: Delivery, rng: Rng) -> str:
    """A contrast agent is named, or words that say one or none."""
    keyword, value = (
        ("ContrastBolusAgent", "OMNIPAQUE"),
        ("ContrastBolusAgent", "NON CONTRAST"),
        ("ContrastBolusVolume", "80"),
        ("SeriesDescription", "CTA HEAD"),
    )[int(rng.integers(4))]
    return f"{_set(d, rng, keyword, value)}, {value}"


def body_part(d: Delivery, rng: Rng) -> str:
    """BodyPartExamined or the description names another part of the body."""
    keyword, value = (
        ("BodyPartExamined", "CHEST"),
        ("BodyPartExamined", "NECK"),
        ("BodyPartExamined", ""),
        ("SeriesDescription", "C-SPINE 2.0"),
        ("SeriesDescription", "SINUS"),
    )[int(rng.integers(5))]
    return f"{_set(d, rng, keyword, value)}, {value!r}"


def image_type(d: Delivery, rng: Rng) -> str:
    """ImageType says a scout, a projection, a map, or nothing."""
    value = (
        ["ORIGINAL", "PRIMARY", "LOCALIZER"],
        ["DERIVED", "SECONDARY", "MIP"],
        ["DERIVED", "PRIMARY", "CBF"],
        ["DERIVED", "SECONDARY", "REFORMATTED"],
        None,
    )[int(rng.integers(5))]
    return f"{_set(d, rng, 'ImageType', value)}, {value}"


def sop_class(d: Delivery, rng: Rng) -> str:
    """The SOP class is a secondary capture's or that of an MR image."""
    uid = (SecondaryCaptureImageStorage, MRImageStorage)[int(rng.integers(2))]

    def change(ds: Dataset, file: File) -> None:
        ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = uid

    return f"{each(d, rng, change)}, {uid.name}"


def modality(d: Delivery, rng: Rng) -> str:
    """Modality is another one, or empty."""
    value = ["OT", "MR", ""][int(rng.integers(3))]
    return f"{_set(d, rng, 'Modality', value)}, {value!r}"


def tube_voltage(d: Delivery, rng: Rng) -> str:
    """KVP is outside the usual range, 0, or missing."""
    value = ["80", "0", "150", None][int(rng.integers(4))]
    return f"{_set(d, rng, 'KVP', value)}, {value}"


def decimal_comma(d: Delivery, rng: Rng) -> str:
    """Slope and intercept are written with decimal commas, or are no numbers."""
    files, which = targets(d, rng)
    words = bool(rng.random() < 0.3)
    for file in files:
        ds = d.edit(file)
        intercept = f"{float(ds.RescaleIntercept or 0):.3f}" if "RescaleIntercept" in ds else "0.000"
        ds.RescaleIntercept, ds.RescaleSlope = intercept, "1.000"
        data = d.encode(file)
        for value in (intercept, "1.000"):
            data = replace_number(data, value, "none" if words else value.replace(".", ","))
        file.content = data
    return f"{which}, {'words' if words else 'commas'}"


def _set(d: Delivery, rng: Rng, keyword: str, value: Any) -> str:
    return each(d, rng, lambda ds, file: _assign(ds, keyword, value))


def _assign(ds: Dataset, keyword: str, value: Any) -> None:
    """Set an attribute, or delete it where the value is None."""
    if value is not None:
        setattr(ds, keyword, value)
    elif keyword in ds:
        delattr(ds, keyword)


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        one_instance_uid, instance_uid, series_uid, study_uid, empty_uids, frame_of_reference, patient,
        instance_number, acquisition_number, kernel, contrast, body_part, image_type, sop_class, modality,
        tube_voltage, decimal_comma,
    )
}  # fmt: skip

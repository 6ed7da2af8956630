"""What a radiographer would shrug at: another series beside, slices again, and stacks that are built otherwise."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from benchmarks.measure.faults.shrugs import retag
from benchmarks.measure.faults.studies import Delivery, File, hu_values, intercept_hu, put_values
from benchmarks.measure.faults.targets import Kind, Rng, some


def repeat_after_motion(d: Delivery, rng: Rng) -> str:
    """Some positions were scanned twice, in the same series or in one of its own."""
    slices = d.slices()
    count = int(rng.integers(2, 8))
    start = int(rng.integers(0, len(slices) - count))
    own = bool(rng.random() < 0.3)
    for i, file in enumerate(slices[start : start + count]):
        ds = _again(file, "repeat", i, series=own)
        put_values(ds, hu_values(ds) + rng.normal(0, 2, (ds.Rows, ds.Columns)) - intercept_hu(ds), signed=True)
        ds.AcquisitionNumber = 2
        ds.InstanceNumber = len(slices) + i + 1
        d.files.append(File(f"{file.name}-r", ds, file.index, owned=True))
    return f"{count} from {start}{', own series' if own else ''}"


def bone_beside(d: Delivery, rng: Rng) -> str:
    """The same scan with a bone kernel beside."""
    kernel = str(rng.choice(["BONE", "H60s", "FC30", "Hr64h"]))
    for i, file in enumerate(d.slices()):
        ds = _again(file, "bone", i)
        put_values(ds, hu_values(ds) + rng.normal(0, 40, (ds.Rows, ds.Columns)) - intercept_hu(ds), signed=True)
        ds.ConvolutionKernel, ds.SeriesDescription = kernel, f"AXIAL {kernel}"
        d.files.append(File(f"bone/B{i:03d}", ds))
    return kernel


def map_beside(d: Delivery, rng: Rng) -> str:
    """A map without a name beside: values that are no Hounsfield units."""
    for i, file in enumerate(d.slices()):
        ds = _again(file, "map", i)
        put_values(ds, np.clip(hu_values(ds), 0, 100) * 2.5, signed=False)
        ds.RescaleIntercept, ds.RescaleSlope, ds.SeriesDescription = "0", "1", "RESULTS"
        ds.ImageType = ["DERIVED", "SECONDARY"]
        d.files.append(File(f"map/M{i:03d}", ds))
    return ""


def blank_end(d: Delivery, rng: Rng) -> str:
    """A reformatted stack goes on above the head: constant slices."""
    count = int(rng.integers(1, 4))
    top = d.slices()[-1]
    step = _step_mm(d)
    for i in range(1, count + 1):
        ds = _again(top, "blank", i, series=False)
        put_values(ds, np.full((ds.Rows, ds.Columns), -1000 - intercept_hu(ds)), signed=True)
        _place(ds, np.array(ds.ImagePositionPatient, float) + i * step)
        ds.InstanceNumber = len(d.slices()) + i
        d.files.append(File(f"{top.name}-{i}", ds))
    return f"{count} slices"


def two_slabs(d: Delivery, rng: Rng) -> str:
    """4 mm below and 7 mm above, in one series or in two."""
    slices = d.slices()
    middle = len(slices) // 2
    apart = bool(rng.random() < 0.5)
    step = _step_mm(d)
    upper = slices[middle:]
    volume = np.stack([hu_values(d.edit(f)) for f in upper])
    thickness = float(d.scan.datasets[0].SliceThickness)
    # The lower slab keeps its spacing; the upper one is drawn anew at 1.6 times the spacing.
    first = np.array(d.edit(upper[0]).ImagePositionPatient, float)
    d.files[:] = [f for f in d.files if f not in upper]
    for i in range(int((len(upper) - 1) / 1.6) + 1):
        ds = _again(upper[0], "slab", i, series=apart)
        put_values(ds, _between(volume, 1.6 * i) - intercept_hu(ds), signed=True)
        ds.SliceThickness = ds.SpacingBetweenSlices = f"{1.6 * thickness:g}"
        ds.InstanceNumber = middle + i + 1
        ds.AcquisitionNumber = 2
        _place(ds, first + 1.6 * i * step)
        d.files.append(File(f"study/upper{i:02d}", ds))
    return "two series" if apart else "one series"


def tilt_block(d: Delivery, rng: Rng) -> str:
    """The lower block was scanned with the gantry tilted, the upper one without; in one series or in two."""
    slices = d.slices()
    angle = np.deg2rad(float(rng.uniform(8, 20)))
    apart = bool(rng.random() < 0.5)
    for file in slices[: len(slices) // 2]:
        ds = d.edit(file)
        column = np.array([0, np.cos(angle), -np.sin(angle)])
        old = np.array(ds.ImageOrientationPatient[3:], float)
        half = float(ds.PixelSpacing[0]) * (ds.Rows - 1) / 2
        _place(ds, np.array(ds.ImagePositionPatient, float) + half * (old - column))  # about the image's centre
        ds.ImageOrientationPatient = [1, 0, 0, *(f"{v:.9f}" for v in column)]
        ds.GantryDetectorTilt = f"{np.rad2deg(angle):.1f}"
        if apart:
            ds.SeriesInstanceUID = f"{ds.SeriesInstanceUID}.2"[-64:]
        else:
            ds.AcquisitionNumber = 2
    for file in slices[len(slices) // 2 :]:
        ds = d.edit(file)
        old = np.array(ds.ImageOrientationPatient[3:], float)
        half = float(ds.PixelSpacing[0]) * (ds.Rows - 1) / 2
        _place(ds, np.array(ds.ImagePositionPatient, float) + half * (old - [0, 1, 0]))
        ds.ImageOrientationPatient, ds.GantryDetectorTilt = [1, 0, 0, 0, 1, 0], "0"
    return f"{np.rad2deg(angle):.0f} degrees, {'two series' if apart else 'one series'}"


def thin_beside(d: Delivery, rng: Rng) -> str:
    """The same scan in thin slices beside the thick one."""
    slices = d.slices()
    volume = np.stack([hu_values(d.edit(f)) for f in slices])
    first, step = np.array(d.edit(slices[0]).ImagePositionPatient, float), _step_mm(d)
    parts = int(rng.integers(3, 5))
    for i in range((len(slices) - 1) * parts + 1):
        ds = _again(slices[0], "thin", i)
        noise = rng.normal(0, 6, volume.shape[1:])
        put_values(ds, _between(volume, i / parts) + noise - intercept_hu(ds), signed=True)
        ds.SliceThickness = ds.SpacingBetweenSlices = f"{np.linalg.norm(step) / parts:.4f}"
        ds.InstanceNumber = i + 1
        _place(ds, first + i / parts * step)
        d.files.append(File(f"thin/T{i:03d}", ds))
    return f"{parts} to a slice"


def other_study_beside(d: Delivery, rng: Rng) -> str:
    """A few slices of another patient's study in a folder beside, complete or not."""
    files = some(d.slices(), rng, int(rng.integers(2, 9)))
    for i, file in enumerate(files):
        ds = _again(file, "stranger", i)
        ds.StudyInstanceUID, ds.PatientID, ds.PatientName = "2.25.98", "PHANTOM-STRANGER", "PHANTOM^STRANGER"
        d.files.append(File(f"stranger/S{i}", ds))
    d.donors.add("2.25.98")
    return f"{len(files)} slices"


def series_per_slab(d: Delivery, rng: Rng) -> str:
    """The scan in two or three series that follow each other, with the same tags otherwise."""
    slices = d.slices()
    parts = int(rng.integers(2, 4))
    for file in slices:
        part = (file.index or 0) * parts // len(slices)
        if part:
            ds = d.edit(file)
            ds.SeriesInstanceUID = f"{ds.SeriesInstanceUID}.{part}"[-64:]
            ds.SeriesNumber = 2 + part
    return f"{parts} series"


def _again(file: File, word: str, number: int, *, series: bool = True) -> Dataset:
    assert isinstance(file.content, Dataset)
    return retag(copy.deepcopy(file.content), word, number, series=series)


def _step_mm(d: Delivery) -> NDArray[np.float64]:
    """From one slice's position to the next one's."""
    one, two = (np.array(d.scan.datasets[i].ImagePositionPatient, np.float64) for i in (0, 1))
    return two - one


def _place(ds: Dataset, position: NDArray[np.float64]) -> None:
    ds.ImagePositionPatient = [f"{v:.6f}" for v in position]
    ds.SliceLocation = f"{position[2]:.6f}"


def _between(volume: NDArray[np.float64], at: float) -> NDArray[np.float64]:
    low = min(int(at), len(volume) - 1)
    high = min(low + 1, len(volume) - 1)
    mixed: NDArray[np.float64] = volume[low] * (1 - (at - low)) + volume[high] * (at - low)
    return mixed


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        repeat_after_motion, bone_beside, map_beside, blank_end, two_slabs, tilt_block, thin_beside,
        other_study_beside, series_per_slab,
    )
}  # fmt: skip

"""Faults of geometry: positions, orientations, thickness and spacing that are missing, jittered, swapped or wrong."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from benchmarks.measure.faults.studies import Delivery, File
from benchmarks.measure.faults.targets import Kind, Rng, each


def swap_positions(d: Delivery, rng: Rng) -> str:
    """Two slices carry each other's positions."""
    slices = d.slices()
    if len(slices) < 2:
        return "nothing"
    a, b = (slices[int(i)] for i in rng.permutation(len(slices))[:2])
    one, two = d.edit(a), d.edit(b)
    for keyword in ("ImagePositionPatient", "SliceLocation"):
        if keyword in one and keyword in two:
            first, second = getattr(one, keyword), getattr(two, keyword)
            setattr(one, keyword, second)
            setattr(two, keyword, first)
    return f"slices {a.index} and {b.index}"


def no_position(d: Delivery, rng: Rng) -> str:
    """ImagePositionPatient is missing."""
    return each(d, rng, lambda ds, file: _without(ds, "ImagePositionPatient"))


def no_place(d: Delivery, rng: Rng) -> str:
    """Position, orientation and SliceLocation are missing, now and then InstanceNumber too."""
    more = ("InstanceNumber",) if rng.random() < 0.4 else ()
    keywords = ("ImagePositionPatient", "ImageOrientationPatient", "SliceLocation", *more)
    return f"{each(d, rng, lambda ds, file: _without(ds, *keywords))}, {len(keywords)} attributes"


def no_slice_location(d: Delivery, rng: Rng) -> str:
    """SliceLocation is missing."""
    return each(d, rng, lambda ds, file: _without(ds, "SliceLocation"))


def same_position(d: Delivery, rng: Rng) -> str:
    """All slices say that they lie at the origin, or where the first one lies."""
    origin = bool(rng.random() < 0.5)
    first = d.scan.datasets[0].ImagePositionPatient

    def change(ds: Dataset, file: File) -> None:
        ds.ImagePositionPatient = [0, 0, 0] if origin else first

    return f"{each(d, rng, change)}, {'origin' if origin else 'first'}"


def position_jitter(d: Delivery, rng: Rng) -> str:
    """Positions are off by tenths of millimetres, or by millimetres."""
    size = float(rng.choice([0.02, 0.09, 0.3, 1.0]))

    def change(ds: Dataset, file: File) -> None:
        if (position := _position(ds)) is not None:
            moved = position + rng.uniform(-size, size, 3)
            ds.ImagePositionPatient = [f"{v:.4f}" for v in moved]

    return f"{each(d, rng, change)}, {size} mm"


def moved_block(d: Delivery, rng: Rng) -> str:
    """Slices lie further up or down than they were scanned: the table's zero changed."""
    step = np.array([0, 0, float(rng.choice([-300, -40, -7, 7, 40, 300]))])

    def change(ds: Dataset, file: File) -> None:
        if (position := _position(ds)) is not None:
            ds.ImagePositionPatient = [f"{v:.4f}" for v in position + step]

    return f"{each(d, rng, change)}, {step[2]} mm"


def odd_position(d: Delivery, rng: Rng) -> str:
    """Positions are no numbers, or two instead of three."""
    value = [[0, 0], ["nan", "nan", "nan"], ["1e30", "0", "0"], ["0", "0", "inf"]][int(rng.integers(4))]

    def change(ds: Dataset, file: File) -> None:
        ds.add_new("ImagePositionPatient", "DS", value)

    return f"{each(d, rng, change)}, {value}"


def orientation_jitter(d: Delivery, rng: Rng) -> str:
    """Orientations differ by rounding, or by tenths of a degree."""
    size = float(rng.choice([1e-4, 2e-4, 1e-3, 4e-3]))
    # Across what rounds to two decimals one way or the other.
    tilt = np.array([0, 0, 0, 0, 0, float(rng.choice([0.0, 0.005]))])

    def change(ds: Dataset, file: File) -> None:
        if len(ds.get("ImageOrientationPatient") or ()) == 6:
            turned = np.array(ds.ImageOrientationPatient, float) + tilt
            ds.ImageOrientationPatient = [f"{v:.6f}" for v in turned + rng.uniform(-size, size, 6)]

    return f"{each(d, rng, change)}, {size}"


def other_orientation(d: Delivery, rng: Rng) -> str:
    """Slices say that they are sagittal, coronal, tilted, upside down, or lie nowhere."""
    value = (
        [0, 1, 0, 0, 0, -1],
        [1, 0, 0, 0, 0, -1],
        [1, 0, 0, 0, 0.94, -0.34],
        [-1, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0],
        None,
    )[int(rng.integers(6))]

    def change(ds: Dataset, file: File) -> None:
        if value is None:
            _without(ds, "ImageOrientationPatient")
        else:
            ds.ImageOrientationPatient = value

    return f"{each(d, rng, change)}, {value}"


def thickness(d: Delivery, rng: Rng) -> str:
    """SliceThickness is missing, 0, far thinner or thicker than the slices lie apart."""
    value = [None, "0", "0.6", "1.25", "10", "50"][int(rng.integers(6))]

    def change(ds: Dataset, file: File) -> None:
        if value is None:
            _without(ds, "SliceThickness")
        else:
            ds.SliceThickness = value

    return f"{each(d, rng, change)}, {value}"


def pixel_spacing(d: Delivery, rng: Rng) -> str:
    """PixelSpacing is missing, 0, or off by ten."""
    factor = [None, 0.0, 0.1, 10.0][int(rng.integers(4))]

    def change(ds: Dataset, file: File) -> None:
        if factor is None:
            _without(ds, "PixelSpacing", "ReconstructionDiameter")
        elif "PixelSpacing" in ds:
            ds.PixelSpacing = [f"{float(v) * factor:.6f}" for v in ds.PixelSpacing]

    return f"{each(d, rng, change)}, x{factor}"


def images_in_acquisition(d: Delivery, rng: Rng) -> str:
    """ImagesInAcquisition counts more or fewer images than there are."""
    count = len(d.scan.datasets) + int(rng.choice([-10, -1, 1, 5, 100]))

    def change(ds: Dataset, file: File) -> None:
        ds.ImagesInAcquisition = max(count, 1)

    return f"{each(d, rng, change)}, {count} of {len(d.scan.datasets)}"


def _position(ds: Dataset) -> NDArray[np.float64] | None:
    """ImagePositionPatient; None where an earlier fault left no three numbers."""
    position = ds.get("ImagePositionPatient")
    return None if position is None or len(position) != 3 else np.array(position, np.float64)


def _without(ds: Dataset, *keywords: str) -> None:
    for keyword in keywords:
        if keyword in ds:
            delattr(ds, keyword)


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        swap_positions, no_position, no_place, no_slice_location, same_position, position_jitter, moved_block,
        odd_position, orientation_jitter, other_orientation, thickness, pixel_spacing, images_in_acquisition,
    )
}  # fmt: skip

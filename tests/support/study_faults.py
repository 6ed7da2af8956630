"""What is done to a phantom study, one fault a function, for tests of what earns a 0."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from benchmarks.measure.faults.file_faults import archive
from benchmarks.measure.faults.studies import (
    Delivery,
    File,
    Scan,
    hu_values,
    intercept_hu,
    new_uid,
    put_values,
    retag_instance,
    scan_of,
)

MIDDLE = (12, 13)  # of 28 slices 4.6 mm apart
BLOOD_HU = 55


def bright(scan: Scan, blood: tuple[int, ...]) -> Scan:
    """The scan with its brain made brighter in some slices."""
    datasets = list(scan.datasets)
    for index in blood:
        ds = datasets[index] = copy.deepcopy(datasets[index])
        hu = hu_values(ds)
        hu[(hu > 10) & (hu < 60)] = BLOOD_HU
        put_values(ds, hu - intercept_hu(ds), signed=True)
    return scan_of(datasets, blood)


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def files(d: Delivery, *indices: int) -> list[File]:
    """Files of these slices; of all where none is named."""
    return [f for f in d.slices() if not indices or f.index in indices]


def tags(*indices: int, **values: Any) -> Callable[[Delivery], None]:
    """Set attributes on these slices, or on all; None deletes."""

    def change(d: Delivery) -> None:
        for file in files(d, *indices):
            for keyword, value in values.items():
                if value is not None:
                    setattr(d.edit(file), keyword, value)
                elif keyword in d.edit(file):
                    delattr(d.edit(file), keyword)

    return change


def pixels(new: Callable[[np.ndarray], np.ndarray], *indices: int, **encoding: Any) -> Callable[[Delivery], None]:
    """Replace the stored values by a function of the HU, with intercept 0 unless it is given."""
    slope, intercept = encoding.pop("slope", 1), encoding.pop("intercept", 0)

    def change(d: Delivery) -> None:
        for file in files(d, *indices):
            ds = d.edit(file)
            put_values(ds, new(hu_values(ds)), **{"signed": False, **encoding})
            ds.RescaleSlope, ds.RescaleIntercept = str(slope), str(intercept)

    return change


def data(new: Callable[[bytes], bytes], *indices: int) -> Callable[[Delivery], None]:
    """Replace the bytes of files."""

    def change(d: Delivery) -> None:
        for file in files(d, *indices):
            file.content = new(d.encode(file))

    return change


def crop(size: int) -> Callable[[Delivery], None]:
    """The middle of every slice alone; a pixel is 1.9 mm wide."""

    def change(d: Delivery) -> None:
        for file in files(d):
            ds = d.edit(file)
            start = (ds.Rows - size) // 2
            middle = (hu_values(ds) - intercept_hu(ds))[start : start + size, start : start + size]
            put_values(ds, middle, signed=True)

    return change


def sees_nothing(d: Delivery) -> None:
    """The model finds no blood anywhere."""
    d.answer = lambda logits: logits * 0 + np.array([5, -5], np.float32)


def drop(*indices: int) -> Callable[[Delivery], None]:
    def change(d: Delivery) -> None:
        d.files[:] = [f for f in d.files if f.index not in indices]

    return change


def both(*changes: Callable[[Delivery], object]) -> Callable[[Delivery], None]:
    def change(d: Delivery) -> None:
        for one in changes:
            one(d)

    return change


def kind(of: Callable[[Delivery, np.random.Generator], str]) -> Callable[[Delivery], object]:
    """A fault of the mutation run, with its own choices."""
    return lambda d: of(d, rng())


def wrapped12(hu: np.ndarray) -> np.ndarray:
    return np.clip(hu, -2048, 2047).astype(int) & 0xFFF


def windowed(hu: np.ndarray) -> np.ndarray:
    return np.clip(hu / 80, 0, 1) * 255


def twin_first(new: Callable[[bytes], bytes]) -> Callable[[Delivery], None]:
    """Another copy of the bloody slices that sorts before the good one."""

    def change(d: Delivery) -> None:
        d.files += [File(f"study/0-{f.index}", new(d.encode(f)), f.index) for f in files(d, *MIDDLE)]

    return change


def zero_pixels(content: bytes) -> bytes:
    return content[: content.rindex(b"\xe0\x7f\x10\x00") + 12].ljust(len(content), b"\x00")


def again(index: int, times: int) -> Callable[[Delivery], None]:
    """One position is scanned again and again: other instances, numbered as other acquisitions."""

    def change(d: Delivery) -> None:
        (file,) = files(d, index)
        for time in range(times):
            copied = File(f"study/again{time}-{index}", file.content, index)
            retag_instance(d.edit(copied), new_uid("again", index, time))
            d.edit(copied).AcquisitionNumber = 50 + time
            d.files.append(copied)

    return change


def passes(times: int) -> Callable[[Delivery], None]:
    def change(d: Delivery) -> None:
        for i in range(len(d.scan.datasets)):
            again(i, times)(d)

    return change


def jitter(d: Delivery) -> None:
    """Orientations differ by 2e-4 between neighbours, on either side of what rounds up or down."""
    for file in files(d):
        turned = [float(v) for v in d.edit(file).ImageOrientationPatient]
        turned[5] = round(turned[5], 2) + 0.005 + (1e-4 if (file.index or 0) % 2 else -1e-4)
        d.edit(file).ImageOrientationPatient = turned


def each_series(d: Delivery) -> None:
    for file in files(d):
        d.edit(file).SeriesInstanceUID = new_uid("series", file.index)


def moved(folder: str, *indices: int) -> Callable[[Delivery], None]:
    def change(d: Delivery) -> None:
        for file in files(d, *indices):
            file.name = f"{folder}/{os.path.basename(file.name)}"

    return change


def locked(folder: str, *indices: int) -> Callable[[Delivery], None]:
    return both(moved(folder, *indices), lambda d: d.locked.append(folder))


def linked_out(*indices: int) -> Callable[[Delivery], None]:
    def change(d: Delivery) -> None:
        chosen = files(d, *indices)
        d.files[:] = [f for f in d.files if f not in chosen]
        d.outside += chosen
        d.links.append(("study/more", os.path.dirname(chosen[0].name)))

    return change


def zipped(name: str, *indices: int) -> Callable[[Delivery], None]:
    def change(d: Delivery) -> None:
        chosen = files(d, *indices)
        d.files[:] = [f for f in d.files if f not in chosen]
        d.files.append(File(name, archive([(os.path.basename(f.name), d.encode(f)) for f in chosen])))

    return change


def replaced(d: Delivery) -> None:
    """While the model opens, another slice's file takes the place of the bloody ones, with its times."""
    other = d.encode(files(d, 3)[0])
    names = [f.name for f in files(d, *MIDDLE)]

    def swap(folder: Path) -> None:
        for name in names:
            state = (folder / name).stat()
            (folder / f"{name}~").write_bytes(other)
            os.utime(folder / f"{name}~", ns=(state.st_atime_ns, state.st_mtime_ns))
            os.replace(folder / f"{name}~", folder / name)

    d.meanwhile.append(swap)


def answers(value: float, *, positive_alone: bool) -> Callable[[Delivery], None]:
    def answer(logits: np.ndarray) -> np.ndarray:
        changed = logits.copy()
        changed[logits[:, 1] >= logits[:, 0] if positive_alone else slice(None), 0] = value
        return changed

    return lambda d: setattr(d, "answer", answer)


def twice_apart(d: Delivery) -> None:
    """A second study, of another patient, beside the first below one root; an archive lies at the root."""
    for file in list(files(d)):
        second = File(f"other/{file.index}", file.content)
        ds: Dataset = d.edit(second)
        retag_instance(ds, new_uid("other", file.index))
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "2.25.61", "2.25.62", "2.25.63"
        ds.PatientID = "PHANTOM-SECOND"
        d.files.append(second)
    d.files.append(File("old.zip", archive([("note.txt", b"old")])))


def special(make: Callable[[Path], object]) -> Callable[[Delivery], None]:
    """A special file is made in the study's folder."""

    def call(folder: Path) -> None:
        make(folder)

    return lambda d: d.special.append(call)

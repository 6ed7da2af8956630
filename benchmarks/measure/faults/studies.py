"""A phantom study in memory, and what of it is delivered to a folder: files that faults change beforehand."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dtvit_edge.phantom import phantom_uid, render_study, slice_dataset
from dtvit_edge.phantom.tissues import MATRIX
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import PixelEncoding, PreprocessSpec

SHRINK = 4
"""Phantoms are shrunk to a quarter of their matrix (128 x 128): a run over a study then takes a third of a second."""


@dataclass(frozen=True)
class Scan:
    """A phantom study before anything happens to it.

    Attributes:
        datasets: from feet to head; encoded: the same as files' bytes.
        bleed: indices of the slices that show blood.
        head_pixels: of each slice's head mask.
        scored: indices of the slices that a run over the untouched study scores; empty before there was one.
    """

    datasets: tuple[Dataset, ...]
    encoded: tuple[bytes, ...]
    bleed: frozenset[int]
    head_pixels: tuple[int, ...]
    scored: frozenset[int] = frozenset()

    @property
    def heights_mm(self) -> list[float]:
        """Heights of the slices along z."""
        return [float(ds.ImagePositionPatient[2]) for ds in self.datasets]


@dataclass(eq=False)
class File:
    """One file of a delivery.

    Attributes:
        name: relative to the delivered folder, with forward slashes.
        index: of the scan's slice that it shows; None for what lies beside the scan.
        owned: the dataset is this file's own and may be changed.
        altered: its pixels or their meaning are not what the scanner sent.
    """

    name: str
    content: Dataset | bytes
    index: int | None = None
    owned: bool = False
    altered: bool = False


@dataclass(eq=False)
class Delivery:
    """What is written for one run.

    Attributes:
        files: in the folder that is scored; outside: in a folder beside it.
        links: (name in the folder, name outside), a symbolic link to it.
        locked: names of files and folders that cannot be opened or listed.
        special: called with the folder after all is written, to make what is no file.
        meanwhile: called with the folder between planning and reading.
        answer: changes the model's logits of a batch: (N, 2) float32.
        gone: indices of slices that are nowhere any more.
        donors: study UIDs of other patients, whose results are not judged.
    """

    scan: Scan
    files: list[File]
    outside: list[File] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    locked: list[str] = field(default_factory=list)
    special: list[Callable[[Path], None]] = field(default_factory=list)
    meanwhile: list[Callable[[Path], None]] = field(default_factory=list)
    answer: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None
    gone: set[int] = field(default_factory=set)
    donors: set[str] = field(default_factory=set)

    def edit(self, file: File) -> Dataset:
        """The file's dataset, to be changed: a copy of the scan's at the first time."""
        assert isinstance(file.content, Dataset)
        if not file.owned:
            file.content, file.owned = copy.deepcopy(file.content), True
        return file.content

    def slices(self) -> list[File]:
        """Files that still are slices of the scan, from feet to head."""
        found = [f for f in self.files if f.index is not None and isinstance(f.content, Dataset)]
        return sorted(found, key=lambda f: (f.index, f.name))

    def encode(self, file: File) -> bytes:
        """The file's bytes as they are written."""
        if isinstance(file.content, bytes):
            return file.content
        if file.index is not None and file.content is self.scan.datasets[file.index]:
            return self.scan.encoded[file.index]
        return encode(file.content)

    def write(self, folder: Path, outside: Path) -> None:
        """Write everything; what is locked is still open."""
        for root, files in ((folder, self.files), (outside, self.outside)):
            root.mkdir(parents=True, exist_ok=True)
            for file in files:
                path = root / file.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(self.encode(file))
        for name, target in self.links:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(outside / target)
        for make in self.special:
            make(folder)


def phantom_scan(seed: int, location: str | None, patient: str = "0001", *, thickness_mm: float | None = None) -> Scan:
    """Render a phantom, shrink it to 128 x 128 and keep it as datasets; takes about two seconds.

    Args:
        location: as for `dtvit_edge.phantom.render_study`.
        thickness_mm: written as SliceThickness; None is the phantom's own.
    """
    study = render_study(seed, location)
    pitch = study.pixel_spacing_mm * SHRINK
    small = replace(study, pixel_spacing_mm=pitch, thickness_mm=thickness_mm or study.thickness_mm)
    column, row = np.array(study.orientation[:3]), np.array(study.orientation[3:])
    shift = (SHRINK - 1) / 2 * study.pixel_spacing_mm * (column + row)
    datasets = []
    for s in study.slices:
        hu = cv2.resize(s.hu.astype(np.float32), (MATRIX // SHRINK,) * 2, interpolation=cv2.INTER_AREA)
        x, y, z = (float(v) for v in np.array(s.position_mm) + shift)
        shrunk = replace(s, hu=np.rint(hu).astype(np.int16), position_mm=(x, y, z))
        ds = slice_dataset(small, shrunk, patient)
        ds.ReconstructionDiameter = f"{study.pixel_spacing_mm * MATRIX:.3f}"
        datasets.append(ds)
    return scan_of(datasets, (s.index for s in study.slices if s.ich))


def scan_of(datasets: Iterable[Dataset], bleed: Iterable[int]) -> Scan:
    """A scan of datasets from feet to head."""
    kept = tuple(datasets)
    preprocess = CpuPreprocessor(PreprocessSpec())
    heads = []
    for ds in kept:
        stored = np.ascontiguousarray(stored_values(ds).astype(np.int16)).view(np.uint16)
        heads.append(preprocess(stored, PixelEncoding(intercept=float(ds.RescaleIntercept))).head_pixels)
    return Scan(kept, tuple(encode(ds) for ds in kept), frozenset(bleed), tuple(heads))


def deliver(scan: Scan, folder: str = "study", *, seed: int = 0) -> Delivery:
    """The whole scan in one folder, under names whose order says nothing."""
    names = np.random.default_rng([seed, len(scan.datasets)]).permutation(len(scan.datasets)) + 1
    files = [File(f"{folder}/IM{n:04d}", ds, i) for i, (n, ds) in enumerate(zip(names, scan.datasets, strict=True))]
    return Delivery(scan, files)


def beside(delivery: Delivery, scan: Scan, folder: str, *, study: bool = False) -> list[File]:
    """Put a whole other scan beside, as another study or (`study`) as a series of the same one; returns its files."""
    files = []
    for i, original in enumerate(scan.datasets):
        file = File(f"{folder}/CT{i + 1:04d}", original)
        if study:
            ds = delivery.edit(file)
            first = delivery.scan.datasets[0]
            for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName"):
                setattr(ds, keyword, getattr(first, keyword))
            ds.SeriesNumber = 7
        files.append(file)
    if not study:
        delivery.donors.add(str(scan.datasets[0].StudyInstanceUID))
    delivery.files.extend(files)
    return files


def encode(ds: Dataset) -> bytes:
    """A dataset as a file, whatever its values are."""
    buffer = io.BytesIO()
    with pydicom.config.disable_value_validation():
        pydicom.dcmwrite(buffer, ds, enforce_file_format=True)
    return buffer.getvalue()


def replace_number(data: bytes, old: str, new: str) -> bytes:
    """A file's bytes where every decimal string `old` reads `new`, which need not be a number and is no longer."""
    before, after = (text.ljust(len(old) + len(old) % 2).encode() for text in (old, new))
    head = b"DS" + len(before).to_bytes(2, "little")
    return data.replace(head + before, head + after)


def stored_values(ds: Dataset) -> NDArray[np.int64]:
    """The stored values of an uncompressed single frame: (rows, columns); filled up where an earlier fault cut it."""
    kind = ("i" if ds.PixelRepresentation else "u") + str(ds.BitsAllocated // 8)
    return np.resize(np.frombuffer(ds.PixelData, f"<{kind}"), (ds.Rows, ds.Columns)).astype(np.int64)


def hu_values(ds: Dataset) -> NDArray[np.float64]:
    """Hounsfield units of an uncompressed single frame: (rows, columns)."""
    return np.asarray(stored_values(ds) * float(ds.get("RescaleSlope") or 1) + intercept_hu(ds), np.float64)


def intercept_hu(ds: Dataset) -> float:
    """RescaleIntercept; 0 where an earlier fault took it away."""
    return float(ds.get("RescaleIntercept") or 0)


def put_values(ds: Dataset, values: NDArray[Any], *, signed: bool, bits: int = 16, allocated: int = 16) -> None:
    """Replace the pixels by stored values, of `bits` bits in the low end of `allocated`, as patterns."""
    ds.Rows, ds.Columns = values.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = allocated, bits, bits - 1
    ds.PixelRepresentation = int(signed)
    patterns = np.rint(values).astype(np.int64) & (2**allocated - 1)
    ds.PixelData = patterns.astype(f"<u{allocated // 8}").tobytes()
    ds["PixelData"].VR = "OW"


def new_uid(*what: object) -> str:
    """A UID of its own for what it names."""
    return str(phantom_uid("fault", *what))


def retag_instance(ds: Dataset, uid: str) -> None:
    """Give a dataset another SOPInstanceUID, in its file meta information too."""
    ds.SOPInstanceUID = uid
    ds.file_meta.MediaStorageSOPInstanceUID = uid

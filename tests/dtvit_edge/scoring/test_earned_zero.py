"""A 0 is earned: everyday faults, one a case, on a small study whose blood lies in two slices alone.

The model of these tests sees the brightness of the brain: slices that were made brighter are "blood", and losing one of
the two turns the study's result. Faults on a study without blood show that its 0 is no longer given.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from benchmarks.measure.faults import shrug_series, shrugs
from benchmarks.measure.faults.cases import LOCKING
from benchmarks.measure.faults.file_faults import archive
from benchmarks.measure.faults.permissions import permissions_bind
from benchmarks.measure.faults.running import Outcome, run_delivery
from benchmarks.measure.faults.studies import (
    Delivery,
    File,
    Scan,
    deliver,
    hu_values,
    intercept_hu,
    new_uid,
    phantom_scan,
    put_values,
    replace_number,
    retag_instance,
    scan_of,
)
from dtvit_edge.bundle import Bundle
from tests.support.tiny_bundle import write_tiny_bundle

Scans = Callable[[tuple[int, ...]], Scan]

MIDDLE = (12, 13)  # of 28 slices 4.6 mm apart
LOW, HIGH = (6, 7), (18, 19)
BLOOD_HU = 55


@pytest.fixture(scope="session")
def bright_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """P(ich) is below 0.001 on the phantom's slices and above 0.98 on those that were made brighter."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle") / "bright.dtvit", slope=0.5, middle=73.0)


@pytest.fixture(scope="session")
def scan_with() -> Scans:
    """A phantom without haemorrhage, from below the skull base to above the vertex, with slices made bright."""
    plain = phantom_scan(6001, None)
    return cache(lambda blood: bright(plain, blood))


@dataclass(frozen=True)
class Fault:
    """A case: what is done to which study, and what has to come of it.

    Attributes:
        blood: the slices that are made bright. status: None where any will do but `scored` with flag 0.
        reason: a code that the study's reasons contain. rows: a code that some row has.
    """

    name: str
    change: Callable[[Delivery], object]
    status: str | None
    flagged: str | None = None
    blood: tuple[int, ...] = MIDDLE
    reason: str = ""
    rows: str = ""


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
    return lambda d: [again(i, times)(d) for i in range(len(d.scan.datasets))]


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
    return lambda d: d.special.append(lambda folder: make(folder) and None)


NONE: tuple[int, ...] = ()
FAULTS = (
    Fault("nothing", lambda d: None, "scored", "1"),
    Fault("nothing, no blood", lambda d: None, "scored", "0", NONE),
    # Itself
    Fault("one instance UID on all slices", tags(SOPInstanceUID="2.25.5"), "scored", "1"),
    Fault("one instance UID on a bloody slice and another", tags(3, 12, SOPInstanceUID="2.25.5"), "scored", "1"),
    Fault("half-received copies sort first", twin_first(lambda b: b[:9000]), None, "1"),
    Fault("zeroed copies sort first", twin_first(zero_pixels), None, "1"),
    Fault("two patients, half each", tags(*range(14), PatientID="B"), "partial", None, reason="two_patients"),
    Fault("another patient's slice", tags(20, PatientID="B"), "partial", "", NONE, reason="two_patients"),
    Fault("another patient's bloody slices", tags(*MIDDLE, PatientID="B"), "partial", None, reason="two_patients"),
    Fault("a series a slice", each_series, "scored", "1"),
    Fault("bloody slices in another study", tags(*MIDDLE, StudyInstanceUID="2.25.5"), None),
    Fault("the folder copied twice", kind(shrugs.folder_twice), "scored", "1"),
    Fault("lossy copies beside", kind(shrugs.lossy_twin), "scored", "1"),
    Fault("slices replaced while the model opens", replaced, "partial", "", rows="not_the_planned"),
    # Seen
    Fault("zero pixels", data(zero_pixels, *MIDDLE), "partial", "", reason="slice_error", rows="constant"),
    Fault("zero pixels in one", data(zero_pixels, 12), "partial", "", reason="slice_error"),
    Fault("files of zeros", data(lambda b: bytes(len(b)), *MIDDLE), "partial", "", rows="zero_file"),
    Fault("a file of zeros at the end", data(lambda b: bytes(len(b)), 0), "partial", "", NONE, rows="zero_file"),
    Fault("text in place of the last slice", data(lambda b: b"504 Time-out", 27), "partial", "", NONE),
    Fault("an empty file in place of the first", data(lambda b: b"", 0), "partial", "", NONE, rows="empty_file"),
    Fault("the last slice cut", data(lambda b: b[:9000], 27), "partial", "", NONE, rows="truncated"),
    Fault("the first slice cut in its header", data(lambda b: b[:700], 0), "partial", "", NONE),
    Fault("slope and intercept no numbers", data(lambda b: replace_number(b, "1", "x"), 12), "partial", "",
          rows="bad_header"),
    Fault("nine upper slices in a locked folder", locked("study/up", *range(19, 28)), "partial", "", HIGH,
          reason="unread"),
    Fault("a locked folder without blood", locked("study/low", 0, 1), "partial", "", NONE, reason="unread"),
    Fault("one locked file", lambda d: d.locked.append(files(d, 0)[0].name), "partial", "", NONE),
    Fault("slices in a zip", zipped("study/more.zip", *MIDDLE), "partial", "", rows="archive"),
    Fault("the first slices in a zip", zipped("study/more.zip", 0, 1, 2), "partial", "", NONE, rows="archive"),
    Fault("slices behind a link that leads out", linked_out(0, 1), "partial", "", NONE, rows="linked_outside"),
    Fault("a link whose target is gone", both(drop(27), lambda d: d.links.append(("study/IM99", "gone"))), "partial",
          "", NONE),
    Fault("a link back to the folder", special(lambda f: (f / "study" / "up").symlink_to(f)), "scored", "0", NONE),
    Fault("an archive beside two whole studies", twice_apart, "scored", "0", NONE),
    # Plausible
    Fault("12-bit complement unsigned", pixels(wrapped12, bits=12), "not_scored", "", rows="implausible_hu"),
    Fault("12-bit complement in the bloody ones", both(pixels(wrapped12, *MIDDLE, bits=12), sees_nothing), None),
    Fault("16-bit signed as unsigned", pixels(lambda hu: hu), "not_scored", "", rows="implausible_hu"),
    Fault("the same with air declared padding", both(
        pixels(wrapped12, bits=12), tags(PixelPaddingValue=3096), sees_nothing), None),
    Fault("8-bit windowed", pixels(windowed, bits=8), "not_scored", "", rows="implausible_hu"),
    Fault("8-bit windowed in the bloody ones", pixels(windowed, *MIDDLE, bits=8), None),
    Fault("slope 32", pixels(lambda hu: hu / 32, signed=True, slope=32), "not_scored", "", rows="implausible_hu"),
    Fault("slope 32 in the bloody ones", pixels(lambda hu: hu / 32, *MIDDLE, signed=True, slope=32), None),
    Fault("intercept lost", pixels(lambda hu: hu + 1024), "not_scored", "", rows="implausible_hu"),
    Fault("intercept lost in the bloody ones", both(pixels(lambda hu: hu + 1024, *MIDDLE), sees_nothing), None),
    Fault("MONOCHROME1", tags(PhotometricInterpretation="MONOCHROME1"), "scored", "1"),
    Fault("MONOCHROME1, no blood", tags(PhotometricInterpretation="MONOCHROME1"), "scored", "0", NONE),
    Fault("high bit 15, data below", both(pixels(lambda hu: hu + 1024, bits=12, intercept=-1024), tags(HighBit=15)),
          None, rows="pixel_format"),
    Fault("a small field of view", both(crop(56), sees_nothing), "partial", "", NONE, reason="small_fov"),
    Fault("air at -3024", pixels(lambda hu: np.where(hu < -900, -3024, hu), signed=True), "scored", "0", NONE),
    Fault("no brain between", pixels(lambda hu: hu + 200 * (hu > -200), *MIDDLE, signed=True), "partial", ""),
    Fault("no head between", pixels(lambda hu: np.where(np.arange(128) % 2, -990, -1000) + 0 * hu, *MIDDLE,
          signed=True), "partial", "", reason="not_contiguous"),
    Fault("a constant slice between", pixels(lambda hu: 0 * hu + 35, 12, signed=True), "partial", ""),
    Fault("a constant slice at the feet", pixels(lambda hu: 0 * hu - 1000, 0, signed=True), "partial", "", NONE,
          rows="constant"),
    Fault("a blank end above the head", kind(shrug_series.blank_end), "scored", "0", NONE, rows="blank"),
    # Complete, and a head
    Fault("a slice is missing", drop(12), "partial", "", reason="gap"),
    Fault("both bloody slices are missing", drop(*MIDDLE), "partial", "", reason="gap"),
    Fault("twelve lower slices are missing", drop(*range(12)), "partial", "", LOW, reason="coverage"),
    Fault("ten upper slices are missing", drop(*range(18, 28)), "partial", "", HIGH, reason="coverage"),
    Fault("orientation jitter", jitter, "scored", "1"),
    Fault("acquisitions count rotations", both(kind(shrugs.acquisition_per_rotation), again(3, 1)), "scored", "1"),
    Fault("one bright place scanned three times", again(12, 2), "scored", "0", (12,)),
    Fault("four passes", passes(3), "not_scored", "", rows="dynamic"),
    Fault("one without position, another missing", both(drop(12), tags(20, ImagePositionPatient=None)), "partial", "",
          reason="gap"),
    Fault("no position, numbers with a gap", both(
        drop(12), tags(ImagePositionPatient=None, SliceLocation=None)), "partial", "", reason="gap"),
    Fault("no position, numbers without a gap", tags(ImagePositionPatient=None, SliceLocation=None), "partial", "",
          NONE, reason="geometry_unknown"),
    Fault("no position and no numbers", tags(ImagePositionPatient=None, SliceLocation=None, InstanceNumber=None),
          "partial", "", NONE, reason="geometry_unknown"),
    Fault("everything at the origin", tags(ImagePositionPatient=[0, 0, 0]), None, None, NONE),
    Fault("fewer than the acquisition has", tags(ImagesInAcquisition=40), "partial", "", NONE),
    Fault("thickness far below the spacing", tags(SliceThickness="0.6"), None, "1"),
    Fault("a tilted block", kind(shrug_series.tilt_block), "scored", "0", NONE),
    Fault("a tilted block with blood", kind(shrug_series.tilt_block), "scored", "1"),
    Fault("a gap between blocks", both(kind(shrug_series.tilt_block), drop(14, 15, 16)), "partial", "", NONE,
          reason="gap"),
    Fault("two slabs", kind(shrug_series.two_slabs), "scored", "0", NONE),
    Fault("two slabs with blood", kind(shrug_series.two_slabs), "scored", "1", LOW),
    Fault("a repeat after motion", kind(shrug_series.repeat_after_motion), "scored", "0", NONE),
    # Finite
    Fault("NaN where positive", answers(np.nan, positive_alone=True), "partial", "", rows="model_fault"),
    Fault("infinity where positive", answers(np.inf, positive_alone=True), "partial", "", rows="model_fault"),
    # Suitable
    Fault("CTA by description", tags(SeriesDescription="CTA HEAD"), "not_scored", "", rows="contrast"),
    Fault("contrast by volume", tags(ContrastBolusVolume="80"), "not_scored", "", rows="contrast"),
    Fault("no agent, in words", tags(ContrastBolusAgent="OHNE KM"), "scored", "1"),
    Fault("a perfusion map", tags(ImageType=["DERIVED", "PRIMARY", "CBF"]), "not_scored", "", rows="not_hu"),
    Fault("a projection", tags(ImageType=["DERIVED", "SECONDARY", "MIP"]), "not_scored", "", rows="not_hu"),
    Fault("C-spine by series", tags(SeriesDescription="C-SPINE 2.0"), "not_scored", "", rows="not_head"),
    Fault("chest by body part, brain by words", tags(BodyPartExamined="CHEST"), "scored", "1"),
    Fault("one odd slice", tags(3, BodyPartExamined="CHEST"), "scored", "1"),
    Fault("KVP 0", tags(KVP="0"), "scored", "1"),
    Fault("decimal commas", kind(shrugs.decimal_comma), "scored", "1"),
    Fault("bone kernel alone", tags(ConvolutionKernel="BONE"), "partial", "", NONE, reason="bone_kernel_only"),
    Fault("bone kernel alone, with blood", tags(ConvolutionKernel="BONE"), None, "1"),
    Fault("bone kernel on the bloody slices", tags(*MIDDLE, ConvolutionKernel="BONE"), None),
    Fault("bone kernel beside", kind(shrug_series.bone_beside), "scored", "0", NONE),
    Fault("a map without a name beside", kind(shrug_series.map_beside), "scored", "0", NONE),
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_never_gives_a_0_that_was_not_earned(fault: Fault, bright_bundle: Bundle, scan_with: Scans) -> None:
    delivery = deliver(scan_with(fault.blood))
    fault.change(delivery)
    if delivery.locked and not permissions_bind():
        pytest.skip(f"permissions do not bind here, as for {', '.join(LOCKING)}")
    outcome = run_delivery(bright_bundle, delivery)
    assert not outcome.error
    studies = [s for s in outcome.studies if s["study_uid"] not in delivery.donors]
    assert studies
    for study in studies:
        if fault.status is not None:
            assert study["status"] == fault.status, study
        elif fault.flagged is None:
            assert (study["status"], study["flagged"]) != ("scored", "0"), study
        if fault.flagged is not None:
            assert study["flagged"] == fault.flagged, study
        if fault.reason:
            assert fault.reason in study["reason"].split(";")
    if fault.rows:
        assert fault.rows in {row["reason"] for row in outcome.slices}


def test_a_model_that_answers_nothing_finite_ends_the_run(bright_bundle: Bundle, scan_with: Scans) -> None:
    delivery = deliver(scan_with(NONE))
    answers(np.nan, positive_alone=False)(delivery)
    outcome = run_delivery(bright_bundle, delivery)
    assert outcome.error.startswith("DeviceFault")


def test_a_fifo_among_the_files_is_not_waited_for(bright_bundle: Bundle, scan_with: Scans) -> None:
    delivery = deliver(scan_with(NONE))
    shrugs.fifo(delivery, rng())
    outcome: Outcome = run_delivery(bright_bundle, delivery)
    assert not outcome.error
    assert outcome.studies[0]["flagged"] != "1"

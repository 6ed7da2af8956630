"""A 0 is earned: everyday faults, one a case, on a small study whose blood lies in two slices alone.

The model of these tests sees the brightness of the brain: slices that were made brighter are "blood", and losing one of
the two turns the study's result. Faults on a study without blood show that its 0 is no longer given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from benchmarks.measure.faults import shrug_series, shrugs
from benchmarks.measure.faults.cases import LOCKING
from benchmarks.measure.faults.permissions import permissions_bind
from benchmarks.measure.faults.running import Outcome, run_delivery
from benchmarks.measure.faults.studies import (
    Delivery,
    Scan,
    deliver,
    phantom_scan,
    replace_number,
)
from dtvit_edge.bundle import Bundle
from tests.support.study_faults import (
    MIDDLE,
    again,
    answers,
    both,
    bright,
    crop,
    data,
    drop,
    each_series,
    files,
    jitter,
    kind,
    linked_out,
    locked,
    passes,
    pixels,
    replaced,
    rng,
    sees_nothing,
    special,
    tags,
    twice_apart,
    twin_first,
    windowed,
    wrapped12,
    zero_pixels,
    zipped,
)
from tests.support.tiny_bundle import write_tiny_bundle

Scans = Callable[[tuple[int, ...]], Scan]

LOW, HIGH = (6, 7), (18, 19)


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

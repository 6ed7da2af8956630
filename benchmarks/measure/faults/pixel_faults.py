"""Faults of pixels and of what says how to read them: zeroed, constant, another slice's, wrapped, windowed, cropped."""

from __future__ import annotations

import copy

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from benchmarks.measure.faults.studies import Delivery, hu_values, intercept_hu, new_uid, put_values, stored_values
from benchmarks.measure.faults.targets import Kind, Rng, targets

AIR = -1000


def zero_pixels(d: Delivery, rng: Rng) -> str:
    """The pixel data are zero bytes."""
    return _each(d, rng, lambda ds: setattr(ds, "PixelData", bytes(len(ds.PixelData))))


def constant(d: Delivery, rng: Rng) -> str:
    """All pixels are alike: air, water, brain, or the padding."""
    value = int(rng.choice([AIR, 0, 35, -2000]))

    def change(ds: Dataset) -> None:
        put_values(ds, np.full((ds.Rows, ds.Columns), value - int(intercept_hu(ds))), signed=True)
        if value == -2000:
            ds.add_new("PixelPaddingValue", "SS", value - int(intercept_hu(ds)))

    return f"{_each(d, rng, change)}, {value} HU"


def stale_pixels(d: Delivery, rng: Rng) -> str:
    """Slices carry the pixels of another slice of the scan: a buffer that was not written anew."""
    files, which = targets(d, rng, whole=False)
    others = [i for i in range(len(d.scan.datasets)) if i not in d.scan.bleed and d.scan.head_pixels[i]]
    source = d.scan.datasets[int(rng.choice(others))]
    for file in files:
        d.edit(file).PixelData = source.PixelData
        file.altered = True
    return f"{which} as slice {int(source.InstanceNumber) - 1}"


def swap_pixels(d: Delivery, rng: Rng) -> str:
    """Two slices carry each other's pixels."""
    slices = d.slices()
    a, b = (slices[int(i)] for i in rng.permutation(len(slices))[:2])
    one, two = d.edit(a), d.edit(b)
    one.PixelData, two.PixelData = two.PixelData, one.PixelData
    a.altered = b.altered = True
    return f"slices {a.index} and {b.index}"


def wrap12(d: Delivery, rng: Rng) -> str:
    """HU as 12-bit two's complement, declared unsigned with intercept 0 (files of RSNA 2019)."""

    def change(ds: Dataset) -> None:
        values = np.clip(hu_values(ds), -2048, 2047).astype(np.int64) & 0xFFF
        put_values(ds, values, signed=False, bits=12)
        ds.RescaleIntercept = "0"

    return _each(d, rng, change)


def wrap16(d: Delivery, rng: Rng) -> str:
    """Signed 16-bit HU, declared unsigned."""

    def change(ds: Dataset) -> None:
        put_values(ds, hu_values(ds), signed=False)
        ds.RescaleIntercept = "0"

    return _each(d, rng, change)


def windowed8(d: Delivery, rng: Rng) -> str:
    """Windowed to 8 bits, with slope 1 and intercept 0."""
    center, width = ((40, 80), (35, 100), (600, 2800))[int(rng.integers(3))]
    allocated = int(rng.choice([8, 16]))

    def change(ds: Dataset) -> None:
        grey = np.clip((hu_values(ds) - center) / width + 0.5, 0, 1) * 255
        put_values(ds, grey, signed=False, bits=8, allocated=allocated)
        ds.RescaleIntercept, ds.RescaleSlope = "0", "1"

    return f"{_each(d, rng, change)}, window {center}/{width}"


def slope32(d: Delivery, rng: Rng) -> str:
    """Stored in steps of 32 HU, or of 8: a few grey levels in the window."""
    slope = int(rng.choice([8, 32]))

    def change(ds: Dataset) -> None:
        put_values(ds, hu_values(ds) / slope, signed=True)
        ds.RescaleIntercept, ds.RescaleSlope = "0", str(slope)

    return f"{_each(d, rng, change)}, slope {slope}"


def bits(d: Delivery, rng: Rng) -> str:
    """HighBit and BitsStored contradict the data."""
    stored, high = ((12, 15), (8, 7), (10, 9), (12, 13), (16, 11))[int(rng.integers(5))]

    def change(ds: Dataset) -> None:
        put_values(ds, hu_values(ds) + 1024, signed=False, bits=12)
        ds.RescaleIntercept, ds.RescaleSlope = "-1024", "1"
        ds.BitsStored, ds.HighBit = stored, high

    return f"{_each(d, rng, change)}, {stored} stored, high bit {high}"


def monochrome1(d: Delivery, rng: Rng) -> str:
    """MONOCHROME1 over a true rescale: another way to show the same values."""
    return _each(d, rng, lambda ds: setattr(ds, "PhotometricInterpretation", "MONOCHROME1"), altered=False)


def lost_rescale(d: Delivery, rng: Rng) -> str:
    """Values are stored from 0 on, and intercept, or intercept and slope, are lost."""
    mode = str(rng.choice(["0", "none", "empty"]))

    def change(ds: Dataset) -> None:
        put_values(ds, hu_values(ds) + 1024, signed=False)
        ds.RescaleIntercept = "0" if mode == "0" else None
        if mode == "none":
            del ds.RescaleIntercept, ds.RescaleSlope

    return f"{_each(d, rng, change)}, {mode}"


def padding(d: Delivery, rng: Rng) -> str:
    """The padding range takes tissue in: blood, everything, or what lies above air."""
    low, high = ((55, 3000), (-3000, 3000), (-200, 60))[int(rng.integers(3))]

    def change(ds: Dataset) -> None:
        shift = int(intercept_hu(ds))
        ds.add_new("PixelPaddingValue", "SS", low - shift)
        ds.add_new("PixelPaddingRangeLimit", "SS", high - shift)

    return f"{_each(d, rng, change)}, {low} to {high} HU"


def swapped_bytes(d: Delivery, rng: Rng) -> str:
    """The two bytes of each value are in the other order than the transfer syntax says."""

    def change(ds: Dataset) -> None:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").byteswap().tobytes()

    return _each(d, rng, change)


def wrong_syntax(d: Delivery, rng: Rng) -> str:
    """The file meta information names another transfer syntax than the dataset has."""
    uid = (JPEG2000Lossless, RLELossless, ImplicitVRLittleEndian, ExplicitVRBigEndian)[int(rng.integers(4))]
    files, which = targets(d, rng)
    for file in files:
        data = d.encode(file)
        old = b"1.2.840.10008.1.2.1\x00"
        new = uid.encode().ljust(len(old), b"\x00")
        grown = len(new) - len(old)  # JPEG 2000's is longer: the element's and the group's lengths grow with it
        start = data.index(old)
        length = (len(old) + grown).to_bytes(2, "little")
        group = int.from_bytes(data[140:144], "little") + grown
        file.content = (
            data[:140] + group.to_bytes(4, "little") + data[144 : start - 2] + length + new + data[start + len(old) :]
        )
        file.altered = True
    return f"{which}, {uid.name}"


def wrong_matrix(d: Delivery, rng: Rng) -> str:
    """Rows or Columns are not those of the pixel data."""
    rows, columns = ((0.5, 1), (1, 0.5), (2, 0.5), (2, 2))[int(rng.integers(4))]

    def change(ds: Dataset) -> None:
        ds.Rows, ds.Columns = int(ds.Rows * rows), int(ds.Columns * columns)

    return f"{_each(d, rng, change)}, x{rows} x{columns}"


def cropped(d: Delivery, rng: Rng) -> str:
    """The field of view is under 180 mm: a part of the head."""
    share, up, left = rng.uniform(0.4, 0.75), rng.uniform(), rng.uniform()
    pitch = float(d.scan.datasets[0].PixelSpacing[0])

    def change(ds: Dataset) -> None:
        values = stored_values(ds)
        size = int(min(len(values) * share, 178 / pitch))
        y, x = int((len(values) - size) * up), int((len(values) - size) * left)
        put_values(ds, values[y : y + size, x : x + size], signed=bool(ds.PixelRepresentation))
        ds.ReconstructionDiameter = f"{size * pitch:.3f}"

    return f"{_each(d, rng, change)}, {share:.0%} at {up:.0%},{left:.0%}"


def donor_pixels(d: Delivery, rng: Rng) -> str:
    """Slices are another patient's without haemorrhage: with that patient's UIDs, or with this study's."""
    files, which = targets(d, rng)
    mode = str(rng.choice(["own tags", "this study", "this instance"]))
    for file in files:
        source = copy.deepcopy(d.scan.datasets[0])  # the air and bone of one level stand for another head
        ds = d.edit(file)
        ds.PixelData = source.PixelData
        ds.PatientID, ds.PatientName = "PHANTOM-OTHER", "PHANTOM^OTHER"
        if mode != "this instance":
            ds.SOPInstanceUID = new_uid("donor", ds.get("SOPInstanceUID"))
            ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        if mode == "own tags":
            ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.99", "2.25.99.1"
            d.donors.add("2.25.99")
            if file.index is not None:
                d.gone.add(file.index)
            file.index = None
        file.altered = True
    return f"{which}, {mode}"


def nan_model(d: Delivery, rng: Rng) -> str:
    """The model answers NaN or infinity: where it would have said haemorrhage, or everywhere."""
    value = float(rng.choice([np.nan, np.inf, -np.inf]))
    everywhere = bool(rng.random() < 0.3)
    columns = [0, 1] if value != value else [0] if value > 0 else [0, 1]

    def answer(logits: np.ndarray) -> np.ndarray:
        changed = logits.copy()
        rows = np.ones(len(logits), bool) if everywhere else logits[:, 1] >= logits[:, 0]
        for column in columns:
            changed[rows, column] = value
        return changed

    d.answer = answer
    return f"{value} {'everywhere' if everywhere else 'where positive'}"


def _each(d: Delivery, rng: Rng, change: object, *, altered: bool = True) -> str:
    assert callable(change)
    files, which = targets(d, rng)
    for file in files:
        change(d.edit(file))
        file.altered |= altered
    return which


KINDS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        zero_pixels, constant, stale_pixels, swap_pixels, wrap12, wrap16, windowed8, slope32, bits, monochrome1,
        lost_rescale, padding, swapped_bytes, wrong_syntax, wrong_matrix, cropped, donor_pixels, nan_model,
    )
}  # fmt: skip

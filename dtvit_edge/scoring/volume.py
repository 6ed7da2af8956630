"""Arrays in Hounsfield units: as the slices of a scan, and as what a model is shown of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.dicom.plan import Plan, study_part
from dtvit_edge.dicom.slice import Slice, SliceHeader, Vector
from dtvit_edge.errors import ConfigError
from dtvit_edge.preprocess.averaging import AVERAGED
from dtvit_edge.results import Identity
from dtvit_edge.scoring.executor import Executor
from dtvit_edge.spec import MAX_MATRIX, MIN_MATRIX, PixelEncoding, PreprocessSpec

SUPINE = "SPL"
# Where an axis of an array can go, as vectors of DICOM's patient coordinates (PS3.3 C.7.6.2.1.1).
_DIRECTIONS: dict[str, Vector] = {
    "L": (1.0, 0.0, 0.0), "R": (-1.0, 0.0, 0.0), "P": (0.0, 1.0, 0.0), "A": (0.0, -1.0, 0.0),
    "S": (0.0, 0.0, 1.0), "I": (0.0, 0.0, -1.0),
}  # fmt: skip
_AXIS = {letter: [abs(v) for v in vector].index(1.0) for letter, vector in _DIRECTIONS.items()}
# Cosines are written with six decimals, and rotations of arrays in float32 are off by 1e-6.
_UNIT = 1e-3
# Nothing that is measured in a head has such a length between its slices or pixels.
_MOST_SPACING_MM = 100.0
# Nor does a scan lie a kilometre from its origin; sums of far greater numbers would overflow.
_FARTHEST_MM = 1e6
_WHOLE = PixelEncoding()  # whole HU as they are
_INT16 = np.iinfo(np.int16)


class Volume:
    """A scan that is an array; its slices are read by any thread, one by one.

    Whole numbers are taken as they are, real ones to a quarter of a Hounsfield unit, as the mean of thin slices is.

    Args:
        hu: (D, H, W) whole or real numbers, sides of 32 to 1024; a masked array's mask is refused, since what lies
            behind it has no value.
        spacing_mm: between the centres of slices, of rows and of columns.
        orientation: three letters say where slices, rows and columns go as their index grows: to the head or feet (S,
            I), to the front or back (A, P), to the patient's left or right (L, R). Rows and columns are turned to `P`
            and `L`, as DICOM stores a patient that lies on the back. Or DICOM's ImageOrientationPatient, six cosines of
            a row's and a column's direction, along whose cross product the slices go; then nothing is turned.
        positions_mm: (D,) of the slices along the direction in which they are counted, where they are not evenly
            spaced; the first spacing is then their thickness.
        name: stands for the UIDs of study and series.

    Raises:
        ConfigError: it is no such array, or holds NaN or infinity; spacing or orientation that say nothing.
    """

    def __init__(
        self,
        hu: NDArray[np.number],
        spacing_mm: Sequence[float],
        orientation: str | Sequence[float] = SUPINE,
        *,
        positions_mm: Sequence[float] | None = None,
        name: str = "volume",
    ) -> None:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"the volume's name is {name!r}, expected a text that is not empty")
        slices = checked_slices(hu, (3,))
        between, between_rows, between_columns = _spacing(spacing_mm)
        row, column, step, turned = _directions(orientation)
        self._slices = slices[:, :: -1 if turned[0] else 1, :: -1 if turned[1] else 1]
        count, rows, columns = self._slices.shape
        heights = _heights(positions_mm, count, between)
        corner = _sum((row, -(columns - 1) / 2 * between_columns), (column, -(rows - 1) / 2 * between_rows))
        first = SliceHeader(
            file=Path(name),
            path="",
            identity=Identity(name, name, "1"),
            frame=1,
            frames=count,
            rows=rows,
            columns=columns,
            encoding=encoding_of(self._slices),
            orientation=(row, column),
            thickness_mm=between,
            pixel_spacing_mm=(between_rows, between_columns),
        )
        self._headers = [
            replace(
                first,
                identity=Identity(name, name, str(i + 1)),
                frame=i + 1,
                instance_number=i + 1,
                position_mm=_sum((corner, 1.0), (step, height)),
            )
            for i, height in enumerate(heights)
        ]

    def plan(self, *, any_series: bool = False) -> Plan:
        """Of one series, judged by its geometry as those of files are."""
        part = study_part(self._headers, (), frozenset(), any_series=any_series)
        return Plan({self._headers[0].identity.study_uid: part})

    def read(self, header: SliceHeader) -> Slice:
        """The slice of a header of the plan."""
        return Slice(header, stored_of(self._slices[header.frame - 1], header.encoding))


def prepared_of(hu: NDArray[np.number], executor: Executor, spec: PreprocessSpec) -> NDArray[np.uint8]:
    """What a model is shown of (H, W) or (D, H, W) Hounsfield units: (N, C, side, side) uint8.

    Raises:
        ConfigError: it is no such array, or holds NaN or infinity.
    """
    slices = checked_slices(hu, (2, 3), spec.least_side)
    _, rows, columns = slices.shape
    encoding = encoding_of(slices)
    header = SliceHeader(Path("array"), "", Identity(), 1, 1, rows, columns, encoding)
    prepared = np.empty((len(slices), spec.channels, spec.crop, spec.crop), np.uint8)
    for start in range(0, len(slices), executor.batch):
        part = [Slice(header, stored_of(values, encoding)) for values in slices[start : start + executor.batch]]
        prepared[start : start + len(part)] = executor.prepared_bytes(part)
    return prepared


def checked_slices(hu: Any, dimensions: tuple[int, ...], least_side: int = MIN_MATRIX) -> NDArray[Any]:
    """An array of Hounsfield units as (D, H, W), not copied.

    Raises:
        ConfigError: it is no array of whole or real numbers, of that many dimensions and sides of `least_side` to
            `MAX_MATRIX`, or holds NaN or infinity.
    """
    wanted = " or ".join({2: "(H, W)", 3: "(D, H, W)"}[n] for n in dimensions)
    if np.ma.is_masked(hu):
        raise ConfigError("the array is masked; fill what is masked with a value in HU, air is -1000")
    try:
        array = np.asarray(hu)
    except ValueError as error:  # lists of different lengths
        raise ConfigError(f"Hounsfield units are an array of {wanted}: {error}") from error
    if array.dtype.kind not in "iuf" or array.ndim not in dimensions or not array.size:
        raise ConfigError(
            f"Hounsfield units are an array of {wanted} of whole or real numbers, not {array.dtype} of shape "
            f"{array.shape}"
        )
    slices = array[None] if array.ndim == 2 else array
    sides = slices.shape[1:]
    if not least_side <= min(sides) <= max(sides) <= MAX_MATRIX:
        raise ConfigError(f"a slice has {sides[0]} x {sides[1]} pixels, expected {least_side} to {MAX_MATRIX} a side")
    if array.dtype.kind == "f":
        for number, values in enumerate(slices, start=1):
            if not np.isfinite(values).all():
                raise ConfigError(f"slice {number} holds NaN or infinity; fill it with a value in HU, air is -1000")
    return slices


def encoding_of(slices: NDArray[Any]) -> PixelEncoding:
    """How these slices are stored: whole numbers as they are, else quarters, one encoding for all."""
    if slices.dtype.kind == "f" and any((values != np.rint(values)).any() for values in slices):
        return AVERAGED
    return _WHOLE


def stored_of(values: NDArray[Any], encoding: PixelEncoding) -> NDArray[np.uint16]:
    """One slice's values in HU as patterns of an encoding, rounded half up, clipped to what 16 bits hold."""
    if encoding.slope != 1:
        values = values.astype(np.float64)
        values /= encoding.slope
        values += 0.5
        np.floor(values, out=values)
    if values.min() < _INT16.min or values.max() > _INT16.max:  # nearly never
        of = np.iinfo(values.dtype) if values.dtype.kind in "iu" else _INT16  # NumPy takes no bound beyond the type's
        values = np.clip(values, max(_INT16.min, of.min), min(_INT16.max, of.max))
    return np.ascontiguousarray(values.astype(np.int16)).view(np.uint16)


def _spacing(spacing_mm: Any) -> tuple[float, float, float]:
    found = _numbers(spacing_mm, "spacing_mm", 3)
    if not all(0 < value <= _MOST_SPACING_MM for value in found):
        raise ConfigError(
            f"spacing_mm is {found}, expected three lengths in mm, above 0: between slices, rows, columns"
        )
    return found[0], found[1], found[2]


def _heights(positions_mm: Any, count: int, between: float) -> list[float]:
    if positions_mm is None:
        return [i * between for i in range(count)]
    found = list(_numbers(positions_mm, "positions_mm", count))
    farthest = max(found, key=abs, default=0.0)
    if abs(farthest) > _FARTHEST_MM:
        raise ConfigError(f"positions_mm holds {farthest:g}, expected lengths in mm, at most {_FARTHEST_MM:g}")
    return found


def _directions(orientation: Any) -> tuple[Vector, Vector, Vector, tuple[bool, bool]]:
    """Where a row, a column and the slices go, and which of rows and columns have to be turned for it."""
    if isinstance(orientation, str):
        letters = list(orientation.upper())
        if sorted(_AXIS.get(letter, -1) for letter in letters) != [0, 1, 2]:
            raise ConfigError(
                f"orientation is {orientation!r}, expected three letters that say where slices, rows and columns go, "
                f"as {SUPINE!r}: one each of S or I, A or P, L or R; or six direction cosines"
            )
        slices, rows, columns = letters
        axial = slices in "SI"
        turned = (axial and rows == "A", axial and columns == "R")
        if axial:
            rows, columns = "P", "L"
        return _DIRECTIONS[columns], _DIRECTIONS[rows], _DIRECTIONS[slices], turned
    cosines = _numbers(orientation, "orientation", 6)
    row, column = (cosines[0], cosines[1], cosines[2]), (cosines[3], cosines[4], cosines[5])
    lengths = [math.sqrt(_dot(v, v)) for v in (row, column)]
    if any(abs(length - 1) > _UNIT for length in lengths) or abs(_dot(row, column)) > _UNIT:
        raise ConfigError(f"orientation is {cosines}, expected two directions of length 1 at a right angle")
    (a, b, c), (d, e, f) = row, column
    return row, column, (b * f - c * e, c * d - a * f, a * e - b * d), (False, False)


def _numbers(values: Any, what: str, count: int) -> tuple[float, ...]:
    try:
        found = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"{what} is {values!r}, expected {count} numbers") from error
    if len(found) != count or not all(map(math.isfinite, found)):
        raise ConfigError(f"{what} has {len(found)} values, expected {count} finite numbers")
    return found


def _dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def _sum(*terms: tuple[Iterable[float], float]) -> Vector:
    x, y, z = (
        math.fsum(weight * v for v, weight in axis)
        for axis in zip(*([(v, weight) for v in vector] for vector, weight in terms), strict=True)
    )
    return x, y, z

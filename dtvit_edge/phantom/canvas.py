"""The coarse grid that one slice is painted on: some planes through the slice, each at half the matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dtvit_edge.phantom.parts import Ellipsoid, Part, Point, Tube

Array = npt.NDArray[np.float32]
Window = tuple[slice, slice, slice]


def ramp(low: float, high: float, value: Any) -> Array:
    """0 at or below `low`, 1 at or above `high`, straight between (falls where `high < low`)."""
    share: Array = np.clip((value - low) * (1.0 / (high - low)), 0.0, 1.0)
    return share


class Canvas:
    """Head coordinates and densities of one slice, before the scanner.

    x, y, z: (S, R, C) float32, canonical head millimetres; hu: (S, R, C) float32; pitch_mm: size of a pixel;
    slack_mm: how far x, y, z may be bent away from the grid, for as long as they are.
    """

    def __init__(
        self,
        origins: npt.NDArray[np.float64],
        column: npt.NDArray[np.float64],
        row: npt.NDArray[np.float64],
        shape: tuple[int, int],
        pitch_mm: float,
        background_hu: float,
    ) -> None:
        """`origins`: (S, 3) first pixel of each plane; `column`, `row`: (3,) steps; `shape`: (R, C)."""
        down = np.arange(shape[0], dtype=np.float32)[None, :, None]
        across = np.arange(shape[1], dtype=np.float32)[None, None, :]
        o = origins.astype(np.float32)
        c, r = column.astype(np.float32), row.astype(np.float32)
        self.x, self.y, self.z = (o[:, None, None, i] + c[i] * across + r[i] * down for i in range(3))
        self.hu = np.full(self.x.shape, background_hu, np.float32)
        self.pitch_mm = pitch_mm
        self.slack_mm = 0.0
        self._middle = origins.mean(axis=0)
        self._axes = np.stack([column, row])
        normal = np.cross(column, row)
        self._normal = normal / np.linalg.norm(normal)
        self._half_mm = float(np.ptp(origins @ self._normal)) / 2
        self._shape = shape

    def window(self, centre: Point, radius_mm: float) -> Window | None:
        """The part of the grid within `radius_mm` of a point, or None where the slice passes it by."""
        offset = np.asarray(centre) - self._middle
        away = max(0.0, abs(float(offset @ self._normal)) - self._half_mm)
        radius_mm += self.slack_mm
        if away >= radius_mm:
            return None
        reach = (radius_mm**2 - away**2) ** 0.5
        spans: list[slice] = [slice(None)]
        for axis, size in ((self._axes[1], self._shape[0]), (self._axes[0], self._shape[1])):
            step = float(np.linalg.norm(axis))
            at = float(offset @ axis) / step**2
            low, high = int(at - reach / step) - 1, int(at + reach / step) + 3
            if high <= 0 or low >= size:
                return None
            spans.append(slice(max(low, 0), min(high, size)))
        return spans[0], spans[1], spans[2]

    def distance(self, part: Part) -> tuple[Window, Array] | None:
        """Signed distance to a part in canonical mm (first order; negative inside), in its window."""
        return self._ellipsoid(part) if isinstance(part, Ellipsoid) else self._tube(part)

    def cover(self, part: Part) -> tuple[Window, Array] | None:
        """How much of each pixel the part covers, 0 to 1, in its window."""
        region = self.distance(part)
        if region is None:
            return None
        window, distance = region
        width = max(self.pitch_mm, part.softness_mm if isinstance(part, Ellipsoid) else 0.0)
        return window, np.clip(0.5 - distance * np.float32(1.0 / width), 0.0, 1.0)

    def _ellipsoid(self, part: Ellipsoid) -> tuple[Window, Array] | None:
        window = self.window(part.centre, max(part.radii) + 1.0 + part.softness_mm)
        return None if window is None else (window, self.ellipsoid_distance(part, window))

    def ellipsoid_distance(self, part: Ellipsoid, window: Window) -> Array:
        """Signed distance to an ellipsoid over any window, float32 canonical mm."""
        x, y, z = (a[window] - np.float32(c) for a, c in zip((self.x, self.y, self.z), part.centre, strict=True))
        if part.turn_deg:
            cos, sin = (
                np.float32(np.cos(np.radians(part.turn_deg))),
                np.float32(np.sin(np.radians(part.turn_deg))),
            )
            x, y = x * cos + y * sin, y * cos - x * sin
        rx, ry, rz = (np.float32(1.0 / r) for r in part.radii)
        x *= rx
        y *= ry
        z *= rz
        square = x * x + y * y + z * z
        x *= rx
        y *= ry
        z *= rz
        steepness = np.sqrt(x * x + y * y + z * z) + np.float32(1e-3)
        distance: Array = (square - 1.0) * 0.5 / steepness
        return distance

    def _tube(self, part: Tube) -> tuple[Window, Array] | None:
        a, b = np.asarray(part.start), np.asarray(part.end)
        along = b - a
        length = float(np.linalg.norm(along))
        middle = (a + b) / 2
        window = self.window(
            (float(middle[0]), float(middle[1]), float(middle[2])),
            length / 2 + max(part.start_mm, part.end_mm) + 1.0,
        )
        if window is None:
            return None
        x, y, z = (v[window] - np.float32(c) for v, c in zip((self.x, self.y, self.z), part.start, strict=True))
        dx, dy, dz = (np.float32(v) for v in along)
        t = np.clip((x * dx + y * dy + z * dz) * np.float32(1.0 / length**2), 0.0, 1.0)
        x -= t * dx
        y -= t * dy
        z -= t * dz
        distance = np.sqrt(x * x + y * y + z * z)
        distance -= np.float32(part.start_mm) + t * np.float32(part.end_mm - part.start_mm)
        return window, distance

    def paint(self, window: Window | tuple[()], cover: Array, hu: Any) -> None:
        """Mix `hu` (number or array) into the densities by `cover`, 0 to 1."""
        view = self.hu[window] if window else self.hu
        view += cover * (hu - view)

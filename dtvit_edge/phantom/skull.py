"""Scalp, face and skull on the canvas, and the cavity that is left for the brain."""

from __future__ import annotations

from typing import Any

import numpy as np

from dtvit_edge.phantom import tissues
from dtvit_edge.phantom.anatomy import CAVITY_CENTRE, CAVITY_RADII, Ellipsoid, Head, Part, Point
from dtvit_edge.phantom.canvas import Array, Canvas, ramp

_BASE_TOP_MM = 36.0

_FACE_AND_NECK: tuple[tuple[Point, Point], ...] = (
    ((0, -36, -42), (64, 60, 72)),
    ((0, 28, -62), (64, 58, 74)),
    ((0, -100, -34), (14, 22, 17)),
    ((80, 8, -12), (7, 13, 22)),
    ((-80, 8, -12), (7, 13, 22)),
)
"""Face, neck, nose and ears: what the skin covers beside the vault."""


def cavity_surface(canvas: Canvas, head: Head) -> tuple[Array, Array]:
    """Signed distance to the inner table of the vault, and to the whole cavity's wall; negative inside."""
    x, y, z = canvas.x, canvas.y, canvas.z - np.float32(CAVITY_CENTRE[2])
    v = y * np.float32(1 / CAVITY_RADII[1])
    u = (x + head.skew * y) / (CAVITY_RADII[0] * (1.0 + head.egg * np.clip(v, -1.2, 1.0) - 0.5 * head.egg * v * v))
    w = z * np.float32(1 / CAVITY_RADII[2])
    u, v, w = u * u, v * v, w * w
    flat = (1 - head.squareness) * np.sqrt(u + v) + head.squareness * np.sqrt(np.sqrt(u * u + v * v))
    radius = np.maximum(np.sqrt(flat * flat + w).astype(np.float32), 0.05)
    vault = np.sqrt(x * x + y * y + z * z) * (1.0 - 1.0 / radius)
    if float(canvas.z.min()) > _BASE_TOP_MM:
        return vault, vault
    floor = _floor(canvas)
    return vault, np.maximum(vault, (floor - canvas.z) * np.float32(0.8))


def _floor(canvas: Canvas) -> Array:
    """Height of the skull base under every point: three fossae, each lower than the one before it."""
    x, y = np.abs(canvas.x), canvas.y
    bulge = np.exp(-(((x - 29) / 15) ** 2))
    anterior = 6 + 13 * bulge * ramp(-25, -50, y) * ramp(-105, -70, y) + 12 * ramp(40, 60, x)
    middle = -14 + 11 * ramp(22, 7, x)
    posterior = -41 + 20 * ramp(32, 50, x)
    to_middle = ramp(-4, 4, y + 31 + 11 * np.exp(-(((x - 37) / 15) ** 2)))
    behind = y - (3 + 0.40 * x)
    to_posterior = ramp(0, 9, behind) * (1 - 0.85 * ramp(12, 3, behind) * ramp(16, 8, x))
    floor: Array = anterior + to_middle * (middle - anterior)
    floor += to_posterior * (posterior - floor)
    return floor


def paint_skull(canvas: Canvas, head: Head, vault: Array, cavity: Array, coarse: Array, fine: Array) -> None:
    """Soft tissue, face, vault and skull base. `coarse`: (S, R, C) noise, `fine`: (R, C) noise."""
    low = float(canvas.z.min()) < _BASE_TOP_MM
    body = _paint_soft_tissue(canvas, head, vault, coarse, fine, low)
    if low:
        for part in head.face:
            _paint_textured(canvas, part, coarse, fine, body)
    _paint_bone(canvas, head, vault, cavity, coarse, fine, low)
    if low:
        for part in head.base:
            _paint_textured(canvas, part, coarse, fine, body)


def skin_surface(canvas: Canvas, head: Head, vault: Array, coarse: Array | float) -> tuple[Array, Array]:
    """Signed distance to the skin, negative inside; how thick the temporal muscle is there, 0 to 1."""
    y, z = canvas.y, canvas.z
    temporal = ramp(46, 6, np.abs(y + 14)) * ramp(52, 12, z)
    outside: Array = vault - (head.skull_mm + head.scalp_mm + 6.0 * temporal + 0.4 * coarse)
    if float(z.min()) < _BASE_TOP_MM:
        for centre, radii in _FACE_AND_NECK:
            found = canvas.distance(Ellipsoid(centre, radii, 0.0))
            if found is not None:
                window, distance = found
                view = outside[window]
                blend = np.maximum(8 - np.abs(view - distance), 0)
                np.minimum(view, distance, out=view)
                view -= blend * blend * np.float32(1 / 32)
    return outside, temporal


def _paint_soft_tissue(canvas: Canvas, head: Head, vault: Array, coarse: Array, fine: Array, low: bool) -> Array:
    """Returns how much of each pixel is patient, 0 to 1."""
    outside, temporal = skin_surface(canvas, head, vault, coarse)
    body: Array = np.clip(0.5 - outside / canvas.pitch_mm, 0, 1)
    hu = np.full(outside.shape, tissues.FAT_HU, np.float32)
    hu += 14.0 * fine
    skin = ramp(-head.skin_mm - 0.5, -head.skin_mm + 0.5, outside)
    muscle = ramp(0.5, -0.5, vault - head.skull_mm - 6.5 * temporal) * ramp(0.1, 0.25, temporal)
    muscle *= np.maximum(ramp(-6.0, -2.0, vault), ramp(0.08, 0.28, np.abs(coarse + 0.25 * fine)))
    if low:
        deep = ramp(-6, -11, outside) * ramp(18, -12, canvas.z) * ramp(0.25, 0.5, np.abs(coarse + 0.25 * fine))
        muscle = np.maximum(muscle, deep)
    hu += muscle * (tissues.MUSCLE_HU + 5 * fine - hu)
    hu += skin * (tissues.SKIN_HU - hu)
    canvas.paint((), body, hu)
    return body


def _paint_bone(canvas: Canvas, head: Head, vault: Array, cavity: Array, coarse: Array, fine: Array, low: bool) -> None:
    y, z, edge = canvas.y, canvas.z, canvas.pitch_mm
    thick = head.skull_mm * (1.0 + 0.05 * coarse)
    thick *= 1.0 + 0.25 * ramp(30, 75, np.abs(y)) - 0.35 * ramp(60, 20, np.abs(y)) * ramp(40, 0, z)
    if float(canvas.z.min()) < 30.0:
        thick += 6.0 * np.exp(-((canvas.x / 7) ** 2) - ((z - 2) / 12) ** 2) * (y > 30)
    outer = np.clip(0.5 - (vault - thick) / edge, 0, 1)
    cover = outer * np.clip(0.5 + cavity / edge, 0, 1)
    depth = vault / thick
    if low:
        end = -12 + 22 * ramp(-35, -55, y) - 40 * ramp(0, 18, y)
        shell = ramp(-3, 3, z - end)
        slab = ramp(4.0, 2.8, cavity)
        inside = vault < 0
        cover *= np.where(inside, slab, shell)
        depth = np.where(inside, 0.15 + 0.5 * np.clip(cavity / 6, 0, 1), depth)
    spongy = ramp(0.22, 0.38, depth) * ramp(0.85, 0.65, depth)
    hu = tissues.CORTICAL_BONE_HU + spongy * (tissues.DIPLOE_HU - tissues.CORTICAL_BONE_HU + 180 * fine)
    canvas.paint((), cover, hu)


def _paint_textured(canvas: Canvas, part: Part, coarse: Array, fine: Array, body: Array) -> None:
    """Paint one part of the face or the base with the texture it names, the eyes alone beyond the skin."""
    found = canvas.cover(part)
    if found is None:
        return
    window, cover = found
    if part.texture != "eye":
        cover = cover * body[window]
    speckle = fine[window[1], window[2]]
    hu: Any = part.hu
    texture = part.texture
    if texture == "muscle":
        cover = cover * ramp(0.25, 0.5, np.abs(coarse[window] + 0.25 * speckle))
        hu = hu + 4 * speckle
    elif texture == "marrow":
        hu = hu + 260 * speckle
    elif texture == "cells":
        hu = hu + ramp(-0.1, 0.3, speckle) * (-850.0 - hu)
    elif texture == "septa":
        hu = hu + ramp(0.22, 0.08, np.abs(speckle)) * (450.0 - hu)
    elif texture == "turbinates":
        hu = hu + ramp(0.35, 0.7, speckle) * (tissues.MUCOSA_HU - hu)
    canvas.paint(window, cover, hu)

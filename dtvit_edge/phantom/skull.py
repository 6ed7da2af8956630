"""Scalp, face and skull on the canvas, and the cavity that is left for the brain."""

from __future__ import annotations

from typing import Any

import numpy as np

from dtvit_edge.phantom import tissues
from dtvit_edge.phantom.anatomy import CAVITY_CENTRE, CAVITY_RADII, Head
from dtvit_edge.phantom.canvas import Array, Canvas, ramp
from dtvit_edge.phantom.parts import Ellipsoid, Part, Point

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
    floor = _floor(canvas, head)
    down, across = (slope / np.float32(canvas.pitch_mm) for slope in np.gradient(floor, axis=(1, 2)))
    steepness = np.minimum(np.sqrt(1.0 + down * down + across * across), 2.5)
    return vault, np.maximum(vault, ((floor - canvas.z) / steepness).astype(np.float32, copy=False))


def _floor(canvas: Canvas, head: Head) -> Array:
    """Height of the skull base under every point: orbital roofs, two bowls for the temporal lobes, the petrous
    ridges behind them, the posterior fossa and the foramen magnum.
    """
    side, y = np.abs(canvas.x), canvas.y
    lean, wave, ridge_mm = head.floor
    x = side + np.float32(lean) * canvas.x * np.float32(0.03)
    rough = np.sin(canvas.x * np.float32(0.19) + np.float32(wave)) * np.sin(y * np.float32(0.17) - np.float32(wave))
    bulge = np.exp(-(((x - 29) / 15) ** 2))
    anterior = 5 + 13 * bulge * ramp(-25, -50, y) * ramp(-105, -70, y) + 12 * ramp(40, 60, x)
    bowl = -20 + 14 * (((x - 35) / 24) ** 2 + ((y + 9 - 0.25 * (x - 35)) / 27) ** 2)
    sella = -5 + 6 * ((x / 9) ** 2 + ((y + 8) / 7) ** 2)
    middle = np.minimum(np.minimum(bowl + 2.0 * rough, 6), sella)
    posterior = -44 + 15 * (x / 42) ** 2 + 10 * ((y - 38) / 40) ** 2
    to_middle = ramp(-4, 4, y + 31 + 11 * np.exp(-(((x - 37) / 15) ** 2)))
    behind = y - (3 + 0.40 * x)
    to_posterior = ramp(0, 9, behind) * (1 - 0.85 * ramp(12, 3, behind) * ramp(16, 8, x))
    floor: Array = anterior + 1.5 * rough + to_middle * (middle - anterior)
    floor += to_posterior * (posterior - floor)
    off = y - (1 + 0.48 * x)
    ridge = ridge_mm + rough - 26 * ramp(14, 7, x) + np.where(off > 0, -2.4 * off, 1.3 * off)
    np.maximum(floor, ridge, out=floor)
    floor -= 60 * ramp(1.15, 0.9, np.sqrt((x / 14) ** 2 + ((y - 33) / 17) ** 2))
    return floor


def paint_skull(canvas: Canvas, head: Head, vault: Array, cavity: Array, coarse: Array, fine: Array) -> None:
    """Soft tissue, face, vault and skull base. `coarse`: (S, R, C) noise, `fine`: (R, C) noise."""
    low = float(canvas.z.min()) < _BASE_TOP_MM
    body = _paint_soft_tissue(canvas, head, vault, coarse, fine, low)
    if low:
        for part in head.face:
            _paint_textured(canvas, part, coarse, fine, body, cavity)
    _paint_bone(canvas, head, vault, cavity, coarse, fine, low)
    if low:
        straight = canvas.x, canvas.y, canvas.z
        bent = (
            canvas.x + np.float32(1.2) * coarse,
            canvas.y + np.float32(1.2) * np.roll(coarse, 29, axis=-1),
            canvas.z + np.float32(2.0) * np.roll(coarse, 53, axis=-2),
        )
        canvas.slack_mm = 6.0
        for part in head.base:
            canvas.x, canvas.y, canvas.z = straight if part.texture == "eye" else bent
            _paint_textured(canvas, part, coarse, fine, body, cavity)
        canvas.x, canvas.y, canvas.z = straight
        canvas.slack_mm = 0.0


def skin_surface(canvas: Canvas, head: Head, vault: Array, coarse: Array | float) -> tuple[Array, Array]:
    """Signed distance to the skin, negative inside; how thick the temporal muscle is there, 0 to 1."""
    y, z = canvas.y, canvas.z
    temporal = ramp(46, 6, np.abs(y + 14)) * ramp(52, 12, z)
    outside: Array = vault - (head.skull_mm + head.scalp_mm + 6.0 * temporal + 0.4 * coarse)
    if float(z.min()) < _BASE_TOP_MM:
        for centre, radii in _FACE_AND_NECK:
            region = canvas.distance(Ellipsoid(centre, radii, 0.0))
            if region is not None:
                window, distance = region
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
        deep = ramp(-6, -11, outside) * ramp(18, -12, canvas.z) * ramp(0.1, 0.3, np.abs(coarse + 0.2 * fine))
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
    if low:
        thick *= 1 - 0.4 * ramp(-5, -35, z) * ramp(20, 40, y)
    outer = np.clip(0.5 - (vault - thick) / edge, 0, 1)
    cover = outer * np.clip(0.5 + cavity / edge, 0, 1)
    depth = vault / thick
    if low:
        front = ramp(-28, -42, y)
        end = -20 + 30 * ramp(-35, -55, y) - 32 * ramp(0, 18, y)
        shell = ramp(-3, 3, z - end)
        table = 2.6 - 1.2 * front + 0.6 * coarse
        table += 3.4 * ramp(-8, 2, y) * ramp(50, 36, y)
        slab = ramp(0.6, -0.6, cavity - table) * (1 - front * np.clip(0.7 - 0.4 * coarse - 0.15 * fine, 0, 0.97))
        inside = vault < 0
        cover *= np.where(inside, slab, shell)
        depth = np.where(inside, 0.15 + 0.5 * np.clip(cavity / 6, 0, 1), depth)
    spongy = ramp(0.22, 0.38, depth) * ramp(0.85, 0.65, depth)
    hu = tissues.CORTICAL_BONE_HU + spongy * (tissues.DIPLOE_HU - tissues.CORTICAL_BONE_HU + 180 * fine)
    if low:
        hu = np.where(inside, hu + front * (300.0 - hu), hu)
    canvas.paint((), cover, hu)


def _paint_textured(canvas: Canvas, part: Part, coarse: Array, fine: Array, body: Array, cavity: Array) -> None:
    """Paint one part of the face or the base with the texture it names, the eyes alone beyond the skin."""
    region = canvas.cover(part)
    if region is None:
        return
    window, cover = region
    if part.texture != "eye":
        cover = cover * body[window]
    speckle = fine[window[1], window[2]]
    hu: Any = part.hu
    texture = part.texture
    if texture == "muscle":
        cover = cover * ramp(0.08, 0.25, np.abs(coarse[window] + 0.2 * speckle))
        hu = hu + 4 * speckle
    elif texture == "marrow":
        hu = hu + 260 * speckle
    elif texture == "cells":
        hu = hu + ramp(0.0, 0.4, 0.5 * speckle + coarse[window]) * ramp(5.0, 6.0, cavity[window]) * (-850.0 - hu)
    elif texture == "septa":
        hu = hu + ramp(0.2, 0.06, np.abs(coarse[window] + 0.15 * speckle)) * (300.0 - hu)
    elif texture == "lamina":
        cover = cover * np.clip(0.6 + 0.4 * coarse[window], 0.2, 1)
    canvas.paint(window, cover, hu)

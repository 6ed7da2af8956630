"""Cortex, white matter, ventricles, cisterns, dura and cerebellum on the canvas."""

from __future__ import annotations

import cv2
import numpy as np

from dtvit_edge.phantom.anatomy import Head
from dtvit_edge.phantom.canvas import Array, Canvas, ramp
from dtvit_edge.phantom.parts import Part
from dtvit_edge.phantom.textures import FOLD_CENTRE_Z_MM, fold_coordinates

Folds = tuple[Array, Array]


def tentorium_height(x: Array, y: Array, head: Head) -> Array:
    """Height of the tentorium in canonical mm: a tent, its apex behind the midbrain."""
    tent: Array = (
        head.tentorium_apex_mm * np.exp(np.abs(x) * np.float32(-1 / 32)) - 1 - 0.36 * np.maximum(y - 26.0, 0.0)
    )
    return tent


def paint_brain(canvas: Canvas, head: Head, cavity: Array, folds: Folds, coarse: Array) -> Array:
    """Everything within the cavity. Returns the ventricles' cover, (S, R, C) float32."""
    inside = np.clip(0.5 - cavity / canvas.pitch_mm, 0, 1)
    ventricles = np.zeros_like(canvas.hu)
    if not inside.any():
        return ventricles
    tissue = _cerebrum(canvas, head, cavity, folds, coarse)
    low = float(canvas.z.min()) < head.tentorium_apex_mm + 4
    canvas.paint((), inside, tissue)
    for part in head.nuclei:
        _paint(canvas, part, inside)
    _paint_insula(canvas, head, inside, coarse)
    for part in head.lesions:
        _paint(canvas, part, inside * ramp(1.6, -0.4, coarse) if part.texture == "ragged" else inside)
    for part in head.ventricles:
        region = canvas.cover(part)
        if region is not None:
            window, cover = region
            cover = cover * inside[window]
            canvas.paint(window, cover, head.csf_hu)
            np.maximum(ventricles[window], cover, out=ventricles[window])
    if low:
        _paint_posterior_fossa(canvas, head, cavity, inside, coarse)
        for part in head.cisterns:
            _paint(canvas, part, inside)
    for part in head.calcifications:
        _paint(canvas, part, inside)
    return ventricles


def _paint(canvas: Canvas, part: Part, inside: Array) -> None:
    region = canvas.cover(part)
    if region is not None:
        window, cover = region
        canvas.paint(window, cover * inside[window], part.hu)


def _cerebrum(canvas: Canvas, head: Head, cavity: Array, folds: Folds, coarse: Array) -> Array:
    """Densities of the cerebral hemispheres, falx and rim of CSF: (S, R, C) float32."""
    x, y, z, pitch = canvas.x, canvas.y, canvas.z, canvas.pitch_mm
    depth = -cavity - head.rim_mm * (0.8 + 0.35 * coarse) * (1 + 0.5 * ramp(0, -60, y) * ramp(10, 50, z))
    columns, rows = fold_coordinates(x, y, z - np.float32(FOLD_CENTRE_Z_MM))
    bend = np.float32(2.6)
    columns += bend * coarse
    rows += bend * np.roll(coarse, 37, axis=-1)
    sulcus = np.empty_like(x)
    width = np.empty_like(x)
    for plane in range(x.shape[0]):
        sulcus[plane] = cv2.remap(folds[0], columns[plane], rows[plane], cv2.INTER_LINEAR)
        width[plane] = cv2.remap(folds[1], columns[plane], rows[plane], cv2.INTER_LINEAR)
    reach = head.sulcus_depth_mm * np.clip(0.45 + 0.5 * width, 0.7, 1.15)

    off = np.abs(x - head.midline_mm * ramp(90, 20, np.abs(y)) - 0.8 * coarse)
    callosum = np.sqrt(((y - 2) * np.float32(1 / 40)) ** 2 + ((z - 20) * np.float32(1 / 27)) ** 2)
    split = ramp(0.95, 1.05, callosum) * ramp(-4, 4, z - 12 - 0.2 * np.minimum(y, 0))
    buried = np.minimum(depth, 1.4 * off + 3 + 40 * (1 - split))
    fade = np.clip(1.4 * (1.08 - buried / reach), 0, 1)
    open_mm = head.sulcus_mm * width * fade * (0.45 + 0.55 * ramp(-8, 22, z))
    ribbon = np.minimum(depth, sulcus + 40 * ramp(0.75, 1.05, buried / reach))
    ribbon = np.minimum(ribbon, off + 0.8 + 40 * (1 - split))
    fissure = (0.3 + head.fissure_mm) * split * (0.55 + 0.4 * ramp(20, -40, y)) * np.clip(1 + 0.6 * coarse, 0.3, 2)

    grey = ramp(3.9, 2.7, ribbon)
    hu: Array = head.white_hu + 0.8 * coarse - 1.2 * ramp(12, 26, buried) + grey * (head.grey_hu - head.white_hu)
    liquid = np.clip((open_mm * 0.5 + pitch * 0.5 - sulcus) / pitch, 0, 1) * np.clip(open_mm / pitch, 0, 1)
    liquid *= depth > -1
    liquid = np.maximum(liquid, np.clip((fissure + pitch * 0.5 - off) / pitch, 0, 1) * split)
    liquid = np.maximum(liquid, np.clip(0.5 - depth / pitch, 0, 1))
    hu += liquid * (head.csf_hu - hu)
    falx = np.clip((0.7 + pitch * 0.5 - off) / pitch, 0, 1) * split * ramp(1.2, 1.5, callosum) * ramp(8, 16, z)
    hu += falx * (head.falx_hu - hu)
    sinus = ramp(4.5, 3.5, off) * ramp(-6, -4, cavity) * ramp(20, 60, z + 0.8 * y) * split
    hu += sinus * (head.falx_hu - hu)
    return hu


def _paint_insula(canvas: Canvas, head: Head, inside: Array, coarse: Array) -> None:
    """The Sylvian fissure: a cistern over the insula on each side, open to the surface in front."""
    x, y, z = np.abs(canvas.x), canvas.y, canvas.z
    if float(z.min()) > 44 or float(z.max()) < 2:
        return
    bed = 40.5 - 0.010 * (y + 2) ** 2
    tall = ramp(2, 9, z) * ramp(37, 28, z) * ramp(27, 20, np.abs(y + 1))
    wide = head.fissure_mm * tall * np.clip(0.7 + 0.5 * coarse, 0, 1.6)
    off = np.abs(x - bed + 1.6 * np.roll(coarse, 50, axis=-2))
    cortex = ramp(4.5, 3.0, off) * tall
    canvas.paint((), cortex * inside, head.grey_hu)
    cistern = np.clip((wide * 0.5 + 0.5 - off), 0, 1) * ramp(0, 0.6, wide)
    mouth = np.abs(z - 17 - 0.35 * (y + 8) - 0.15 * (x - 50)) * 0.9
    opening = np.clip(wide * 0.6 + 0.5 - mouth * 0.7, 0, 1) * (x > bed) * ramp(26, 18, np.abs(y + 6))
    canvas.paint((), np.maximum(cistern, opening) * inside, head.csf_hu)


def _paint_posterior_fossa(canvas: Canvas, head: Head, cavity: Array, inside: Array, coarse: Array) -> None:
    x, y, z, pitch = canvas.x, canvas.y, canvas.z, canvas.pitch_mm
    side = np.abs(x)
    above = (z - tentorium_height(x, y, head) + 0.8 * coarse) * np.float32(0.85)
    behind = y - (8 + 0.40 * side)
    notch = np.sqrt((x / 19) ** 2 + ((y - 14) / 20) ** 2)
    fossa = ramp(0.4, -0.4, above) * ramp(0, 3, behind)
    canvas.paint((), fossa * inside, head.csf_hu)

    gap = 0.6 + 0.8 * head.rim_mm
    surface = np.maximum(np.maximum(cavity + gap, above + 0.4 + 0.4 * gap), 24 - y - 0.3 * np.maximum(side - 10, 0))
    cerebellum = np.clip(0.5 - surface / pitch, 0, 1) * fossa
    leaves = np.cos(
        (np.sqrt((side - 16) ** 2 + (y - 30) ** 2 + (1.6 * (z + 4)) ** 2) + 2.2 * coarse) * np.float32(1.15)
    )
    core = ramp(10, 19, np.sqrt(((side - 20) / 1.3) ** 2 + (y - 42) ** 2 + (1.2 * (z + 14)) ** 2))
    hu = head.white_hu + 1 + core * (head.grey_hu - head.white_hu - 1 + 1.8 * leaves)
    middle = ramp(10, 6, side + 1.5 * coarse) * ramp(36, 42, y)
    rings = np.cos((y + 0.5 * z + 1.5 * coarse) * np.float32(1.25))
    hu += middle * (3.0 + 2.0 * rings)
    shallow = ramp(-16, -3, surface)
    hu -= (1 - middle) * shallow * ramp(0.3, 1.0, leaves) * (3.0 + 2.0 * head.rim_mm)
    vermis = 0.8 * np.clip(0.5 + 0.4 * head.rim_mm - side, 0, 1) * ramp(56, 64, y) * ramp(8, 0, z)
    hu += vermis * (head.csf_hu - hu)
    canvas.paint((), cerebellum * inside, hu)
    for part in head.infratentorial:
        _paint(canvas, part, inside * ramp(6, 3, above) if part.hu < 20 else inside)
    dura = np.clip((0.6 + 0.5 * pitch - np.abs(above)) / pitch, 0, 1) * ramp(0, 3, behind) * ramp(0.95, 1.1, notch)
    canvas.paint((), dura * inside, head.falx_hu)
    sinus = ramp(3.0, 4.0, -above + 6) * ramp(-5.5, -4, cavity) * ramp(7, 4, np.abs(above)) * ramp(20, 30, y)
    canvas.paint((), sinus * inside, head.falx_hu + 2)

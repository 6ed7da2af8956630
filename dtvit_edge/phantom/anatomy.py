"""The head of one synthetic patient: shapes and sizes, drawn once per study.

Everything is in **canonical head coordinates**: millimetres of an average head, x to the patient's left, y to
the back, z to the vertex, origin at the sella. `Head.scale` turns them into this patient's millimetres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dtvit_edge.phantom import tissues
from dtvit_edge.phantom.face import draw_base, draw_face
from dtvit_edge.phantom.interior import (
    draw_calcifications,
    draw_cisterns,
    draw_infratentorial,
    draw_lesions,
    draw_nuclei,
    draw_ventricles,
)
from dtvit_edge.phantom.parts import Part, Point

CAVITY_CENTRE: Point = (0.0, 0.0, 22.0)
CAVITY_RADII: Point = (66.0, 82.0, 76.0)


@dataclass(frozen=True)
class Head:
    """One patient's head.

    scale: canonical millimetres times this are the patient's, along x, y, z.
    egg: how much wider the back is than the front; squareness: 0 is an ellipsoid; skew: plagiocephaly.
    floor: the skull base's asymmetry, the phase of its unevenness, and the height of the petrous ridges in mm.
    sulcus_mm, rim_mm, fissure_mm: widths of the sulci, of the subarachnoid rim and of the great fissures.
    """

    scale: Point
    egg: float
    squareness: float
    skew: float
    skull_mm: float
    scalp_mm: float
    skin_mm: float
    rim_mm: float
    sulcus_mm: float
    sulcus_depth_mm: float
    gyrus_mm: float
    fissure_mm: float
    grey_hu: float
    white_hu: float
    csf_hu: float
    falx_hu: float
    tentorium_apex_mm: float
    midline_mm: float
    face: tuple[Part, ...]
    base: tuple[Part, ...]
    nuclei: tuple[Part, ...]
    infratentorial: tuple[Part, ...]
    ventricles: tuple[Part, ...]
    cisterns: tuple[Part, ...]
    lesions: tuple[Part, ...]
    calcifications: tuple[Part, ...]
    floor: Point


def draw_head(rng: np.random.Generator) -> Head:
    """A head from the population: size, shape, age (atrophy), ventricles, calcifications, old lesions."""
    age = float(rng.beta(2.0, 1.6))
    size = float(rng.normal(1.0, 0.03))
    scale = tuple(float(np.clip(size * rng.normal(1.0, s), 0.88, 1.10)) for s in (0.025, 0.025, 0.02))
    ventricle = float(np.clip(0.55 + 0.9 * age**1.5 + rng.normal(0, 0.12), 0.4, 1.6))
    return Head(
        scale=(scale[0], scale[1], scale[2]),
        egg=float(rng.uniform(0.03, 0.13)),
        squareness=float(rng.uniform(0.0, 0.45)),
        skew=float(rng.normal(0, 0.03)),
        skull_mm=float(rng.uniform(5.0, 8.5)),
        scalp_mm=float(rng.uniform(4.0, 8.5)),
        skin_mm=float(rng.uniform(1.6, 2.6)),
        rim_mm=float(0.9 + 2.0 * age**2 * rng.uniform(0.5, 1.2)),
        sulcus_mm=float(1.1 + 1.9 * age**2 * rng.uniform(0.5, 1.2)),
        sulcus_depth_mm=float(rng.uniform(13, 21)),
        gyrus_mm=float(rng.uniform(2.3, 2.9)),
        fissure_mm=float(0.7 + 2.6 * age**1.5 * rng.uniform(0.6, 1.2)),
        grey_hu=tissues.GREY_HU + float(rng.normal(0, 1.0)),
        white_hu=tissues.WHITE_HU + float(rng.normal(0, 1.0)),
        csf_hu=tissues.CSF_HU + float(rng.normal(0, 1.5)),
        falx_hu=tissues.DURA_HU + float(rng.normal(0, 5.0)),
        tentorium_apex_mm=float(rng.normal(25, 1.5)),
        midline_mm=float(rng.normal(0, 0.8)),
        face=draw_face(rng),
        base=draw_base(rng),
        nuclei=draw_nuclei(rng),
        infratentorial=draw_infratentorial(rng, ventricle),
        ventricles=draw_ventricles(rng, ventricle),
        cisterns=draw_cisterns(rng, age),
        lesions=draw_lesions(rng, age),
        calcifications=draw_calcifications(rng, age),
        floor=(float(rng.normal(0, 1.0)), float(rng.uniform(0, 6.0)), float(rng.normal(4.0, 1.5))),
    )

"""Constants of the phantom: densities in Hounsfield units, image size, and what counts as visible blood."""

from __future__ import annotations

MATRIX = 512
"""Rows and columns of every slice."""

SUBSLICES = 3
"""Planes averaged over one slice's thickness: the partial volume of everything that is not vertical."""

AIR_HU = -1000.0
FOAM_HU = -930.0
FAT_HU = -95.0
ORBITAL_FAT_HU = -85.0
SKIN_HU = 38.0
MUSCLE_HU = 56.0
MUCOSA_HU = 35.0
CORTICAL_BONE_HU = 1500.0
DIPLOE_HU = 750.0
BASE_BONE_HU = 950.0
PETROUS_BONE_HU = 1750.0
THIN_BONE_HU = 650.0
CSF_HU = 6.0
VITREOUS_HU = 12.0
SCLERA_HU = 48.0
LENS_HU = 80.0
GREY_HU = 37.5
WHITE_HU = 29.0
BRAINSTEM_HU = 32.0
DURA_HU = 52.0
OEDEMA_HU = 20.0
SCAR_HU = 15.0

BLOOD_HU = (54.0, 80.0)
"""Range of a haemorrhage's mean density."""

VISIBLE_HU = 45.0
"""A pixel of blood counts as visible at or above this density, before noise."""

VISIBLE_MM2 = 40.0
"""A slice is positive with at least this area of visible blood, and shows no blood at all with less."""

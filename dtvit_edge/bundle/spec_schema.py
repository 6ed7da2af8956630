"""The schema of a manifest's `spec`: types and bounds. What fields have to agree on is the spec's own affair."""

from __future__ import annotations

from dtvit_edge.bundle.json_schema import Json, array, choice, count, fields, number, or_null, switch
from dtvit_edge.spec import (
    ALGORITHM,
    FILTERS,
    FITS,
    MAX_CROP,
    MAX_MATRIX,
    MAX_THICKNESS_MM,
    MIN_CROP,
    MIN_THICKNESS_MM,
    MOST_CHANNELS,
    MOST_TOP_PLACES,
    WindowKind,
)

# Hounsfield units of metal and of scanners' extended scales stay far below; what is far above would lose its digits.
_MOST_HU = 1e6
# A structuring element beyond this is larger than any fixation device between head and edge, and slow.
_MOST_DISK_ROWS, _MOST_DISK_WIDTH = 65, 32

_WINDOW = fields(
    "One window.",
    {
        "center_hu": number("Its centre in HU.", minimum=-_MOST_HU, maximum=_MOST_HU),
        "width_hu": number("Its width in HU.", exclusiveMinimum=0, maximum=_MOST_HU),
        "kind": choice("The formula, as DICOM names it.", *(kind.value for kind in WindowKind)),
    },
)


def _channels(description: str, **bounds: float) -> Json:
    return array(description, number("Of a channel.", **bounds), minItems=1, maxItems=MOST_CHANNELS)


# Fields that bundles from before there were such fields lack; `PreprocessSpec.from_dict` knows what that means.
_LATER = ("fit", "filter", "device_mask", "thickness_mm", "top_places", "algorithm")

SPEC_SCHEMA = fields(
    "The preprocessing: every field of `dtvit_edge.spec.PreprocessSpec`.",
    {
        "windows": array("One window, or one a channel of the encoder.", _WINDOW, minItems=1, maxItems=MOST_CHANNELS),
        "mask_threshold": count("A byte of the first channel above it counts as object.", maximum=254),
        "disk_half_widths": array(
            "The structuring element, half-width by row.",
            count("In pixels.", maximum=_MOST_DISK_WIDTH),
            minItems=1,
            maxItems=_MOST_DISK_ROWS,
        ),
        "edge_columns": count("Columns at each side of the eroded image that are cleared.", maximum=MAX_MATRIX),
        "resize": or_null(
            count(
                "The length of the shorter side; null is the paper's literal crop.", minimum=MIN_CROP, maximum=MAX_CROP
            )
        ),
        "crop": count("The side of the centre crop, the model's input.", minimum=MIN_CROP, maximum=MAX_CROP),
        "brain_range_hu": array(
            "What counts as brain tissue, both ends included.",
            number("In HU.", minimum=-_MOST_HU, maximum=_MOST_HU),
            minItems=2,
            maxItems=2,
        ),
        "min_brain_share": number("A slice with less brain in its head is skipped.", minimum=0, maximum=1),
        "mean": _channels("Of the encoder's channels; folded into the graph.", minimum=-1000, maximum=1000),
        "std": _channels("Of the encoder's channels; folded into the graph.", exclusiveMinimum=0, maximum=1000),
        "fit": choice("With `shorter` the shorter side gets the length of `resize`, with `squash` both do.", *FITS),
        "filter": choice("The filter of the resize, antialiased as Pillow's.", *FILTERS),
        "device_mask": switch("What lies outside the head becomes 0; false keeps every pixel."),
        "thickness_mm": number(
            "Slices thinner than half of it are averaged to it.", minimum=MIN_THICKNESS_MM, maximum=MAX_THICKNESS_MM
        ),
        "top_places": count(
            "So many of the highest places make a series' probability.", minimum=1, maximum=MOST_TOP_PLACES
        ),
        "algorithm": count("The version of what these fields mean.", minimum=ALGORITHM, maximum=ALGORITHM),
    },
    optional=_LATER,
)

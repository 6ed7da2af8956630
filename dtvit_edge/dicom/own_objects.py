"""Objects that this program made of a study: results, never images of a scan, wherever they turn up again."""

from __future__ import annotations

from dtvit_edge.dicom.header_values import Tags, text

# Of General Equipment (PS3.3 C.7.5.1), in every object that `pacs` writes.
MANUFACTURER, MODEL = "dtvit-edge", "dtvit-edge result"


def is_own(dataset: Tags) -> bool:
    """Whether a dataset is one of them."""
    return text(dataset, "Manufacturer") == MANUFACTURER and text(dataset, "ManufacturerModelName") == MODEL

"""What tests of open models share: results to compare, arrays of phantoms, and a model that waits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from dtvit_edge.bundle import Bundle
from dtvit_edge.scoring.api import StudyResult
from dtvit_edge.scoring.model import Model, open_model


@contextmanager
def opened(bundle: Bundle, **options: Any) -> Iterator[Model]:
    """A model on ONNX Runtime with one thread."""
    with open_model(bundle, **{"backend": "onnxruntime", "threads": 1, **options}) as model:
        yield model


def without_paths(results: Sequence[StudyResult]) -> list[StudyResult]:
    """The same results, whatever the files are called; rows in the order of their UIDs."""
    return [
        StudyResult(
            result.study,
            tuple(replace(stack, top=stack.top and replace(stack.top, path="")) for stack in result.stacks),
            tuple(sorted((replace(row, path="") for row in result.slices), key=lambda r: (r.sop_uid, r.frame))),
        )
        for result in results
    ]


def slices_of(folder: Path) -> list[Path]:
    """The DICOM files of a phantom study, by name."""
    return sorted(path for path in folder.rglob("IM*") if path.is_file())


def volume_of(folder: Path) -> tuple[NDArray[np.float64], tuple[float, float, float], list[str]]:
    """A phantom study as an array in HU from feet to head, its spacing in mm, and the slices' UIDs."""
    datasets = sorted(map(pydicom.dcmread, slices_of(folder)), key=lambda ds: float(ds.ImagePositionPatient[2]))
    first, second = (float(ds.ImagePositionPatient[2]) for ds in datasets[:2])
    hu = np.stack([ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for ds in datasets])
    rows, columns = map(float, datasets[0].PixelSpacing)
    return hu, (second - first, rows, columns), [str(ds.SOPInstanceUID) for ds in datasets]

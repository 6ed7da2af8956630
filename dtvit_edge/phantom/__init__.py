"""Synthetic non-contrast head CT with intracerebral haemorrhages, and the truth beside it.

For demonstrations, tests, calibration and training where no patient's pixels may go. Every study comes from
one seed: the same seed gives the same bytes (with the same versions of NumPy, OpenCV and pydicom), unique
identifiers and dates included. Nothing here is a patient, and nothing learnt from it is fit for one.

A slice is positive if and only if blood was drawn in it, and then at least 40 mm^2 of it is visible at 45 HU
or more before noise; the ends of a haemorrhage that would show less are not drawn (see `bleed`).
"""

from dtvit_edge.phantom.files import (
    TRUTH_COLUMNS,
    collection_seeds,
    phantom_uid,
    slice_dataset,
    write_phantoms,
    write_study,
)
from dtvit_edge.phantom.study import (
    PhantomSlice,
    PhantomStudy,
    StudyPlan,
    plan_study,
    render_plan,
    render_slice,
    render_study,
)

__all__ = [
    "TRUTH_COLUMNS",
    "PhantomSlice",
    "PhantomStudy",
    "StudyPlan",
    "collection_seeds",
    "phantom_uid",
    "plan_study",
    "render_plan",
    "render_slice",
    "render_study",
    "slice_dataset",
    "write_phantoms",
    "write_study",
]

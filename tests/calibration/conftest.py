"""Pictures of heads as a labelled set."""

from __future__ import annotations

from tests.support.outliers import outlier_graph
from tests.support.pictures import pictures
from tests.support.quick_statistics import coarse_entropy, few_resamples
from tests.support.threads import one_thread

__all__ = ["coarse_entropy", "few_resamples", "one_thread", "outlier_graph", "pictures"]

"""The stand-in GPU, for what is measured on one, and one small run that other tests look at."""

from __future__ import annotations

from tests.support.bench_runs import ran, settings, wrong_int8
from tests.support.cuda.fixtures import kernel_library, make_gpu
from tests.support.outliers import outlier_graph
from tests.support.quick_statistics import coarse_entropy, few_resamples

__all__ = [
    "coarse_entropy",
    "few_resamples",
    "kernel_library",
    "make_gpu",
    "outlier_graph",
    "ran",
    "settings",
    "wrong_int8",
]

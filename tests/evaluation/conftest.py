"""Pictures of heads as a labelled set."""

from __future__ import annotations

from tests.support.pictures import one_thread, pictures
from tests.support.quick_statistics import few_resamples

__all__ = ["few_resamples", "one_thread", "pictures"]

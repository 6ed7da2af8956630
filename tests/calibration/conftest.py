"""Pictures of heads as a labelled set, and a bundle to calibrate on them."""

from __future__ import annotations

from tests.support.pictures import exported, one_thread, pictures
from tests.support.resamples import few_resamples

__all__ = ["exported", "few_resamples", "one_thread", "pictures"]

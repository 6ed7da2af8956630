"""One thread each, and a set that is quickly learnt."""

from __future__ import annotations

from tests.support.quick_statistics import few_resamples
from tests.support.squares import one_thread, small_squares, squares

__all__ = ["few_resamples", "one_thread", "small_squares", "squares"]

"""One thread each, and a set that is quickly learnt."""

from __future__ import annotations

from tests.support.quick_statistics import few_resamples
from tests.support.squares import small_squares, squares
from tests.support.threads import one_thread

__all__ = ["few_resamples", "one_thread", "small_squares", "squares"]

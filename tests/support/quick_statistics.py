"""A quick bootstrap and a quick search, for the folders whose conftest imports them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from calibration import ranges
from evaluation import metrics


@pytest.fixture(scope="session", autouse=True)
def few_resamples() -> Iterator[None]:
    """A bootstrap of a thousand takes seconds, and every evaluation makes several."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(metrics, "RESAMPLES", 20)
        yield


@pytest.fixture(scope="module")
def coarse_entropy() -> Iterator[None]:
    """Half the bins are searched in a sixth of the time, a third of a calibration's."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ranges, "_ENTROPY_BINS", ranges._ENTROPY_BINS // 2)
        yield

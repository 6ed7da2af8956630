"""A quick bootstrap, for the folders whose conftest imports it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from evaluation import metrics


@pytest.fixture(scope="session", autouse=True)
def few_resamples() -> Iterator[None]:
    """A bootstrap of a thousand takes seconds, and every evaluation makes several."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(metrics, "RESAMPLES", 60)
        yield

"""Small models for the export tests."""

from __future__ import annotations

from tests.support.encoders import make_pixels
from tests.support.threads import one_thread

__all__ = ["make_pixels", "one_thread"]

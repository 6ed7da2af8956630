"""Small models for the export tests."""

from __future__ import annotations

from tests.support.encoders import make_pixels, two_threads

__all__ = ["make_pixels", "two_threads"]

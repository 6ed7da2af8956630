"""Small models for the export tests."""

from __future__ import annotations

from tests.support.encoders import make_pixels, small_checkpoint, two_threads

__all__ = ["make_pixels", "small_checkpoint", "two_threads"]

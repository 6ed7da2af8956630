"""Where the repository and the real CT data lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Real CT data are no part of the repository; the folder is asked for by name, or stands beside the checkout.
REAL_DATA = Path(os.environ.get("DTVIT_DATA") or ROOT.parent / "shared" / "data")


def real(*parts: str) -> Path:
    """A path of the real data; the calling test skips with a reason where it is absent."""
    path = REAL_DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"real CT data not found: {'/'.join(parts)} of the folder that DTVIT_DATA names")
    return path

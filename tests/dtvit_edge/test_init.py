"""The package's front door: what it offers without being asked to load anything."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata

import pytest

import dtvit_edge
from tests.support.data import ROOT


def test_the_version_is_the_installed_packages() -> None:
    assert dtvit_edge.__version__ == metadata.version("dtvit-edge")


def test_files_that_are_not_installed_have_no_version_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    assert dtvit_edge.__version__ == "0+unknown"


def test_the_version_is_read_when_it_is_asked_for() -> None:
    code = (
        "import sys, dtvit_edge; before = 'importlib.metadata' in sys.modules; dtvit_edge.__version__; "
        "sys.exit(f'{before}' if before or 'importlib.metadata' not in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there() -> None:
    for name in dtvit_edge.__all__:
        assert getattr(dtvit_edge, name) is not None

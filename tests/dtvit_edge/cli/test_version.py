"""`--version` from a checkout, from a wheel, and from neither."""

from __future__ import annotations

import re
from importlib import metadata
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from dtvit_edge.cli import version as module
from dtvit_edge.cli.commands import main
from tests.support.data import ROOT


def test_a_checkout_says_what_its_pyproject_says(capsys: pytest.CaptureFixture[str]) -> None:
    stated = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert stated is not None
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dtvit-edge, version {stated.group(1)}\n"


@pytest.mark.parametrize("neighbour", ["", '[project]\nname = "other"\nversion = "9"\n'], ids=["none", "of another"])
def test_a_wheel_says_what_was_installed(neighbour: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PROJECT", tmp_path / "pyproject.toml")
    if neighbour:
        (tmp_path / "pyproject.toml").write_text(neighbour)
    monkeypatch.setattr(metadata, "version", lambda name: f"7.1 of {name}")
    assert module.version() == "7.1 of dtvit-edge"


def test_code_that_was_neither_installed_nor_checked_out_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "_PROJECT", tmp_path / "pyproject.toml")
    monkeypatch.setattr(metadata, "version", absent)
    assert module.version() == "unknown"

"""What killed processes left beside a bundle: the bundle comes back, the rest goes, a running one's stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dtvit_edge.bundle import ENGINES, Bundle, write_bundle
from dtvit_edge.bundle.leftovers import clear_leftovers


def left(folder: Path, process: int, what: str, name: str = "a.dtvit") -> Path:
    path = folder / f".{name}.{process}.{what}"
    path.mkdir()
    (path / "manifest.json").write_text(what)
    return path


@pytest.fixture(scope="module")
def dead() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_a_bundle_that_was_being_replaced_comes_back(tmp_path: Path, dead: int) -> None:
    part, earlier = left(tmp_path, dead, "part"), left(tmp_path, dead, "earlier")
    clear_leftovers(tmp_path / "a.dtvit")
    assert (tmp_path / "a.dtvit" / "manifest.json").read_text() == "earlier"
    assert not part.exists() and not earlier.exists()


def test_nothing_replaces_a_bundle_that_is_there(tmp_path: Path, dead: int) -> None:
    (tmp_path / "a.dtvit").mkdir()
    earlier = left(tmp_path, dead, "earlier")
    clear_leftovers(tmp_path / "a.dtvit")
    assert not list((tmp_path / "a.dtvit").iterdir()) and not earlier.exists()


def test_what_is_not_of_a_dead_write_to_this_name_stays(tmp_path: Path, dead: int) -> None:
    kept = [
        left(tmp_path, os.getppid(), "part"),
        left(tmp_path, dead, "part", "b.dtvit"),
        left(tmp_path, dead, "part.old"),
        tmp_path / f".a.dtvit.{dead}.earlier",
    ]
    kept[-1].symlink_to(tmp_path)
    clear_leftovers(tmp_path / "a.dtvit")
    clear_leftovers(tmp_path / "nowhere" / "a.dtvit")
    assert all(path.is_dir() for path in kept) and not (tmp_path / "a.dtvit").exists()


def test_a_bundle_behind_a_link_is_replaced_and_the_link_stays(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """`calibrate` writes to where it was told to read."""
    shutil.copytree(tiny_bundle.path, tmp_path / "real.dtvit")
    (tmp_path / "real.dtvit" / ENGINES).mkdir()
    link = tmp_path / "link.dtvit"
    link.symlink_to("real.dtvit")
    files = {record.file: tiny_bundle.file_bytes(record) for record in (
        *tiny_bundle.manifest.models.values(), *tiny_bundle.manifest.golden.values()
    )}  # fmt: skip
    new = write_bundle(link, replace(tiny_bundle.manifest, calibration={"method": "x"}), files, overwrite=True)
    assert link.is_symlink() and Bundle.open(link).digest == new.digest != tiny_bundle.digest
    assert (tmp_path / "real.dtvit" / ENGINES).is_dir() and len(list(tmp_path.iterdir())) == 2

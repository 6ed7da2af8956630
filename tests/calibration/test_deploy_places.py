"""Where `deploy` writes: one deployment to a name at a time, and nobody else's files are replaced or removed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from calibration import deployment
from dtvit_edge.bundle import Bundle
from dtvit_edge.scoring.lock import FolderLock
from tests.support.deploy_workshop import Workshop


def test_two_deployments_to_one_name_do_not_meet(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    with FolderLock(workshop.output.parent, workshop.output.name):
        assert workshop.deploy() == 2 and workshop.runs == []
        assert f"process {os.getpid()} on" in capsys.readouterr().err
        workshop.output = workshop.output.with_name("another.dtvit")
        assert workshop.deploy() == 0
    assert not list(workshop.output.parent.glob(".*"))


def test_a_bundle_that_is_replaced_between_two_steps_is_not_gone_on_with(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another command may export other weights to that name: they would be calibrated and shown as these."""

    def replaced(weights: Path, output: Path, *args: Any, **more: Any) -> Bundle:
        mine = workshop.export(weights, output, *args, **more)
        workshop.weights.write_bytes(b"other weights")
        workshop.export(weights, output, *args, **more)
        return mine

    monkeypatch.setattr(deployment, "export_bundle", replaced)
    assert workshop.deploy() == 2 and "calibrate" not in workshop.runs
    assert "was changed by another command while deploy ran" in capsys.readouterr().err


def test_files_that_are_no_bundles_are_never_removed(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    """Overwriting replaces the whole folder: what somebody put there is named before anything is run."""
    assert workshop.deploy(sliced=False) == 0
    notes = workshop.output / "notes.txt"
    notes.write_text("mine")
    assert workshop.deploy(sliced=False) == 0  # nothing to be written
    assert workshop.deploy() == 2 and workshop.runs == [] and "(notes.txt)" in capsys.readouterr().err
    workshop.weights.write_bytes(b"other weights")
    assert workshop.deploy("--overwrite", sliced=False) == 2 and workshop.runs == []
    assert notes.read_text() == "mine"
    (workshop.output / "manifest.json").unlink()
    assert workshop.deploy("--overwrite") == 2 and workshop.runs == []
    assert "is not a bundle; it is not overwritten" in capsys.readouterr().err


def test_a_link_to_a_bundle_is_not_replaced(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    assert workshop.deploy() == 0
    bundle = workshop.output
    workshop.output = bundle.with_name("link.dtvit")
    workshop.output.symlink_to(bundle)
    assert workshop.deploy("--overwrite") == 2 and workshop.runs == []
    assert "is a link to" in capsys.readouterr().err and Bundle.open(bundle)

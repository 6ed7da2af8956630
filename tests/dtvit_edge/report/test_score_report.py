"""`score --report`: the pages are made by the model of the run, still open."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.report import high_images
from dtvit_edge.report import write as write_module
from dtvit_edge.scoring import opening

pytest.importorskip("jinja2")


def test_the_model_that_answered_is_asked_for_its_maps_without_being_opened_again_and_the_tables_stay_as_they_are(
    tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened_as: list[str] = []
    asked: list[Any] = []
    for module in (opening, write_module):

        def noted(*arguments: Any, module: Any = module, real: Any = module.open_backend) -> Any:
            opened_as.append(module.__name__.rpartition(".")[2])
            return real(*arguments)

        monkeypatch.setattr(module, "open_backend", noted)
    evidence = high_images.evidence
    monkeypatch.setattr(
        high_images, "evidence", lambda executor, *a: (asked.append(executor), evidence(executor, *a))[1]
    )
    studies = tmp_path / "studies"
    shutil.copytree(phantom_folder / "study-0001", studies)
    command = ["-q", "score", str(tiny_bundle.path), str(studies), "--backend", "onnxruntime", "--threshold", "0.01"]
    assert main([*command, "-o", str(tmp_path / "without")]) == 0
    assert main([*command, "-o", str(tmp_path / "with"), "--report"]) == 0
    assert opened_as == ["opening", "opening"] and len(asked) == 3 and len(set(map(id, asked))) == 1
    for name in ("slices.csv", "studies.csv", "series.csv"):
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()
    # A finished run is asked of a model that is opened for it.
    assert main(["report", str(tmp_path / "without"), str(studies), "--bundle", str(tiny_bundle.path)]) == 0
    assert opened_as == ["opening", "opening", "write"] and len(asked) == 6
    assert len({frozenset(page.name for page in (tmp_path / n / "report").iterdir()) for n in ("with", "without")}) == 1

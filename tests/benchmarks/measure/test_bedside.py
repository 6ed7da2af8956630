"""The stage of `bench` at the bedside: from the last image to the SR."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.measure import bedside
from benchmarks.report.report import MARKDOWN
from benchmarks.results import names
from benchmarks.run import bench
from benchmarks.settings import Settings
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import MissingDependency
from dtvit_edge.pacs import packages


def test_without_the_packages_of_the_extra_the_bedside_is_refused_before_anything_is_measured(
    settings: Settings, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "pynetdicom" else find_spec(name))
    with pytest.raises(MissingDependency, match=r"pynetdicom is not installed.*\[pacs\]"):
        bench([tiny_bundle], replace(settings, bedside=True), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.real  # a service is started
def test_a_run_that_is_asked_for_the_bedside_has_its_seconds_in_a_record_and_in_the_report(
    settings: Settings, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pynetdicom", reason="the extra `pacs` is not installed")
    pytest.importorskip("highdicom", reason="the extra `pacs` is not installed")
    monkeypatch.setattr(bedside, "STUDIES_A_ROUND", 1)
    records = bench([tiny_bundle], replace(settings, bedside=True), tmp_path)
    (record,) = (record for record in records if record.what == names.BEDSIDE)
    (seconds,) = record.samples.values()
    assert len(seconds) == settings.effort.rounds and 0 < min(seconds) < max(seconds) < 30
    assert record.options["images"] > 15 and "serve" in record.options["inside"]
    assert "At the bedside" in (tmp_path / MARKDOWN).read_text()

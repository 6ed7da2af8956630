from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from dtvit_edge import environment
from dtvit_edge.cli.doctor import ABSENT, examine
from dtvit_edge.environment import machine, package_versions, physical_cores, usable_cores


def test_absent_packages_are_left_out() -> None:
    assert package_versions(("numpy", "no-such-distribution")).keys() == {"numpy"}


def test_the_machine_is_described_in_strings() -> None:
    facts = machine()
    assert all(isinstance(value, str) and value for value in facts.values())
    assert int(facts["cores"]) == usable_cores() >= 1


def test_two_threads_of_a_core_are_one_physical_core(monkeypatch: pytest.MonkeyPatch) -> None:
    siblings = {"cpu0": "0,4\n", "cpu1": "1,5\n", "cpu4": "0,4\n"}
    monkeypatch.setattr(environment.os, "sched_getaffinity", lambda pid: {0, 1, 4}, raising=False)
    monkeypatch.setattr(Path, "read_text", lambda self, **options: siblings[self.parts[-3]])
    assert physical_cores() == 2 and usable_cores() == 3
    monkeypatch.setattr(Path, "read_text", _missing)
    assert physical_cores() == 3, "where the system says nothing of siblings"


def test_a_jetson_is_told_by_its_release_file(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64"
    monkeypatch.setattr(Path, "read_text", lambda self, **options: text + "\n# more")
    assert environment.jetson_release() == text.strip("# ")
    monkeypatch.setattr(Path, "read_text", _missing)
    assert environment.jetson_release() is None
    assert environment.processor()


def _missing(self: Path, **options: str) -> str:
    raise FileNotFoundError(self)


def test_doctor_names_what_is_absent_and_is_plain_json() -> None:
    facts = examine()
    assert facts.packages["tensorrt"] == ABSENT or facts.packages["tensorrt"][0].isdigit()
    assert json.loads(json.dumps(asdict(facts))) == asdict(facts)
    assert facts.decoders["Explicit VR Little Endian (1.2.840.10008.1.2.1)"] == "native"
    assert "pylibjpeg" in facts.decoders["High-Throughput JPEG 2000 Image Compression (1.2.840.10008.1.2.4.203)"]
    assert "gdcm" in facts.decoders["JPEG-LS Lossless Image Compression (1.2.840.10008.1.2.4.80)"]

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path

import pytest

from dtvit_edge import environment
from dtvit_edge.cli.doctor import ABSENT, examine
from dtvit_edge.environment import machine, package_versions, physical_cores, usable_cores


def test_absent_packages_are_left_out() -> None:
    assert package_versions(("numpy", "no-such-distribution")).keys() == {"numpy"}


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="this system has no /proc")
def test_the_peak_of_memory_is_this_programs_own_and_not_that_of_who_started_it() -> None:
    held = b"1" * (64 << 20)  # of the starter, whose peak a child's `ru_maxrss` begins with
    code = (
        "from dtvit_edge.environment import peak_memory as peak; print(peak()); more = b'1' * (64 << 20); print(peak())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    before, after = map(int, said.split())
    assert 2**20 < before < 40 * 2**20 and after - before > 0.9 * len(held)


def test_versions_are_those_of_the_metadata() -> None:
    installed = {d.metadata["Name"]: d.version for d in reversed(list(distributions())) if d.metadata["Name"]}
    assert package_versions(tuple(installed)) == installed and len(installed) > 10


def test_the_first_folder_on_the_path_counts_and_odd_ones_are_read_by_their_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(place: str, folder: str, version: str | None) -> None:
        made = tmp_path / place / folder
        made.mkdir(parents=True)
        if version is not None:
            (made / "METADATA").write_text(f"Metadata-Version: 2.1\nName: Some.Thing\nVersion: {version}\n")

    put("broken", "some_thing-0.1.dist-info", None)
    put("first", "Some.Thing-1.0.dist-info", "1.0")
    put("second", "some_thing-2.0.dist-info", "2.0")
    put("odd", "some_thing-3.0_1.dist-info", "3.0-1")
    for places, version in (
        (["first", "second"], "1.0"),
        (["broken", "second"], "2.0"),
        (["odd"], "3.0-1"),
        ([], None),
    ):
        monkeypatch.setattr("sys.path", [str(tmp_path / place) for place in places])
        found = package_versions(("some-thing",))
        assert found == ({} if version is None else {"some-thing": version}), places


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


def test_doctor_says_of_each_extra_what_of_it_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dtvit_edge.cli.doctor.package_versions", lambda names: {"jinja2": "3.1.6", "uvicorn": "0.30"})
    extras = examine().extras
    assert extras["report"] == "jinja2 3.1.6" and extras["ray"] == "ray absent"
    assert extras["view"] == "jinja2 3.1.6, starlette absent, uvicorn 0.30"

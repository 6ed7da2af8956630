"""What is installed: bounded by major versions, and by the two commands from files whose hashes are known."""

from __future__ import annotations

import re
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.support.data import ROOT

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OUTSIDE = {"torch", "torchvision"}
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]


def group(name: str) -> list[str]:
    entries = PROJECT["dependency-groups"][name]
    return [
        line for entry in entries for line in (group(entry["include-group"]) if isinstance(entry, dict) else [entry])
    ]


def locked(name: str) -> list[tuple[Requirement, int]]:
    """Each pin of a lock with the number of its hashes."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").replace("\\\n", "")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(Requirement(line.split("--hash")[0]), line.count("--hash=sha256:")) for line in lines]


def test_every_dependency_has_an_upper_bound() -> None:
    project = PROJECT["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    groups = [line for name in PROJECT["dependency-groups"] for line in group(name)]
    for line in [*project["dependencies"], *extras, *groups]:
        assert any(bound.operator == "<" for bound in Requirement(line).specifier), line


@pytest.mark.parametrize("name", ["workstation", "dev"])
def test_a_lock_has_hashes_and_names_no_index_and_no_torch(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    assert not re.search(r"://|--(?:extra-)?index|--find-links|--trusted| @ ", text)
    pins = locked(name)
    assert len(pins) > 50 and all(hashes for _, hashes in pins)
    assert all(len(pin.specifier) == 1 and str(pin.specifier).startswith("==") for pin, _ in pins)
    assert not {pin.name for pin, _ in pins} & OUTSIDE


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", ["workstation", "dev"])
def test_a_lock_has_every_dependency_in_its_bounds(name: str, python: str) -> None:
    here = {"python_version": python, "python_full_version": f"{python}.1", "sys_platform": "linux",
            "platform_machine": "x86_64"}  # fmt: skip
    pins = {pin.name: str(pin.specifier)[2:] for pin, _ in locked(name) if not pin.marker or pin.marker.evaluate(here)}
    for line in [*PROJECT["project"]["dependencies"], *group(name)]:
        wanted = Requirement(line)
        if wanted.name not in OUTSIDE and (not wanted.marker or wanted.marker.evaluate(here)):
            assert wanted.specifier.contains(pins[wanted.name]), f"{line}: {pins[wanted.name]}; `make lock`"


def test_dev_holds_workstation_in_the_same_versions() -> None:
    workstation, dev = ({(pin.name, str(pin.specifier)) for pin, _ in locked(name)} for name in ("workstation", "dev"))
    assert workstation <= dev

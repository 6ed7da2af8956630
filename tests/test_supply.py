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
# One for each of requirements/, by a group of its name, or what the wheel asks for; some hold that beside their group.
LOCKS = ["runtime", "workstation", "dev", "real", "wheel-tests", "tools", "platform-wheels"]
WITH_THE_WHEEL = ["runtime", "workstation", "dev"]
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


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_hashes_and_names_no_index_and_no_torch(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    assert not re.search(r"://|--(?:extra-)?index|--find-links|--trusted| @ ", text)
    pins = locked(name)
    assert len(pins) > (8 if name == "platform-wheels" else 10) and all(hashes for _, hashes in pins)
    assert all(len(pin.specifier) == 1 and str(pin.specifier).startswith("==") for pin, _ in pins)
    assert not {pin.name for pin, _ in pins} & OUTSIDE


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_every_dependency_in_its_bounds(name: str, python: str) -> None:
    here = {"python_version": python, "python_full_version": f"{python}.1", "sys_platform": "linux",
            "platform_machine": "x86_64"}  # fmt: skip
    pins = {pin.name: str(pin.specifier)[2:] for pin, _ in locked(name) if not pin.marker or pin.marker.evaluate(here)}
    of_the_wheel = PROJECT["project"]["dependencies"] if name in WITH_THE_WHEEL else []
    for line in [*of_the_wheel, *(group(name) if name != "runtime" else [])]:
        wanted = Requirement(line)
        if wanted.name not in OUTSIDE and (not wanted.marker or wanted.marker.evaluate(here)):
            assert wanted.specifier.contains(pins[wanted.name]), f"{line}: {pins[wanted.name]}; `make lock`"


@pytest.mark.parametrize("name", LOCKS)
def test_a_package_has_the_version_of_dev_in_every_lock(name: str) -> None:
    other, dev = ({(pin.name, str(pin.specifier)) for pin, _ in locked(lock)} for lock in (name, "dev"))
    names = {package for package, _ in dev}
    assert {pin for pin in other if pin[0] in names} <= dev
    assert name not in WITH_THE_WHEEL or other <= dev


def test_nothing_but_torch_is_installed_without_hashes() -> None:
    """By make and the workflows: what pip fetches comes from a lock; the rest is our own, and fetches nothing."""
    recipes = [ROOT / "Makefile", *(ROOT / ".github" / "workflows").glob("*.yml")]
    lines = [line for path in recipes for line in path.read_text(encoding="utf-8").splitlines()]
    installs = [line.strip() for line in lines if re.search(r"\bpip (install|wheel|download|\$\()", line)]
    assert len(installs) >= 8
    for line in installs:
        ours = line.endswith("$(OURSELVES)") or "--no-deps --no-index" in line
        assert ours or line.endswith("$(TORCH)") or re.search(r"pip \$\(LOCKED\) requirements/[a-z-]+\.txt$", line), (
            line
        )

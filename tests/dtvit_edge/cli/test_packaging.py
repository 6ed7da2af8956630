"""What a wheel's metadata asks for, and what only a checkout's groups do."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.cli.doctor import EXTRAS
from tests.support.data import ROOT

tomllib = pytest.importorskip("tomllib", reason="Python 3.11 has it")
FOR_ONE_DEVICE = {"intel", "jetson", "gpu"}  # doctor shows what they hold among the packages and backends
NEVER_IN_A_WHEEL = ("torch", "torchvision", "timm", "onnx", "onnxscript", "pytest", "mypy")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8")))


def name_of(requirement: str) -> str:
    return re.split(r"[<>=!~;\[ ]", requirement, maxsplit=1)[0]


def test_a_wheel_asks_for_nothing_of_a_workstation(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="builds the wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(member).decode())
    required = {name_of(line) for line in metadata.get_all("Requires-Dist") or ()}
    assert "numpy" in required and not required & set(NEVER_IN_A_WHEEL)
    extras = ["gpu", "intel", "jetson", "pacs", "ray", "report", "signed", "view", "watch"]
    assert sorted(metadata.get_all("Provides-Extra") or ()) == extras


def test_groups_exist_for_workstation_developers_and_each_peer(project: dict[str, Any]) -> None:
    groups = project["dependency-groups"]
    assert {"workstation", "dev", "nvtx"} <= set(groups)
    for name in ("dev", "peer-monai", "peer-nncf", "peer-modelopt"):
        assert {"include-group": "workstation"} in groups[name]
    aliases = [name for name, lines in groups.items() if lines == [{"include-group": "workstation"}]]
    assert not aliases, "a group that only names another one"


def test_a_package_has_the_same_bound_wherever_it_is_named(project: dict[str, Any]) -> None:
    lists = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    bounds: dict[str, set[str]] = {}
    for requirement in (line for lines in lists for line in lines if isinstance(line, str)):
        bounds.setdefault(name_of(requirement), set()).add(requirement)
    assert not {name: stated for name, stated in bounds.items() if len(stated) > 1}


def test_doctor_knows_the_extras_for_any_machine(project: dict[str, Any]) -> None:
    stated = project["project"]["optional-dependencies"]
    held = {extra: tuple(map(name_of, lines)) for extra, lines in stated.items() if extra not in FOR_ONE_DEVICE}
    assert held == EXTRAS


def test_no_message_speaks_of_an_index_that_has_no_such_project() -> None:
    for folder in ("dtvit_edge", "export", "evaluation", "training", "calibration", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"pip install (-e )?['\"]?dtvit-edge", text), path
            assert "dtvit-edge[" not in text and ".[workstation]" not in text and ".[peer-" not in text, path

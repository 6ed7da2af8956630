"""What docs/architecture.md says of the house, held by walking the imports."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.data import ROOT
from tests.support.native.harness import ZIG
from tests.support.runtime_only import workstation_imports

MAY_IMPORT = {
    "dtvit_edge": set(),
    "export": {"dtvit_edge"},
    "evaluation": {"dtvit_edge"},
    "calibration": {"evaluation", "export", "dtvit_edge"},
    "training": {"evaluation", "export", "dtvit_edge"},
    "benchmarks": {"training", "calibration", "evaluation", "export", "dtvit_edge"},
}
TOP = {*MAY_IMPORT, "tests"}
# The runtime's own floors: a room imports from lower floors only.
FLOORS = [
    {"reasons", "environment", "progress", "escaping", "precisions"},
    {"errors"},
    {"spec", "cuda", "files"},
    {"results", "backend", "bundle", "phantom"},
    {"dicom", "preprocess", "selftest"},
    {"trt"},
    {"backends", "targets"},
    {"scoring"},
    {"report", "cluster"},
    {"pacs"},
    {"cli"},
    {"__main__"},
]
MOST_ROOMS, MOST_FLOORS = 25, 12
WRITERS = {"write_text", "write_bytes", "mkdir", "makedirs", "touch", "save_file", "copyfile", "copytree"}
WRITES_ITSELF = {
    "dtvit_edge/files.py": "it is the one",
    "dtvit_edge/preprocess/compiled.py": "a cache for its user alone: 0700, and whole or not there",
    "dtvit_edge/trt/device_key.py": "a secret for its user alone: 0700 and 0600",
    "dtvit_edge/trt/child.py": "into a folder of 0700 that is removed",
    "dtvit_edge/trt/process.py": "into a folder of 0700 that is removed",
    "export/bundle_export.py": "graphs on their way, in a temporary folder of 0700",
    "benchmarks/measure/child_process.py": "into a temporary folder of 0700",
    "benchmarks/measure/faults/": "studies with faults, in a temporary folder of 0700",
    "benchmarks/report/figures_page.py": "pages of the repository",
}
NEVER_IN_THE_RUNTIME = {"torch", "timm", "onnx", "torchvision", "PIL", "scipy"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_imports_run_one_way(folder: str) -> None:
    for path in sources(folder):
        ours = {name.split(".")[0] for name in imports(path)} & TOP - {folder}
        assert ours <= MAY_IMPORT[folder], f"{path.relative_to(ROOT)} imports {ours}"


def test_the_runtime_never_names_the_workstations_packages() -> None:
    for path in sources("dtvit_edge"):
        found = {name.split(".")[0] for name in imports(path)} & NEVER_IN_THE_RUNTIME
        assert not found, f"{path.relative_to(ROOT)} imports {found}"


def test_the_runtimes_floors() -> None:
    floor = {name: i for i, names in enumerate(FLOORS) for name in names}
    root = ROOT / "dtvit_edge"
    for path in sources("dtvit_edge"):
        room = path.relative_to(root).with_suffix("").parts[0]
        if room == "__init__":
            continue
        for name in imports(path):
            parts = name.split(".")
            if parts[0] != "dtvit_edge" or len(parts) < 2 or parts[1] == room:
                continue
            assert floor[parts[1]] < floor[room], f"{path.relative_to(ROOT)} imports {name}"


def test_rooms_and_floors_stay_few() -> None:
    root = ROOT / "dtvit_edge"
    rooms = {path.relative_to(root).with_suffix("").parts[0] for path in sources("dtvit_edge")} - {"__init__"}
    assert rooms == {room for floor in FLOORS for room in floor}
    assert len(rooms) <= MOST_ROOMS and len(FLOORS) <= MOST_FLOORS


def test_the_architecture_page_draws_the_floors_and_the_imports_as_they_are() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = re.findall(r"^\| (\d+) \| (.*) \|$", page, re.MULTILINE)
    rooms = {int(number): set(re.findall(r"`(\w+)`", text)) for number, text in drawn}
    for number, floor in enumerate(FLOORS, start=1):
        assert floor <= rooms[number], f"floor {number} of docs/architecture.md lacks {floor - rooms[number]}"
    assert len(rooms) == len(FLOORS)
    root, found = ROOT / "dtvit_edge", {room: set[str]() for floor in FLOORS for room in floor}
    for path in sources("dtvit_edge"):
        room = path.relative_to(root).with_suffix("").parts[0]
        if room != "__init__":
            found[room] |= {name.split(".")[1] for name in imports(path) if name.startswith("dtvit_edge.")} - {room}
    lines = [
        f"| `{room}` | {', '.join(f'`{other}`' for other in sorted(found[room])) or 'none'} |"
        for floor in reversed(FLOORS)
        for room in sorted(floor)
    ]
    expected = "\n".join(["| room | imports |", "|---|---|", *lines, ""])
    assert expected in page, f"docs/architecture.md draws other imports than these:\n{expected}"


def test_what_a_command_leaves_is_written_by_one_module() -> None:
    """`files` gives modes and puts what it wrote on the disk; where another way is right, it says why."""
    for folder in MAY_IMPORT:
        for path in sources(folder):
            name = path.relative_to(ROOT).as_posix()
            if name.startswith("benchmarks/standalone/") or any(name.startswith(other) for other in WRITES_ITSELF):
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, (ast.Attribute, ast.Name)):
                    called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
                    modes = [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
                    opens = (
                        called == "open" and isinstance(node.func, ast.Attribute) and set("wax") & set("".join(modes))
                    )
                    assert called not in WRITERS and not opens, f"{name}:{node.lineno}: dtvit_edge.files writes files"


def test_no_module_is_longer_than_350_lines() -> None:
    for folder in TOP:
        for path in sources(folder):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= 350, path.relative_to(ROOT)


@pytest.mark.parametrize("folder", ["tests", "tests/dtvit_edge"])
def test_what_all_tests_of_the_wheel_begin_with_needs_no_workstation(folder: str) -> None:
    """A `conftest.py` that imports a room of the workstation would stop `make test-wheel` before its first test."""
    assert not workstation_imports(ROOT / folder / "conftest.py")


def test_the_wheel_holds_the_runtime_alone(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl"), "a wheel is pure unless a platform is asked for"
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"dtvit_edge"}
    assert "dtvit_edge/py.typed" in names
    assert not [name for name in names if name.endswith(".so")], "a checkout's library suits this machine alone"
    assert {path.name for path in (ROOT / "dtvit_edge" / "report" / "templates").iterdir()} == {
        Path(name).name for name in names if "/report/templates/" in name
    }


@pytest.mark.real
@pytest.mark.parametrize(("machine", "number"), [("x86_64", 62), ("aarch64", 183)])  # e_machine of ELF
def test_a_platforms_wheel_holds_a_library_that_its_tag_promises_to_load(
    machine: str, number: int, tmp_path: Path
) -> None:
    if not ZIG.is_file():
        pytest.skip("`make dist` makes the environment that compiles them")
    command = [str(ZIG), "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, env=os.environ | {"DTVIT_WHEEL": machine})
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith(f"-py3-none-manylinux_2_17_{machine}.manylinux2014_{machine}.whl")
    library = zipfile.ZipFile(wheel).read("dtvit_edge/preprocess/libdtvit_native.so")
    assert library[:4] == b"\x7fELF" and int.from_bytes(library[18:20], "little") == number
    versions = {tuple(map(int, v.split(b"."))) for v in re.findall(rb"GLIBC_([0-9.]+)\0", library)}
    assert versions and max(versions) <= (2, 17), "manylinux2014 promises glibc 2.17"
    assert set(re.findall(rb"\0(lib[\w+-]+\.so[.0-9]*)\0", library)) <= {b"libc.so.6"}

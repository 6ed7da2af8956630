"""A pytest plugin for the wheel alone: `make test-wheel` loads it with `-p tests.support.runtime_only`.

The rule: a test module that imports a workstation room (`export`, `evaluation`, ...) or a workstation package (PyTorch,
timm, SciPy, ...), itself or through `tests/support`, is left out, and so is a test that calls a workstation's command.
The summary at the end names what was left out, and why.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from dtvit_edge.cli.commands import WORKSTATION_COMMANDS
from tests.support.data import ROOT

ROOMS = frozenset({"export", "evaluation", "calibration", "training", "benchmarks"})
# Need ONNX and NumPy alone; `make test-wheel` puts them beside the tests, whose bundles they write.
NEEDS_ONNX_ALONE = frozenset({"export.golden_arrays", "export.opset"})
PACKAGES = frozenset({"torch", "torchvision", "timm", "scipy", "sklearn", "PIL", "matplotlib", "safetensors"})


# By name, why a test needs more than the wheel where neither imports nor parameters show it.
NEEDS_MORE = {
    "test_runtime_commands_never_load_torch_timm_or_onnx": "calls workstation commands among others",
    "test_the_version_is_read_when_it_is_asked_for": "starts Python without site-packages, where the wheel lies",
}


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out a test module of the workstation; None lets the others decide."""
    return True if collection_path.suffix == ".py" and workstation_imports(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip a test whose parameter is a workstation's command, and those of `NEEDS_MORE`."""
    for item in items:
        parameters = (
            item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
        )
        commands = [value for value in parameters if isinstance(value, str) and value in WORKSTATION_COMMANDS]
        reason = "calls a workstation's command, which no wheel holds" if commands else NEEDS_MORE.get(item.name)
        if reason:
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line for each module that was left out."""
    for path in sorted((ROOT / "tests" / "dtvit_edge").rglob("test_*.py")):
        if names := workstation_imports(path):
            terminalreporter.write_line(f"left out: {path.relative_to(ROOT)} imports {', '.join(sorted(names))}")


@cache
def workstation_imports(path: Path) -> frozenset[str]:
    """The rooms and packages of the workstation that a module's top level imports, `tests/support` followed."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported = [f"{node.module}.{alias.name}" for alias in node.names]
            imported = [] if node.module in NEEDS_ONNX_ALONE else [node.module, *imported]
        else:
            continue
        names |= {name.split(".")[0] for name in imported} & (ROOMS | PACKAGES)
        for name in imported:
            support = ROOT.joinpath(*name.split(".")).with_suffix(".py")
            if name.startswith("tests.support.") and support.is_file():
                names |= workstation_imports(support)
    return frozenset(names)

"""Who programs against the installed wheel has its types: the examples pass, and a name that is misspelt does not."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.data import ROOT
from tests.support.made_once import made_once

MISSPELT = """\
import dtvit_edge

with dtvit_edge.open_model("model.dtvit", backend="onnxruntime") as model:
    for result in model.score(["studies"]):
        print(result.study.flagged, model.description["backend"])
    probability: float = model.predict(model.preprocess([[1]])).ich_probability  # no float, and no array
    model.scor("studies")
    print(result.study.flaged)
    print(dtvit_edge.__version__.uper())
dtvit_edge.open_modle("model.dtvit")
dtvit_edge.open_model("model.dtvit", bakend="openvino")
for study in dtvit_edge.score(dtvit_edge.open_bundle("model.dtvit"), "studies", dtvit_edge.Options(batch="8")):
    print(study.slices[0].ich_probabilty)
"""
WRONG = {6, 7, 8, 9, 10, 11, 12, 13}
# What examples import and this environment may lack.
SETTINGS = {"reportMissingImports": False, "reportMissingModuleSource": False, "pythonVersion": "3.11"}


def make_environment(folder: Path) -> None:
    """A virtual environment with the wheel, and beside it what this one has; the checkout is not in it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "wheel")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = (folder / "wheel").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(packages)
    beside = dict.fromkeys([*site.getsitepackages(), *(p for p in sys.path if p.endswith("site-packages"))])
    (packages / "beside.pth").write_text("\n".join(beside) + "\n")


@pytest.fixture
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "typed-environment", make_environment)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for example in (ROOT / "examples").glob("*.py"):
        shutil.copy(example, tmp_path)
    (tmp_path / "misspelt").mkdir()
    (tmp_path / "misspelt" / "script.py").write_text(MISSPELT)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(SETTINGS))
    return tmp_path


def checked(checker: str, environment: Path, folder: Path, *files: str) -> tuple[set[int], str]:
    """The lines with errors, and everything that the checker said."""
    python = str(environment / "bin" / "python")
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    if checker == "mypy":
        pytest.importorskip("mypy")
        options = ["--strict", "--ignore-missing-imports", "--no-incremental", "--python-executable", python]
        command = [sys.executable, "-m", "mypy", "--config-file", os.devnull, *options, *files]
        done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True)
        lines = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line}
        return lines, done.stdout + done.stderr
    pytest.importorskip("pyright", reason="pyright is not installed")
    command = [sys.executable, "-m", "pyright", "--pythonpath", python, "--outputjson", *files]
    done = subprocess.run(command, cwd=folder, env=clean, capture_output=True, text=True)
    try:
        said = json.loads(done.stdout)
    except ValueError:
        pytest.skip(f"pyright does not run here: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    assert said["summary"]["filesAnalyzed"] == len(files), done.stdout
    return {
        d["range"]["start"]["line"] + 1 for d in said["generalDiagnostics"] if d["severity"] == "error"
    }, done.stdout


@pytest.mark.real
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_examples_pass_against_the_installed_wheel(checker: str, environment: Path, folder: Path) -> None:
    lines, said = checked(checker, environment, folder, *sorted(path.name for path in folder.glob("*.py")))
    assert not lines, said


@pytest.mark.real
@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_what_is_misspelt_or_of_another_type_is_an_error(checker: str, environment: Path, folder: Path) -> None:
    lines, said = checked(checker, environment, folder, "misspelt/script.py")
    assert lines == WRONG, said

"""Every example runs, is short, and says how to run it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

import dtvit_edge
from dtvit_edge.bundle import Bundle
from tests.support.data import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
# For each example its arguments, and what its output must say.
RUNS = {
    "compare_backends.py": (["{bundle}"], r"onnxruntime: at most [0-9.e-]+ from the golden logits"),
    "notebook.py": (["{bundle}", "{studies}"], r"the study: scored (True|False) "),
    "phantoms.py": (["{out}/phantoms"], r"slices, \d+ with a haemorrhage"),
    "processes.py": (["{bundle}", "{studies}", "{other}"], r"(?s)(scored (True|False).*){2}"),
    "score_folder.py": (["{bundle}", "{studies}"], r" scored (True|False) "),
    "show_bundle.py": (["{bundle}"], r"fp32: model\.fp32\.onnx"),
    "slice_to_png.py": (["{slice}", "{out}/slice.png"], r"pixels of head"),
    "write_results.py": (["{bundle}", "{studies}", "{out}/results"], r"exit status 0.*'scored'"),
}


# What it needs is no dependency: a test of its own runs it.
SERVICE = "service.py"


def test_every_example_is_run() -> None:
    assert {path.name for path in EXAMPLES} == {*RUNS, SERVICE}


@pytest.mark.parametrize("name", RUNS)
def test_examples_run(name: str, tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path) -> None:
    arguments, expected = RUNS[name]
    studies = phantom_folder / "study-0001"
    places = {
        "bundle": tiny_bundle.path,
        "studies": studies,
        "other": phantom_folder / "study-0002",
        "slice": sorted(studies.rglob("IM*"))[12],
        "out": tmp_path,
    }
    command = [sys.executable, str(ROOT / "examples" / name), *(a.format(**places) for a in arguments)]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(expected, done.stdout), done.stdout


@pytest.mark.real
def test_the_service_answers_files_and_what_is_none(tiny_bundle: Bundle, phantom_folder: Path) -> None:
    pytest.importorskip("httpx", reason="FastAPI's test client needs httpx")
    testclient = pytest.importorskip("fastapi.testclient", reason="FastAPI is not installed")
    spec = importlib.util.spec_from_file_location("service", ROOT / "examples" / SERVICE)
    assert spec is not None and spec.loader is not None
    service = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(service)
    file = sorted((phantom_folder / "study-0001").rglob("IM*"))[12]
    with dtvit_edge.open_model(tiny_bundle, backend="onnxruntime") as model:
        client = testclient.TestClient(service.make_app(model))
        said = client.post("/slice", content=file.read_bytes(), headers={"Content-Type": "application/dicom"})
        assert said.status_code == 200, said.text
        (row,) = said.json()["slices"]
        assert (row["status"], said.json()["study"]["status"]) == ("scored", "partial")
        said = client.post("/slice", content=b"no DICOM", headers={"Content-Type": "application/dicom"})
        assert said.json()["slices"][0]["reason"] == "not_dicom"


def test_the_png_shows_a_head(tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path) -> None:
    import cv2

    file = sorted((phantom_folder / "study-0001").rglob("IM*"))[12]
    command = [sys.executable, str(ROOT / "examples" / "slice_to_png.py"), str(file), str(tmp_path / "slice.png")]
    subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    picture = cv2.imread(str(tmp_path / "slice.png"), cv2.IMREAD_GRAYSCALE)
    assert picture is not None and picture.shape == (224, 224)
    assert 20 < picture.mean() < 200


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_short_and_say_how_to_run_them(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert f"Run it with: python examples/{path.name}" in text
    code = text.split('"""', 2)[2]
    assert 10 <= len([line for line in code.splitlines() if line.strip()]) <= 25

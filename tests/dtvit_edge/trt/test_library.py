from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dtvit_edge.errors import ConfigError, MissingDependency
from dtvit_edge.trt import library
from tests.support.data import ROOT


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Modules that `find_spec` finds."""
    installed: set[str] = set()
    monkeypatch.setattr(library, "find_spec", lambda name: name if name in installed else None)
    return installed


def test_auto_takes_tensorrt_first_and_a_missing_one_says_what_installs_it(installed: set[str]) -> None:
    with pytest.raises(MissingDependency, match="pip install tensorrt-rtx-cu13"):
        library.choose()
    installed.add("tensorrt_rtx")
    assert library.choose() == "tensorrt-rtx"
    with pytest.raises(MissingDependency, match="JetPack brings it"):
        library.choose("tensorrt")
    installed.add("tensorrt")
    assert library.choose() == "tensorrt"
    with pytest.raises(ConfigError, match="there are tensorrt, tensorrt-rtx"):
        library.choose("cuda")


def test_a_library_that_does_not_load_is_an_error_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt_rtx.py").write_text("raise ImportError('libcudart.so.13: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt_rtx", raising=False)
    with pytest.raises(MissingDependency, match=r"does not load: libcudart\.so\.13"):
        library.load("tensorrt-rtx")


def test_nothing_of_tensorrt_or_cuda_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys; import dtvit_edge.trt.build, dtvit_edge.trt.store, dtvit_edge.trt.child\n"
        "sys.exit(sorted({'tensorrt', 'tensorrt_rtx', 'pycuda', 'onnx'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

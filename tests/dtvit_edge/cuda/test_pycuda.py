"""The stand-in for pycuda in the other tests is no proof of what pycuda itself does: here it is the real one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.phantom import write_phantoms
from dtvit_edge.preprocess import kernel
from tests.support.cuda.fixtures import COMPILER
from tests.support.cuda.harness import HERE
from tests.support.data import ROOT
from tests.support.scoring_runs import results


@pytest.mark.real
@pytest.mark.skipif(find_spec("pycuda") is None, reason="pycuda is not installed: it is built where CUDA is")
@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler here (g++)")
@pytest.mark.parametrize("integrated", [False, True], ids=["discrete", "jetson"])
def test_the_real_pycuda_over_a_driver_on_the_cpu(tiny_bundle: Bundle, tmp_path: Path, integrated: bool) -> None:
    driver = tmp_path / "libcuda.so.1"
    include = ("-I", str(HERE), "-I", str(kernel.SOURCE.parent))
    flags = ("-std=c++17", "-O2", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1")
    subprocess.run([str(COMPILER), *flags, *include, "-o", str(driver), str(HERE / "driver.cpp")], check=True)
    bundle = shutil.copytree(tiny_bundle.path, tmp_path / "b.dtvit")
    write_phantoms(tmp_path / "phantoms", studies=1, seed=3)
    environment = os.environ | {"LD_LIBRARY_PATH": str(tmp_path)} | ({"INTEGRATED": "1"} if integrated else {})
    command = [sys.executable, "-m", "tests.support.cuda.real_pycuda", bundle, tmp_path / "phantoms", tmp_path]
    done = subprocess.run(list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path / "gpu") == results(tmp_path / "cpu")
    assert results(tmp_path / "gpu")["slices.csv"].count(b",scored,") > 10

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.figure_settings import FOLDER
from tests.support.data import ROOT


@pytest.mark.parametrize("room", ["benchmarks", "evaluation", "training"])
def test_matplotlibs_folder_goes_with_the_process_and_not_with_a_child_of_it(room: str, tmp_path: Path) -> None:
    code = (
        f"import {room}, os, sys\nfolder = os.environ['{FOLDER}']\n"
        "if not os.fork(): sys.exit()\n"
        "os.wait()\nprint(folder, os.path.isdir(folder))"
    )
    environment = {name: value for name, value in os.environ.items() if name != FOLDER}
    environment |= {"PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    folder, there = done.stdout.split()
    assert Path(folder).parent == tmp_path and there == "True" and not list(tmp_path.iterdir())


def test_a_folder_that_the_environment_names_is_left_to_it(tmp_path: Path) -> None:
    code = f"import evaluation, os; print(os.environ['{FOLDER}'])"
    environment = os.environ | {"PYTHONPATH": str(ROOT), FOLDER: str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path) and tmp_path.is_dir()

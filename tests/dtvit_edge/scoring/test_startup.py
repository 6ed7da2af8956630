"""What a run over plain slices does not load: each start would pay for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pydicom.uid
import pytest

from dtvit_edge import backends
from dtvit_edge.bundle import Bundle
from dtvit_edge.dicom import uids
from dtvit_edge.preprocess import native
from tests.support.dicom_files import series

# Each with what it is for instead.
NOT_NEEDED = {
    "pydicom": "reads what is out of the ordinary",
    "gdcm": "decodes in child processes",
    "rle": "decodes RLE",
    "rich.progress": "draws bars on a terminal",
    "dtvit_edge.scoring.gpu_executor": "runs engines",
    "dtvit_edge.trt.execution": "runs engines",
    "dtvit_edge.cuda": "runs engines",
    "dtvit_edge.targets.rules": "answers `compat`",
    "dtvit_edge.cli.doctor": "answers `doctor`",
    "openvino.tools.ovc": "converts other frameworks' models",
    "numpy.ma": "comes with that converter",
}
# What is loaded while a model is being opened, not before.
LATER = {"dtvit_edge.scoring.run", "dtvit_edge.dicom.discover", "dtvit_edge.preprocess.cpu", "rich.console"}
_RUN = (
    "import json, sys\n"
    "from dtvit_edge.cli.commands import main\n"
    "status = main(sys.argv[1:])\n"
    "print(json.dumps([status, sorted(sys.modules)]), file=sys.stderr)"
)
_BEGUN = (
    "from dtvit_edge.dicom import wording\n"
    "from dtvit_edge.scoring.opening import Opening\n"
    "def begin(opening):\n"
    "    compiled = [e for e in wording._made if '_compiled' in vars(e)]\n"
    "    print(json.dumps([len(compiled), sorted(sys.modules)]), file=sys.stderr, flush=True)\n"
    "    os._exit(0)\n"
    "Opening.__enter__ = begin\n"
)


def test_a_model_is_begun_before_the_rest_of_a_run_is_loaded_or_words_are_compiled(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    arguments = ["-q", "score", str(tiny_bundle.path), str(tmp_path), "-o", str(tmp_path / "out")]
    begun = "import json, os, sys\n" + _BEGUN + _RUN
    done = subprocess.run(
        [sys.executable, "-c", begun, *arguments, "--backend", "onnxruntime"],
        capture_output=True, text=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    compiled, modules = json.loads(done.stderr.splitlines()[-1])
    assert compiled == 0
    assert "onnxruntime" not in modules and not LATER & set(modules)


def test_openvinos_converter_comes_when_it_is_asked_for() -> None:
    if why_not := backends.availability()["openvino"]:
        pytest.skip(why_not)
    code = (
        "import sys; from dtvit_edge.backends.openvino import library; openvino = library(); "
        "assert 'openvino.tools.ovc' not in sys.modules and not hasattr(openvino, 'nothing'); "
        "assert openvino.tools.__name__ == 'openvino.tools' and callable(openvino.convert_model); "
        "from openvino.tools.ovc import convert_model"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def loaded(arguments: list[str], folder: Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *arguments], capture_output=True, text=True, check=True, cwd=folder
    )
    status, modules = json.loads(done.stderr.splitlines()[-1])
    assert status == 0, done.stderr
    return set(modules)


@pytest.mark.parametrize("name", [name for name in backends.NAMES if not backends.runs_engines(name)])
def test_plain_slices_are_scored_without_what_other_files_and_machines_need(
    tiny_bundle: Bundle, tmp_path: Path, name: str
) -> None:
    if why_not := backends.availability()[name]:
        pytest.skip(why_not)
    series(tmp_path / "in", [0, 5, 10])
    arguments = ["-q", "score", str(tiny_bundle.path), str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    modules = loaded([*arguments, "--backend", name], tmp_path)
    assert "numpy" in modules
    assert not modules & NOT_NEEDED.keys()
    assert isinstance(native.library(), native.Library) != ("cv2" in modules), "OpenCV is for where the library is not"
    assert modules & {"openvino", "onnxruntime"} == {name}, "a library is loaded only where it runs"


def test_the_uids_are_those_of_the_standard() -> None:
    names = [name for name in vars(uids) if name[0].isupper()]
    assert len(names) > 20
    for name in names:
        known = getattr(pydicom.uid, name)
        ours = getattr(uids, name)
        assert (ours == str(known)) if isinstance(ours, str) else (sorted(ours) == sorted(map(str, known))), name

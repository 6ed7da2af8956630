"""The examples with own weights run as their users would run them, and `--expect` proves what they made."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dtvit_edge.bundle import Bundle
from export.import_file import find_import_file
from tests.support.data import ROOT

EXAMPLES = {path.name: path for path in sorted((ROOT / "examples" / "own_weights").glob("*.py"))}
# For each example what it needs, and what its bundle says of the encoder.
MADE = {
    "huggingface_dtvit.py": ("transformers", "huggingface/vit-48x2-patch16"),
    "lightning_dtvit.py": ("lightning", "test_vit"),
    "torchvision_dtvit.py": ("torchvision", "torchvision/vit-48x2-patch16"),
}
# A CUDA torchvision beside a CPU torch imports only after `export._torchvision`; elsewhere that changes nothing.
RUN = "import runpy, sys, export._torchvision; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"


def test_every_example_with_own_weights_is_run() -> None:
    assert set(EXAMPLES) == set(MADE)


@pytest.mark.parametrize("name", MADE)
def test_examples_are_short_say_how_to_run_them_and_write_a_valid_import_file(name: str, tmp_path: Path) -> None:
    text = EXAMPLES[name].read_text(encoding="utf-8")
    assert f"Run it with: python examples/own_weights/{name} out/" in text
    code = text.split('"""', 2)[2]
    assert 40 <= len([line for line in code.splitlines() if line.strip()]) <= 60
    (toml,) = re.findall(r'"import\.toml"\)\.write_text\("""(.*?)"""\)', text, re.DOTALL)
    (tmp_path / "import.toml").write_text(toml)
    choices = find_import_file(tmp_path / "weights.pth", None)
    assert choices.training == "synthetic" and choices.preprocess["mask"] is False


@pytest.mark.real
@pytest.mark.parametrize("name", MADE)
def test_examples_become_bundles_that_their_own_outputs_prove(tmp_path: Path, name: str) -> None:
    library, encoder = MADE[name]
    if library != "torchvision":  # which is imported in the order of `export._torchvision`
        pytest.importorskip(library)
    command = _run("-c", RUN, str(EXAMPLES[name]), str(tmp_path)).splitlines()[-1]
    program, *arguments = shlex.split(command)
    assert program == "dtvit-edge" and "--expect" in arguments
    assert "proved    against your own outputs" in _run("-m", "dtvit_edge", *arguments)
    manifest = Bundle.open(tmp_path / "dtvit.dtvit").manifest
    assert manifest.encoder == encoder and manifest.training == "synthetic" and not manifest.untrained_heads
    assert manifest.proof is not None and manifest.proof["says"] == "proved against the user's own outputs"
    assert manifest.proof["images"] == 16 and manifest.proof["preprocessing_proved"]


def _run(*arguments: str) -> str:
    """What a Python of its own prints."""
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout

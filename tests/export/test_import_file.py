"""import.toml: what it says is taken, what it cannot say is refused with line and key."""

from __future__ import annotations

import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dtvit_edge.errors import CheckpointError, ConfigError
from dtvit_edge.spec import PreprocessSpec, Window, WindowKind
from export.dump_import import dump_import
from export.findings import Findings
from export.import_file import SCHEMA, read_import_file
from export.importing import ImportOptions, import_model
from export.preprocessing import KEYS, compare_normalisation
from tests.support.foreign_models import Dual, mlp, seeded, timm_vit

WHOLE = """
training = "synthetic"

[encoder]
name = "test_vit"

[heads]
activation = "relu"

[heads.ich]
outputs = ["ich", "no_ich"]

[preprocess]
windows = [[50, 100, "LINEAR"]]
mask = false
fit = "squash"
filter = "bicubic"
mean = [0.5]
std = [0.25, 0.25, 0.25]
thickness = 3
top_places = 4
"""


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    model = seeded(Dual(timm_vit(), mlp(64, 2, torch.nn.ReLU()), mlp(64, 3, torch.nn.ReLU())))
    torch.save(model.state_dict(), tmp_path / "a.pt")
    return tmp_path / "a.pt"


def test_what_the_file_beside_the_weights_says_is_taken(weights: Path) -> None:
    (weights.parent / "import.toml").write_text(WHOLE)
    imported = import_model(weights, ImportOptions())
    assert imported.training == "synthetic"
    assert imported.spec == PreprocessSpec(
        windows=(Window(50, 100, WindowKind.LINEAR),),
        device_mask=False,
        fit="squash",
        filter="bicubic",
        crop=32,
        resize=32,
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
        thickness_mm=3.0,
        top_places=4,
    )
    said = imported.findings.to_dict()
    assert said["given"]["heads.ich.outputs"] == ["ich", "no_ich"]
    assert said["assumed"]["heads.location.outputs"] == ["deep", "lobar", "subtentorial"]
    plain = import_model(
        weights,
        ImportOptions(
            encoder="test_vit", import_file=_written(weights, "training = 'synthetic'\n[heads]\nactivation = 'relu'\n")
        ),
    )
    x = torch.randn(1, 3, 32, 32)
    assert torch.equal(imported.model(x)[0], plain.model(x)[0].flip(1))


def _written(weights: Path, text: str) -> Path:
    path = weights.parent / "other.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[encoder]\nnam = 'x'\n",
            r"line 2: \[encoder\] nam is no key of an import.toml; known here are library, name",
        ),
        ("\n[preprocess]\n# gamma\ngamma = 2\n", r"line 4: \[preprocess\] gamma is no key"),
        ("[preprocess]\nfilter = 'area'\n", r"line 2: \[preprocess\] filter is 'area', expected bilinear or bicubic"),
        (
            "[preprocess]\nwindows = [[40, 80]]\n",
            r"line 2: \[preprocess\] windows is .*expected a list of one to three",
        ),
        ("[heads.ich]\noutputs = 'ich'\n", r"line 2: \[heads.ich\] outputs is 'ich', expected a list of labels"),
        ("[heads.colour]\noutputs = ['ich']\n", r"line 1: \[heads\] colour is no key"),
        ("training = 'good'\n", "line 1: training is 'good', expected one of untrained, synthetic"),
        ("[encoder\n", "no TOML: .*line 1"),
    ],
    ids=["key", "preprocess", "filter", "window", "labels", "head", "training", "TOML"],
)
def test_what_it_cannot_say_is_refused_with_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "import.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_import_file(tmp_path / "import.toml")


def test_every_key_of_preprocess_has_its_field() -> None:
    assert set(SCHEMA["preprocess"]) == {*KEYS, "channels"}
    assert {key.field for key in KEYS.values()} <= set(PreprocessSpec.__dataclass_fields__)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("size = 64", "size is 64, the encoder's weights are for 32"),
        ("channels = 1", "channels is 1, the encoder takes 3"),
        ("mean = [0.5, 0.5]", "mean has 2 numbers for 3 channels"),
        ("windows = [[40, 80, 'LINEAR'], [80, 200, 'LINEAR']]", "give one window .* or 3, found 2"),
        ("windows = [[40, 80, 'SIGMOID']]", "kind 'SIGMOID', expected LINEAR or LINEAR_EXACT"),
    ],
)
def test_preprocessing_that_contradicts_the_weights_is_refused(weights: Path, text: str, message: str) -> None:
    options = ImportOptions(encoder="test_vit", training="synthetic", activation="relu")
    with pytest.raises(ConfigError, match=message):
        import_model(
            weights, ImportOptions(**{**vars(options), "import_file": _written(weights, f"[preprocess]\n{text}\n")})
        )


def test_what_was_concluded_can_be_written_corrected_and_read(weights: Path) -> None:
    path = weights.parent / "dumped.toml"
    dump_import(weights, ImportOptions(encoder="test_vit", lenient=True), path)
    text = path.read_text()
    assert "# activation = ...  # asked: " in text and '# training = "untrained"' in text and "# assumed" in text
    corrected = text.replace("# activation = ...", 'activation = "relu"').replace(
        '# training = "untrained"', 'training = "synthetic"'
    )
    path.write_text(corrected)
    imported = import_model(weights, ImportOptions(import_file=path))
    assert imported.training == "synthetic" and imported.model.encoder_name == "test_vit"
    with pytest.raises(ConfigError, match="exists already"):
        dump_import(weights, ImportOptions(lenient=True), path)


def test_code_in_a_file_is_refused_with_the_line_that_helps(tmp_path: Path) -> None:
    import argparse

    torch.save({"state_dict": {"a.weight": torch.ones(2, 2)}, "args": argparse.Namespace(lr=1)}, tmp_path / "a.ckpt")
    with pytest.raises(
        CheckpointError,
        match=r"holds more than weights \(argparse.Namespace\).*\n.*weights_only=False.*\n.*export weights.pt",
    ):
        import_model(tmp_path / "a.ckpt", ImportOptions(training="synthetic"))


def test_the_line_that_helps_takes_every_weight_by_its_name_and_nothing_else(tmp_path: Path) -> None:
    """timm's own files hold averaged weights beside the plain ones; which of them is meant is asked afterwards."""
    plain, averaged = torch.ones(2, 2), torch.zeros(2, 2)
    module = torch.nn.Linear(2, 2)
    optimizer = {"state": {0: {"exp_avg": plain}}, "param_groups": [1]}
    whole = {"state_dict": {"a.weight": plain}, "state_dict_ema": {"a.weight": averaged}, "module": module,
             "optimizer": optimizer, "epoch": 3, "path": tmp_path}  # fmt: skip
    torch.save(whole, tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError) as caught:
        import_model(tmp_path / "a.ckpt", ImportOptions(training="synthetic"))
    line = str(caught.value).splitlines()[1].strip().replace("python -c", f"{sys.executable} -c", 1)
    subprocess.run(shlex.split(line), cwd=tmp_path, check=True)
    taken = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert set(taken) == {"state_dict", "state_dict_ema", "module", "optimizer"}
    assert torch.equal(taken["state_dict_ema"]["a.weight"], averaged) and set(taken["module"]) == {"weight", "bias"}


@pytest.mark.parametrize(
    ("channels", "used", "warned"),
    [(3, 0.485, True), (1, 0.485, True), (1, 0.5, False)],
    ids=["RGB", "grey", "its own"],
)
def test_another_normalisation_than_the_librarys_own_is_a_warning(channels: int, used: float, warned: bool) -> None:
    """Of a grey encoder as well, whose library names three channels all the same."""
    findings, spec = Findings(), replace(PreprocessSpec(), mean=(used,) * channels, std=(0.5,) * channels)
    compare_normalisation(spec, (0.5,) * 3, (0.5,) * 3, "vit_tiny_patch16_224", findings)
    assert bool(findings.warnings) == warned
    assert all(f"mean {[0.5] * channels}, std" in warning for warning in findings.warnings)

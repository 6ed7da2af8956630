"""What `inspect` shows: everything that decides what a bundle's numbers mean."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dtvit_edge.bundle import REFUSED, Bundle, Threshold, Thresholds
from dtvit_edge.cli import render
from dtvit_edge.spec import PreprocessSpec

IMPORTED = {
    "read": {"heads.ich.layers": ["a.0", "relu", "a.2"]},
    "given": {"heads.ich.activation": "relu"},
    "assumed": {"heads.ich.outputs": ["no_ich", "ich"], "preprocess.mask": True},
    "notes": [],
    "warnings": [],
}
PROOF = {
    "says": "proved against the user's own outputs",
    "images": 12,
    "preprocessing_proved": True,
    "max_abs_difference": 2.34e-6,
    "tolerance": 1e-5,
}


@pytest.fixture
def shown(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> str:
    """What is printed of a bundle that has everything, each run of spaces as one."""
    spec = PreprocessSpec(
        mean=(0.5, 0.25, 0.125), std=(0.3, 0.2, 0.1), device_mask=False, fit="squash", filter="bicubic"
    )
    manifest = replace(
        tiny_bundle.manifest,
        spec=spec,
        heads={"ich": ["a.0", "relu", "a.2"]},
        imported=IMPORTED,
        proof=PROOF,
        tolerances={"fp32": 2.6e-05},
        parity={
            "fp32": {"tolerance": 2.6e-05, "max_abs_difference": {"1": 1.24e-05}, "slices": 12},
            "fp16": {REFUSED: "float16 ends at 65504 [x]"},
        },
    )
    tuned = Thresholds(Threshold(0.375, "tuned for a sensitivity of 0.95"), Threshold(0.25, "by hand"), 1.5)
    render.bundle(replace(tiny_bundle, manifest=manifest, thresholds=tuned), as_json=False)
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    "text",
    [
        "mean 0.5, 0.25, 0.125",
        "std 0.3, 0.2, 0.1",
        "labels of ich no_ich, ich",
        "labels of location deep, lobar, subtentorial",
        "layers of ich a.0 > relu > a.2",
        "activation relu (given, heads.ich)",
        "head mask off",
        "fit, filter squash, bicubic",
        "thin slices averaged to 5 mm",
        "a series mean of the highest 3 places",
        "input 1 x 224 x 224 uint8, 3 channels in the encoder",
        "assumed heads.ich.outputs no_ich/ich, preprocess.mask True",
        "own outputs proved against the user's own outputs: model and preprocessing, 12 images, at most 2.34e-06 apart "
        "(allowed 1e-05)",
        "rounding PyTorch's float32 is at most",
        "tolerance of fp32 2.6e-05",
        "parity of fp32 within 1.24e-05 of PyTorch on 12 golden slices (allowed 2.6e-05)",
        "parity of fp16 left out: float16 ends at 65504 [x]",
        "threshold of a slice 0.375 (tuned for a sensitivity of 0.95)",
        "threshold of a study 0.25 (by hand)",
        "temperature 1.5 (recorded, not applied)",
    ],
)
def test_everything_that_decides_is_shown(shown: str, text: str) -> None:
    assert text in shown


def test_a_bundle_of_which_little_is_known_says_so(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    render.bundle(tiny_bundle, as_json=False)
    shown = " ".join(capsys.readouterr().out.split())
    assert "activation not recorded" in shown and "head mask on" in shown
    assert "own outputs not compared (`export --expect`)" in shown
    assert "threshold of a slice 0.5 (not tuned)" in shown


def test_json_holds_the_thresholds(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    render.bundle(tiny_bundle, as_json=True)
    assert json.loads(capsys.readouterr().out)["thresholds"]["slice"] == {"value": 0.5, "source": "not tuned"}

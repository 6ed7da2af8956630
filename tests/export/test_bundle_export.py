"""From a checkpoint to a bundle that opens, or to nothing at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from dtvit_edge.bundle import GOLDEN_PIXELS, Bundle
from dtvit_edge.errors import CheckpointError, ConfigError, VerdictError
from dtvit_edge.spec import OUTPUT_NAMES, PreprocessSpec, Window, digest_file
from export import bundle_export
from export.bundle_export import export_bundle
from export.checkpoint import save_checkpoint
from export.golden import golden_slices, reference_logits
from export.untrained import untrained_model
from tests.support.encoders import THREE_WINDOWS
from tests.support.small_bundle import SMALL_VIT


def test_manifest_says_what_was_done(small_bundle: Bundle, small_checkpoint: Path) -> None:
    manifest = Bundle.open(small_bundle.path).manifest
    assert (manifest.name, manifest.encoder, manifest.training) == ("small", SMALL_VIT, "untrained")
    assert manifest.spec == PreprocessSpec()
    assert manifest.weights_sha256 == digest_file(small_checkpoint)
    assert {"python", "torch", "timm", "onnx", "onnxruntime"} <= set(manifest.versions)
    assert {name: record.facts["opset"] for name, record in manifest.models.items()} == {
        "fp32": 17,
        "fp32-op16": 16,
        "fp16": 17,
    }
    facts = manifest.models["fp32"].facts
    assert facts["rewrites"]["class_token_last_block"]["applied"]
    assert facts["attention"] == {"heads": 2, "head_size": 32, "tokens": 197, "blocks": 6}
    for precision, proof in manifest.parity.items():
        assert max(proof["max_abs_difference"].values()) <= proof["tolerance"] == manifest.tolerances[precision]
    assert manifest.models["fp16"].bytes < 0.56 * manifest.models["fp32"].bytes


def test_golden_logits_are_pytorchs(small_bundle: Bundle) -> None:
    golden = small_bundle.golden()
    pixels, logits = golden.pixels, golden.logits
    np.testing.assert_array_equal(pixels, golden_slices(PreprocessSpec())[2])
    expected = reference_logits(untrained_model(SMALL_VIT), pixels, PreprocessSpec())
    for name in OUTPUT_NAMES:
        np.testing.assert_allclose(logits[name], expected[name], atol=1e-12)
    assert GOLDEN_PIXELS in small_bundle.manifest.golden


def test_same_checkpoint_gives_the_same_bundle(small_bundle: Bundle, small_checkpoint: Path, tmp_path: Path) -> None:
    again = export_bundle(small_checkpoint, tmp_path / "small.dtvit")
    assert again.digest == small_bundle.digest


@pytest.fixture
def exported_already(small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The small ViT's fp32 graph, in place of the seconds in which PyTorch would export it once more."""
    data = small_bundle.model_bytes("fp32")
    monkeypatch.setattr(bundle_export, "export_fp32", lambda *args: data)
    return data


def _scaled(data: bytes, factors: dict[str, float]) -> bytes:
    """A graph with weights, by a part of their name, times a power of two."""
    model = onnx.load_model_from_string(data)
    for name, factor in factors.items():
        (tensor,) = (t for t in model.graph.initializer if name in t.name)
        values = numpy_helper.to_array(tensor)
        tensor.CopyFrom(numpy_helper.from_array(values * values.dtype.type(factor), tensor.name))
    return model.SerializeToString()


def _halve_first_weight(data: bytes) -> bytes:
    return _scaled(data, {"patch_embed.proj.weight": 0.5})


@pytest.mark.parametrize("stage", ["export_fp32", "decompose_layer_norm"])
def test_broken_graph_is_refused_and_nothing_is_written(
    exported_already: bytes, small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    make: Callable[..., bytes] = getattr(bundle_export, stage)
    monkeypatch.setattr(bundle_export, stage, lambda *args: _halve_first_weight(make(*args)))
    with pytest.raises(VerdictError, match="differs from PyTorch"):
        export_bundle(small_checkpoint, tmp_path / "a.dtvit")
    assert not list(tmp_path.iterdir())


def test_value_beyond_float16_leaves_fp32_written(
    small_bundle: Bundle, exported_already: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An honest model with weights far beyond what float16 can hold: a layer of a head times 2**24, the next by it."""
    factors = {"ich_head.0.weight": 2.0**24, "ich_head.2.weight": 2.0**-24}
    model = untrained_model(SMALL_VIT)
    with torch.no_grad():
        for name, factor in factors.items():
            model.get_parameter(name).mul_(factor)
    save_checkpoint(model, tmp_path / "a.safetensors", training="synthetic")
    monkeypatch.setattr(bundle_export, "export_fp32", lambda *args: _scaled(exported_already, factors))
    said: list[str] = []
    written = export_bundle(tmp_path / "a.safetensors", tmp_path / "a.dtvit", progress=said.append)
    assert set(written.manifest.models) == {"fp32", "fp32-op16"} == set(written.manifest.tolerances)
    assert not (written.path / "model.fp16.onnx").exists()
    assert "float16 ends at 65504" in written.manifest.refusals["fp16"]
    assert any(line.startswith("leaving fp16 out: ") and "65504" in line for line in said)
    assert not small_bundle.manifest.refusals


@pytest.mark.usefixtures("exported_already")
def test_fp16_that_fails_parity_leaves_fp32_written(
    small_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = bundle_export.export_fp16
    monkeypatch.setattr(bundle_export, "export_fp16", lambda *args: _halve_first_weight(make(*args)))
    written = export_bundle(small_checkpoint, tmp_path / "a.dtvit")
    assert set(Bundle.open(written.path).manifest.models) == {"fp32", "fp32-op16"}
    assert "fp16: ONNX Runtime differs from PyTorch" in written.manifest.refusals["fp16"]


def test_what_exists_is_kept_unless_asked(small_checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "small.dtvit"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        export_bundle(small_checkpoint, target)
    assert (target / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "a.onnx"}, "ends with .dtvit"),
        ({"training": "synthetic"}, "says training 'untrained', --training says 'synthetic'"),
        ({"windows": (Window(), Window())}, "one window or one a channel"),
    ],
    ids=["name", "training", "two windows"],
)
def test_wrong_options_are_refused(
    small_checkpoint: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    output = tmp_path / str(options.pop("output", "a.dtvit"))
    with pytest.raises(ConfigError, match=message):
        export_bundle(small_checkpoint, output, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("exported_already")
@pytest.mark.parametrize("said", ["by the checkpoint", "by the caller"])
def test_untrained_location_head_reaches_the_manifest(tmp_path: Path, said: str) -> None:
    """It is exported and compared like any other; what reads the bundle leaves it empty."""
    model, path, options = untrained_model(SMALL_VIT), tmp_path / "a.safetensors", {}
    if said == "by the caller":
        path = tmp_path / "a.pt"
        torch.save(model.state_dict(), path)
        options = {
            "encoder": SMALL_VIT,
            "training": "synthetic",
            "untrained_heads": ("location",),
            "activation": "gelu",
        }
    else:
        save_checkpoint(model, path, training="synthetic", untrained_heads=["location"])
    bundle = export_bundle(path, tmp_path / "a.dtvit", **options)
    assert bundle.manifest.untrained_heads == ("location",)
    assert "location_logits" in bundle.manifest.reference.spread


@pytest.mark.parametrize(
    ("marked", "given", "error", "message"),
    [
        (["ich"], (), CheckpointError, "haemorrhage head was never trained"),
        (["ich", "location"], ("location",), CheckpointError, "haemorrhage head was never trained"),
        (["location"], ("ich",), CheckpointError, "haemorrhage head was never trained"),
        ([], ("colour",), ConfigError, "no head is called 'colour'; there are ich and location"),
    ],
    ids=["marked", "both marked", "given", "unknown"],
)
def test_model_that_cannot_detect_becomes_no_bundle(
    tmp_path: Path, marked: list[str], given: tuple[str, ...], error: type[Exception], message: str
) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(untrained_model(SMALL_VIT), path, training="synthetic", untrained_heads=marked)
    with pytest.raises(error, match=message):
        export_bundle(path, tmp_path / "a.dtvit", untrained_heads=given)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_training_state_is_never_guessed(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(untrained_model(SMALL_VIT).state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(ConfigError, match=r"give --training \(untrained, synthetic, clinical-unvalidated\)"):
        export_bundle(tmp_path / "a.safetensors", tmp_path / "a.dtvit", encoder=SMALL_VIT)


def test_encoder_that_no_tensor_shows_is_asked_for(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(untrained_model(SMALL_VIT).state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(
        CheckpointError, match=r"width 64, depth 6 and patches of 16: which of timm's it is .* give --encoder"
    ):
        export_bundle(tmp_path / "a.safetensors", tmp_path / "a.dtvit", training="untrained")


def test_spec_of_the_checkpoint_is_the_bundles(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(untrained_model("test_resnet"), path, training="synthetic", spec=THREE_WINDOWS)
    with pytest.raises(ConfigError, match="carries other windows"):
        export_bundle(path, tmp_path / "a.dtvit", windows=(Window(),))
    bundle = export_bundle(path, tmp_path / "a.dtvit")
    assert bundle.manifest.spec == THREE_WINDOWS
    assert bundle.manifest.models["fp32"].facts["inputs"]["pixels"]["shape"] == ["batch", 3, 224, 224]

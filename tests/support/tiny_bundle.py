"""A bundle small enough to write in milliseconds: its logits follow the slice's mean brightness."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dtvit_edge.bundle import MANIFEST, MODEL_FILES, Bundle, FileRecord, Manifest, write_bundle
from dtvit_edge.spec import ICH_OUTPUT, INPUT_NAME, LOCATION_OUTPUT, PreprocessSpec, digest_json
from tests.support.golden import make_golden


def edit_manifest(path: Path, **changes: object) -> None:
    """Change a bundle's manifest, its checksum with it: what is refused is refused for what it says."""
    manifest = json.loads((path / MANIFEST).read_text()) | changes
    rest = {key: value for key, value in manifest.items() if key != "checksum"}
    (path / MANIFEST).write_text(json.dumps(rest | {"checksum": digest_json(rest)}))


def tiny_model(*, channels: int = 1, slope: float = 0.05, middle: float = 45.0) -> bytes:
    """ONNX bytes: P(ich) rises with the mean byte and is 0.5 at `middle`."""
    weights = {
        "w_ich": np.array([[-slope, slope]], dtype=np.float32),
        "b_ich": np.array([slope * middle, -slope * middle], dtype=np.float32),
        "w_loc": np.array([[0.01, 0.02, -0.01]], dtype=np.float32),
        "b_loc": np.array([0.3, 0.1, 0.2], dtype=np.float32),
    }
    nodes = [
        helper.make_node("Cast", [INPUT_NAME], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["mean", "shape"], ["column"]),
        helper.make_node("Gemm", ["column", "w_ich", "b_ich"], [ICH_OUTPUT]),
        helper.make_node("Gemm", ["column", "w_loc", "b_loc"], [LOCATION_OUTPUT]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["N", channels, 224, 224])],
        [
            helper.make_tensor_value_info(ICH_OUTPUT, TensorProto.FLOAT, ["N", 2]),
            helper.make_tensor_value_info(LOCATION_OUTPUT, TensorProto.FLOAT, ["N", 3]),
        ],
        [numpy_helper.from_array(v, k) for k, v in weights.items()]
        + [numpy_helper.from_array(np.array([-1, 1], dtype=np.int64), "shape")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def write_tiny_bundle(
    path: Path,
    *,
    training: str = "synthetic",
    spec: PreprocessSpec | None = None,
    untrained_heads: tuple[str, ...] = (),
    **model_options: Any,
) -> Bundle:
    spec = spec or PreprocessSpec()
    model = tiny_model(channels=spec.channels, **model_options)
    golden, reference = make_golden(model, spec, 9)
    files = golden.to_files()
    manifest = Manifest(
        name=path.stem,
        encoder="mean",
        training=training,
        spec=spec,
        models={"fp32": FileRecord(MODEL_FILES["fp32"], "", 0, {"opset": 17})},
        golden={file: FileRecord(file, "", 0) for file in files},
        golden_slices=golden.slices,
        reference=reference,
        tolerances={"fp32": 1e-5, "fp32-op16": 1e-5},
        parity={},
        weights_sha256="0" * 64,
        versions={},
        untrained_heads=untrained_heads,
    )
    return write_bundle(path, manifest, files | {MODEL_FILES["fp32"]: model})

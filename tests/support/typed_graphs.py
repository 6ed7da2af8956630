"""A one-block vision transformer as each of the six graphs of any model, written by hand, and a bundle of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dtvit_edge.bundle import MODEL_FILES, Bundle, FileRecord, Manifest, write_bundle
from dtvit_edge.spec import ICH_OUTPUT, INPUT_NAME, LOCATION_OUTPUT, PreprocessSpec
from export.opset import to_opset16
from tests.support.golden import make_golden

WIDTH, PATCH, TOKENS = 32, 16, 196
OPSETS = {"fp32": 17, "fp32-op16": 16, "fp16": 17, "int8": 17, "int8-fp16": 19, "fp8": 19}
TOLERANCES = {"fp32": 1e-5, "fp32-op16": 1e-5, "fp16": 0.05, "int8": 0.2, "int8-fp16": 0.2, "fp8": 0.2}
_E4M3 = helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT8E4M3FN)


def graph(key: str) -> bytes:
    """ONNX bytes of one of `OPSETS`."""
    eight_bits = np.int8 if "int8" in key else _E4M3 if key == "fp8" else None
    half = key in ("fp16", "int8-fp16", "fp8")
    model = _Writer(half=half, eight_bits=eight_bits).model(17 if key == "fp32-op16" else OPSETS[key])
    if key == "fp32-op16":
        to_opset16(model)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data


def write_typed_bundle(path: Path, keys: tuple[str, ...] = tuple(OPSETS)) -> Bundle:
    """A bundle with these graphs; the golden logits are the fp32 graph's on ONNX Runtime."""
    golden, reference = make_golden(graph("fp32"), PreprocessSpec(), 5)
    files = golden.to_files()
    manifest = Manifest(
        name=path.stem,
        encoder="one block",
        training="synthetic",
        spec=PreprocessSpec(),
        models={key: FileRecord(MODEL_FILES[key], "", 0, {"opset": OPSETS[key]}) for key in keys},
        golden={file: FileRecord(file, "", 0) for file in files},
        golden_slices=golden.slices,
        reference=reference,
        parity={},
        weights_sha256="0" * 64,
        versions={},
        tolerances=TOLERANCES,
    )
    return write_bundle(path, manifest, files | {MODEL_FILES[key]: graph(key) for key in keys})


class _Writer:
    """Nodes in order; tensors are called after the node that makes them."""

    def __init__(self, *, half: bool, eight_bits: Any) -> None:
        self.half, self.eight_bits = half, eight_bits
        self.kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
        self.random = np.random.default_rng(1)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def model(self, opset: int) -> onnx.ModelProto:
        x = self.add("Cast", "floats", [INPUT_NAME], to=self.kind)
        patches = self.weight("patches", WIDTH, 1, PATCH, PATCH, scale=1e-3)
        x = self.add("Conv", "embedding", [x, patches], strides=[PATCH, PATCH])
        x = self.add("Reshape", "tokens", [x, self.integers("shape", [-1, WIDTH, TOKENS])])
        x = self.add("Transpose", "rows", [x], perm=[0, 2, 1])
        n = self.in_float32("layer_norm", "LayerNormalization", [x, self.scale("gain"), self.scale("shift")], axis=-1)
        q, k, v = (self.product(name, n) for name in ("query", "key", "value"))
        k = self.add("Transpose", "columns", [k], perm=[0, 2, 1])
        a = self.in_float32("softmax", "Softmax", [self.add("MatMul", "scores", [q, k])], axis=-1)
        x = self.add("Add", "residual", [x, self.product("out", self.add("MatMul", "mixed", [a, v]))])
        x = self.add("Gather", "token", [x, self.integers("first", 0)], axis=1)
        if self.half:
            x = self.add("Cast", "token_float32", [x], to=TensorProto.FLOAT)
        for name, labels in ((ICH_OUTPUT, 2), (LOCATION_OUTPUT, 3)):
            weight, bias = (self.weight(f"{name}_{part}", *s, half=False) for part, s in _head(labels).items())
            self.nodes.append(helper.make_node("Gemm", [x, weight, bias], [name], name=f"{name}_gemm"))
        return self.finish(opset)

    def product(self, name: str, x: str) -> str:
        """x times a weight; with Q/DQ on both where this is an int8 or fp8 graph."""
        values = (self.random.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32)
        if self.eight_bits is None:
            return self.add("MatMul", name, [x, self.constant(f"{name}_weight", values, half=self.half)])
        if self.eight_bits is np.int8:
            scales = np.abs(values).max(axis=0) / 127
            values = np.round(values / scales)
        else:  # one scale, and float8 rounds by itself
            scales = np.asarray(np.abs(values).max() / 448 * np.float32(1.001))
            values = values / scales
        weight = self.constant(f"{name}_weight", values.astype(self.eight_bits))
        zeros = self.constant(f"{name}_zeros", np.zeros(scales.shape, self.eight_bits))
        weight_scale = self.constant(f"{name}_weight_scale", np.asarray(scales, np.float32), half=self.half)
        axis = {"axis": 1} if scales.ndim else {}
        weight = self.add("DequantizeLinear", f"{name}_weight_dq", [weight, weight_scale, zeros], **axis)
        scale = self.constant(f"{name}_scale", np.float32(0.05), half=self.half)
        zero = self.constant(f"{name}_zero", np.zeros((), self.eight_bits))
        x = self.add("QuantizeLinear", f"{name}_q", [x, scale, zero])
        x = self.add("DequantizeLinear", f"{name}_dq", [x, scale, f"{name}_zero"])
        return self.add("MatMul", name, [x, weight])

    def in_float32(self, name: str, operator: str, inputs: list[str], **attributes: Any) -> str:
        """A node that stays float32, between two Casts where the graph is half."""
        if not self.half:
            return self.add(operator, name, inputs, **attributes)
        x = self.add("Cast", f"{name}_up", inputs[:1], to=TensorProto.FLOAT)
        x = self.add(operator, name, [x, *inputs[1:]], **attributes)
        return self.add("Cast", f"{name}_down", [x], to=TensorProto.FLOAT16)

    def add(self, operator: str, name: str, inputs: list[str], **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [name], name=f"node_{name}", **attributes))
        return name

    def weight(self, name: str, *shape: int, scale: float = 0.2, half: bool | None = None) -> str:
        values = (scale * self.random.standard_normal(shape)).astype(np.float32)
        return self.constant(name, values, half=self.half if half is None else half)

    def scale(self, name: str) -> str:
        """A float32 vector near one, for LayerNormalization."""
        return self.constant(name, (1 + 0.1 * self.random.standard_normal(WIDTH)).astype(np.float32))

    def integers(self, name: str, values: int | list[int]) -> str:
        return self.constant(name, np.array(values, dtype=np.int64))

    def constant(self, name: str, values: Any, *, half: bool = False) -> str:
        array = np.asarray(values).astype(np.float16) if half else np.asarray(values)
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def finish(self, opset: int) -> onnx.ModelProto:
        pixels = helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["batch", 1, 224, 224])
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", labels])
            for name, labels in ((ICH_OUTPUT, 2), (LOCATION_OUTPUT, 3))
        ]
        made = helper.make_graph(self.nodes, "one_block", [pixels], outputs, self.weights)
        return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _head(labels: int) -> dict[str, tuple[int, ...]]:
    return {"weight": (WIDTH, labels), "bias": (labels,)}

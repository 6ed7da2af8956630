"""TensorRT 8.5 to 11 as far as a build touches them: each has what its release has, and nothing that it lacks.

An attribute that a release does not have is an AttributeError, as there. What is called is recorded in `calls`. The
parser reads the real graph, and the inspector answers in the release's own JSON. Sources: the Python API pages of
8.5.3, 8.6.1, 10.3 and 11.0, the migration guides, and TensorRT for RTX 1.7, whose interface is that of 11.
"""

from __future__ import annotations

import json
import os
import signal
from types import SimpleNamespace
from typing import Any

import onnx
from onnx import TensorProto, numpy_helper, shape_inference

VERSIONS = ("8.5.3.1", "8.6.1", "10.3.0", "11.4.1")
PLAN = b"a plan of the stand-in: "

_KINDS = {
    "LayerNormalization": "NORMALIZATION",
    "Softmax": "SOFTMAX",
    "MatMul": "MATRIX_MULTIPLY",
    "Conv": "CONVOLUTION",
    "Cast": "CAST",
    "ReduceMean": "REDUCE",
    "Sqrt": "UNARY",
    "Reshape": "SHUFFLE",
    "Transpose": "SHUFFLE",
    "Gather": "GATHER",
    "QuantizeLinear": "QUANTIZE",
    "DequantizeLinear": "DEQUANTIZE",
}
_TYPES = {TensorProto.FLOAT: "FLOAT", TensorProto.FLOAT16: "HALF", TensorProto.INT8: "INT8"}
_TYPES |= {TensorProto.UINT8: "UINT8", TensorProto.INT64: "INT64"}
_WORDS = {"FLOAT": "FP32", "HALF": "FP16", "INT8": "Int8", "UINT8": "UInt8", "INT64": "Int64"}
_NEW_WORDS = {"FLOAT": "Float", "HALF": "Half", "INT8": "Int8", "UINT8": "UInt8", "INT64": "Int64"}


def make(version: str, *, behaviour: str = "honest") -> Any:
    """A stand-in for `import tensorrt`.

    Args:
        behaviour: `honest`; `fp32` builds FP32 whatever the flags; `foreign` shows one fused region; `names` knows
            layers by name only; `broken` has an inspector whose JSON does not parse; `no cuda` makes no builder;
            `refuse` builds nothing and says why; `raise`, `kill`, `abort` end so.
    """
    numbers = tuple(int(part) for part in version.split("."))
    trt = SimpleNamespace(__version__=version, calls=[], behaviour=behaviour)
    weak, ten = numbers < (11,), (10,) <= numbers < (11,)
    flags = ["TF32", *(["FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS"] if weak else [])]
    trt.BuilderFlag = _enum(*flags)
    creation = ["EXPLICIT_BATCH"] if numbers < (10,) else ["EXPLICIT_BATCH", "STRONGLY_TYPED"] if ten else []
    trt.NetworkDefinitionCreationFlag = _enum(*creation)
    sources = ["EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS"]
    trt.TacticSource = _enum(*(["CUBLAS", "CUBLAS_LT", "CUDNN"] if weak else []), *sources)
    kinds = {*_KINDS.values(), "ELEMENTWISE", "CONSTANT", "OTHER"}
    kinds -= {"NORMALIZATION"} if numbers < (8, 6) else set()
    trt.LayerType = _enum(*sorted(kinds))
    trt.IConstantLayer, trt.IDequantizeLayer = _Constant, _Dequantize
    trt.DataType = _enum(*_WORDS, "BOOL", "INT32")
    trt.MemoryPoolType, trt.ProfilingVerbosity = _enum("WORKSPACE"), _enum("LAYER_NAMES_ONLY", "NONE", "DETAILED")
    trt.LayerInformationFormat = _enum("ONELINE", "JSON")
    trt.ILogger = type("ILogger", (), {"__init__": lambda self: None})
    old = ["FASTER_DYNAMIC_SHAPES_0805"] if numbers < (10,) else []
    shared = ["PROFILE_SHARING_0806"] if numbers >= (8, 6) and weak else []
    trt.PreviewFeature = _enum(*old, *shared, *(["RUNTIME_ACTIVATION_RESIZE_10_10"] if numbers >= (11,) else []))
    trt.Builder = lambda logger: _Builder(trt, numbers, logger)
    trt.OnnxParser = lambda network, logger: _Parser(trt, numbers, network, logger)
    trt.Runtime = lambda logger: _runtime(trt, numbers)
    return trt


def called(trt: Any, name: str) -> list[Any]:
    """Arguments of every recorded call of a name."""
    return [arguments for call, arguments in trt.calls if call == name]


class _Builder:
    def __init__(self, trt: Any, numbers: tuple[int, ...], logger: Any) -> None:
        if trt.behaviour == "no cuda":
            raise TypeError("pybind11_init(): factory function returned nullptr")
        self._trt, self._numbers, self._logger = trt, numbers, logger
        trt.logger = logger

    def create_network(self, flags: int = 0) -> Any:
        self._trt.calls.append(("create_network", flags))
        network = _Network(self._trt)
        network.weak = self._numbers < (10,) or (self._numbers < (11,) and not flags & 2)
        return network

    def create_builder_config(self) -> Any:
        config = (_ConfigWithLevel if self._numbers >= (8, 6) else _Config)(self._trt)
        self._trt.config = config
        return config

    def create_optimization_profile(self) -> Any:
        return SimpleNamespace(set_shape=lambda *a: self._trt.calls.append(("set_shape", a)))

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        self._trt.calls.append(("build", None))
        behaviour = self._trt.behaviour
        if behaviour == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if behaviour == "abort":
            os.abort()
        if behaviour == "raise":
            raise RuntimeError("something that no release documents")
        if behaviour == "refuse":
            self._logger.log(1, "10: Could not find any implementation for node\nnode_query.")
            return None
        self._trt.engine = _inspected(self._trt, self._numbers, network, config)
        config.cache = (config.cache or b"") + b"measured, "
        return memoryview(PLAN + self._trt.__version__.encode())


class _Config:
    """__slots__: what TensorRT's object does not have cannot be set on it."""

    __slots__ = ("_trt", "cache", "enabled", "profiling_verbosity")

    def __init__(self, trt: Any) -> None:
        self._trt, self.profiling_verbosity = trt, 0
        self.cache: bytes | None = None
        self.enabled = {trt.BuilderFlag.TF32}

    def set_flag(self, flag: int) -> None:
        self.enabled.add(flag)

    def clear_flag(self, flag: int) -> None:
        self.enabled.discard(flag)

    def set_memory_pool_limit(self, pool: int, size: int) -> None:
        self._trt.calls.append(("set_memory_pool_limit", (pool, size)))

    def add_optimization_profile(self, profile: Any) -> int:
        self._trt.calls.append(("add_optimization_profile", None))
        return len(called(self._trt, "add_optimization_profile")) - 1

    def set_preview_feature(self, feature: int, on: bool) -> None:
        self._trt.calls.append(("set_preview_feature", (feature, on)))

    def set_tactic_sources(self, sources: int) -> bool:
        self._trt.calls.append(("set_tactic_sources", sources))
        return True

    def create_timing_cache(self, data: bytes) -> Any:
        self._trt.calls.append(("create_timing_cache", data))
        if data == b"of another release":
            self._trt.logger.log(1, "4: The timing cache will not be used!")
            return None
        return SimpleNamespace(data=data)

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.cache = cache.data if cache else None
        return cache is not None

    def get_timing_cache(self) -> Any:
        assert self.cache is not None, "no timing cache was set"
        measured = self.cache
        return SimpleNamespace(serialize=lambda: memoryview(measured))


class _ConfigWithLevel(_Config):
    __slots__ = ("builder_optimization_level",)

    def __init__(self, trt: Any) -> None:
        super().__init__(trt)
        self.builder_optimization_level = 3


class _Network:
    weak = True

    def __init__(self, trt: Any) -> None:
        self.trt = trt
        self.layers: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    num_layers = property(lambda self: len(self.layers))
    num_inputs, num_outputs = property(lambda self: len(self.inputs)), property(lambda self: len(self.outputs))

    def get_layer(self, index: int) -> Any:
        return self.layers[index]

    def get_input(self, index: int) -> Any:
        return self.inputs[index]

    def get_output(self, index: int) -> Any:
        return self.outputs[index]

    def add_constant(self, shape: Any, weights: Any) -> Any:
        return self._added("CONSTANT", [], weights=weights, shape=shape)

    def add_quantize(self, tensor: Any, scale: Any) -> Any:
        return self._added("QUANTIZE", [tensor, scale], axis=-1)

    def _added(self, kind: str, inputs: list[Any], **more: Any) -> Any:
        output = SimpleNamespace(name=f"(Unnamed Layer* {len(self.layers)}) [{kind}]", dtype=None, forced=None)
        self.layers.append(_WeakLayer(output.name, getattr(self.trt.LayerType, kind), inputs, [output]))
        vars(self.layers[-1]).update(more)
        return self.layers[-1]


class _Layer:
    """A layer; precision can be set on it below 11 alone, and in a strongly typed network not even there."""

    known: dict[str, Any]

    def __init__(self, name: str, kind: int, inputs: list[Any], outputs: list[Any]) -> None:
        self.name, self.type, self._inputs, self._outputs = name, kind, inputs, outputs

    num_inputs = property(lambda self: len(self._inputs))
    num_outputs = property(lambda self: len(self._outputs))

    def get_input(self, index: int) -> Any:
        return self._inputs[index]

    def get_output(self, index: int) -> Any:
        return self._outputs[index]

    def set_input(self, index: int, tensor: Any) -> None:
        self._inputs[index] = tensor


class _WeakLayer(_Layer):
    precision: int | None = None

    def set_output_type(self, index: int, kind: int) -> None:
        self._outputs[index].forced = kind


class _Constant(_WeakLayer):
    """What a network gives as its base class, until somebody says what it is."""

    weights = property(lambda self: self.known["weights"])
    shape = property(lambda self: self.known["shape"])


class _Dequantize(_WeakLayer):
    axis = property(lambda self: self.known["axis"])


class _Parser:
    """Reads the real graph: a layer for each node, a Gemm as a product and a sum, as the real parser does."""

    def __init__(self, trt: Any, numbers: tuple[int, ...], network: Any, logger: Any) -> None:
        self._trt, self._numbers, self._network, self._logger = trt, numbers, network, logger
        self._errors: list[Any] = []
        trt.network = network

    num_errors = property(lambda self: len(self._errors))

    def get_error(self, index: int) -> Any:
        return self._errors[index]

    def parse(self, data: bytes) -> bool:
        self._trt.calls.append(("parse", len(data)))
        model = shape_inference.infer_shapes(onnx.load_model_from_string(data))
        graph, trt = model.graph, self._trt
        elements = {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.input, *graph.output)}
        elements |= {t.name: t.data_type for t in graph.initializer}
        kinds = {n: getattr(trt.DataType, _TYPES.get(k, "BOOL")) for n, k in elements.items()}
        tensors = {name: SimpleNamespace(name=name, dtype=kind, forced=None) for name, kind in kinds.items()}
        make_layer = _WeakLayer if self._network.weak else _Layer
        for weights in graph.initializer:
            constant = make_layer(weights.name, trt.LayerType.CONSTANT, [], [tensors[weights.name]])
            array = numpy_helper.to_array(weights) if weights.data_type in _TYPES else None
            constant.known = {"weights": None if array is None else array.reshape(-1), "shape": tuple(weights.dims)}
            self._network.layers.append(constant)
        for index, node in enumerate(graph.node):
            kind = _KINDS.get(node.op_type, "ELEMENTWISE")
            if not hasattr(trt.LayerType, kind) or node.op_type == "BitwiseOr":
                self._fail(index, node)
                return False
            inputs, outputs = [tensors.get(name) for name in node.input], [tensors[name] for name in node.output]
            if node.op_type == "Gemm":
                product = SimpleNamespace(name=f"{node.name}_product", dtype=outputs[0].dtype, forced=None)
                matrix = make_layer(f"{node.name}_matrix", trt.LayerType.MATRIX_MULTIPLY, inputs[:2], [product])
                self._network.layers.append(matrix)
                inputs = [inputs[2], product]
            layer = make_layer(node.name, getattr(trt.LayerType, kind), inputs, outputs)
            layer.known = {"axis": next((a.i for a in node.attribute if a.name == "axis"), 1)}
            self._network.layers.append(layer)
        self._network.inputs = [tensors[v.name] for v in graph.input]
        self._network.outputs = [tensors[v.name] for v in graph.output]
        return True

    def _fail(self, index: int, node: Any) -> None:
        self._logger.log(1, f'While parsing node number {index} [{node.op_type} -> "{node.output[0]}"]:')
        desc, code = "No importer registered for op", "UNSUPPORTED_NODE"
        error = {"node": lambda: index, "desc": lambda: desc, "code": lambda: code}
        if self._numbers >= (10,):
            error |= {"node_name": lambda: node.name, "node_operator": lambda: node.op_type}
        self._errors.append(SimpleNamespace(**error))


def _runtime(trt: Any, numbers: tuple[int, ...]) -> Any:
    inspector = SimpleNamespace(get_engine_information=lambda kind: trt.engine)
    engine = SimpleNamespace(create_engine_inspector=lambda: inspector)
    host_code = {"engine_host_code_allowed": False} if numbers >= (8, 6) else {}
    trt.runtime = SimpleNamespace(deserialize_cuda_engine=lambda memory: engine, **host_code)
    return trt.runtime


def _inspected(trt: Any, numbers: tuple[int, ...], network: Any, config: Any) -> str:
    """What the inspector says of the engine: types follow from the flags below 10, from the graph's types after."""
    half = hasattr(trt.BuilderFlag, "FP16") and trt.BuilderFlag.FP16 in config.enabled and trt.behaviour != "fp32"
    # What a product reads from there is int8 once fused.
    dequantised = {x.get_output(0).name for x in network.layers if x.type == trt.LayerType.DEQUANTIZE}
    kinds = {getattr(trt.DataType, name): name for name in _WORDS}

    def shown(layer: Any, tensor: Any, *, read: bool) -> dict[str, Any]:
        kind = kinds.get(tensor.dtype, "INT64")
        if network.weak and half and kind == "FLOAT" and getattr(layer, "precision", None) is None:
            kind = "HALF"
        if read and layer.type == trt.LayerType.MATRIX_MULTIPLY and tensor.name in dequantised:
            kind = "INT8" if trt.behaviour != "fp32" else kind
        if numbers >= (11,):
            return {"Name": tensor.name, "Datatype": _NEW_WORDS[kind], "Format": "Row major linear format"}
        return {"Name": tensor.name, "Format/Datatype": f"Row major linear {_WORDS[kind]} format"}

    fused = (trt.LayerType.QUANTIZE, trt.LayerType.DEQUANTIZE, trt.LayerType.CONSTANT)  # into their neighbours
    entries: list[Any] = [
        {
            "Name": layer.name,
            "LayerType": "gemm" if layer.type == trt.LayerType.MATRIX_MULTIPLY else "kgen",
            "Inputs": [shown(layer, t, read=True) for t in map(layer.get_input, range(layer.num_inputs)) if t],
            "Outputs": [shown(layer, t, read=False) for t in map(layer.get_output, range(layer.num_outputs))],
        }
        for layer in network.layers
        if layer.type not in fused
    ]
    if trt.behaviour == "foreign":
        border = {"Format/Datatype": "Row major linear FP32 format"}
        entries = [{"Name": "{ForeignNode[a...z]}", "LayerType": "Myelin", "Inputs": [border], "Outputs": [border]}]
    if trt.behaviour == "names" or config.profiling_verbosity != trt.ProfilingVerbosity.DETAILED:
        entries = [layer.name for layer in network.layers]
    names = [tensor.name for tensor in (*network.inputs, *network.outputs)]
    border_key = {"I/O Tensors": [{"Name": n} for n in names]} if numbers >= (11,) else {"Bindings": names}
    text = json.dumps({"Layers": entries, **border_key})
    return text[1:] if trt.behaviour == "broken" else text


def _enum(*names: str) -> Any:
    return SimpleNamespace(**{name: value for value, name in enumerate(names)})

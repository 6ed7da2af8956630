"""The precisions of a bundle's models: which file each has, who makes it, and what runs it.

One row here is all that the runtime has to know of a precision; bundles, builds, device profiles, `compat` and the gate
read it. A bundle may lack any of the files but the reference's.
"""

from __future__ import annotations

from dataclasses import dataclass

REFERENCE_PRECISION = "fp32"
# The reference in another spelling, for a parser that lacks an operator: CPUs gain nothing by it.
FP32_OPSET_16 = "fp32-op16"
EXPORT, CALIBRATE = "export", "calibrate"


@dataclass(frozen=True)
class ModelPrecision:
    """One of the model files that a bundle may hold.

    Attributes:
        name: the precision as the manifest, the gate and the CPU backends name it.
        file: its name in the bundle.
        about: what it is and what runs it, for the list of a bundle's files.
        made_by: the command that makes it: `EXPORT` or `CALIBRATE`.
        opset: the ONNX opset that it is written in; None is that of the reference's file.
        exactness: the lower, the nearer to the reference's arithmetic.
        engine: the precision of the engines that TensorRT makes of it; None where it makes none.
        exact: its arithmetic is the reference's, so that it is compared with PyTorch and there is nothing to gate.
        trims: the precision whose model it is without a slice's empty patches; of bundles alone whose encoder was
            trained so. It takes one slice a call, and backends give it one after the other.
        typed: its tensors are float16 where they are not narrower: for strongly typed builds alone.
        on_cpus: CPU backends run it. A graph typed as float16 is slower there than PyTorch is.
        computes_in: types of which an engine's layers show at least one; none where every other type is a fault.
        capability: the lowest compute capability of GPUs that multiply it; None where all do that TensorRT supports.
        optional: few devices run it, so that a gate's no leaves it out and fails no command.
    """

    name: str
    file: str
    about: str
    made_by: str
    opset: int | None
    exactness: int
    engine: str | None
    exact: bool = False
    trims: str | None = None
    typed: bool = False
    on_cpus: bool = False
    computes_in: tuple[str, ...] = ()
    capability: tuple[int, int] | None = None
    optional: bool = False


MODEL_PRECISIONS = (
    ModelPrecision(
        "fp32", "model.fp32.onnx", "the reference; CPU backends; TensorRT 8.6 and newer",
        EXPORT, None, 0, "fp32", exact=True, on_cpus=True,
    ),
    ModelPrecision(
        FP32_OPSET_16, "model.fp32-op16.onnx", "LayerNormalization in parts: TensorRT 8.5",
        EXPORT, 16, 1, "fp32", exact=True, on_cpus=True,
    ),
    ModelPrecision(
        "fp16", "model.fp16.onnx", "typed: TensorRT 10 and newer, TensorRT for RTX",
        EXPORT, None, 3, "fp16", typed=True, computes_in=("fp16", "bf16"),
    ),
    ModelPrecision(
        "int8", "model.int8.onnx", "Q/DQ with FP32 scales: CPU backends, TensorRT 8.6 and 9",
        CALIBRATE, None, 5, "int8", on_cpus=True, computes_in=("int8", "fp8"),
    ),
    ModelPrecision(
        "int8-fp16", "model.int8-fp16.onnx", "Q/DQ with FP16 scales: TensorRT 10 and newer, TensorRT for RTX",
        CALIBRATE, 19, 4, "int8", typed=True, computes_in=("int8", "fp8"),
    ),
    ModelPrecision(
        "fp8", "model.fp8.onnx", "E4M3 Q/DQ with FP16 scales: the same, on SM 8.9 and newer",
        CALIBRATE, 19, 7, "fp8", typed=True, computes_in=("fp8",), capability=(8, 9), optional=True,
    ),
    ModelPrecision(
        "fp32-trimmed", "model.fp32-trimmed.onnx", "fp32 without a slice's empty patches: CPU backends",
        EXPORT, None, 2, None, exact=True, trims="fp32", on_cpus=True,
    ),
    ModelPrecision(
        "int8-trimmed", "model.int8-trimmed.onnx", "int8 without a slice's empty patches: CPU backends",
        CALIBRATE, None, 6, None, trims="int8", on_cpus=True,
    ),
)  # fmt: skip

BY_NAME = {row.name: row for row in MODEL_PRECISIONS}
# Names of the files by precision; the runtime, export and calibration take them from here.
MODEL_FILES = {row.name: row.file for row in MODEL_PRECISIONS}
CPU_PRECISIONS = tuple(row.name for row in MODEL_PRECISIONS if row.on_cpus)
ENGINE_PRECISIONS = tuple(dict.fromkeys(row.engine for row in MODEL_PRECISIONS if row.engine))
# By the precision that each of them trims.
TRIMMED = {row.trims: row.name for row in MODEL_PRECISIONS if row.trims}
# What may be asked for of a device: engines, and what runs on CPUs alone.
DEVICE_PRECISIONS = (*ENGINE_PRECISIONS, *TRIMMED.values())
EXACT = tuple(row.name for row in MODEL_PRECISIONS if row.exact)
# The nearer to the reference's arithmetic, the earlier.
EXACTNESS = tuple(row.name for row in sorted(MODEL_PRECISIONS, key=lambda row: row.exactness))
# Those that the gate compares with the reference.
LOWER = tuple(row.name for row in MODEL_PRECISIONS if not row.exact)
OPTIONAL = frozenset(row.name for row in MODEL_PRECISIONS if row.optional)


def graphs_of(engine: str) -> tuple[ModelPrecision, ...]:
    """The models of which engines of a precision may be made, the typed one first."""
    return tuple(sorted((row for row in MODEL_PRECISIONS if row.engine == engine), key=lambda row: not row.typed))


def required_capability(engine: str) -> tuple[int, int] | None:
    """The lowest compute capability that engines of a precision need; None where there is none."""
    return next((row.capability for row in graphs_of(engine) if row.capability), None)

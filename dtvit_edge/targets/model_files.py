"""Which of the model files a stack would use for each precision, and why the others not; as `build` chooses."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from dtvit_edge.bundle import MODEL_FILES, NOT_HERE
from dtvit_edge.errors import BuildError
from dtvit_edge.precisions import BY_NAME, CALIBRATE, CPU_PRECISIONS, DEVICE_PRECISIONS, REFERENCE_PRECISION, TRIMMED
from dtvit_edge.targets.facts import Finding, GraphFacts, NotKnown
from dtvit_edge.targets.table import Stack
from dtvit_edge.trt.releases import command_for, dotted

# What may become of a file. `absent`: it would be used, and this copy of the bundle lacks it. `not_known`: the manifest
# lacks the facts to say.
USED, ABSENT, MISSING = "used", "absent", "missing"
PASSED_OVER, REFUSED, NOT_KNOWN = "passed_over", "refused", "not_known"


@dataclass(frozen=True)
class FileCompatibility:
    """One of the files on one stack.

    Attributes:
        key: of `bundle.MODEL_FILES`.
        state: used, absent or missing (it would be used; another copy of the bundle has it, or none yet), passed_over
            (not refused, but another serves), refused or not_known.
        precisions: what it is used for or, if it is missing, would be.
        why: in words.
        command: makes a missing file.
    """

    key: str
    file: str
    state: str
    precisions: tuple[str, ...]
    why: str
    command: str = ""


def serving_key(stack: Stack, precision: str) -> str | None:
    """The file that a stack takes for a precision, there or not; None where it has none."""
    if stack.tensorrt is None:
        return precision if precision in CPU_PRECISIONS else None
    try:
        return stack.tensorrt.graph_for(precision)
    except BuildError:
        return None


def file_compatibilities(facts: GraphFacts, stack: Stack) -> tuple[FileCompatibility, ...]:
    """The files in the order of `bundle.MODEL_FILES`; trimmed ones only where the bundle is of such a model."""
    trims = facts.has(TRIMMED[REFERENCE_PRECISION])
    return tuple(_compatibility(key, facts, stack) for key in MODEL_FILES if trims or BY_NAME[key].trims is None)


def refusal(key: str, facts: GraphFacts, stack: Stack) -> Finding | None:
    """Why a stack cannot run a file; None where nothing speaks against it. May raise `NotKnown`."""
    for rule in FILE_RULES:
        sentence = rule(key, facts, stack)
        if sentence:
            return Finding("refuses", rule.__name__.strip("_"), f"{MODEL_FILES[key]}: {sentence}.")
    return None


def _compatibility(key: str, facts: GraphFacts, stack: Stack) -> FileCompatibility:
    serves = tuple(p for p in DEVICE_PRECISIONS if serving_key(stack, p) == key)
    try:
        refused = refusal(key, facts, stack)
    except NotKnown as absence:
        return FileCompatibility(key, MODEL_FILES[key], NOT_KNOWN, serves, str(absence))
    if refused:
        why = refused.sentence.removeprefix(f"{MODEL_FILES[key]}: ").rstrip(".")
        return FileCompatibility(key, MODEL_FILES[key], REFUSED, (), why)
    if not serves:
        return FileCompatibility(key, MODEL_FILES[key], PASSED_OVER, (), _passed_over(key, stack))
    if not facts.has(key):
        return FileCompatibility(
            key, MODEL_FILES[key], MISSING, serves, "not in this bundle yet", command_for(key, shlex.quote(facts.path))
        )
    how = _how(key, facts, stack, serves)
    if not facts.here(key):
        return FileCompatibility(key, MODEL_FILES[key], ABSENT, serves, f"{how}; {NOT_HERE}")
    return FileCompatibility(key, MODEL_FILES[key], USED, serves, how)


def _how(key: str, facts: GraphFacts, stack: Stack, serves: tuple[str, ...]) -> str:
    opset = f"opset {facts.opset(key)}"
    if stack.tensorrt is None:
        return opset
    opset += f" of at most {stack.tensorrt.max_opset}"
    flags = stack.tensorrt.builder_flags(serves[-1])
    if stack.tensorrt.typed:
        return f"{opset}; strongly typed"
    return f"{opset}; {serves[-1]} by builder flags: {', '.join(flags)}" if flags else opset


def _passed_over(key: str, stack: Stack) -> str:
    if key == "fp32-op16":
        return "model.fp32.onnx serves; LayerNormalization is one op here"
    if key == "fp32":
        return "model.fp32-op16.onnx serves"
    if key == "fp16":
        return "its types bind a strongly typed build alone, from TensorRT 10.0 on; here FP16 is a builder flag"
    if stack.tensorrt and stack.tensorrt.typed:
        return "model.int8-fp16.onnx serves: the same integers, the rest in FP16"
    return "int8 is built from TensorRT 8.6 on"


def _opset(key: str, facts: GraphFacts, stack: Stack) -> str:
    if stack.tensorrt and facts.opset(key) > stack.tensorrt.max_opset:
        return f"opset {facts.opset(key)}; {stack.tensorrt.title} reads up to {stack.tensorrt.max_opset}"
    return ""


def _fp16_scales(key: str, facts: GraphFacts, stack: Stack) -> str:
    if not BY_NAME[key].typed or BY_NAME[key].made_by != CALIBRATE or stack.tensorrt is None:
        return ""
    if not stack.tensorrt.typed:
        return "Q/DQ with FP16 scales needs opset 19 and TensorRT 10"
    return f"Q/DQ with FP16 scales needs opset 19, the file has {facts.opset(key)}" if facts.opset(key) < 19 else ""


def _capability(key: str, facts: GraphFacts, stack: Stack) -> str:
    least = BY_NAME[key].capability
    if least is None or stack.tensorrt is None or not stack.sm or max(stack.sm) >= least:
        return ""
    return f"{key.upper()} needs SM {dotted(least)} or newer, here it is {', '.join(map(dotted, stack.sm))}"


def _layer_norm(key: str, facts: GraphFacts, stack: Stack) -> str:
    if stack.tensorrt is None or stack.tensorrt.has_normalization_layer:
        return ""
    count = facts.operators(key).get("LayerNormalization", 0)
    return f"{count} LayerNormalization, an op that TensorRT has from 8.6 on" if count else ""


def _cpu_types(key: str, facts: GraphFacts, stack: Stack) -> str:
    if stack.tensorrt is None and key not in CPU_PRECISIONS:
        return "a graph typed as FP16 is slower on a CPU than PyTorch; no CPU backend gets one"
    return ""


def _lengths(key: str, facts: GraphFacts, stack: Stack) -> str:
    whole = BY_NAME[key].trims
    if stack.tensorrt is None or whole is None:
        return ""
    return f"it is for CPUs alone: how many patches are left differs by slice; {MODEL_FILES[whole]} has all"


# Each gives words where the stack cannot run the file; the first that does is told, under its own name.
FILE_RULES = (_cpu_types, _lengths, _capability, _fp16_scales, _opset, _layer_norm)

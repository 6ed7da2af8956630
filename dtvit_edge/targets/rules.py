"""The rules: what a stack does with a bundle's graphs. Each is small, takes (facts, stack) and gives findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dtvit_edge.bundle import MODEL_FILES
from dtvit_edge.precisions import MODEL_PRECISIONS
from dtvit_edge.targets import dla
from dtvit_edge.targets.facts import SEVERITIES, Finding, GraphFacts, NotKnown
from dtvit_edge.targets.model_files import refusal, serving_key
from dtvit_edge.targets.table import PYTHON_FLOOR, QKV_BUG, Stack
from dtvit_edge.trt.releases import PRECISIONS, dotted

Rule = Callable[[GraphFacts, Stack], Iterator[Finding]]

# Fused INT8 attention, from TensorRT's documentation of multi-head attention fusion.
_HEAD_SIZES, _MOST_TOKENS = (16, 32, 64), 512


def findings(facts: GraphFacts, stack: Stack) -> tuple[Finding, ...]:
    """What every rule says, worst first; a fact that a rule lacks becomes a finding of its own."""
    all_findings: list[Finding] = []
    for rule in RULES:
        try:
            all_findings += rule(facts, stack)
        except NotKnown as absence:
            all_findings.append(absence.finding)
    return tuple(sorted(dict.fromkeys(all_findings), key=lambda f: SEVERITIES.index(f.severity)))


def _runtime(facts: GraphFacts, stack: Stack) -> Iterator[Finding]:
    if stack.python and stack.python < PYTHON_FLOOR:
        yield Finding(
            "refuses",
            "runtime",
            f"Python {dotted(stack.python)} is too old for this runtime, which needs {dotted(PYTHON_FLOOR)}: build "
            "with trtexec (in /usr/src/tensorrt/bin), from where the bundle's folder lies, and compare the engine with "
            "golden/ in a program of your own.",
        )


def _files(facts: GraphFacts, stack: Stack) -> Iterator[Finding]:
    for key in MODEL_FILES:
        if facts.has(key):
            try:
                refused = refusal(key, facts, stack)
            except NotKnown as absence:
                refused = absence.finding
            if refused:
                yield refused


def _precisions(facts: GraphFacts, stack: Stack) -> Iterator[Finding]:
    for precision in PRECISIONS:
        if serving_key(stack, precision) is None:
            yield Finding("refuses", "precision", f"{precision} is not to be had: no file of a bundle gives it.")


def _layer_norm(facts: GraphFacts, stack: Stack) -> Iterator[Finding]:
    count = facts.layer_norms()
    if not count:
        yield Finding("ok", "layer_norm", "The graph has no LayerNormalization.")
    elif stack.tensorrt is None:
        yield Finding("ok", "layer_norm", f"LayerNormalization is one op ({count} of them).")
    elif not stack.tensorrt.has_normalization_layer:
        yield Finding(
            "decomposes",
            "layer_norm",
            f"LayerNormalization is no op here: model.fp32-op16.onnx has each of the {count} in parts. In FP16 their "
            "squares overflow (19 % top-1 instead of 85 on ViT-B; TensorRT#2564), so FP16 needs every part held to "
            "FP32, in precision and in output type.",
        )
    elif stack.tensorrt.typed:
        yield Finding(
            "ok",
            "layer_norm",
            f"LayerNormalization is one op ({count} of them); model.fp16.onnx keeps them, softmax and the heads' "
            "last layer in FP32.",
        )
    else:
        yield Finding(
            "ok",
            "layer_norm",
            f"LayerNormalization is one op ({count} of them) that computes in FP32 with the FP16 flag too; `build` "
            "holds nothing else there, because one layer held to FP32 takes the whole transformer with it.",
        )


def _quantization(facts: GraphFacts, stack: Stack) -> Iterator[Finding]:
    key = serving_key(stack, "int8")
    if key is None or not facts.has(key):
        return
    placement = facts.placement(key)
    share = f"{placement.quantized} of {placement.products} weight products are quantised"
    if placement.beyond_inputs:
        yield Finding(
            "not_fused",
            "qdq",
            f"{share}, with {placement.activations} Q/DQ pairs on activations: {placement.beyond_inputs} of them sit "
            "on outputs or on products of two activations, where they cost accuracy and can keep layers unfused.",
        )
    else:
        yield Finding(
            "ok",
            "qdq",
            f"{share}, with {placement.activations} Q/DQ pairs on activations: one for each product's input at "
            "most, so none is left for outputs or for products of two activations.",
        )


def _capability(facts: GraphFacts, stack: Stack) -> Iterator[Finding]:
    for row in MODEL_PRECISIONS:
        if row.capability is None or not facts.has(row.name) or refusal(row.name, facts, stack):
            continue
        older = [dotted(sm) for sm in stack.sm if sm < row.capability]
        if older or not stack.sm:
            without = f"; SM {', '.join(older)} have none" if older else ""
            yield Finding(
                "note", "capability", f"{row.name.upper()} needs SM {dotted(row.capability)} or newer{without}."
            )


def _int8_attention(facts: GraphFacts, stack: Stack) -> Iterator[Finding]:
    if stack.tensorrt is None:
        return
    attention = facts.attention()
    if attention is None:
        yield Finding("ok", "int8_attention", "The encoder is no ViT: there is no attention to fuse.")
        return
    if not stack.fused_attention:
        yield Finding("not_fused", "int8_attention", f"{stack.tensorrt.title} fuses no attention on Orin.")
        return
    head, tokens = attention["head_size"], attention["tokens"]
    shape = f"head size {head}, {tokens} tokens"
    if head not in _HEAD_SIZES or tokens > _MOST_TOKENS:
        yield Finding(
            "not_fused",
            "int8_attention",
            f"Fused INT8 attention needs head size 16, 32 or 64 and at most {_MOST_TOKENS} tokens; here it is {shape}.",
        )
        return
    key = serving_key(stack, "int8")
    if key and facts.has(key) and facts.placement(key).beyond_inputs:
        yield Finding(
            "note",
            "int8_attention",
            f"Fused INT8 attention is possible ({shape}, SM 7.5 or newer) if Q/DQ sits before the first product of two "
            "activations, after softmax and after the second; TensorRT may still refuse. Read the engine's layers.",
        )
        return
    yield Finding(
        "not_fused",
        "int8_attention",
        f"The shape would allow fused INT8 attention ({shape}, SM 7.5 or newer), but Q/DQ on inputs and weights of "
        "weight products does not ask for it: softmax and the products of two activations stay in floating point.",
    )


def _bugs(facts: GraphFacts, stack: Stack) -> Iterator[Finding]:
    for sentence in stack.bugs:
        yield Finding("note", "known_bug", sentence)
    if QKV_BUG in stack.bugs and facts.attention():
        apart = ", except in the last block, which computes its q apart" if facts.split_qkv() else ""
        yield Finding("note", "qkv", f"The graph has q, k and v as one product, which is the safer form{apart}.")


def _memory(facts: GraphFacts, stack: Stack) -> Iterator[Finding]:
    if stack.tensorrt is None:
        return
    key = serving_key(stack, "fp32") or "fp32"
    sentence = f"The weights of {MODEL_FILES[key]} are {facts.weights_mib(key):.0f} MiB; what the builder takes beyond "
    sentence += "them is not known before it runs."
    if stack.jetson:
        sentence += " The GPU shares the system's memory, and Jetson builds run out of it (TensorRT#3355): stop what "
        sentence += "else runs."
    yield Finding("note", "memory", sentence)


# The one table of rules.
RULES: tuple[Rule, ...] = (
    _runtime,
    _files,
    _precisions,
    _layer_norm,
    _quantization,
    _capability,
    _int8_attention,
    _bugs,
    dla.rule,
    _memory,
)

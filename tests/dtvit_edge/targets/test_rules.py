"""Each rule, on facts made by hand: what it says, and that it says something else where the facts are others."""

from __future__ import annotations

from typing import Any

import pytest

from dtvit_edge.targets.facts import SEVERITIES, Finding, GraphFacts
from dtvit_edge.targets.rules import findings
from tests.support.target_cases import (
    CPU,
    EVERY_STACK,
    JP5,
    JP60,
    JP61,
    JP70,
    JP72,
    JP722,
    RTX_PC,
    TRT11,
    complete,
    decomposed,
    quantized,
    stack,
    vit,
)


def findings_about(facts: GraphFacts, name: str, code: str) -> list[Finding]:
    return [finding for finding in findings(facts, stack(name)) if finding.code == code]


def one(facts: GraphFacts, name: str, code: str) -> Finding:
    (finding,) = findings_about(facts, name, code)
    return finding


@pytest.mark.parametrize("name", EVERY_STACK)
def test_findings_are_sentences_worst_first_and_each_once(name: str) -> None:
    every = findings(complete(), stack(name))
    assert [SEVERITIES.index(f.severity) for f in every] == sorted(SEVERITIES.index(f.severity) for f in every)
    assert len(set(every)) == len(every)
    assert all(f.sentence.endswith(".") and f.code for f in every)
    assert not [f for f in every if f.code == "not_known"]


@pytest.mark.parametrize(("name", "refused"), [(JP5, True), (JP60, False), (TRT11, False)])
def test_python_3_8_is_too_old_for_the_runtime(name: str, refused: bool) -> None:
    told = findings_about(complete(), name, "runtime")
    assert bool(told) == refused
    assert all(f.severity == "refuses" and "trtexec" in f.sentence for f in told)


@pytest.mark.parametrize(
    ("name", "precision"), [(JP5, ["int8", "fp8"]), (JP60, ["fp8"]), (JP61, []), (RTX_PC, []), (CPU, ["fp16", "fp8"])]
)
def test_a_precision_that_no_file_gives_is_said(name: str, precision: list[str]) -> None:
    assert [f.sentence.split()[0] for f in findings_about(complete(), name, "precision")] == precision


@pytest.mark.parametrize(
    ("name", "severity", "words"),
    [
        (JP5, "decomposes", "held to FP32, in precision and in output type"),
        (JP60, "ok", "with the FP16 flag"),
        (JP61, "ok", "model.fp16.onnx keeps them"),
        (RTX_PC, "ok", "model.fp16.onnx keeps them"),
        (CPU, "ok", "one op (25 of them)"),
    ],
)
def test_layer_norm_is_one_op_or_decomposed(name: str, severity: str, words: str) -> None:
    told = [f for f in findings_about(complete(), name, "layer_norm") if f.severity != "refuses"]
    assert [(f.severity, words in f.sentence, "25" in f.sentence) for f in told] == [(severity, True, True)]


def test_layer_norms_are_counted_from_the_older_file_where_it_is_the_only_one() -> None:
    facts = complete(fp32=None, fp16=None, int8=None, int8_fp16=None)
    assert "each of the 25" in one(facts, JP5, "layer_norm").sentence


def test_a_graph_without_layer_norm_is_told_so() -> None:
    facts = complete(fp32=vit(operators={"Conv": 20}, attention=None))
    assert one(facts, JP61, "layer_norm").sentence == "The graph has no LayerNormalization."


@pytest.mark.parametrize("weights_as_integers", [True, False], ids=["integers", "quantised in the graph"])
def test_qdq_on_inputs_and_weights_is_as_it_should_be(weights_as_integers: bool) -> None:
    facts = complete(int8_fp16=quantized(weights_as_integers=weights_as_integers, opset=19))
    finding = one(facts, JP61, "qdq")
    assert finding.severity == "ok"
    assert finding.sentence.startswith("49 of 54 weight products are quantised, with 49 Q/DQ pairs on activations")


@pytest.mark.parametrize("weights_as_integers", [True, False], ids=["integers", "quantised in the graph"])
def test_qdq_beyond_the_inputs_of_weight_products_is_found(weights_as_integers: bool) -> None:
    facts = complete(int8_fp16=quantized(85, weights_as_integers=weights_as_integers, opset=19))
    finding = one(facts, JP61, "qdq")
    assert finding.severity == "not_fused"
    assert (
        "85 Q/DQ pairs on activations: 36 of them sit on outputs or on products of two activations" in finding.sentence
    )


def test_qdq_is_judged_in_the_file_that_the_stack_would_use() -> None:
    facts = complete(int8=quantized(85))
    assert one(facts, JP60, "qdq").severity == "not_fused"
    assert one(facts, JP61, "qdq").severity == "ok"
    assert not findings_about(facts, JP5, "qdq")
    assert not findings_about(complete(int8_fp16=None), JP61, "qdq")


@pytest.mark.parametrize(
    ("attention", "words"),
    [
        ({"head_size": 64, "tokens": 197}, "does not ask for it"),
        ({"head_size": 16, "tokens": 512}, "does not ask for it"),
        ({"head_size": 80, "tokens": 197}, "head size 80"),
        ({"head_size": 64, "tokens": 577}, "577 tokens"),
    ],
)
def test_int8_attention_is_not_fused_and_why(attention: dict[str, int], words: str) -> None:
    finding = one(complete(fp32=vit(attention=attention)), JP61, "int8_attention")
    assert (finding.severity, words in finding.sentence) == ("not_fused", True)
    assert ("needs head size" in finding.sentence) == (words != "does not ask for it")


def test_fp8_is_for_the_newer_gpus_of_a_target_alone() -> None:
    assert one(complete(), RTX_PC, "capability").sentence == "FP8 needs SM 8.9 or newer; SM 7.5, 8.0, 8.6 have none."
    assert one(complete(), JP72, "capability").sentence == "FP8 needs SM 8.9 or newer; SM 8.7 have none."
    assert one(complete(), TRT11, "capability").sentence == "FP8 needs SM 8.9 or newer."
    assert one(complete(), JP61, "capability").severity == "refuses"
    assert not findings_about(complete(), JP70, "capability")  # Thor alone
    assert not findings_about(complete(fp8=None), RTX_PC, "capability")


def test_int8_attention_elsewhere() -> None:
    assert one(complete(), JP5, "int8_attention").sentence == "TensorRT 8.5.2 fuses no attention on Orin."
    assert one(complete(fp32=vit(attention=None)), JP61, "int8_attention").severity == "ok"
    assert one(complete(int8_fp16=quantized(85, opset=19)), JP61, "int8_attention").severity == "note"
    assert not findings_about(complete(), CPU, "int8_attention")


def test_jetpack_7_0_miscompiles_at_batch_1() -> None:
    bug = one(complete(), JP70, "known_bug")
    assert "TensorRT-Edge-LLM#105" in bug.sentence
    assert "self-test at batch 1 and at the largest" in bug.sentence
    assert "except in the last block" in one(complete(), JP70, "qkv").sentence
    whole = vit(rewrites={"class_token_last_block": {"applied": False, "why": "switched off"}})
    assert "last block" not in one(complete(fp32=whole), JP70, "qkv").sentence
    for name in (JP60, JP72, TRT11):
        assert not findings_about(complete(), name, "qkv")


def test_dla_lists_what_falls_back_to_the_gpu() -> None:
    sentence = one(complete(), JP60, "dla").sentence
    assert "could take Add, Conv, Gemm, MatMul with a weight, Reshape, Softmax;" in sentence
    assert "would fall Erf (14), LayerNormalization (25) and the 24 MatMul of two activations" in sentence
    assert "not known: Cast, Shape." in sentence
    assert "Sqrt (25)" in one(complete(), JP5, "dla").sentence


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (JP61, "for TensorRT 10.3.0 not known"),
        (JP70, "No DLA: Jetson Thor has no DLA."),
        (JP72, "10.7 was the last"),
        (JP722, "DLA (AGX Orin) could take"),
    ],
)
def test_dla_differs_between_releases(name: str, words: str) -> None:
    assert words in one(complete(), name, "dla").sentence


@pytest.mark.parametrize("name", [RTX_PC, TRT11, CPU])
def test_no_dla_is_spoken_of_where_there_is_no_jetson(name: str) -> None:
    assert not findings_about(complete(), name, "dla")


def test_memory_is_that_of_the_file_which_is_used() -> None:
    facts = complete(fp32_op16=decomposed(initializer_bytes=330 * 2**20))
    assert "model.fp32-op16.onnx are 330 MiB" in one(facts, JP5, "memory").sentence
    assert "TensorRT#3355" in one(facts, JP5, "memory").sentence
    assert "model.fp32.onnx are 22 MiB" in one(facts, RTX_PC, "memory").sentence
    assert "TensorRT#3355" not in one(facts, RTX_PC, "memory").sentence


ABSENT: list[dict[str, Any]] = [
    {},
    {"opset": 17},
    {
        "opset": "17",
        "operators": ["Add"],
        "inputs": 3,
        "attention": {"heads": 3},
        "weight_products": {"MatMul": "many"},
    },
    {"opset": 17, "operators": {"Add": 1}, "inputs": {"image": {}}, "attention": None, "initializer_bytes": None},
]


@pytest.mark.parametrize("name", EVERY_STACK)
@pytest.mark.parametrize("facts", ABSENT, ids=["none", "opset alone", "other types", "other names"])
def test_absent_facts_are_findings_and_never_a_crash(facts: dict[str, Any], name: str) -> None:
    bundle = GraphFacts("old.dtvit", {"fp32": facts, "int8": facts, "int8-fp16": facts})
    every = findings(bundle, stack(name))
    told = [f for f in every if f.code == "not_known"]
    assert told
    assert all(f.severity == "note" and f.sentence.startswith("not known: ") for f in told)

"""Which file serves which precision, as a user reads it in the table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dtvit_edge.bundle import MODEL_FILES
from dtvit_edge.errors import BuildError
from dtvit_edge.precisions import TRIMMED
from dtvit_edge.targets.facts import GraphFacts
from dtvit_edge.targets.model_files import FileCompatibility, file_compatibilities, serving_key
from dtvit_edge.trt.releases import PRECISIONS
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

TYPED = {"fp32": "fp32", "fp16": "fp16", "int8": "int8-fp16"}
WITH_FP8 = TYPED | {"fp8": "fp8"}


def by_key(facts: GraphFacts, name: str) -> dict[str, FileCompatibility]:
    return {file.key: file for file in file_compatibilities(facts, stack(name))}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (JP5, {"fp32": "fp32-op16", "fp16": "fp32-op16"}),
        (JP60, {"fp32": "fp32", "fp16": "fp32", "int8": "int8"}),
        (JP61, TYPED),
        *((name, WITH_FP8) for name in (JP70, JP72, JP722, RTX_PC, TRT11)),
        (CPU, {"fp32": "fp32", "int8": "int8"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_complete_bundle_gives_each_precision_its_file(name: str, expected: dict[str, str]) -> None:
    key_by_precision = {
        p: v.key for v in file_compatibilities(complete(), stack(name)) if v.state == "used" for p in v.precisions
    }
    assert key_by_precision == expected


@pytest.mark.parametrize("name", EVERY_STACK)
def test_every_file_has_a_verdict_and_a_reason(name: str) -> None:
    files = file_compatibilities(complete(), stack(name))
    assert [v.key for v in files] == [k for k in MODEL_FILES if k not in TRIMMED.values()]
    assert all(v.why and not v.command for v in files)
    assert all(bool(v.precisions) == (v.state == "used") for v in files)


@pytest.mark.parametrize("name", EVERY_STACK)
def test_files_without_empty_patches_are_for_cpus_alone(name: str) -> None:
    files = by_key(complete(fp32_trimmed=vit(), int8_trimmed=quantized()), name)
    for key in TRIMMED.values():
        assert files[key].state == ("used" if name == CPU else "refused")
        assert files[key].precisions == ((key,) if name == CPU else ())
        assert name == CPU or "it is for CPUs alone" in files[key].why
    missing = by_key(complete(fp32_trimmed=vit()), CPU)["int8-trimmed"]
    assert (missing.state, missing.command) == ("missing", "dtvit-edge calibrate model.dtvit --slices DIR")


@pytest.mark.parametrize("name", EVERY_STACK)
def test_the_choice_is_that_of_build(name: str) -> None:
    release = stack(name).tensorrt
    for precision in PRECISIONS if release else ():
        try:
            expected = release.graph_for(precision) if release else None
        except BuildError:
            expected = None
        assert serving_key(stack(name), precision) == expected


@pytest.mark.parametrize(
    ("name", "key", "why"),
    [
        (JP5, "fp32", "25 LayerNormalization, an op that TensorRT has from 8.6 on"),
        (JP5, "int8", "25 LayerNormalization, an op that TensorRT has from 8.6 on"),
        (JP5, "int8-fp16", "Q/DQ with FP16 scales needs opset 19 and TensorRT 10"),
        (JP60, "int8-fp16", "Q/DQ with FP16 scales needs opset 19 and TensorRT 10"),
        (CPU, "fp16", "slower on a CPU than PyTorch"),
        (CPU, "int8-fp16", "slower on a CPU than PyTorch"),
        (JP60, "fp8", "FP8 needs SM 8.9 or newer, here it is 8.7"),
        (JP61, "fp8", "FP8 needs SM 8.9 or newer, here it is 8.7"),
        (CPU, "fp8", "slower on a CPU than PyTorch"),
    ],
)
def test_a_refused_file_says_why(name: str, key: str, why: str) -> None:
    file = by_key(complete(), name)[key]
    assert file.state == "refused"
    assert why in file.why


def test_what_a_target_refuses_is_not_asked_for_even_where_it_is_missing() -> None:
    missing = complete(int8=None, int8_fp16=None)
    assert {k: v.state for k, v in by_key(missing, JP5).items() if k.startswith("int8")} == {
        "int8": "refused",
        "int8-fp16": "refused",
    }


@pytest.mark.parametrize(("name", "key"), [(JP60, "int8"), (JP61, "int8-fp16"), (RTX_PC, "int8-fp16"), (CPU, "int8")])
def test_a_missing_file_that_would_serve_is_named_with_the_command_that_makes_it(name: str, key: str) -> None:
    files = by_key(complete(int8=None, int8_fp16=None), name)
    assert [k for k, v in files.items() if v.state == "missing"] == [key]
    assert files[key].precisions == ("int8",)
    assert files[key].command == "dtvit-edge calibrate model.dtvit --slices DIR"
    fp16 = by_key(complete(fp16=None), JP61)["fp16"]
    assert (fp16.state, fp16.command) == ("missing", "dtvit-edge export WEIGHTS -o model.dtvit")


def test_a_file_that_this_copy_lacks_is_absent_where_it_would_be_used_and_no_other_takes_its_place() -> None:
    thin = replace(complete(), absent=("fp32", "int8"))
    files = by_key(thin, JP60)
    assert {k: v.state for k, v in files.items() if v.precisions} == {"fp32": "absent", "int8": "absent"}
    assert files["fp32"].precisions == ("fp32", "fp16")
    assert files["int8"].why.endswith("; not in this copy of the bundle; to be copied from the workstation's")
    assert not files["int8"].command
    assert {k: v.state for k, v in by_key(thin, JP61).items() if v.precisions} == {
        "fp32": "absent",
        "fp16": "used",
        "int8-fp16": "used",
    }


@pytest.mark.parametrize(("opset", "state"), [(17, "used"), (18, "refused")])
def test_an_opset_above_what_the_parser_reads_is_refused(opset: int, state: str) -> None:
    file = by_key(complete(fp32=vit(opset=opset)), JP60)["fp32"]
    assert file.state == state
    assert opset == 17 or file.why == "opset 18; TensorRT 8.6.2 reads up to 17"


@pytest.mark.parametrize(("name", "highest"), [(JP5, 17), (JP60, 17), (JP61, 20), (JP70, 20), (JP72, 24), (TRT11, 24)])
def test_each_stack_has_its_highest_opset(name: str, highest: int) -> None:
    key = "fp32-op16" if name == JP5 else "fp32"
    for opset, state in ((highest, "used"), (highest + 1, "refused")):
        facts = complete(**{key.replace("-", "_"): (decomposed if name == JP5 else vit)(opset=opset)})
        assert by_key(facts, name)[key].state == state


def test_fp16_scales_below_opset_19_are_refused_everywhere() -> None:
    for name in (JP61, RTX_PC, TRT11):
        file = by_key(complete(int8_fp16=quantized(opset=17)), name)["int8-fp16"]
        assert (file.state, file.why) == ("refused", "Q/DQ with FP16 scales needs opset 19, the file has 17")


def test_without_layer_norm_only_the_older_file_serves_jetpack_5_and_nothing_is_refused_for_it() -> None:
    plain = vit(operators={"Conv": 20, "Gemm": 4, "Relu": 17}, attention=None)
    files = by_key(complete(fp32=plain, fp32_op16=plain | {"opset": 16}, fp16=plain, int8=plain), JP5)
    assert {k: v.state for k, v in files.items()} == {
        "fp32": "passed_over",
        "fp32-op16": "used",
        "fp16": "passed_over",
        "int8": "passed_over",
        "int8-fp16": "refused",
        "fp8": "refused",
    }


def test_a_file_without_facts_is_not_known_rather_than_refused() -> None:
    file = by_key(complete(fp32={}), JP61)["fp32"]
    assert file.state == "not_known"
    assert file.why == ("not known: opset of model.fp32.onnx (the manifest does not say it; export the model anew)")

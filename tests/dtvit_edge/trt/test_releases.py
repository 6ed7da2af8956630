from __future__ import annotations

import pytest

from dtvit_edge.bundle import MODEL_FILES, FileRecord
from dtvit_edge.errors import BuildError
from dtvit_edge.trt.releases import RTX, TENSORRT, Release, parse_version


def release(text: str) -> Release:
    return Release(RTX, text.removeprefix("rtx ")) if text.startswith("rtx ") else Release(TENSORRT, text)


def models(**opsets: int) -> dict[str, FileRecord]:
    return {
        k.replace("_", "-"): FileRecord(MODEL_FILES[k.replace("_", "-")], "", 0, {"opset": n})
        for k, n in opsets.items()
    }


def test_versions_are_numbers_and_not_text() -> None:
    assert parse_version("10.3.0") > parse_version("8.6.1.post1") == (8, 6, 1)
    assert release("10.13.3.9").max_opset < release("10.15.1").max_opset
    with pytest.raises(BuildError, match="no version"):
        parse_version("unknown")


@pytest.mark.parametrize(
    ("version", "fp32", "fp16", "int8", "max_opset"),
    [
        ("8.5.3.1", "fp32-op16", "fp32-op16", None, 17),
        ("8.6.2", "fp32", "fp32", "int8", 17),
        ("9.3.0", "fp32", "fp32", "int8", 19),
        ("10.3.0", "fp32", "fp16", "int8-fp16", 20),
        ("10.13.3.9", "fp32", "fp16", "int8-fp16", 20),
        ("10.16.2", "fp32", "fp16", "int8-fp16", 24),
        ("11.4.1", "fp32", "fp16", "int8-fp16", 24),
        ("rtx 1.7.1.116", "fp32", "fp16", "int8-fp16", 20),
    ],
)
def test_each_release_takes_its_file(version: str, fp32: str, fp16: str, int8: str | None, max_opset: int) -> None:
    tensorrt = release(version)
    assert (tensorrt.graph_for("fp32"), tensorrt.graph_for("fp16"), tensorrt.max_opset) == (
        fp32,
        fp16,
        max_opset,
    )
    if int8 is None:
        with pytest.raises(BuildError, match=r"int8 needs 8\.6"):
            tensorrt.graph_for("int8")
    else:
        assert tensorrt.graph_for("int8") == int8
    if tensorrt.typed:
        assert tensorrt.graph_for("fp8") == "fp8"
    else:
        with pytest.raises(BuildError, match="reads no FP8 graph; TensorRT 10 and newer"):
            tensorrt.graph_for("fp8")


@pytest.mark.parametrize(
    ("version", "creation", "fp16", "int8"),
    [
        (
            "8.5.2",
            ("EXPLICIT_BATCH",),
            ("FP16", "OBEY_PRECISION_CONSTRAINTS"),
            ("INT8", "FP16", "OBEY_PRECISION_CONSTRAINTS"),
        ),
        ("8.6.2", ("EXPLICIT_BATCH",), ("FP16",), ("INT8", "FP16")),
        ("10.3.0", ("STRONGLY_TYPED",), (), ()),
        ("11.4.1", (), (), ()),
        ("rtx 1.7.1.116", (), (), ()),
    ],
)
def test_flags_are_those_that_a_release_has(
    version: str, creation: tuple[str, ...], fp16: tuple[str, ...], int8: tuple[str, ...]
) -> None:
    tensorrt = release(version)
    assert tensorrt.creation_flags == creation
    assert (
        tensorrt.builder_flags("fp32"),
        tensorrt.builder_flags("fp16"),
        tensorrt.builder_flags("int8"),
    ) == ((), fp16, int8)


def test_what_is_older_than_8_5_is_refused() -> None:
    with pytest.raises(BuildError, match=r"TensorRT 8\.4\.3 is too old: 8\.5"):
        Release(TENSORRT, "8.4.3")


@pytest.mark.parametrize(
    ("version", "graph", "models", "message"),
    [
        ("8.6.2", "fp32", models(fp32=18), r"model\.fp32\.onnx is ONNX opset 18; TensorRT 8\.6\.2 reads up to 17"),
        ("10.3.0", "fp16", models(fp32=17), r"needs the bundle's fp16 model.*it has fp32.*dtvit-edge export"),
        ("8.6.2", "int8", models(fp32=17), r"needs the bundle's int8 model.*dtvit-edge calibrate"),
        ("rtx 1.7", "int8-fp16", models(int8_fp16=21), "opset 21; TensorRT for RTX 1.7 reads up to 20"),
    ],
)
def test_a_graph_that_is_missing_or_too_new_is_refused_in_words(
    version: str, graph: str, models: dict[str, FileRecord], message: str
) -> None:
    with pytest.raises(BuildError, match=message):
        release(version).check_graph(graph, models)


def test_a_manifest_that_does_not_say_the_opset_is_refused() -> None:
    with pytest.raises(BuildError, match="does not say the opset"):
        release("8.6.2").check_graph("fp32", {"fp32": FileRecord("model.fp32.onnx", "", 0)})

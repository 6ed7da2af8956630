"""The table of targets: versions are numbers, and each row says what `build` would find there."""

from __future__ import annotations

import pytest

from dtvit_edge.targets.table import PYTHON_FLOOR, TARGETS
from dtvit_edge.trt.releases import dotted

STACKS = [stack for target in TARGETS.values() for stack in target.stacks]


def test_the_targets_are_these() -> None:
    assert list(TARGETS) == ["jetpack5", "jetpack6", "jetpack7", "rtx", "trt11", "cpu"]
    assert all(target.name == name for name, target in TARGETS.items())


@pytest.mark.parametrize(
    ("target", "opsets"),
    [
        ("jetpack5", [17]),
        ("jetpack6", [17, 20]),
        ("jetpack7", [20, 24, 24]),
        ("trt11", [24]),
    ],
)
def test_each_stack_reads_up_to_this_opset(target: str, opsets: list[int]) -> None:
    highest = [stack.tensorrt.max_opset for stack in TARGETS[target].stacks if stack.tensorrt]
    assert highest == opsets


def test_versions_are_tuples_of_numbers() -> None:
    for stack in STACKS:
        for version in (stack.python, stack.cuda, *stack.sm):
            assert version is None or all(type(part) is int for part in version), stack.name


def test_only_jetpack_5_is_too_old_for_the_runtime() -> None:
    assert [s.name for s in STACKS if s.python and s.python < PYTHON_FLOOR] == ["JetPack 5.1"]


def test_a_jetson_without_dla_says_why() -> None:
    for stack in STACKS:
        assert not stack.jetson or bool(stack.dla) != bool(stack.no_dla), stack.name


def test_a_title_names_every_version() -> None:
    assert [s.title for s in TARGETS["jetpack6"].stacks] == [
        "JetPack 6.0: TensorRT 8.6.2, Python 3.10, CUDA 12.2, SM 8.7",
        "JetPack 6.1, 6.2: TensorRT 10.3.0, Python 3.10, CUDA 12.6, SM 8.7",
    ]
    assert TARGETS["cpu"].stacks[0].title == "ONNX Runtime and OpenVINO"
    assert dotted((8, 5, 2)) == "8.5.2"

"""Targets: which software each device brings, in one table.

What follows from a version of TensorRT is `trt.releases.Release`'s to say.
"""

from __future__ import annotations

from dataclasses import dataclass

from dtvit_edge.trt.releases import RTX, TENSORRT, Release, dotted

Version = tuple[int, ...]

PYTHON_FLOOR: Version = (3, 10)  # pydicom 3


@dataclass(frozen=True)
class Stack:
    """One set of software that a target may run.

    Attributes:
        tensorrt: None for the CPU backends.
        python, cuda: None where the target does not fix them.
        sm: compute capabilities of its GPUs.
        jetson: the GPU shares the system's memory.
        dla: modules whose DLA this TensorRT can use; empty for none, and then `no_dla` says why.
        fused_attention: False where attention is known not to be fused.
        bugs: what is known to be wrong there, in sentences.
        sources: where the row comes from.
    """

    name: str
    tensorrt: Release | None
    python: Version | None = None
    cuda: Version | None = None
    sm: tuple[Version, ...] = ()
    jetson: bool = False
    dla: str = ""
    no_dla: str = ""
    fused_attention: bool = True
    bugs: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The stack in one line: its versions and compute capabilities."""
        parts = [self.tensorrt.title] if self.tensorrt else []
        parts += [f"{name} {dotted(v)}" for name, v in (("Python", self.python), ("CUDA", self.cuda)) if v]
        if self.sm:
            parts.append("SM " + ", ".join(map(dotted, self.sm)))
        return f"{self.name}: {', '.join(parts)}" if parts else self.name


@dataclass(frozen=True)
class Target:
    """What `--target` names: one stack, or several of one family."""

    name: str
    stacks: tuple[Stack, ...]


QKV_BUG = (
    "TensorRT 10.13 of JetPack 7.0 and 7.1 miscompiles q/k/v where the largest batch is 1 (TensorRT-Edge-LLM#105, "
    "#151): build for a larger one, and self-test at batch 1 and at the largest."
)
_PIN_BUG = (
    "TensorRT 8.6: a layer held to FP32 takes the whole transformer to FP32 with it (TensorRT#4540; seen with 8.6.0 on "
    "an H200), so that none is held; FP16 then rounds more than in a typed graph, and the self-test may refuse the "
    "engine."
)
_DOCS = "https://docs.nvidia.com/deeplearning"
_DLA_PAGE = f"{_DOCS}/tensorrt/11.4.1/inference-library/work-with-dla.html"
_ORIN, _THOR, _XAVIER = (8, 7), (11, 0), (7, 2)
_ORIN_DLA = "AGX Orin and Orin NX"

_TARGETS = (
    Target(
        "jetpack5",
        (
            Stack(
                "JetPack 5.1",
                Release(TENSORRT, "8.5.2"),
                python=(3, 8),
                cuda=(11, 4),
                sm=(_XAVIER, _ORIN),
                jetson=True,
                dla=f"{_ORIN_DLA}, AGX Xavier and Xavier NX",
                fused_attention=False,
                sources=(
                    "https://developer.nvidia.com/embedded/jetpack-sdk-51",
                    "https://github.com/onnx/onnx-tensorrt/pull/879",
                ),
            ),
        ),
    ),
    Target(
        "jetpack6",
        (
            Stack(
                "JetPack 6.0",
                Release(TENSORRT, "8.6.2"),
                python=(3, 10),
                cuda=(12, 2),
                sm=(_ORIN,),
                jetson=True,
                dla=_ORIN_DLA,
                bugs=(_PIN_BUG,),
            ),
            Stack(
                "JetPack 6.1, 6.2",
                Release(TENSORRT, "10.3.0"),
                python=(3, 10),
                cuda=(12, 6),
                sm=(_ORIN,),
                jetson=True,
                dla=_ORIN_DLA,
                sources=("https://docs.pytorch.org/TensorRT/v2.6.1/getting_started/jetpack.html",),
            ),
        ),
    ),
    Target(
        "jetpack7",
        (
            Stack(
                "JetPack 7.0, 7.1",
                Release(TENSORRT, "10.13.3"),
                python=(3, 12),
                cuda=(13, 0),
                sm=(_THOR,),
                jetson=True,
                no_dla="Jetson Thor has no DLA.",
                bugs=(QKV_BUG,),
                sources=(_DLA_PAGE,),
            ),
            Stack(
                "JetPack 7.2",
                Release(TENSORRT, "10.16.2"),
                python=(3, 12),
                cuda=(13, 2),
                sm=(_ORIN, _THOR),
                jetson=True,
                no_dla="TensorRT 10.7 was the last 10.x that supports DLA; Jetson Thor has none.",
                sources=(_DLA_PAGE,),
            ),
            Stack(
                "JetPack 7.2.2",
                Release(TENSORRT, "11.4.1"),
                python=(3, 12),
                cuda=(13,),
                sm=(_ORIN, _THOR),
                jetson=True,
                dla="AGX Orin",
                sources=(f"{_DOCS}/tensorrt/latest/getting-started/release-notes-11/11.4.1.html",),
            ),
        ),
    ),
    Target(
        "rtx",
        (
            Stack(
                "RTX GPU, x86-64",
                Release(RTX, "1"),
                sm=((7, 5), (8, 0), (8, 6), (8, 9), (12, 0)),
                sources=(
                    f"{_DOCS}/tensorrt-rtx/latest/installing-tensorrt-rtx/onnx-conversion-deployment.html",
                    f"{_DOCS}/tensorrt-rtx/latest/getting-started/support-matrix-1/1.4.html",
                ),
            ),
        ),
    ),
    Target(
        "trt11",
        (
            Stack(
                "GPU from SM 7.5 on, Python 3.10 or newer",
                Release(TENSORRT, "11"),
                sources=(f"{_DOCS}/tensorrt/11.2.1/installing-tensorrt/prerequisites.html",),
            ),
        ),
    ),
    Target("cpu", (Stack("ONNX Runtime and OpenVINO", None),)),
)
TARGETS: dict[str, Target] = {target.name: target for target in _TARGETS}

"""PyTorch, eager and compiled, on the weights that the bundle was made from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.peers import Floats, Infer
from dtvit_edge.backend import Logits
from dtvit_edge.spec import OUTPUT_NAMES
from export.model import DTViT

COMPILERS = ("c++", "g++", "clang++", "cl")


def no_compiler() -> str | None:
    """Why torch.compile cannot run here: on a CPU it writes C++ and compiles that."""
    if any(shutil.which(name) for name in COMPILERS) or torch.cuda.is_available():
        return None
    return f"no C++ compiler ({', '.join(COMPILERS)}), which torch.compile needs on a CPU"


def eager(model: DTViT, threads: int | None = None) -> Infer:
    """The forward pass as it is.

    Args:
        threads: of PyTorch, in the whole process; None leaves them.
    """
    return _inference(model, threads)


def compiled(model: DTViT, threads: int | None = None) -> Infer:
    """`torch.compile` with its defaults; the first call of a batch size compiles."""
    return _inference(torch.compile(model), threads)


def _inference(model: Callable[..., Any], threads: int | None) -> Infer:
    if threads is not None:
        torch.set_num_threads(threads)

    def infer(floats: Floats) -> Logits:
        with torch.inference_mode():
            outputs = model(torch.from_numpy(floats))
        return {name: output.numpy() for name, output in zip(OUTPUT_NAMES, outputs, strict=True)}

    return infer

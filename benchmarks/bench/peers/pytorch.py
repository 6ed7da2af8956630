"""PyTorch, eager and compiled, on the weights that the bundle was made from."""

from __future__ import annotations

import shutil
from types import TracebackType
from typing import Any

import torch

from benchmarks.bench.peers import Floats
from dtvit_edge.backends.base import Logits
from dtvit_edge.spec import OUTPUT_NAMES
from export.model import DTViT

COMPILERS = ("c++", "g++", "clang++", "cl")


def no_compiler() -> str | None:
    """Why torch.compile cannot run here: on a CPU it writes C++ and compiles that."""
    if any(shutil.which(name) for name in COMPILERS) or torch.cuda.is_available():
        return None
    return f"no C++ compiler ({', '.join(COMPILERS)}), which torch.compile needs on a CPU"


class Eager:
    """The forward pass as it is.

    Args:
        threads: of PyTorch, in the whole process; None leaves them.
    """

    def __init__(self, model: DTViT, threads: int | None = None) -> None:
        self._model = model
        self._threads = threads
        self._call: Any = None

    def __enter__(self) -> Eager:
        if self._threads is not None:
            torch.set_num_threads(self._threads)
        self._call = self._prepared()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call = None

    def infer(self, floats: Floats) -> Logits:
        """See `ModelPeer.infer`."""
        with torch.inference_mode():
            outputs = self._call(torch.from_numpy(floats))
        return {name: output.numpy() for name, output in zip(OUTPUT_NAMES, outputs, strict=True)}

    def _prepared(self) -> Any:
        return self._model


class Compiled(Eager):
    """`torch.compile` with its defaults; the first call of a batch size compiles."""

    def _prepared(self) -> Any:
        return torch.compile(self._model)

"""The stand-in GPU, for what is measured on one."""

from __future__ import annotations

from tests.cuda.fixtures import kernel_library, make_gpu

__all__ = ["kernel_library", "make_gpu"]

"""A real backend behind one of the tests' own, which does something before each batch."""

from __future__ import annotations

from typing import Any


class WrappedBackend:
    """All of a backend's; a subclass overrides what it does otherwise."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __enter__(self) -> WrappedBackend:
        self.inner.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:
        self.inner.__exit__(*details)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def infer(self, pixels: Any) -> Any:
        return self.inner.infer(pixels)

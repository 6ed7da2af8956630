from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.selftest import selftest
from dtvit_edge.spec import LOCATION_OUTPUT, OUTPUT_NAMES


class Off:
    """Golden logits, off by so much on one slice."""

    name, precision, batch = "off", "fp32", 8

    def __init__(self, bundle: Bundle, error: float, outputs: tuple[str, ...] = OUTPUT_NAMES) -> None:
        self.pixels, self.golden = bundle.golden()
        self.error, self.outputs = error, outputs
        self.sizes: set[int] = set()

    def describe(self) -> dict[str, str]:
        return {"backend": "off", "version": "0"}

    def infer(self, pixels: Any) -> Any:
        self.sizes.add(len(pixels))
        index = [int(np.argmax([(p == q).all() for q in self.pixels])) for p in pixels]
        off = (np.array(index) == 8)[:, None]
        return {k: v[index] + np.float32(self.error) * off * (k in self.outputs) for k, v in self.golden.items()}


@pytest.mark.parametrize(("error", "passed"), [(0.0, True), (9e-6, True), (2e-5, False), (float("nan"), False)])
def test_one_slice_that_is_off_decides(tiny_bundle: Bundle, error: float, passed: bool) -> None:
    backend = Off(tiny_bundle, error)
    result = selftest(tiny_bundle, backend)  # type: ignore[arg-type]
    assert result.passed is passed
    assert backend.sizes == {1, 3, 8}
    assert result.slices == 9


def test_an_untrained_head_is_compared_all_the_same(tiny_bundle_without_location: Bundle) -> None:
    bundle = tiny_bundle_without_location
    for error, passed in ((0.0, True), (2e-5, False)):
        result = selftest(bundle, Off(bundle, error, (LOCATION_OUTPUT,)))  # type: ignore[arg-type]
        assert result.passed is passed

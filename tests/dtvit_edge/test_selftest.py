from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import VerdictError
from dtvit_edge.selftest import SelfTest, require_passed, selftest
from dtvit_edge.spec import LOCATION_OUTPUT, OUTPUT_NAMES


class Off:
    """Golden logits, off by so much on one slice."""

    name, precision, batch = "off", "fp32", 8

    def __init__(self, bundle: Bundle, error: float, outputs: tuple[str, ...] = OUTPUT_NAMES) -> None:
        self.golden = bundle.golden()
        self.error, self.outputs = error, outputs
        self.sizes: set[int] = set()

    def describe(self) -> dict[str, str]:
        return {"backend": "off", "version": "0"}

    def infer(self, pixels: Any) -> Any:
        self.sizes.add(len(pixels))
        index = [int(np.argmax([(p == q).all() for q in self.golden.pixels])) for p in pixels]
        off = (np.array(index) == 8)[:, None]
        logits = {name: values[index].astype(np.float32) for name, values in self.golden.logits.items()}
        return {k: v + np.float32(self.error) * off * (k in self.outputs) for k, v in logits.items()}


@pytest.mark.parametrize(("error", "passed"), [(0.0, True), (9e-6, True), (2e-5, False), (float("nan"), False)])
def test_one_slice_that_is_off_decides(tiny_bundle: Bundle, error: float, passed: bool) -> None:
    backend = Off(tiny_bundle, error)
    result = selftest(tiny_bundle, backend)  # type: ignore[arg-type]
    assert result.passed is passed
    assert backend.sizes == {1, 3, 8}
    assert result.slices == 9


@pytest.mark.parametrize("where", ["alone", "chain"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_deviation_that_is_no_number_fails_wherever_it_stands(where: str, place: int) -> None:
    values = [1e-9, 1e-9, 1e-9]
    values[place] = float("nan")
    alone = values if where == "alone" else [0.0] * 3
    chain = {f"batch {i}": value for i, value in enumerate(values)} if where == "chain" else {}
    result = SelfTest({}, "fp32", 9, dict(zip((1, 3, 8), alone, strict=True)), 1e-5, 0, chain)
    assert not result.passed and np.isnan(result.worst)
    with pytest.raises(VerdictError, match="nan "):
        require_passed(result)


def test_an_untrained_head_is_compared_all_the_same(tiny_bundle_without_location: Bundle) -> None:
    bundle = tiny_bundle_without_location
    for error, passed in ((0.0, True), (2e-5, False)):
        result = selftest(bundle, Off(bundle, error, (LOCATION_OUTPUT,)))  # type: ignore[arg-type]
        assert result.passed is passed

"""Parity says no where it should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from dtvit_edge.bundle import MOST_ROUNDING, Golden, Reference
from dtvit_edge.errors import VerdictError
from dtvit_edge.spec import PreprocessSpec
from export import parity
from export.golden import reference_logits, rounding_of
from export.onnx_graph import export_fp32
from export.parity import BATCHES, check_reference, prove_parity, rows_of
from export.rewrites import rewrite
from tests.support.encoders import vit

Case = tuple[bytes, Golden, Reference]


@pytest.fixture(scope="module")
def case() -> Case:
    spec, model = PreprocessSpec(), vit()
    pixels = np.random.default_rng(0).integers(0, 256, (10, 1, 224, 224), np.uint8)
    golden = Golden((), (), pixels, reference_logits(model, pixels, spec))
    reference = Reference(rounding_of(model, golden, spec), golden.spread)
    return export_fp32(rewrite(model, spec).module, 1), golden, reference


def test_faithful_graph_passes_at_every_batch(case: Case) -> None:
    proof = prove_parity("fp32", *case)
    assert set(proof["max_abs_difference"]) == {"1", "3", "8"}
    assert max(proof["max_abs_difference"].values()) <= proof["tolerance"]
    assert proof["tolerance"] == max(8 * case[2].rounding, 1e-5) and proof["slices"] == 10
    check_reference(case[2])


def _changed(data: bytes, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> bytes:
    """The graph with the last head's bias changed."""
    model = onnx.load_model_from_string(data)
    tensor = next(t for t in model.graph.initializer if t.name.endswith("location_head.2.bias"))
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
    return model.SerializeToString()


def test_small_change_in_one_bias_is_refused(case: Case) -> None:
    data, golden, reference = case
    broken = _changed(data, lambda bias: bias + np.float32(3e-4))
    with pytest.raises(VerdictError, match=r"fp32: ONNX Runtime differs from PyTorch by 0\.000[23].*allowed"):
        prove_parity("fp32", broken, golden, reference)


def test_logits_that_are_not_finite_are_refused(case: Case) -> None:
    data, golden, reference = case
    broken = _changed(data, lambda bias: bias * np.float32("nan"))
    with pytest.raises(VerdictError, match="location_logits is not finite"):
        prove_parity("fp32", broken, golden, reference)


def test_a_reference_that_is_not_finite_passes_nothing(case: Case) -> None:
    data, golden, reference = case
    nan = float("nan")
    for broken in (replace(reference, rounding=nan), replace(reference, spread=reference.spread | {"ich_logits": nan})):
        with pytest.raises(VerdictError):
            check_reference(broken)
    with pytest.raises(VerdictError, match="allowed nan"):
        prove_parity("fp32", data, golden, replace(reference, rounding=nan))
    logits = {name: np.where(np.arange(len(v))[:, None] == 3, nan, v) for name, v in golden.logits.items()}
    with pytest.raises(VerdictError, match="differs from PyTorch by nan"):
        prove_parity("fp32", data, replace(golden, logits=logits), reference)


def test_difference_at_one_batch_size_alone_is_found(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    run = parity.in_batches

    def wrong_at_8(infer: object, pixels: NDArray[np.uint8], batch: int) -> dict[str, NDArray[np.float32]]:
        return {k: v + np.float32(batch == 8) for k, v in run(infer, pixels, batch).items()}

    monkeypatch.setattr(parity, "in_batches", wrong_at_8)
    with pytest.raises(VerdictError, match="at batch 8"):
        prove_parity("fp32", *case)


@pytest.mark.parametrize("count", [8, 9, 10, 12, 15, 16, 17])
def test_every_slice_is_compared_alone_and_beside_others_in_full_batches(count: int) -> None:
    rows = {batch: list(range(count))[rows_of(batch, count)] for batch in BATCHES}
    assert rows[1] == list(range(count)) and sorted({*rows[3], *rows[8]}) == rows[1]
    assert all(len(part) >= batch and len(part) % batch == 0 for batch, part in rows.items())


@pytest.mark.parametrize("row", [0, 7, 8, 9])
def test_a_slice_that_is_wrong_beside_others_alone_is_found(
    case: Case, row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, golden, reference = case
    run = parity.in_batches

    def wrong(infer: object, pixels: NDArray[np.uint8], batch: int) -> dict[str, NDArray[np.float32]]:
        off = np.float32((pixels == golden.pixels[row]).all(axis=(1, 2, 3)) & (batch > 1))
        return {k: v + off[:, None] for k, v in run(infer, pixels, batch).items()}

    monkeypatch.setattr(parity, "in_batches", wrong)
    with pytest.raises(VerdictError, match=r"at batch [38]"):
        prove_parity("fp32", data, golden, reference)


def test_logits_that_hardly_vary_prove_nothing(case: Case) -> None:
    with pytest.raises(VerdictError, match="hardly vary between the golden slices"):
        check_reference(Reference(0.0, dict.fromkeys(case[2].spread, 3e-5)))


def test_logits_that_do_not_depend_on_the_slice_prove_nothing(case: Case) -> None:
    with pytest.raises(VerdictError, match="do not vary"):
        check_reference(Reference(1e-6, dict.fromkeys(case[2].spread, 0.0)))


def test_model_whose_rounding_hides_what_tells_slices_apart_is_ill_conditioned(case: Case) -> None:
    with pytest.raises(VerdictError, match=r"ill-conditioned: in float32 PyTorch's own logits are 0\.002 from float64"):
        check_reference(Reference(2 * MOST_ROUNDING, dict.fromkeys(case[2].spread, 1.0)))

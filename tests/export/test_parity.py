"""Parity says no where it should."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from dtvit_edge.bundle import TOLERANCES
from dtvit_edge.errors import VerdictError
from dtvit_edge.spec import PreprocessSpec
from export.golden import reference_logits
from export.onnx_graph import export_fp32
from export.parity import prove_parity
from export.rewrites import rewrite
from tests.support.encoders import vit

Case = tuple[bytes, NDArray[np.uint8], dict[str, NDArray[np.float32]]]


@pytest.fixture(scope="module")
def case() -> Case:
    spec, model = PreprocessSpec(), vit()
    pixels = np.random.default_rng(0).integers(0, 256, (10, 1, 224, 224), np.uint8)
    return export_fp32(rewrite(model, spec).module, 1), pixels, reference_logits(model, pixels, spec)


def test_faithful_graph_passes_at_every_batch(case: Case) -> None:
    proof = prove_parity("fp32", *case)
    assert set(proof["max_abs_difference"]) == {"1", "3", "8"}
    assert max(proof["max_abs_difference"].values()) <= proof["tolerance"] == TOLERANCES["fp32"]
    assert proof["slices"] == 10 and min(proof["reference_std"].values()) > 1e-4


def _changed(data: bytes, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> bytes:
    """The graph with the last head's bias changed."""
    model = onnx.load_model_from_string(data)
    tensor = next(t for t in model.graph.initializer if t.name.endswith("location_head.2.bias"))
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
    return model.SerializeToString()


def test_small_change_in_one_bias_is_refused(case: Case) -> None:
    data, pixels, reference = case
    broken = _changed(data, lambda bias: bias + np.float32(3e-5))
    with pytest.raises(VerdictError, match=r"fp32: ONNX Runtime differs from PyTorch by 3.*allowed 1e-05"):
        prove_parity("fp32", broken, pixels, reference)


def test_logits_that_are_not_finite_are_refused(case: Case) -> None:
    data, pixels, reference = case
    broken = _changed(data, lambda bias: bias * np.float32("nan"))
    with pytest.raises(VerdictError, match="location_logits is not finite"):
        prove_parity("fp32", broken, pixels, reference)


def test_difference_at_one_batch_size_alone_is_found(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    from export import parity

    run = parity.run_batches

    def wrong_at_8(session: object, pixels: NDArray[np.uint8], batch: int) -> dict[str, NDArray[np.float32]]:
        return {k: v + np.float32(batch == 8) for k, v in run(session, pixels, batch).items()}

    monkeypatch.setattr(parity, "run_batches", wrong_at_8)
    with pytest.raises(VerdictError, match="at batch 8"):
        prove_parity("fp32", *case)


def test_logits_that_do_not_depend_on_the_slice_prove_nothing(case: Case) -> None:
    data, pixels, reference = case
    constant = {name: np.zeros_like(values) for name, values in reference.items()}
    with pytest.raises(VerdictError, match="hardly vary"):
        prove_parity("fp32", data, pixels, constant)

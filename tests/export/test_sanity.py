"""Numbers that no trained model has are refused in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dtvit_edge.errors import CheckpointError
from export.importing import ImportOptions, import_model
from export.weights import check_values, widened
from tests.support.foreign_models import Dual, seeded, timm_vit

WRONG: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "integers": (lambda w: (w * 100).to(torch.int8), r"1 weights that are integers .*: ich_head\.weight"),
    "complex": (lambda w: w.to(torch.complex64), r"1 weights that are complex numbers: ich_head\.weight"),
    "fp8": (lambda w: w.to(torch.float8_e4m3fn), r"1 weights in 8-bit floats .*: ich_head\.weight"),
    "not finite": (lambda w: w * float("nan"), r"1 weights that are not finite: ich_head\.weight"),
    "all zero": (torch.zeros_like, r"1 weights that are all zero \(never trained\): ich_head\.weight"),
    "constant": (lambda w: torch.full_like(w, 0.02), r"1 weights that are all the same value .*: ich_head\.weight"),
    "1e300": (lambda w: w.double() * 1e300, r"1 weights with absurd values, above 1e\+10 .*: ich_head\.weight"),
    "1e38": (lambda w: w.sign() * 1e38, r"1 weights with absurd values, above 1e\+10 .*: ich_head\.weight"),
}


def _state() -> dict[str, Tensor]:
    return dict(seeded(Dual(timm_vit(), torch.nn.Linear(64, 2), torch.nn.Linear(64, 3))).state_dict())


@pytest.mark.parametrize("kind", WRONG)
def test_weights_that_no_trained_model_has_are_refused_in_words(tmp_path: Path, kind: str) -> None:
    spoil, message = WRONG[kind]
    state = _state()
    state["ich_head.weight"] = spoil(state["ich_head.weight"])
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=message):
        import_model(tmp_path / "a.pt", ImportOptions(encoder="test_vit", training="synthetic"))


def test_integers_that_are_no_weights_pass() -> None:
    check_values({"bn.num_batches_tracked": torch.tensor(3), "embeddings.position_ids": torch.arange(4)})


def test_halves_are_widened_exactly_and_float64_is_rounded_and_said() -> None:
    half = torch.randn(3, 4).half()
    wide, sentence = widened({"a": half, "b": torch.arange(3)})
    assert torch.equal(wide["a"], half.float()) and wide["b"].dtype == torch.int64
    assert sentence == "float16 weights are widened to float32, which is exact"
    double = torch.randn(3, 4, dtype=torch.float64)
    wide, sentence = widened({"a": double})
    assert torch.equal(wide["a"], double.float()) and "rounded to the nearest float32" in sentence
    with pytest.raises(CheckpointError, match="1 float64 weights that float32 cannot hold: a"):
        widened({"a": torch.tensor([1e-300], dtype=torch.float64)})

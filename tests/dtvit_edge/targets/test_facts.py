"""Facts as the rules read them."""

from __future__ import annotations

import pytest

from dtvit_edge.targets.facts import GraphFacts, NotKnown
from tests.support.target_cases import complete, quantized


def test_a_file_that_is_not_made_yet_has_the_opset_that_it_would_have() -> None:
    facts = complete(fp32_op16=None, fp16=None, int8=None, int8_fp16=None)
    planned = {key: facts.opset(key) for key in ("fp32-op16", "fp16", "int8", "int8-fp16")}
    assert planned == {"fp32-op16": 16, "fp16": 17, "int8": 17, "int8-fp16": 19}
    assert "LayerNormalization" not in facts.operators("fp32-op16")
    assert facts.operators("int8")["LayerNormalization"] == 25


def test_products_of_two_activations_are_those_without_a_weight() -> None:
    assert complete().activation_products() == 24


@pytest.mark.parametrize("pairs", [48, 49, 85])
def test_placement_counts_products_and_pairs(pairs: int) -> None:
    for integers in (True, False):
        placement = complete(int8=quantized(pairs, weights_as_integers=integers)).placement("int8")
        assert (placement.products, placement.quantized, placement.activations) == (54, 49, pairs)
        assert placement.beyond_inputs == max(pairs - 49, 0)


def test_what_a_manifest_lacks_is_named_with_its_file() -> None:
    with pytest.raises(NotKnown, match=r"operators of model\.fp32\.onnx"):
        GraphFacts("x", {"fp32": {"opset": 17}}).operators("fp32")
    with pytest.raises(NotKnown, match=r"facts of model\.fp32\.onnx"):
        GraphFacts("x", {}).opset("int8")
    with pytest.raises(NotKnown, match="input 'pixels'"):
        GraphFacts("x", {"fp32": {"inputs": {}}}).input_shape("pixels")

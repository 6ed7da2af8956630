"""The facts of a bundle's graphs as the rules ask for them; what a manifest does not hold is `NotKnown`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dtvit_edge.bundle import MODEL_FILES, Bundle
from dtvit_edge.precisions import BY_NAME

SEVERITIES = ("refuses", "decomposes", "not_fused", "note", "ok")

_BASE = "fp32"  # what a file that is not made yet will be made from


@dataclass(frozen=True)
class Finding:
    """One thing that a target does with a bundle.

    Attributes:
        severity: one of `SEVERITIES`; `note` where nothing is refused and something is to be known.
        code: what it is about, the same for every target.
    """

    severity: str
    code: str
    sentence: str


class NotKnown(LookupError):
    """A fact that the manifest does not hold, or not in the form that export writes. Never leaves this package."""

    def __init__(self, field: str, file: str) -> None:
        super().__init__(f"not known: {field} of {file} (the manifest does not say it; export the model anew)")

    @property
    def finding(self) -> Finding:
        """The absence, as something to be told."""
        return Finding("note", "not_known", str(self))


@dataclass(frozen=True)
class Placement:
    """Where Q/DQ sits, by counts.

    Attributes:
        products: products with a weight in the whole graph.
        quantized: those whose weight is quantised.
        activations: pairs on activations. Beyond one for each quantised product, they sit on outputs or on products
            of two activations.
    """

    products: int
    quantized: int
    activations: int

    @property
    def beyond_inputs(self) -> int:
        """Pairs that cannot be the input of a quantised product."""
        return max(self.activations - self.quantized, 0)


@dataclass(frozen=True)
class GraphFacts:
    """A bundle's graph facts by file key (`bundle.MODEL_FILES`); every method may raise `NotKnown`.

    Attributes:
        absent: files that this copy of the bundle lacks; what the manifest says of them holds all the same.
    """

    path: str
    by_file: Mapping[str, Mapping[str, Any]]
    absent: tuple[str, ...] = ()

    @classmethod
    def of(cls, bundle: Bundle) -> GraphFacts:
        """What an opened bundle's manifest holds."""
        by_file = {key: record.facts for key, record in bundle.manifest.models.items()}
        return cls(str(bundle.path), by_file, bundle.absent)

    def has(self, key: str) -> bool:
        """The file is in the bundle, if not in this copy of it."""
        return key in self.by_file

    def here(self, key: str) -> bool:
        """The file is in this copy of the bundle."""
        return self.has(key) and key not in self.absent

    def opset(self, key: str) -> int:
        """A file's opset; of one that is not made yet, the opset that it would have."""
        planned = BY_NAME[key].opset
        if not self.has(key) and planned is not None:
            return planned
        opset: int = self._get(key if self.has(key) else _BASE, "opset", int)
        return opset

    def operators(self, key: str) -> dict[str, int]:
        """Operators by name, with their count; of a file that is not made yet, those of model.fp32.onnx."""
        counts = self._counts(key if self.has(key) else _BASE, "operators")
        if key == "fp32-op16" and not self.has(key):
            counts.pop("LayerNormalization", None)
        return counts

    def layer_norms(self) -> int:
        """LayerNormalization operators of the model as it was written, before any decomposition."""
        if self.has(_BASE):
            return self.operators(_BASE).get("LayerNormalization", 0)
        return self.operators("fp32-op16").get("Sqrt", 0)

    def activation_products(self) -> int:
        """MatMul of two activations: two for each attention."""
        return self.operators(_BASE).get("MatMul", 0) - self._counts(_BASE, "weight_products").get("MatMul", 0)

    def weights_mib(self, key: str) -> float:
        """Size of a file's weights."""
        size: int = self._get(key, "initializer_bytes", int)
        return size / 2**20

    def input_shape(self, name: str) -> list[Any]:
        """An input's shape; the batch is a name."""
        inputs = self._get(_BASE, "inputs", dict)
        try:
            return list(inputs[name]["shape"])
        except (KeyError, TypeError) as error:
            raise NotKnown(f"input {name!r}", MODEL_FILES[_BASE]) from error

    def attention(self) -> dict[str, int] | None:
        """Heads, head_size, tokens and blocks; None where the encoder is no ViT."""
        facts = self._facts(_BASE)
        if "attention" in facts and facts["attention"] is None:
            return None
        attention = self._counts(_BASE, "attention")
        if not {"head_size", "tokens"} <= set(attention):
            raise NotKnown("attention", MODEL_FILES[_BASE])
        return attention

    def split_qkv(self) -> bool:
        """The last block computes q apart from k and v (the class-token rewrite)."""
        rewrites = self._get(_BASE, "rewrites", dict)
        rewrite = rewrites.get("class_token_last_block")
        return isinstance(rewrite, dict) and bool(rewrite.get("applied"))

    def placement(self, key: str) -> Placement:
        """Q/DQ of an int8 file: a quantised weight comes from DequantizeLinear, so export does not count it as one."""
        products = sum(self._counts(_BASE, "weight_products").values())
        quantized = products - sum(self._counts(key, "weight_products").values())
        pairs: int = self._get(key, "quantize_linear", int)
        # As many Q as DQ: weights are quantised in the graph as well, instead of being stored as integers.
        folded = pairs != self._get(key, "dequantize_linear", int)
        return Placement(products, quantized, pairs if folded else pairs - quantized)

    def _counts(self, key: str, field: str) -> dict[str, int]:
        counts = self._get(key, field, dict)
        if not all(isinstance(value, int) for value in counts.values()):
            raise NotKnown(field, MODEL_FILES[key])
        return dict(counts)

    def _get(self, key: str, field: str, kind: type) -> Any:
        value = self._facts(key).get(field)
        if not isinstance(value, kind):
            raise NotKnown(field.replace("_", " "), MODEL_FILES[key])
        return value

    def _facts(self, key: str) -> Mapping[str, Any]:
        if key not in self.by_file:
            raise NotKnown("facts", MODEL_FILES[key])
        return self.by_file[key]

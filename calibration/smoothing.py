"""Activation outliers folded into the weights (SmoothQuant, arXiv 2211.10438; RepQ-ViT, arXiv 2212.08254).

A LayerNorm's channels are divided by factors that the rows of the ops behind it are multiplied by, and the columns
of v likewise against the rows of proj. Factors are powers of two, so that the fp32 graph gives the same bits as before;
nothing folds through GELU into fc2.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from calibration.quantizable import QuantizableOp

ALPHA = 0.5  # how much of the difficulty moves from activations to weights; SmoothQuant's default
# Operators that move tokens about and leave channels, the last axis, alone.
_KEEPS_CHANNELS = frozenset({"Slice", "Gather", "Identity"})

Maxima = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Fold:
    """What was folded: from where, into which ops, and the largest and smallest factor."""

    source: str
    ops: tuple[str, ...]
    largest: float
    smallest: float


def smooth(
    model: ModelProto, ops: Sequence[QuantizableOp], maxima: Maxima, alpha: float = ALPHA
) -> tuple[tuple[Fold, ...], dict[str, NDArray[np.float32]]]:
    """Fold in place whatever can be.

    Args:
        maxima: `activations.channel_maxima` of the model as it is.

    Returns:
        What was folded, and the maxima of the model as it is now: exactly the old ones over the factors.
    """
    graph = _Graph(model)
    folds = []
    after = dict(maxima)
    for node in model.graph.node:
        if node.op_type == "LayerNormalization":
            behind = [p for p in ops if graph.source(p.activation) == node.output[0]]
            if behind and graph.readers_of(node.output[0]) == {p.node for p in behind}:
                factors = _factors(
                    np.max([maxima[p.activation] for p in behind], axis=0),
                    np.max([np.abs(graph.weight(p.weight)).max(axis=1) for p in behind], axis=0),
                    alpha,
                )
                for name in node.input[1:]:
                    graph.set_weight(name, graph.weight(name) / factors)
                for p in behind:
                    graph.set_weight(p.weight, graph.weight(p.weight) * factors[:, None])
                    after[p.activation] = maxima[p.activation] / factors
                folds.append(_fold(node.name, behind, factors))
    by_name = {p.name: p for p in ops}
    for name, proj in by_name.items():
        block, _, role = name.rpartition(".")
        source = by_name.get(f"{block}.qkv") or by_name.get(f"{block}.kv")
        if role == "proj" and source:
            fold = _fold_values(graph, source, proj, after, alpha)
            folds += [fold] if fold else []
    return tuple(folds), after


def _fold_values(
    graph: _Graph, source: QuantizableOp, proj: QuantizableOp, maxima: dict[str, NDArray[np.float32]], alpha: float
) -> Fold | None:
    """v's columns, the last of qkv or kv, against proj's rows; softmax mixes tokens, never channels."""
    rows, columns = graph.weight(source.weight), graph.weight(proj.weight)
    width = columns.shape[0]
    bias = graph.bias_after(source.node)
    if rows.shape[1] not in (2 * width, 3 * width) or bias is None:
        return None
    factors = _factors(maxima[proj.activation], np.abs(columns).max(axis=1), alpha)
    column_factors = np.concatenate([np.ones(rows.shape[1] - width, np.float32), factors])
    graph.set_weight(source.weight, rows / column_factors)
    graph.set_weight(bias, graph.weight(bias) / column_factors)
    graph.set_weight(proj.weight, columns * factors[:, None])
    maxima[proj.activation] = maxima[proj.activation] / factors
    return _fold(source.node, [proj], factors)


def _factors(activation: NDArray[np.float32], weight: NDArray[np.float32], alpha: float) -> NDArray[np.float32]:
    """Powers of two near max|X|^alpha / max|W|^(1 - alpha), by channel; 1 where either is all zero."""
    usable = (activation > 0) & (weight > 0)
    exponent = alpha * np.log2(np.where(usable, activation, 1)) - (1 - alpha) * np.log2(np.where(usable, weight, 1))
    exponent = np.where(usable, np.rint(exponent), 0)
    # Only differences between channels matter to a range of the whole tensor.
    exponent -= np.rint(np.median(exponent[usable])) if usable.any() else 0
    factors: NDArray[np.float32] = np.exp2(np.where(usable, exponent, 0)).astype(np.float32)
    return factors


def _fold(source: str, ops: Sequence[QuantizableOp], factors: NDArray[np.float32]) -> Fold:
    return Fold(source, tuple(p.name for p in ops), float(factors.max()), float(factors.min()))


class _Graph:
    """Weights by name, and who reads what."""

    def __init__(self, model: ModelProto) -> None:
        self.tensors = {t.name: t for t in model.graph.initializer}
        self.producer = {name: node for node in model.graph.node for name in node.output}
        self.readers = defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                self.readers[name].append(node)

    def weight(self, name: str) -> NDArray[np.float32]:
        values: NDArray[np.float32] = numpy_helper.to_array(self.tensors[name])
        return values

    def set_weight(self, name: str, values: NDArray[np.float32]) -> None:
        self.tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))

    def source(self, name: str) -> str:
        """The tensor that this one is a part of, channels untouched."""
        node = self.producer.get(name)
        while node is not None and node.op_type in _KEEPS_CHANNELS:
            name = node.input[0]
            node = self.producer.get(name)
        return name

    def readers_of(self, name: str) -> set[str]:
        """Nodes that read a tensor or a part of it."""
        readers: set[str] = set()
        for node in self.readers[name]:
            readers |= self.readers_of(node.output[0]) if node.op_type in _KEEPS_CHANNELS else {node.name}
        return readers

    def bias_after(self, node: str) -> str | None:
        """The constant that is added to an op's output right behind it."""
        output = next(n.output[0] for nodes in self.readers.values() for n in nodes if n.name == node)
        for reader in self.readers[output]:
            if reader.op_type == "Add":
                return next((name for name in reader.input if name in self.tensors), None)
        return None

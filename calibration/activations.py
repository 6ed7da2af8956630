"""What flows into the quantizable ops: lowest and highest values by channel, and histograms, over calibration slices.

Two passes, the second with bins that the first fixed, so that counts add up to the same whatever the order and the
batches. Nothing of a batch is kept: memory is one batch's activations and one histogram a tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from calibration.quantizable import QuantizableOp
from dtvit_edge.backends.onnxruntime import open_session
from dtvit_edge.errors import VerdictError
from dtvit_edge.spec import INPUT_NAME

BINS = 4096
BATCH = 4  # activations of ViT-B/16 are 60 MB a slice

Pixels = NDArray[np.uint8]
Step = Callable[[int], None]


@dataclass(frozen=True)
class Histogram:
    """Magnitudes of one tensor: `counts[i]` of |x| in bin i of `BINS` equal ones from 0 to `largest`."""

    counts: NDArray[np.int64]
    largest: float


@dataclass(frozen=True)
class ChannelRange:
    """Lowest and highest value of each channel of one tensor: (channels,) float32 each."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @property
    def middle(self) -> NDArray[np.float32]:
        """Halfway between the two, by channel."""
        return (self.low + self.high) / np.float32(2)

    @property
    def largest(self) -> NDArray[np.float32]:
        """The largest magnitude, by channel."""
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def moved(self, shift: NDArray[np.float32], factors: NDArray[np.float32]) -> ChannelRange:
        """The range of (x - shift) / factors."""
        return ChannelRange((self.low - shift) / factors, (self.high - shift) / factors)

    def joined(self, other: ChannelRange) -> ChannelRange:
        """The range that holds both."""
        return ChannelRange(np.minimum(self.low, other.low), np.maximum(self.high, other.high))


def channel_ranges(
    graph: bytes, ops: Sequence[QuantizableOp], pixels: Pixels, *, batch: int = BATCH, step: Step = lambda n: None
) -> dict[str, ChannelRange]:
    """Lowest and highest value by channel of every op's activations, by tensor name.

    Args:
        graph: the fp32 model's bytes.
        pixels: (N, C, 224, 224) uint8.

    Raises:
        VerdictError: a tensor that holds a value which is not finite.
    """
    axes = {name: 1 if p.operator == "Conv" else -1 for p in ops for name in p.activations}
    ranges: dict[str, ChannelRange] = {}
    for values in _run(graph, list(axes), pixels, batch, step):
        for name, value in values.items():
            others = tuple(i for i in range(value.ndim) if i != axes[name] % value.ndim)
            part = ChannelRange(value.min(axis=others), value.max(axis=others))
            ranges[name] = ranges[name].joined(part) if name in ranges else part
    for name, found in ranges.items():
        if not np.isfinite(found.largest).all():
            raise VerdictError(f"the range of {name} is not finite")
    return ranges


def histograms(
    graph: bytes, largest: Mapping[str, float], pixels: Pixels, *, batch: int = BATCH, step: Step = lambda n: None
) -> dict[str, Histogram]:
    """Histograms of |x| of the named tensors.

    Args:
        largest: largest |x| by tensor name, as `channel_ranges` found it over the same slices.

    Raises:
        VerdictError: a tensor whose range is 0 or not finite.
    """
    for name, limit in largest.items():
        if not 0 < limit < np.inf:
            raise VerdictError(f"the range of {name} is {limit:g}: it cannot be quantised")
    counts = {name: np.zeros(BINS, np.int64) for name in largest}
    for values in _run(graph, list(largest), pixels, batch, step):
        for name, value in values.items():
            place = np.abs(value).ravel() * np.float32(BINS / largest[name])
            counts[name] += np.bincount(np.minimum(place.astype(np.int32), BINS - 1), minlength=BINS)
    return {name: Histogram(counts[name], float(largest[name])) for name in largest}


def _run(
    graph: bytes, tensors: Sequence[str], pixels: Pixels, batch: int, step: Step
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """The tensors' values, batch by batch."""
    model = onnx.load_model_from_string(graph)
    outputs = {value.name for value in model.graph.output}
    model.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors if name not in outputs
    )
    session = open_session(model.SerializeToString())
    for start in range(0, len(pixels), batch):
        part = pixels[start : start + batch]
        yield dict(zip(tensors, session.run(list(tensors), {INPUT_NAME: part}), strict=True))
        step(len(part))

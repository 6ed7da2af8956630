"""A model that ruins plain min-max: what folding outliers into the weights saves.

    python -m benchmarks.standalone.outlier_smoothing --encoder vit_tiny_patch16_224

The model is a seeded, untrained ViT whose LayerNorms make four channels a hundred times as large and whose weights
behind them make up for it, as trained transformers are known to do (arXiv 2211.10438, section 3). Its fp32 answers are
those of the model without outliers; int8 with one scale a tensor loses nearly everything else that such a tensor holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from benchmarks.standalone.program import keep, record_option, start
from calibration.activations import channel_ranges
from calibration.quantise import quantise
from calibration.quantizable import weight_ops
from calibration.ranges import Range
from calibration.smoothing import smooth
from dtvit_edge.backend import Logits
from dtvit_edge.backends.onnxruntime import logits_of
from dtvit_edge.cli import render
from dtvit_edge.spec import OUTPUT_NAMES, PreprocessSpec, digest_bytes
from evaluation.agreement import logit_error
from export.golden import golden_pixels
from export.onnx_graph import export_fp32
from export.rewrites import rewrite
from export.untrained import SMALL_VIT, untrained_model

WHAT = "int8 of a model with LayerNorm outliers: plain min-max against outliers folded first"
CHANNELS, FACTOR = 4, 100


@dataclass(frozen=True)
class Errors:
    """Distance of int8 from fp32 on the golden slices.

    Attributes:
        plain, smoothed: (slices,) root mean square logit error of each slice.
        ratio: of the root mean square errors over all slices.
        deviation: the logits' own standard deviation over slices, to compare with.
    """

    plain: list[float]
    smoothed: list[float]
    ratio: float
    deviation: float


def model_with_outliers(encoder: str, seed: int = 0) -> onnx.ModelProto:
    """The fp32 graph of the model with outliers."""
    spec, model = PreprocessSpec(), untrained_model(encoder)
    rng = np.random.default_rng(seed)
    blocks: Any = model.encoder.blocks
    with torch.no_grad():
        for block in blocks:
            for norm, layer in ((block.norm1, block.attn.qkv), (block.norm2, block.mlp.fc1)):
                channels = torch.from_numpy(rng.choice(len(norm.weight), CHANNELS, replace=False))
                norm.weight[channels] *= FACTOR
                layer.weight[:, channels] /= FACTOR
    return onnx.load_model_from_string(export_fp32(rewrite(model, spec).module, spec.channels))


def measure(model: onnx.ModelProto, pixels: NDArray[np.uint8]) -> Errors:
    """Quantise a graph by min-max over the slices: symmetric as it is, and with outliers and offsets folded."""
    products = weight_ops(model)
    reference = logits_of(model.SerializeToString(), "fp32", pixels)
    ranges = channel_ranges(model.SerializeToString(), products, pixels)
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    after = smooth(folded, products, ranges)
    int8_logits = []
    for graph, values, symmetric in ((model, ranges, True), (folded, after, False)):
        spans = {}
        for name in (op.activation for op in products):
            low, high = float(values[name].low.min()), float(values[name].high.max())
            largest = max(-low, high)
            spans[name] = Range(-largest, largest) if symmetric else Range(low, high)
        int8_logits.append(logits_of(quantise(graph, products, spans), "int8", pixels))
    plain, smoothed = ([_slice_error(reference, logits, i) for i in range(len(pixels))] for logits in int8_logits)
    deviation = float(np.mean([reference[name].std(axis=0).mean() for name in OUTPUT_NAMES]))
    return Errors(
        plain, smoothed, logit_error(reference, int8_logits[0]) / logit_error(reference, int8_logits[1]), deviation
    )


def _slice_error(reference: Logits, logits: Logits, place: int) -> float:
    part = slice(place, place + 1)
    return logit_error({n: v[part] for n, v in reference.items()}, {n: v[part] for n, v in logits.items()})


@click.command()
@click.option("--encoder", default=SMALL_VIT, show_default=True, help="Take this ViT, by timm's name.")
@record_option()
def main(encoder: str, out: Path) -> None:
    """Measure what folding outliers saves, and append the record."""
    model = model_with_outliers(encoder)
    errors = measure(model, golden_pixels(PreprocessSpec()))
    summary = {"ratio": errors.ratio, "logit_deviation": errors.deviation}
    summary |= {f"{kind}_rms": float(np.sqrt(np.mean(np.square(slice_errors)))) for kind, slice_errors in
                (("plain", errors.plain), ("smoothed", errors.smoothed))}  # fmt: skip
    for name, value in summary.items():
        render.echo(f"{name:<16} {value:.4g}")
    samples = {"plain": errors.plain, "smoothed": errors.smoothed}
    digests = {"fp32": digest_bytes(model.SerializeToString())}
    keep(
        out, WHAT, "rms logit error of a slice", samples, summary, digests, encoder=encoder, channels=CHANNELS,
        factor=FACTOR, slices=len(errors.plain),
    )  # fmt: skip


if __name__ == "__main__":
    start(main)

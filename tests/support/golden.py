"""Golden slices for bundles that tests write: ellipses of brain, as a scanner stores them."""

from __future__ import annotations

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dtvit_edge.bundle import Golden, Reference
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import INPUT_NAME, OUTPUT_NAMES, PixelEncoding, PreprocessSpec
from export.golden_arrays import as_stored, spread_of

SIDE = 256
ENCODINGS = (PixelEncoding(), PixelEncoding(bits_stored=12, high_bit=11, signed=False, intercept=-1024.0))


def make_golden(model: bytes, spec: PreprocessSpec, count: int) -> tuple[Golden, Reference]:
    """So many slices of random heads; the logits are an ONNX model's on ONNX Runtime."""
    rng = np.random.default_rng(5)
    encodings = tuple(ENCODINGS[i % len(ENCODINGS)] for i in range(count))
    stored = tuple(as_stored(_head(rng), encoding) for encoding in encodings)
    prepare = CpuPreprocessor(spec)
    pixels = np.stack([prepare(p, e).pixels for p, e in zip(stored, encodings, strict=True)])
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    outputs = session.run(list(OUTPUT_NAMES), {INPUT_NAME: pixels})
    logits = {name: values.astype(np.float64) for name, values in zip(OUTPUT_NAMES, outputs, strict=True)}
    return Golden(stored, encodings, pixels, logits), Reference(0.0, spread_of(logits))


def _head(rng: np.random.Generator) -> NDArray[np.int16]:
    """HU of an ellipse on air, (SIDE, SIDE) int16."""
    image = np.full((SIDE, SIDE), -1000.0, np.float32)
    axes = (int(rng.integers(70, 100)), int(rng.integers(80, 110)))
    cv2.ellipse(image, (SIDE // 2, SIDE // 2), axes, 0, 0, 360, float(rng.integers(15, 60)), -1)
    noise = rng.normal(0, 6, image.shape)
    return np.where(image > -1000, image + noise, image).astype(np.int16)

"""What a model says of prepared bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backend import check_pixels, in_batches
from dtvit_edge.bundle import Manifest
from dtvit_edge.errors import DeviceFault
from dtvit_edge.scoring.executor import Executor
from dtvit_edge.scoring.pipeline import probabilities
from dtvit_edge.spec import ICH_OUTPUT, LOCATION_HEAD, LOCATION_OUTPUT


@dataclass(frozen=True, eq=False)
class Prediction:
    """Of N prepared slices.

    Attributes:
        ich_probability: (N,) float64, of a haemorrhage.
        location_probabilities: (N, 3) float64, of deep, lobar and subtentorial, given a haemorrhage; None where the
            bundle's location head is untrained.
        ich_logits: (N, 2) float32, no_ich and ich; location_logits: (N, 3) float32.
    """

    ich_probability: NDArray[np.float64]
    location_probabilities: NDArray[np.float64] | None
    ich_logits: NDArray[np.float32]
    location_logits: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.ich_probability)


def predict(pixels: NDArray[np.uint8], executor: Executor, manifest: Manifest) -> Prediction:
    """Run prepared bytes through the model, in batches that suit it.

    Raises:
        ConfigError: they are of another type or shape than the model takes.
        DeviceFault: the device failed, or the model answers with numbers that are not finite.
    """
    spec = manifest.spec
    asked: NDArray[Any] = np.asarray(pixels)
    check_pixels(asked, (spec.channels, spec.crop, spec.crop), least=0)
    logits = in_batches(executor.logits, asked, executor.batch)
    if not all(np.isfinite(values).all() for values in logits.values()):
        raise DeviceFault(
            "the model or its engine answers with numbers that are not finite; look at it with `dtvit-edge verify`"
        )
    scores = probabilities(logits) if len(asked) else []
    has_location = LOCATION_HEAD not in manifest.untrained_heads
    return Prediction(
        np.array([ich for ich, _ in scores], np.float64),
        np.array([location for _, location in scores], np.float64).reshape(-1, 3) if has_location else None,
        logits[ICH_OUTPUT],
        logits[LOCATION_OUTPUT],
    )

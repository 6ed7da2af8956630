"""The slices of a calibration: found before anything is computed, loaded once a bundle says which spec they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.calibrate import BATCH, Config
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError
from dtvit_edge.progress import Progress, silent
from dtvit_edge.spec import OUTPUT_NAMES
from evaluation import gate
from evaluation.sampling import (
    WHAT_TO_GIVE,
    Candidate,
    IchPredictor,
    Pixels,
    SliceSet,
    candidates,
    load_sets,
    split_into_sets,
)
from export.onnx_graph import open_session
from export.parity import run_batches


def find_candidates(
    slices: Sequence[Path], test_slices: Sequence[Path], config: Config, *, progress: Progress = silent
) -> dict[str, list[Candidate]]:
    """What each set may take, by its name; headers and labels are read, no pixels are.

    Args:
        test_slices: the whole test set; empty takes it out of `slices`.

    Raises:
        ConfigError: no slices were given, or too few patients.
    """
    if not slices:
        raise ConfigError(f"nothing to calibrate on; {WHAT_TO_GIVE}")
    test = candidates(test_slices, progress=progress) if test_slices else ()
    return split_into_sets(candidates(slices, progress=progress), test, seed=config.seed)


def load(
    bundle: Bundle,
    candidates_by_set: Mapping[str, Sequence[Candidate]],
    config: Config,
    *,
    progress: Progress = silent,
) -> dict[str, SliceSet]:
    """The three sets as the model bytes of a bundle's spec; errors are those of `sampling.load_sets`."""
    return load_sets(
        candidates_by_set,
        config.set_sizes,
        bundle.manifest.spec,
        seed=config.seed,
        predict_ich=ich_predictor(bundle, progress),
        progress=progress,
    )


def ich_predictor(bundle: Bundle, progress: Progress = silent) -> IchPredictor:
    """A function from (N, C, 224, 224) uint8 to (N,) bool: which slices fp32 flags at the shipped threshold."""

    def predict_ich(pixels: Pixels) -> NDArray[np.bool_]:
        with progress("looking for haemorrhage", len(pixels)) as step:
            logits = run_batches(open_session(bundle.model_bytes("fp32")), pixels, BATCH, step)
        flagged: NDArray[np.bool_] = gate.softmax(logits[OUTPUT_NAMES[0]])[:, 1] >= bundle.thresholds.slice.value
        return flagged

    return predict_ich

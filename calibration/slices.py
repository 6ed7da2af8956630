"""The slices of a calibration: found before anything is computed, loaded once a bundle says which spec they need."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibration.calibrate import Config
from dtvit_edge.backend import softmax
from dtvit_edge.backends.onnxruntime import logits_of
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError
from dtvit_edge.progress import Progress, silent
from dtvit_edge.spec import ICH_OUTPUT
from evaluation.gate import OTHER
from evaluation.limits import Limits
from evaluation.sampling import (
    SETS,
    WHAT_TO_GIVE,
    Candidate,
    IchPredictor,
    Pixels,
    SliceSet,
    candidates,
    load_set,
    load_sets,
    split_into_sets,
)

_log = logging.getLogger(__name__)


def find_candidates(
    slices: Sequence[Path],
    test_slices: Sequence[Path],
    config: Config,
    *,
    other: Sequence[Path] = (),
    progress: Progress = silent,
) -> dict[str, list[Candidate]]:
    """What each set may take, by its name; headers and labels are read, no pixels are.

    Args:
        test_slices: the whole test set; empty takes it out of `slices`.
        other: slices of another site, labelled or not, on which the gate judges as well; they are the set `OTHER`.

    Raises:
        ConfigError: no slices were given, or too few patients.
    """
    if not slices:
        raise ConfigError(f"nothing to calibrate on; {WHAT_TO_GIVE}")
    test = candidates(test_slices, progress=progress) if test_slices else ()
    by_set = split_into_sets(candidates(slices, progress=progress), test, seed=config.seed)
    elsewhere = {OTHER: candidates(other, pictures=True, progress=progress)} if other else {}
    return by_set | elsewhere


def load(
    bundle: Bundle,
    candidates_by_set: Mapping[str, Sequence[Candidate]],
    config: Config,
    *,
    progress: Progress = silent,
) -> dict[str, SliceSet]:
    """The sets as the model bytes of a bundle's spec; a warning says which of them are too small for a verdict.

    Raises:
        ConfigError: as `sampling.load_sets`, or a slice of the other site is in another set.
    """
    predict_ich, spec = ich_predictor(bundle, progress), bundle.manifest.spec
    sets = load_sets(
        candidates_by_set, config.set_sizes, spec, seed=config.seed, predict_ich=predict_ich, progress=progress
    )
    if OTHER in candidates_by_set:
        pool, most = candidates_by_set[OTHER], config.test_slices
        # As they come: spreading them over what fp32 flags would make another site look like this one.
        sets[OTHER] = load_set(pool, most, spec, seed=config.seed, name=OTHER, progress=progress)
        known = {digest for name in SETS for digest in sets[name].labels.digests}
        if twice := len(known & set(sets[OTHER].labels.digests)):
            raise ConfigError(f"{twice} slices of --other are also among --slices: another site has others")
    for words in too_few({name: len(slices) for name, slices in sets.items()}, config.limits):
        _log.warning("%s", words)
    return sets


def too_few(counts: Mapping[str, int], limits: Limits) -> tuple[str, ...]:
    """Which sets hold too few slices to tell, so that no precision can pass: known before the minutes are spent."""
    away, shifted = limits.least_elsewhere, min(counts["test"], limits.shift_slices)
    asked = {
        f"the test set has {counts['test']} slices, --least-slices asks for {limits.slices}": counts["test"]
        < limits.slices,
        f"each shift has {shifted} slices, {away} are asked away from home": 0 < shifted < away,
        f"--other has {counts.get(OTHER)} slices, {away} are asked away from home": counts.get(OTHER, away) < away,
    }
    return tuple(
        f"{words}: a verdict can be failed or inconclusive, never passed" for words, too in asked.items() if too
    )


def ich_predictor(bundle: Bundle, progress: Progress = silent) -> IchPredictor:
    """A function from (N, C, 224, 224) uint8 to (N,) bool: which slices fp32 flags at the shipped threshold."""

    def predict_ich(pixels: Pixels) -> NDArray[np.bool_]:
        with progress("looking for haemorrhage", len(pixels)) as step:
            logits = logits_of(bundle.model_bytes("fp32"), "fp32", pixels, step=step)
        flagged: NDArray[np.bool_] = softmax(logits[ICH_OUTPUT])[:, 1] >= bundle.thresholds.slice.value
        return flagged

    return predict_ich

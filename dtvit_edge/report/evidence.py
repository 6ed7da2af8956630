"""Occlusion evidence: where hiding a patch of a slice changes the model's answer.

The answers come from the executor that scored the study, on the bytes that it was shown. A patch is hidden by the
median of the slice's brain, coarse to fine: 7 x 7 patches side by side, then patches of the same size that lie half a
patch beside those that mattered most. Patches of one size compare; smaller ones would hide less.

A ViT's attention rollout is not used (docs/report.md): it says how tokens were mixed, not what the answer hangs on, and
engines do not show it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.backend import Logits
from dtvit_edge.preprocess.rescale_table import brain_bytes
from dtvit_edge.scoring.executor import Executor
from dtvit_edge.spec import ICH_OUTPUT, LOCATION_HEAD, LOCATION_OUTPUT, PreprocessSpec

COARSE = 7  # patches a side
MOST_FINE = 30
CELLS = 2 * COARSE  # a side; a patch is two cells high and wide
# What lies further outside hides hardly anything but the skull's edge, whose loss is no scan that a model ever saw.
LEAST_INSIDE = 0.25

Cell: TypeAlias = tuple[int, int]  # row and column of a patch's upper left cell


@dataclass(frozen=True)
class EvidenceMap:
    """What hiding does to one answer of a slice, in log-odds of that answer.

    Attributes:
        answer: log-odds with nothing hidden.
        loss: (14, 14) float64; the mean, over the patches that cover a cell, of how much the log-odds fall; NaN where
            none was hidden.
        strongest: the patch whose hiding costs most, by its upper left cell; hidden: the log-odds without it.
    """

    answer: float
    loss: NDArray[np.float64]
    strongest: Cell
    hidden: float

    @property
    def hottest(self) -> Cell:
        """The cell with the greatest loss."""
        row, column = np.unravel_index(int(np.nanargmax(self.loss)), self.loss.shape)
        return int(row), int(column)


@dataclass(frozen=True)
class Evidence:
    """The maps of one slice: of haemorrhage, and of its likeliest location where that head is trained.

    Attributes:
        location_index: of the likeliest location; passes: how many times the model was asked.
    """

    ich: EvidenceMap
    location: EvidenceMap | None
    location_index: int
    passes: int


def evidence(
    executor: Executor, pixels: NDArray[np.uint8], spec: PreprocessSpec, untrained_heads: Sequence[str] = ()
) -> Evidence | None:
    """The evidence maps of one slice; at most 80 passes.

    Args:
        pixels: (C, side, side) uint8, as the executor's `prepared_bytes` gives them.

    Returns:
        None where there is no brain whose median could hide anything, or where an answer is not finite.

    Raises:
        DeviceFault: the device failed.
    """
    fill = brain_median(pixels, spec)
    coarse = [(i, j) for i in range(0, CELLS, 2) for j in range(0, CELLS, 2) if _inside(pixels, (i, j))]
    if fill is None or not coarse:
        return None
    answer = executor.logits(pixels[None])
    location_index = int(answer[LOCATION_OUTPUT][0].argmax())
    hidden = _ask(executor, pixels, coarse, fill)
    of_ich = _log_odds(answer[ICH_OUTPUT][0], 1)
    losses = {cell: of_ich - _log_odds(logits[ICH_OUTPUT], 1) for cell, logits in hidden.items()}
    hidden |= _ask(executor, pixels, [c for c in _beside(losses) if _inside(pixels, c)][:MOST_FINE], fill)
    everything = [answer[ICH_OUTPUT], *(logits[ICH_OUTPUT] for logits in hidden.values())]
    if not all(np.isfinite(values).all() for values in everything):
        return None
    location = None
    if LOCATION_HEAD not in untrained_heads:
        location = _map(answer[LOCATION_OUTPUT][0], hidden, LOCATION_OUTPUT, location_index)
    return Evidence(_map(answer[ICH_OUTPUT][0], hidden, ICH_OUTPUT, 1), location, location_index, 1 + len(hidden))


def brain_median(pixels: NDArray[np.uint8], spec: PreprocessSpec) -> NDArray[np.uint8] | None:
    """The median of each channel over what has the first channel's values of brain: (C,) uint8; None without any."""
    low, high = brain_bytes(spec)
    brain = (pixels[0] >= max(low, 1)) & (pixels[0] <= high)
    return np.median(pixels[:, brain], axis=1).astype(np.uint8) if brain.any() else None


def box(cell: Cell, side: int, cells: int = 2) -> tuple[int, int, int, int]:
    """The pixels of a patch (or, of 1, of a cell): first row, end row, first column, end column."""
    edges = np.linspace(0, side, CELLS + 1).round().astype(int)
    (i, j), n = cell, cells
    return int(edges[i]), int(edges[i + n]), int(edges[j]), int(edges[j + n])


def _ask(
    executor: Executor, pixels: NDArray[np.uint8], cells: Sequence[Cell], fill: NDArray[np.uint8]
) -> dict[Cell, dict[str, NDArray[np.float32]]]:
    """The logits with each patch hidden by itself."""
    answers: dict[Cell, dict[str, NDArray[np.float32]]] = {}
    for start in range(0, len(cells), executor.batch):
        asked = cells[start : start + executor.batch]
        logits: Logits = executor.logits(np.stack([_hide(pixels, cell, fill) for cell in asked]))
        answers |= {cell: {name: logits[name][i].copy() for name in logits} for i, cell in enumerate(asked)}
    return answers


def _hide(pixels: NDArray[np.uint8], cell: Cell, fill: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy with a patch filled inside the head; the air around it stays."""
    top, bottom, left, right = box(cell, pixels.shape[-1])
    copy = pixels.copy()
    patch = copy[:, top:bottom, left:right]
    copy[:, top:bottom, left:right] = np.where(patch.any(axis=0), fill[:, None, None], patch)
    return copy


def _inside(pixels: NDArray[np.uint8], cell: Cell) -> bool:
    top, bottom, left, right = box(cell, pixels.shape[-1])
    return bool((pixels[0, top:bottom, left:right] > 0).mean() > LEAST_INSIDE)


def _beside(losses: dict[Cell, float]) -> list[Cell]:
    """Patches half a patch beside the coarse ones, those next to the greatest loss first."""
    best: dict[Cell, float] = defaultdict(lambda: -np.inf)
    for (row, column), loss in losses.items():
        for i in range(max(row - 1, 0), min(row + 1, CELLS - 2) + 1):
            for j in range(max(column - 1, 0), min(column + 1, CELLS - 2) + 1):
                best[i, j] = max(best[i, j], loss)
    return sorted((cell for cell in best if cell not in losses), key=lambda cell: (-best[cell], cell))


def _map(
    answer: NDArray[np.float32], hidden: dict[Cell, dict[str, NDArray[np.float32]]], output: str, index: int
) -> EvidenceMap:
    whole = _log_odds(answer, index)
    total, count = np.zeros((CELLS, CELLS)), np.zeros((CELLS, CELLS))
    left = {cell: _log_odds(logits[output], index) for cell, logits in hidden.items()}
    for (i, j), value in left.items():
        total[i : i + 2, j : j + 2] += whole - value
        count[i : i + 2, j : j + 2] += 1
    loss = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    strongest = min(left, key=lambda cell: (left[cell], cell))
    return EvidenceMap(whole, loss, strongest, left[strongest])


def _log_odds(logits: NDArray[np.float32], index: int) -> float:
    """Of one class against all others together."""
    values = logits.astype(np.float64)
    others = np.delete(values, index)
    return float(values[index] - np.logaddexp.reduce(others))

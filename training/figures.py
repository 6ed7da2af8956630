"""The paper's Fig. 1 and 3, drawn from what was computed; Fig. 4 is `evaluation.plots.confusions`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dtvit_edge.preprocess.mask import head_mask
from dtvit_edge.preprocess.rescale_table import rescale_table
from dtvit_edge.spec import PixelEncoding, PreprocessSpec
from evaluation.plots import Cell, Plot
from training.evaluate import TrainingRun


def device_removal(
    stored: NDArray[np.uint16], encoding: PixelEncoding, spec: PreprocessSpec, label: str, notes: Sequence[str]
) -> Plot:
    """Fig. 1: a slice after the window, what the mask takes away, and what is left.

    Args:
        stored: (rows, columns) uint16 as stored; label: what to call the slice.
    """
    before = np.take(rescale_table(encoding, spec)[0], stored)
    mask = head_mask(before, spec)
    after = cv2.bitwise_and(before, before, mask=mask)
    removed = (before > spec.mask_threshold) & (mask == 0)
    outlined = np.stack([before] * 3, axis=2)
    outlined[removed] = (220, 60, 60)
    figure = Figure(figsize=(9, 3.3))
    for place, (image, title) in enumerate(
        ((before, "before"), (outlined, "removed (red)"), (after, "after")), start=1
    ):
        axes = figure.add_subplot(1, 3, place)
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=9)
        axes.axis("off")
    rows = ((label, *before.shape, int(np.count_nonzero(mask)), int(np.count_nonzero(removed))),)
    columns = ("slice", "rows", "columns", "head_pixels", "removed_pixels")
    return Plot("fig1", "Fig. 1: a slice before and after the fixation device is removed", figure, columns, rows,
                   tuple(notes))  # fmt: skip


def histories(with_augmentation: TrainingRun | None, without: TrainingRun | None, notes: Sequence[str]) -> Plot:
    """Fig. 3: loss and accuracy over the epochs, four panels, both arms; an arm that was not trained stays empty."""
    figure = Figure(figsize=(9, 6.2), layout="constrained")
    rows: list[tuple[Cell, ...]] = []
    for line, (run, arm) in enumerate(((with_augmentation, "with augmentation"), (without, "without augmentation"))):
        loss, accuracy = (figure.add_subplot(2, 2, 2 * line + place) for place in (1, 2))
        for axes, what in ((loss, "loss"), (accuracy, "accuracy")):
            axes.set_title(f"{what}, {arm}" + ("" if run else ": not trained"), fontsize=9)
            axes.set_xlabel("epoch", fontsize=8)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if run is None:
            loss.axis("off")
            accuracy.axis("off")
            continue
        epochs = [row["epoch"] for row in run.history]
        for part, style in (("train", "--"), ("validation", "-")):
            loss.plot(epochs, [row[part]["loss"] for row in run.history], style, color="C0", label=part)
            for head, colour in (("ich", "C1"), ("location", "C2")):
                values = [row[part][f"{head}_accuracy"] for row in run.history]
                if not all(map(math.isnan, values)):
                    accuracy.plot(epochs, values, style, color=colour, label=f"{head}, {part}")
        accuracy.set_ylim(top=1.005)
        for axes in (loss, accuracy):
            axes.legend(fontsize=7)
            axes.grid(alpha=0.3)
        rows += [
            (arm, row["epoch"], part, *(row[part][k] for k in ("loss", "ich_accuracy", "location_accuracy")))
            for row in run.history
            for part in ("train", "validation")
        ]
    columns = ("arm", "epoch", "part", "loss", "ich_accuracy", "location_accuracy")
    return Plot("fig3", "Fig. 3: loss and accuracy", figure, columns, tuple(rows), tuple(notes))

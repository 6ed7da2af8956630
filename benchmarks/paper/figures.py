"""The paper's Fig. 1, 3 and 4, drawn from what was computed: PNG, the numbers as CSV, a caption as Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from benchmarks.paper.judge import Judged, Run
from benchmarks.paper.tables import DPI, csv_text
from calibration.metrics import HeadFigures
from dtvit_edge.preprocess.mask import head_mask
from dtvit_edge.preprocess.table import rescale_table
from dtvit_edge.spec import ICH_LABELS, LOCATION_LABELS, PixelEncoding, PreprocessSpec
from dtvit_edge.writers.atomic import write_atomically

Cell = str | int | float


@dataclass(frozen=True)
class Picture:
    """A figure with the numbers that it shows.

    Attributes:
        columns, rows: the numbers, one row a point, cell or image.
        notes: below the caption, provenance among them.
    """

    name: str
    title: str
    figure: Figure
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        """The figure for a report."""
        notes = "".join(f"- {note}\n" for note in self.notes)
        return f"### {self.title}\n\n![{self.title}]({self.name}.png)\n\n{notes}"

    def write(self, out: Path) -> None:
        """`NAME.png`, `NAME.csv` and `NAME.md` into a folder."""
        self.figure.savefig(out / f"{self.name}.png", dpi=DPI, bbox_inches="tight")
        write_atomically(out / f"{self.name}.csv", csv_text(self.columns, self.rows))
        write_atomically(out / f"{self.name}.md", self.markdown())


def device_removal(
    stored: NDArray[np.uint16], encoding: PixelEncoding, spec: PreprocessSpec, label: str, notes: Sequence[str]
) -> Picture:
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
    return Picture("fig1", "Fig. 1: a slice before and after the fixation device is removed", figure, columns, rows,
                   tuple(notes))  # fmt: skip


def histories(with_augmentation: Run | None, without: Run | None, notes: Sequence[str]) -> Picture:
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
    return Picture("fig3", "Fig. 3: loss and accuracy", figure, columns, tuple(rows), tuple(notes))


def confusions(judged: Sequence[Judged], notes: Sequence[str]) -> Picture:
    """Fig. 4: confusion matrices of both heads, a row of panels for each model."""
    figure = Figure(figsize=(7, 3.1 * len(judged)), layout="constrained")
    rows: list[tuple[Cell, ...]] = []
    heads: Mapping[str, tuple[str, ...]] = {"ich": ICH_LABELS, "location": LOCATION_LABELS}
    for line, one in enumerate(judged):
        for place, (head, labels) in enumerate(heads.items(), start=1):
            found: HeadFigures | None = getattr(one, head)
            axes = figure.add_subplot(len(judged), 2, 2 * line + place)
            axes.set_title(f"{one.name}, {head}" + ("" if found else ": not assessed"), fontsize=9)
            if found is None:
                axes.axis("off")
                continue
            matrix = np.array(found.confusion)
            axes.imshow(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
            axes.set_xticks(range(len(labels)), labels, fontsize=8)
            axes.set_yticks(range(len(labels)), labels, fontsize=8)
            axes.set_xlabel("predicted", fontsize=8)
            axes.set_ylabel("true", fontsize=8)
            for (true, said), count in np.ndenumerate(matrix):
                dark = count > 0.5 * matrix[true].sum()
                axes.text(said, true, str(count), ha="center", va="center", color="white" if dark else "black")
                rows.append((one.name, head, labels[true], labels[said], int(count)))
    columns = ("model", "head", "true", "predicted", "slices")
    return Picture("fig4", "Fig. 4: confusion matrices", figure, columns, tuple(rows), tuple(notes))

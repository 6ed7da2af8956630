"""A figure with its numbers: PNG, the numbers as CSV, a caption as Markdown; and the plot that two reports share."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from dtvit_edge import escaping
from dtvit_edge.files import write_atomically
from dtvit_edge.spec import HEAD_LABELS
from evaluation.metrics import HeadFigures
from evaluation.tables import csv_text, notes_markdown

Cell = str | int | float
DPI = 130


@dataclass(frozen=True)
class Plot:
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
        title = escaping.markdown(escaping.one_line(self.title))
        return f"### {title}\n\n![{title}]({self.name}.png)\n\n{notes_markdown(self.notes)}"

    def write(self, out: Path) -> None:
        """`NAME.png`, `NAME.csv` and `NAME.md` into a folder."""
        picture = io.BytesIO()
        self.figure.savefig(picture, format="png", dpi=DPI, bbox_inches="tight")
        write_atomically(out / f"{self.name}.png", picture.getvalue())
        write_atomically(out / f"{self.name}.csv", csv_text(self.columns, self.rows))
        write_atomically(out / f"{self.name}.md", self.markdown())


def confusions(
    models: Sequence[tuple[str, HeadFigures | None, HeadFigures | None]],
    notes: Sequence[str],
    *,
    name: str = "fig4",
    title: str = "Fig. 4: confusion matrices",
) -> Plot:
    """Confusion matrices of both heads, a row of panels for each model; the paper's Fig. 4.

    Args:
        models: what the panels call it, and the figures of the haemorrhage and the location head; None where a head was
            not assessed.
    """
    figure = Figure(figsize=(7, 3.1 * len(models)), layout="constrained")
    rows: list[tuple[Cell, ...]] = []
    for line, (model, *heads) in enumerate(models):
        for place, ((head, labels), head_figures) in enumerate(zip(HEAD_LABELS.items(), heads, strict=True), start=1):
            axes = figure.add_subplot(len(models), 2, 2 * line + place)
            axes.set_title(f"{model}, {head}" + ("" if head_figures else ": not assessed"), fontsize=9)
            if head_figures is None:
                axes.axis("off")
                continue
            matrix = np.array(head_figures.confusion)
            axes.imshow(matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
            axes.set_xticks(range(len(labels)), labels, fontsize=8)
            axes.set_yticks(range(len(labels)), labels, fontsize=8)
            axes.set_xlabel("predicted", fontsize=8)
            axes.set_ylabel("true", fontsize=8)
            for (true, said), count in np.ndenumerate(matrix):
                dark = count > 0.5 * matrix[true].sum()
                axes.text(said, true, str(count), ha="center", va="center", color="white" if dark else "black")
                rows.append((model, head, labels[true], labels[said], int(count)))
    columns = ("model", "head", "true", "predicted", "slices")
    return Plot(name, title, figure, columns, tuple(rows), tuple(notes))

"""A table as Markdown, CSV and PNG, with what it was made from below it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from dtvit_edge import escaping
from dtvit_edge.files import write_atomically

_ROW_INCHES, _CHARACTER_INCHES = 0.28, 0.085
DPI = 130


@dataclass(frozen=True)
class Table:
    """Cells are text already.

    Attributes:
        name: of its files; title: what a reader sees.
        notes: below it, provenance among them.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = field(default=())

    def markdown(self) -> str:
        """The table for a report."""
        lines = [f"### {escaping.markdown(escaping.one_line(self.title))}", ""]
        lines += [_row(self.columns), _row(["---"] * len(self.columns)), *map(_row, self.rows), ""]
        return "\n".join(lines) + "\n" + notes_markdown(self.notes)

    def csv(self) -> str:
        """The cells alone."""
        return csv_text(self.columns, self.rows)

    def write(self, out: Path) -> None:
        """`NAME.md`, `NAME.csv` and `NAME.png` into a folder."""
        write_atomically(out / f"{self.name}.md", self.markdown())
        write_atomically(out / f"{self.name}.csv", self.csv())
        write_atomically(out / f"{self.name}.png", png_bytes(self._draw()))

    def _draw(self) -> Figure:
        widths = [max(len(cell) for cell in column) + 2 for column in zip(self.columns, *self.rows, strict=True)]
        total = sum(widths)
        figure = Figure(figsize=(total * _CHARACTER_INCHES, (len(self.rows) + 1) * _ROW_INCHES))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        drawn = axes.table(
            cellText=[list(row) for row in self.rows],
            colLabels=list(self.columns),
            colWidths=[width / total for width in widths],
            cellLoc="left",
            bbox=Bbox.unit(),
        )
        drawn.auto_set_font_size(False)
        drawn.set_fontsize(9)
        for (row, _), cell in drawn.get_celld().items():
            cell.set_linewidth(0.4)
            if row == 0:
                cell.set_text_props(weight="bold")
        figure.suptitle(self.title, y=1.0 + 0.35 / figure.get_figheight(), fontsize=11)
        if self.notes:
            figure.text(0, -0.1 / figure.get_figheight(), "\n".join(self.notes), va="top", fontsize=7, wrap=False)
        return figure


def csv_text(columns: Sequence[str], rows: Sequence[Sequence[str | int | float]]) -> str:
    """A header and rows as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(cell) for cell in row] for row in rows)
    return text.getvalue()


def png_bytes(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=DPI, bbox_inches="tight")
    return picture.getvalue()


def notes_markdown(notes: Sequence[str]) -> str:
    """Notes below a table or a figure, an item each."""
    return "".join(f"- {escaping.markdown(escaping.one_line(note))}\n" for note in notes)


def _cell(cell: str | int | float) -> str | int | float:
    """A number in words is a negative one at worst; other text is no formula."""
    if not isinstance(cell, str):
        return cell
    try:
        float(cell)
    except ValueError:
        return escaping.csv_cell(cell)
    return cell.strip()


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(escaping.markdown(escaping.one_line(cell)).replace("|", "\\|") for cell in cells) + " |"

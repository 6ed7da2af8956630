"""A table as Markdown and CSV, with what it was made from below it."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dtvit_edge import escaping
from dtvit_edge.files import write_atomically


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

    def write(self, out: Path) -> None:
        """`NAME.md` and `NAME.csv` into a folder."""
        write_atomically(out / f"{self.name}.md", self.markdown())
        write_atomically(out / f"{self.name}.csv", csv_text(self.columns, self.rows))


def csv_text(columns: Sequence[str], rows: Sequence[Sequence[str | int | float]]) -> str:
    """A header and rows as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(cell) for cell in row] for row in rows)
    return text.getvalue()


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

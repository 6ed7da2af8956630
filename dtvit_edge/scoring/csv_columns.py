"""What a column of a table is: its name, what it means, and what a row says in it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from dtvit_edge.escaping import csv_cell
from dtvit_edge.spec import NOTICE

Row = TypeVar("Row")

# Behind all others, in every table.
LAST_COLUMNS = {
    "model_status": "how the model was trained: `untrained`, `synthetic` or `clinical-unvalidated`",
    "notice": "research use only, not a medical device",
}


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column of a table.

    Attributes:
        meaning: for the pages, in Markdown.
        cell: what a row says; it is escaped where it is written.
    """

    name: str
    meaning: str
    cell: Callable[[Row], str]


def names(columns: Sequence[Column[Row]]) -> tuple[str, ...]:
    """The names of columns."""
    return tuple(column.name for column in columns)


def head(columns: Sequence[Column[Row]], more: Sequence[str] = ()) -> str:
    """The first line of a table; `more` comes before the last columns."""
    return csv_text([(*names(columns), *more, *LAST_COLUMNS)])


def lines(columns: Sequence[Column[Row]], rows: Iterable[Row], model_status: str) -> str:
    """Rows of a table, as they are given."""
    cells = [column.cell for column in columns]
    return csv_text(line([cell(row) for cell in cells], model_status) for row in rows)


def line(cells: Iterable[str], model_status: str) -> list[str]:
    """A row of cells, escaped, with the last columns."""
    return [*map(csv_cell, cells), model_status, NOTICE]


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Rows as a CSV has them."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def probability(value: float | None) -> str:
    """Four decimals; empty where there is none."""
    return "" if value is None else f"{value:.4f}"


def flag(value: bool | None) -> str:
    """0 or 1; empty where nothing is known."""
    return "" if value is None else str(int(value))

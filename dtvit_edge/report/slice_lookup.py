"""The rows of one study out of `slices.csv`, without reading the rest of it: 10,000 studies have 100 MB of them."""

from __future__ import annotations

import csv
import os
from io import BufferedReader
from itertools import islice
from pathlib import Path

from dtvit_edge.errors import ConfigError
from dtvit_edge.files import open_regular
from dtvit_edge.report.run_results import SliceRow, parse_slices
from dtvit_edge.scoring.csv_columns import csv_text
from dtvit_edge.scoring.output_folder import SLICES

# A study of a body has 5,000 images; of one that has more, the rest stands in the table.
MOST_ROWS = 20_000
_LONGEST_TABLE, _LONGEST_LINE, _BLOCK = 2**36, 2**20, 2**20


def study_slices(out: Path, uid: str) -> list[SliceRow]:
    """A study's rows, `MOST_ROWS` at most; none where the table has none.

    Args:
        uid: as the cell has it, not empty.

    Raises:
        ConfigError: the table cannot be read, or is not as `score` writes it.
    """
    begins = csv_text([[uid, ""]]).rstrip("\n").encode("utf-8", "replace")  # `UID,` as the writer quotes it
    return [row for row in _rows(out, begins) if row.study_uid == uid]


def slices_of_no_study(out: Path, first: int, count: int) -> list[SliceRow]:
    """Rows of files that belong to no study; those stand at the table's beginning.

    Args:
        first: so many are passed over.

    Raises:
        ConfigError: as `study_slices`.
    """
    return _rows(out, b",", first, count)


def _rows(out: Path, begins: bytes, first: int = 0, count: int = MOST_ROWS) -> list[SliceRow]:
    try:
        with open_regular(out / SLICES, _LONGEST_TABLE) as (file, _):
            head = file.readline(_LONGEST_LINE)
            found = _find(file, b"\n" + begins)
            if found is None:
                return []
            file.seek(found + 1)
            lines = iter(lambda: file.readline(_LONGEST_LINE), b"")
            return parse_slices([head, *_while_beginning(islice(lines, first, first + count), begins)])
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{SLICES} cannot be read: {error.strerror or os.strerror(error.errno or 0)}") from error
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise ConfigError(f"{SLICES} is not as `score` writes it: {type(error).__name__}") from error


def _find(file: BufferedReader, wanted: bytes) -> int | None:
    """Where a text begins behind the first line, whose end is looked at as well.

    Block by block: a table that is mapped into memory ends the process where another one cuts it short.
    """
    place = max(file.tell() - 1, 0)
    file.seek(place)
    tail = b""
    while block := file.read(_BLOCK):
        text = tail + block
        if (at := text.find(wanted)) >= 0:
            return place - len(tail) + at
        place += len(block)
        tail = text[-len(wanted) + 1 :]
    return None


def _while_beginning(lines: islice[bytes], begins: bytes) -> list[bytes]:
    """Studies stand one after the other, so that the first line of another one is the end."""
    kept = []
    for line in lines:
        if not line.startswith(begins):
            break
        kept.append(line)
    return kept

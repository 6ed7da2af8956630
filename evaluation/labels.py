"""A labelled set: a CSV `path, patient, ich, location` over DICOM, PNG or JPEG files.

`path` is relative to the CSV. `ich` is 0, 1 (or 0.0, 1.0) or empty, `location` a label of the location head or empty;
further columns (the phantoms' truth has two) are left alone. Everything that is wrong is said at once, with its line.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dtvit_edge.errors import ConfigError
from dtvit_edge.files import make_folder, write_atomically
from dtvit_edge.spec import LOCATION_LABELS, digest_json

COLUMNS = ("path", "patient", "ich", "location")
_SAID_AT_ONCE = 8
_MISSING = "no such file"
# A column of 0 and 1 in which some are missing is one of floats where a data frame wrote it.
_WHOLE = {"0.0": "0", "1.0": "1"}


@dataclass(frozen=True)
class LabelledSlice:
    """One row.

    Attributes:
        file: the image; path: as the CSV writes it.
        ich: None where it is not labelled; location: an index into `LOCATION_LABELS`, None where not labelled.
    """

    file: Path
    path: str
    patient: str
    ich: bool | None
    location: int | None


def read_labels(csv_file: Path) -> tuple[LabelledSlice, ...]:
    """Read a labelled set.

    Raises:
        ConfigError: no such file, missing columns, or rows that cannot be meant (a missing file, an unknown
            label, a location on a slice without haemorrhage, a file named twice), the first few with their lines.
    """
    try:
        with csv_file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                # What is there is not repeated: without a header it is a patient's row.
                other = next((s for s in ";\t|" if s in (reader.fieldnames or [""])[0]), None)
                hint = f"; its columns are separated by {other!r}, expected commas" if other else ""
                raise ConfigError(
                    f"{csv_file}: no column {', '.join(missing)}; expected {', '.join(COLUMNS)} in lower case{hint}"
                )
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{csv_file}: not readable as a CSV: {error}") from error
    if not rows:
        raise ConfigError(f"{csv_file}: no rows")
    slices: list[LabelledSlice] = []
    wrong: list[str] = []
    for line, row in rows:
        parsed = _parse(csv_file.parent, row)
        if isinstance(parsed, str):
            wrong.append(f"line {line}: {parsed}")
        else:
            slices.append(parsed)
    twice = [path for path, count in Counter(os.path.normpath(s.path) for s in slices).items() if count > 1]
    wrong += [f"{path}: named more than once" for path in twice]
    if wrong:
        more = f"\n  and {len(wrong) - _SAID_AT_ONCE} more" if len(wrong) > _SAID_AT_ONCE else ""
        hint = "\n  a path begins at the CSV's folder, unless it is absolute" * any(w.endswith(_MISSING) for w in wrong)
        raise ConfigError(f"{csv_file}:\n  " + "\n  ".join(wrong[:_SAID_AT_ONCE]) + more + hint)
    return tuple(slices)


def write_labels(csv_file: Path, slices: Sequence[LabelledSlice]) -> None:
    """Write a set for `read_labels`, each path relative to the CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for s in slices:
        location = "" if s.location is None else LOCATION_LABELS[s.location]
        ich = "" if s.ich is None else int(s.ich)
        writer.writerow((os.path.relpath(s.file, csv_file.parent), s.patient, ich, location))
    make_folder(csv_file.parent)
    write_atomically(csv_file, text.getvalue())


def labels_digest(slices: Sequence[LabelledSlice]) -> str:
    """Identity of a set: its rows, in order, with every file's size. Hashing the files would take minutes."""
    return digest_json([(s.path, s.patient, s.ich, s.location, s.file.stat().st_size) for s in slices])


def _parse(folder: Path, row: dict[str, str | None]) -> LabelledSlice | str:
    """A labelled slice, or a text that says what is wrong with the row."""
    path, patient, ich, location = ((row[name] or "").strip() for name in COLUMNS)
    file = folder / path
    if not path or not file.is_file():
        return f"{path or 'no path'}: {_MISSING}"
    if not patient:
        return f"{path}: no patient, who must not end up on both sides of a split"
    ich = _WHOLE.get(ich, ich)
    if ich not in ("", "0", "1"):
        return f"{path}: ich is {ich!r}, expected 0, 1 or nothing"
    if location and location not in LOCATION_LABELS:
        return f"{path}: location is {location!r}, expected {', '.join(LOCATION_LABELS)} or nothing"
    if location and ich == "0":
        return f"{path}: a location ({location}) on a slice without haemorrhage"
    return LabelledSlice(
        file, path, patient, None if ich == "" else ich == "1", LOCATION_LABELS.index(location) if location else None
    )

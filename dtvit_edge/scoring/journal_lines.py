"""Lines of the journal: sealed with a checksum, and read with mistrust.

A line is a JSON object whose first field, `check`, is a checksum of the run and of every other byte of the line. A line
that a disk or an editor has changed does not verify, nor does one that was copied from another run.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from hashlib import blake2b
from typing import Any

from dtvit_edge.dicom.slice import SliceImage
from dtvit_edge.reasons import PASSING, REASONS, Status
from dtvit_edge.results import Identity, PixelMeasures, SliceScore
from dtvit_edge.spec import LOCATION_LABELS

ImageRows = tuple[SliceScore, ...]

_BEGIN, _AFTER = b'{"check":"', b'",'
_HEX_DIGITS = 16
_ROW_FIELDS = {f.name for f in fields(SliceScore)}
_MEASURE_FIELDS = {f.name for f in fields(PixelMeasures)}


def sealed(data: dict[str, Any], run: str) -> bytes:
    """A line, its newline included.

    Args:
        data: its fields, at least one.
        run: what the line belongs to, 64 characters at most; empty for the line that says so.
    """
    rest = json.dumps(data, separators=(",", ":"), allow_nan=False).encode()[1:]
    return _BEGIN + _checksum(rest, run) + _AFTER + rest + b"\n"


def opened(line: bytes, run: str) -> dict[str, Any] | None:
    """A line's fields without the checksum; None where it does not verify."""
    at = len(_BEGIN) + _HEX_DIGITS
    rest = line[at + len(_AFTER) : -1]
    if line != _BEGIN + _checksum(rest, run) + _AFTER + rest + b"\n":
        return None
    try:
        data = json.loads(b"{" + rest)
    except (ValueError, RecursionError):  # of its right checksum, but by nothing that wrote a journal
        return None
    return data if isinstance(data, dict) else None


def batch(indices: list[int], images: list[ImageRows]) -> dict[str, Any]:
    """The fields of a finished batch's line."""
    return {"images": indices, "rows": [[asdict(row) for row in rows] for rows in images]}


def finished(data: dict[str, Any], planned: list[SliceImage]) -> dict[int, ImageRows] | None:
    """The rows of a finished batch by image; None where they are not what a run of this plan can have written."""
    try:
        indices = [_whole(i, len(planned) - 1) for i in data["images"]]
        images = [tuple(map(_row, rows)) for rows in data["rows"]]
        belong = len(set(indices)) == len(images) and all(
            _belong(planned[i], rows) for i, rows in zip(indices, images, strict=True)
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return dict(zip(indices, images, strict=True)) if belong else None


def _checksum(rest: bytes, run: str) -> bytes:
    # The key is no secret: it makes the line one of this run, and of no other.
    return blake2b(rest, key=run.encode(), digest_size=_HEX_DIGITS // 2).hexdigest().encode()


def _belong(image: SliceImage, rows: ImageRows) -> bool:
    """Whether rows are those of an image's slices, in their order."""
    return [(h.identity, h.frame, h.path, image.place) for h in image.headers] == [
        (Identity(row.study_uid, row.series_uid, row.sop_uid), row.frame, row.path, row.place) for row in rows
    ]


def _row(data: dict[str, Any]) -> SliceScore:
    """A row of which every value is of its type, and can be true.

    Raises:
        ValueError, KeyError, TypeError: it is not.
    """
    _must(data.keys() == _ROW_FIELDS)
    status = Status(data["status"])
    reason, ich, locations = data["reason"], data["ich_probability"], data["location_probabilities"]
    _must(all(isinstance(data[name], str) for name in ("study_uid", "series_uid", "sop_uid", "path", "reason")))
    if status is Status.SCORED:
        _must(reason == "" and isinstance(data["ich"], bool))
        _share(ich)
    else:
        _must(REASONS[reason].status is status and reason not in PASSING)
        _must(data["ich"] is None and ich is None and locations is None)
    if locations is not None:
        _must(len(locations) == len(LOCATION_LABELS))
        locations = tuple(map(_share, locations))
    _whole(data["frame"])
    for name in ("place", "head_pixels"):
        if data[name] is not None:
            _whole(data[name])
    measures = None if data["measures"] is None else _measures(data["measures"])
    return SliceScore(**data | {"status": status, "location_probabilities": locations, "measures": measures})


def _measures(data: dict[str, Any]) -> PixelMeasures:
    _must(data.keys() == _MEASURE_FIELDS and isinstance(data["constant"], bool) and isinstance(data["digest"], str))
    _share(data["air_share"]), _share(data["high_share"])
    return PixelMeasures(**data)


def _share(value: Any) -> float:
    _must(type(value) is float and math.isfinite(value) and 0 <= value <= 1)
    return float(value)


def _whole(value: Any, most: int | None = None) -> int:
    _must(type(value) is int and value >= 0 and (most is None or value <= most))
    return int(value)


def _must(holds: bool) -> None:
    if not holds:
        raise ValueError("no row of a journal")

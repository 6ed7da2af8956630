"""Lines of the journal: sealed with a checksum, and read with mistrust.

A line is a JSON object whose first field, `check`, is a checksum of the run and of every other byte of the line. A line
that a disk or an editor has changed does not verify, nor does one that was copied from another run.

An image is known by the files that it is made of, never by its place in a plan: a digest of size, times, UIDs and frame
of each of its slices, in their order. What is kept of it is what its pixels and the model said; path and place are the
plan's, which may have changed since.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, fields
from hashlib import blake2b
from itertools import chain
from typing import Any

from dtvit_edge.dicom.slice import SliceHeader, SliceImage
from dtvit_edge.reasons import PASSING, REASONS, Status
from dtvit_edge.results import PixelMeasures, SliceScore
from dtvit_edge.spec import LOCATION_LABELS

ImageRows = tuple[SliceScore, ...]
# Of each slice of an image its outcome, as plain JSON types.
Outcomes = list[dict[str, Any]]

_BEGIN, _AFTER = b'{"check":"', b'",'
_HEX_DIGITS = 16
_KEY_DIGITS = 32
_PLANS = ("study_uid", "series_uid", "sop_uid", "frame", "path", "place")
_OUTCOME_FIELDS = {f.name for f in fields(SliceScore)} - set(_PLANS)
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


def image_key(image: SliceImage) -> str:
    """What an image is known by: its slices' files as they were found, their UIDs and frames, in order."""
    members = [_slice_key(header) for header in image.headers]
    return blake2b(json.dumps(members).encode(), digest_size=_KEY_DIGITS // 2).hexdigest()


def ambiguous_images(images: Sequence[SliceImage]) -> list[bool]:
    """Of each image whether it has a slice that cannot be told from another one of them.

    Files of one size and time that claim to be one instance are such: nobody knows which of them was scored before.
    """
    members = [[_slice_key(header) for header in image.headers] for image in images]
    count = Counter(chain.from_iterable(members))
    return [any(count[member] > 1 for member in of_image) for of_image in members]


def batch(images: Iterable[tuple[str, Outcomes]]) -> dict[str, Any]:
    """The fields of a line of finished images, by key."""
    return {"images": [[key, outcomes] for key, outcomes in images]}


def outcomes_of(rows: ImageRows) -> Outcomes:
    """What is kept of an image's rows."""
    kept = ({name: value for name, value in asdict(row).items() if name in _OUTCOME_FIELDS} for row in rows)
    return [outcome | {"status": str(outcome["status"])} for outcome in kept]


def finished(data: dict[str, Any]) -> dict[str, Outcomes] | None:
    """The outcomes in a line, by key; None where they are not what a run can have written."""
    try:
        images = dict(data["images"])
        _must(data.keys() == {"images"} and len(images) == len(data["images"]))
        for key, outcomes in images.items():
            _must(isinstance(key, str) and len(key) == _KEY_DIGITS and isinstance(outcomes, list) and bool(outcomes))
            for outcome in outcomes:
                _check(outcome)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return images


def rows_of(image: SliceImage, outcomes: Outcomes) -> ImageRows:
    """An image's rows in today's plan.

    Args:
        outcomes: checked, as many as the image has slices.
    """
    return tuple(
        SliceScore(*_uids(header.identity), header.frame, header.path, place=image.place, **_fields(outcome))
        for header, outcome in zip(image.headers, outcomes, strict=True)
    )


def _slice_key(header: SliceHeader) -> tuple[int | str, ...]:
    # Neither path nor device nor inode: a folder may be renamed, and file systems in user space number files anew.
    return (*(header.state or ()), *_uids(header.identity), header.frame)


def _uids(identity: Any) -> tuple[str, str, str]:
    return identity.study_uid, identity.series_uid, identity.sop_uid


def _checksum(rest: bytes, run: str) -> bytes:
    # The key is no secret: it makes the line one of this run, and of no other.
    return blake2b(rest, key=run.encode(), digest_size=_HEX_DIGITS // 2).hexdigest().encode()


def _fields(outcome: dict[str, Any]) -> dict[str, Any]:
    locations, measures = outcome["location_probabilities"], outcome["measures"]
    return outcome | {
        "status": Status(outcome["status"]),
        "location_probabilities": None if locations is None else tuple(locations),
        "measures": None if measures is None else PixelMeasures(**measures),
    }


def _check(data: dict[str, Any]) -> None:
    """Every value of an outcome is of its type, and can be true.

    Raises:
        ValueError, KeyError, TypeError: it is not.
    """
    _must(data.keys() == _OUTCOME_FIELDS)
    status = Status(data["status"])
    reason, ich, locations = data["reason"], data["ich_probability"], data["location_probabilities"]
    _must(isinstance(reason, str))
    if status is Status.SCORED:
        _must(reason == "" and isinstance(data["ich"], bool))
        _share(ich)
    else:
        _must(REASONS[reason].status is status and reason not in PASSING)
        _must(data["ich"] is None and ich is None and locations is None)
    if locations is not None:
        _must(isinstance(locations, list) and len(locations) == len(LOCATION_LABELS))
        for share in locations:
            _share(share)
    if data["head_pixels"] is not None:
        _must(type(data["head_pixels"]) is int and data["head_pixels"] >= 0)
    if data["brain_share"] is not None:
        _share(data["brain_share"])
    if (measures := data["measures"]) is not None:
        _must(measures.keys() == _MEASURE_FIELDS and isinstance(measures["constant"], bool))
        _must(isinstance(measures["digest"], str))
        for name in ("air_share", "high_share", "edge_share", "bone_share"):
            _share(measures[name])
        if measures["air_hu"] is not None:
            _must(type(measures["air_hu"]) is float and math.isfinite(measures["air_hu"]))


def _share(value: Any) -> None:
    _must(type(value) is float and math.isfinite(value) and 0 <= value <= 1)


def _must(holds: bool) -> None:
    if not holds:
        raise ValueError("no outcome of a journal")

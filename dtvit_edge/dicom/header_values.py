"""Values of a header by keyword, the same from either reader: text, numbers, None for what says nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

from dtvit_edge.dicom.fast_header import FastHeader

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence


WHOLE_REACH = 1 << 31  # PS3.5 section 6.2, IS
Tags: TypeAlias = "Dataset | FastHeader"
_LONGEST_NAME = 64


def value(dataset: Tags, keyword: str) -> Any:
    """The value as pydicom gives it; as text where it cannot be one of its VR; None where it is missing.

    A tube voltage of "Sn150" or a position with decimal commas is no reason to lose the file: whoever asks decides
    what such a text is worth.
    """
    if isinstance(dataset, FastHeader):
        return dataset.values.get(keyword)
    try:
        return dataset.get(keyword)
    except (ValueError, TypeError, OverflowError):
        raw = getattr(dataset.get_item(keyword), "value", None)  # not converted yet: the file's own bytes
        if not isinstance(raw, bytes):
            raise
        parts = raw.rstrip(b" \0").decode("latin-1").split("\\")
        return parts if len(parts) > 1 else parts[0]


def items(dataset: Tags, keyword: str) -> Sequence | tuple[()]:
    """The items of a sequence; none where it is missing, or is none."""
    if isinstance(dataset, FastHeader):  # a file with sequences of interest is not of the common case
        return ()
    from pydicom.sequence import Sequence

    sequence = dataset.get(keyword)
    return sequence if isinstance(sequence, Sequence) else ()


def text(dataset: Tags, keyword: str) -> str:
    """A value as text without its padding, several joined by backslashes; empty where it is missing."""
    found = value(dataset, keyword)
    return found.strip(" \0") if type(found) is str else "\\".join(parts(found))


def device_name(dataset: Tags, *keywords: str) -> str:
    """What a device is called: as it is written, but for blanks, and no longer than such texts are (PS3.5, LO)."""
    found = (" ".join(text(dataset, keyword).split())[:_LONGEST_NAME] for keyword in keywords)
    return " ".join(name for name in found if name)


def words(dataset: Tags, keyword: str) -> list[str]:
    """The values in upper case."""
    return [part.upper() for part in parts(value(dataset, keyword))]


def joined(found: Any) -> str:
    """A value, or several, as one upper-case text."""
    return " ".join(parts(found)).strip().upper()


def parts(found: Any) -> list[str]:
    """A value, or several, as texts without padding."""
    if found is None:
        return []
    if type(found) is str:
        return [found.strip(" \0")]
    single = isinstance(found, (str, int, float, bytes)) or not hasattr(found, "__iter__")
    return [str(part).strip(" \0") for part in ((found,) if single else found)]


def number(found: Any) -> float | None:
    """A finite number; a decimal comma is read as a point. None for anything else, several numbers among it."""
    if type(found) is float:
        return found if math.isfinite(found) else None
    if isinstance(found, str):
        found = found.strip(" \0").replace(",", ".")
    try:
        result = float(found)
    except (TypeError, ValueError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def positive(found: Any) -> float | None:
    """A number above 0: where nothing can be 0 (a thickness, a tube voltage), a 0 stands for unknown."""
    result = number(found)
    return result if result is not None and result > 0 else None


def integer(found: Any) -> int | None:
    """A whole number in the range of VR IS; decimals are cut off. None for anything else."""
    result = number(found)
    return int(result) if result is not None and -WHOLE_REACH <= result < WHOLE_REACH else None


def numbers(found: Any, count: int) -> tuple[float, ...] | None:
    """Exactly `count` finite numbers, or None."""
    if isinstance(found, (str, bytes)) or not hasattr(found, "__iter__"):
        return None
    finite = [n for v in found if (n := number(v)) is not None]
    return tuple(finite) if len(finite) == len(found) == count else None

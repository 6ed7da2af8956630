"""Items of encapsulated pixel data (PS3.5 section A.4), found by their heads; what they hold is not read."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from dtvit_edge.dicom.codestream import STARTS_WITHIN, begins_frame

ITEM, END_OF_ITEM, END_OF_SEQUENCE = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_HEAD = 8
# Offsets in a table: more than a file may have frames, many times over.
_LONGEST_TABLE = 1 << 20
_head = struct.Struct("<HHI").unpack_from

Read = Callable[[int, int], bytes]


class Fragments(NamedTuple):
    """The items between an element's head and the delimiter of its sequence.

    Attributes:
        table: the basic offset table: where each frame's first item is, counted from the first item behind the table.
        places: offset and length in bytes of what each fragment holds.
        frames: which fragments begin a frame, by index.
        end: behind the delimiter, or where something else than an item stands; None where the data end before either.
        delimited: the delimiter was found.
    """

    table: tuple[int, ...]
    places: tuple[tuple[int, int], ...]
    frames: tuple[int, ...]
    end: int | None
    delimited: bool

    @property
    def offsets(self) -> tuple[int, ...]:
        """Of each fragment's item, counted as offset tables do."""
        first = self.places[0][0] if self.places else 0
        return tuple(offset - first for offset, _ in self.places)


def find_fragments(read: Read, place: int, size: int) -> Fragments:
    """Go from item to item.

    Args:
        read: bytes from an offset, so many at most.
        place: of the first item, the offset table.
        size: of all that can be read.
    """
    table: tuple[int, ...] | None = None
    places: list[tuple[int, int]] = []
    frames: list[int] = []
    delimited = False
    while place + _HEAD <= size:
        start = read(place, _HEAD + STARTS_WITHIN)
        group, element, length = _head(start)
        tag = group << 16 | element
        if tag != ITEM:
            delimited = tag == END_OF_SEQUENCE
            place += _HEAD if delimited else 0
            return Fragments(table or (), tuple(places), tuple(frames), place, delimited)
        place += _HEAD
        if place + length > size:
            return Fragments(table or (), tuple(places), tuple(frames), None, False)
        if table is None:
            count = min(length, _LONGEST_TABLE) // 4
            table = struct.unpack(f"<{count}I", read(place, 4 * count))
        else:
            if begins_frame(start[_HEAD : _HEAD + length]):
                frames.append(len(places))
            places.append((place, length))
        place += length
    return Fragments(table or (), tuple(places), tuple(frames), None, False)


def only_fragment(data: bytes) -> bytes | None:
    """What the only fragment of encapsulated pixel data holds; None where there are several, or something else."""
    fragments = find_fragments(lambda place, count: data[place : place + count], 0, len(data))
    if len(fragments.places) != 1 or not fragments.delimited or fragments.end != len(data):
        return None
    offset, length = fragments.places[0]
    return data[offset : offset + length]

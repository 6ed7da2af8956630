"""Slice headers packed small: a plan of a hundred thousand files has to fit into a bedside machine beside a model.

Nearly all of a header is its series': those values are kept once for all of its slices. What is a slice's own (its
file's name and state, its UID, where it lies, where its pixels lie) becomes a few hundred bytes, and a `SliceHeader`
again when its study's turn comes.
"""

from __future__ import annotations

import marshal
import os.path
from collections.abc import Iterable, Iterator
from dataclasses import fields
from hashlib import blake2b
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeAlias

from dtvit_edge import reasons
from dtvit_edge.dicom.planned_file import FileState
from dtvit_edge.dicom.slice import PixelFault, PixelLocation, SliceHeader
from dtvit_edge.results import Identity
from dtvit_edge.spec import PixelEncoding

# A header as plain types: what its series shares, and what is its own.
Packed: TypeAlias = tuple[tuple[Any, ...], bytes]

_OWN = ("frame", "position_mm", "instance_number", "slice_location_mm", "twin")
_MADE_APART = ("file", "path", "identity", "encoding", "pixel_location", "pixel_fault", "state")
_SHARED = tuple(f.name for f in fields(SliceHeader) if f.name not in (*_OWN, *_MADE_APART))
_of_series, _of_slice = attrgetter(*_SHARED), attrgetter(*_OWN)
_of_encoding, _of_location = (attrgetter(*(f.name for f in fields(kind))) for kind in (PixelEncoding, PixelLocation))


def pack(header: SliceHeader) -> Packed:
    """A header as plain types; what it shares can be hashed."""
    uids, location, fault = header.identity, header.pixel_location, header.pixel_fault
    folder, name = os.path.split(header.file)
    above, _, last = header.path.rpartition("/")
    shared = (
        uids.study_uid,
        uids.series_uid,
        folder,
        above,
        _of_encoding(header.encoding),
        None if fault is None else (fault.reason.code, fault.detail),
        *_of_series(header),
    )
    own = (
        name,
        None if last == name else header.path,
        None if header.state is None else (*header.state,),
        uids.sop_uid,
        None if location is None else _of_location(location),
        *_of_slice(header),
    )
    return shared, marshal.dumps(own)


class Records:
    """The headers of one study, in the order in which they were added.

    Args:
        shared: what series share, each once, for all studies of a plan.
    """

    def __init__(self, shared: SharedValues) -> None:
        self._values = shared
        self._shared: list[int] = []
        self._own: list[bytes] = []

    def __len__(self) -> int:
        return len(self._own)

    def __iter__(self) -> Iterator[SliceHeader]:
        """The headers, made anew."""
        return (_unpacked(self._values[number], own) for number, own in zip(self._shared, self._own, strict=True))

    def add(self, shared: tuple[Any, ...], own: bytes) -> None:
        """Take a packed header in."""
        self._shared.append(self._values.number(shared))
        self._own.append(own)

    def packed(self) -> Iterator[tuple[str, str, FileState | None, Packed]]:
        """Where each header's file lies, its path, what it was when it was read, and the header as it was added."""
        for number, own in zip(self._shared, self._own, strict=True):
            shared = self._values[number]
            name, path, state, *_ = marshal.loads(own)
            file, state = os.path.join(shared[2], name), None if state is None else FileState(*state)
            yield file, _path(shared[3], name, path), state, (shared, own)

    def contents(self) -> Iterator[bytes]:
        """A digest of what each header says and of its path, the same wherever its file lies and whatever its times."""
        for _, path, _, (shared, own) in self.packed():
            said = marshal.dumps((path, marshal.loads(own)[3:], shared[:2], shared[4:]), 2)  # refers to nothing twice
            yield blake2b(said, digest_size=16).digest()

    def is_as(self, other: Records) -> bool:
        """Whether both hold the same headers in the same order."""
        return self._own == other._own and [self._values[n] for n in self._shared] == [
            other._values[n] for n in other._shared
        ]


class SharedValues:
    """Tuples of values, each once, known by a number."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[Any, ...], int] = {}
        self._values: list[tuple[Any, ...]] = []

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        return self._values[number]

    def number(self, values: tuple[Any, ...]) -> int:
        """The number of a tuple; new ones get the next."""
        number = self._numbers.setdefault(values, len(self._values))
        if number == len(self._values):
            self._values.append(values)
        return number


def study_of(shared: tuple[Any, ...]) -> str:
    """The study UID of packed headers."""
    return str(shared[0])


def folder_of(shared: tuple[Any, ...]) -> str:
    """The folder that the file of packed headers lies in."""
    return str(shared[2])


def pack_all(headers: Iterable[SliceHeader]) -> list[Packed]:
    """The headers of one file, packed."""
    return [pack(header) for header in headers]


def _unpacked(shared: tuple[Any, ...], own: bytes) -> SliceHeader:
    study, series, folder, above, encoding, fault, *values = shared
    name, path, state, sop, location, *of_slice = marshal.loads(own)
    return SliceHeader(
        file=Path(folder, name),
        path=_path(above, name, path),
        identity=Identity(study, series, sop),
        encoding=PixelEncoding(*encoding),
        pixel_location=None if location is None else PixelLocation(*location),
        pixel_fault=None if fault is None else PixelFault(reasons.REASONS[fault[0]], fault[1]),
        state=None if state is None else FileState(*state),
        **dict(zip(_SHARED, values, strict=True)),
        **dict(zip(_OWN, of_slice, strict=True)),
    )


def _path(above: str, name: str, path: str | None) -> str:
    return path if path is not None else f"{above}/{name}" if above else name

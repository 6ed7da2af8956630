"""A child that reads headers of the common case, which this package's own Python parses, as many files at a time.

What pydicom has to look at is not read here: the asker does that within bounds (`decoder_pool`). Nothing but plain
values goes either way.
"""

from __future__ import annotations

import marshal
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, TypeAlias

from dtvit_edge.dicom.header import FileRejected, read_fast_headers
from dtvit_edge.dicom.planned_file import FileState
from dtvit_edge.dicom.records import Packed, pack_all

# A file's real path, its path below the folder given, and what it has to be.
Question: TypeAlias = tuple[str, str, tuple[int, int, int] | None]
# Headers as their number among those that are shared, and what is their own; else why a whole file is rejected: code,
# detail, UIDs, frames; None where pydicom has to look.
Answer: TypeAlias = list[tuple[int, bytes]] | tuple[str, str, tuple[str, str, str], int] | None

LENGTH = struct.Struct("<Q")
BOOT = "import sys; sys.path[:] = sys.argv[1:]; from dtvit_edge.dicom.header_process import main; main()"


def main() -> None:
    """Answer until the requests end."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while (length := requests.read(LENGTH.size)) and len(length) == LENGTH.size:
        body = marshal.dumps(answer(marshal.loads(requests.read(*LENGTH.unpack(length)))))
        answers.write(LENGTH.pack(len(body)))
        answers.write(body)
        answers.flush()


def answer(questions: Sequence[Question]) -> tuple[list[tuple[Any, ...]], list[Answer]]:
    """What headers share, each once, and an answer a file."""
    shared: dict[tuple[Any, ...], int] = {}
    return_: list[Answer] = []
    for file, path, state in questions:
        packed = read(file, path, state)
        if isinstance(packed, list):
            return_.append([(shared.setdefault(of_series, len(shared)), own) for of_series, own in packed])
        else:
            return_.append(packed)
    return list(shared), return_


def read(
    file: str, path: str, state: tuple[int, int, int] | None
) -> list[Packed] | tuple[str, str, tuple[str, str, str], int] | None:
    """One file's packed headers, or why it is rejected, or None where it is not of the common case."""
    try:
        headers = read_fast_headers(Path(file), path, None if state is None else FileState(*state))
        return None if headers is None else pack_all(headers)
    except FileRejected as error:
        uids = error.identity
        return error.reason.code, error.detail, (uids.study_uid, uids.series_uid, uids.sop_uid), error.frames


def ask(stream_in: IO[bytes], stream_out: IO[bytes], questions: Sequence[Question]) -> Any:
    """Ask a child.

    Raises:
        OSError, EOFError, ValueError, TypeError: it has ended, or answers what is none.
    """
    body = marshal.dumps(list(questions))
    stream_in.write(LENGTH.pack(len(body)) + body)
    stream_in.flush()
    length = stream_out.read(LENGTH.size)
    if len(length) != LENGTH.size:
        raise EOFError
    return marshal.loads(stream_out.read(*LENGTH.unpack(length)))

"""The journal of a run: one JSON line per finished batch, so that a killed run loses at most what was under way.

The first line names the run (a digest of bundle and options, and one of the inputs). Images are known by their index in
the plan.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from dtvit_edge.errors import ConfigError
from dtvit_edge.reasons import PASSING, Status
from dtvit_edge.results import PixelMeasures, SliceScore

FILE_NAME = "journal.jsonl"
FORMAT = 3


ImageRows = tuple[SliceScore, ...]


class Journal:
    """Opened for one run; `done` holds the rows of each image that this try or an earlier one finished, by index."""

    def __init__(self, path: Path, run: str, inputs: str = "") -> None:
        self.path = path
        self._first = {"journal": FORMAT, "run": run, "inputs": inputs}
        self.done: dict[int, ImageRows] = {}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Journal:
        file = self.path.open("a+b")
        try:
            _lock(file, self.path)
            self._load(file)
        except BaseException:
            file.close()
            raise
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def append(self, indices: Sequence[int], images: Sequence[ImageRows]) -> None:
        """Record a finished batch; on return it is on the disk.

        A batch with a reason that may pass stands in `done` alone: a rerun scores it again, whole, since a batch of
        another size may have other bytes.
        """
        self.done.update(zip(indices, images, strict=True))
        if not any(row.reason in PASSING for rows in images for row in rows):
            self._write({"images": list(indices), "rows": [[asdict(row) for row in rows] for rows in images]})

    def fault(self, paths: Sequence[str], message: str) -> None:
        """Mark what was in flight when the device failed; a rerun scores it again."""
        self._write({"fault": message, "in_flight": list(paths)})

    def _load(self, file: IO[bytes]) -> None:
        file.seek(0)
        content = file.read()
        whole = content[: content.rfind(b"\n") + 1]  # a torn last line is a batch that did not finish
        lines = [json.loads(line) for line in whole.splitlines()]
        if not lines:
            file.truncate(0)
            self._file = file
            self._write(self._first)
            return
        if lines[0] != self._first:
            out = self.path.parent
            if isinstance(lines[0], dict) and lines[0] | {"inputs": ""} == self._first | {"inputs": ""}:
                raise ConfigError(f"{out} holds a run of other or changed files; give another folder or --overwrite")
            raise ConfigError(f"{out} holds another run; give another folder or --overwrite")
        file.truncate(len(whole))
        self.done = {
            i: tuple(map(_row, rows))
            for line in lines[1:]
            if "images" in line
            for i, rows in zip(line["images"], line["rows"], strict=True)
        }

    def _write(self, line: dict[str, Any]) -> None:
        assert self._file is not None, "the journal is not open"
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        # Else a power failure takes lines that `append` has promised, and a rerun could not know which.
        os.fsync(self._file.fileno())


def _row(data: dict[str, Any]) -> SliceScore:
    locations, measures = data["location_probabilities"], data["measures"]
    return SliceScore(
        **{
            **data,
            "status": Status(data["status"]),
            "location_probabilities": None if locations is None else tuple(locations),
            "measures": None if measures is None else PixelMeasures(**measures),
        }
    )


def _lock(file: IO[bytes], path: Path) -> None:
    """Hold the journal for this process; two runs into one folder would mix their batches."""
    try:
        import fcntl
    except ImportError:  # Windows: no advisory locks; the run digest still keeps different runs apart
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise ConfigError(f"{path.parent}: another process is writing this run") from error

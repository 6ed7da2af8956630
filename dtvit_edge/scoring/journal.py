"""The journal of a run: one line per finished batch, so that a killed run loses at most what was under way.

The first line names the run (a digest of bundle and options, and one of the inputs) and the configuration that it began
with. Images are known by their index in
the plan. What does not verify, or cannot be of this plan, is dropped and scored again.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from dtvit_edge.dicom.slice import SliceImage
from dtvit_edge.errors import ConfigError, DiskFault
from dtvit_edge.files import disk_fault, open_file, unusable, write_all, write_atomically
from dtvit_edge.reasons import PASSING
from dtvit_edge.scoring.journal_lines import ImageRows, batch, finished, opened, sealed
from dtvit_edge.spec import digest_json

FILE_NAME = "journal.jsonl"
FORMAT = 4
# A batch of 64 images of 16 slices each has 0.5 MB. What is longer is read in parts, none of which verifies.
_LONGEST_LINE = 64 * 2**20
_LONGEST_FIRST_LINE = 2**16
_CONFIGURATION = "configuration"

log = logging.getLogger(__name__)


class Journal:
    """Opened for one run, whose folder is locked; a context manager.

    Args:
        planned: the run's images.
        configuration: of the run, as plain JSON types; `run` is a digest of it too. A journal keeps the one that it
            began with, for `begun_configuration`.

    Attributes:
        done: the rows of each image that this try or an earlier one finished, by index.
    """

    def __init__(
        self,
        path: Path,
        run: str,
        inputs: str,
        planned: Sequence[SliceImage],
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path
        self.done: dict[int, ImageRows] = {}
        self._first = {"journal": FORMAT, "run": run, "inputs": inputs}
        self._key = digest_json(self._first)
        self._begun = {} if configuration is None else {_CONFIGURATION: dict(configuration)}
        self._planned = list(planned)
        self._descriptor: int | None = None

    def __enter__(self) -> Journal:
        """Read what an earlier try finished.

        Raises:
            ConfigError: the journal is another run's, its first line is damaged, or it cannot be written.
        """
        try:
            self._load()
            self._descriptor = self._open()
            if os.fstat(self._descriptor).st_size == 0:
                write_all(self._descriptor, sealed(self._first | self._begun, ""))
                os.fsync(self._descriptor)
        except BaseException as error:
            self._close()
            if isinstance(error, OSError):
                raise unusable(self.path.parent, error) from error
            if isinstance(error, DiskFault):
                raise ConfigError(str(error)) from error
            raise
        return self

    def __exit__(self, *details: object) -> None:
        self._close()

    def append(self, indices: Sequence[int], images: Sequence[ImageRows]) -> None:
        """Record a finished batch; on return it is on the disk.

        A batch in which something failed for a reason that may pass stands in `done` alone: a rerun scores it again,
        whole, since a batch of another size may have other bytes.

        Raises:
            DiskFault: it cannot be recorded.
        """
        self.done.update(zip(indices, images, strict=True))
        if not any(row.reason in PASSING for rows in images for row in rows):
            self._write(batch(list(indices), list(images)))

    def fault(self, paths: Sequence[str], message: str) -> None:
        """Mark what was in flight when the device failed; a rerun scores it again."""
        self._write({"fault": message, "in_flight": list(paths)})

    def _load(self) -> None:
        if not self.path.exists():
            return
        with os.fdopen(self._open(), "rb") as file:
            lines = _lines(file)
            first = next(lines, b"")
            if not first.endswith(b"\n") and sealed(self._first | self._begun, "").startswith(first):
                whole = b""  # torn while it was written: nothing had been scored
            else:
                whole = first
                self._check_first(opened(first, ""))
            taken: list[tuple[bytes, dict[int, ImageRows]]] = []
            dropped, torn = 0, not whole
            for line in lines:
                if not line.endswith(b"\n"):  # a batch that did not finish
                    torn = True
                elif (rows := self._rows(line)) is None:
                    dropped += 1
                else:
                    taken.append((line, rows))
        wrong = _contradicted(rows for _, rows in taken)
        kept = [(line, rows) for line, rows in taken if not wrong & rows.keys()]
        dropped += len(taken) - len(kept)
        for _, rows in kept:
            self.done.update(rows)
        if dropped or torn:  # else a finished run would say it again
            write_atomically(self.path, b"".join([whole, *(line for line, _ in kept)]))
        if dropped:
            log.warning(
                "the journal is damaged or was edited: %d of its lines do not verify; what they say is scored again",
                dropped,
            )

    def _check_first(self, first: dict[str, Any] | None) -> None:
        out = self.path.parent
        if first is None:
            raise ConfigError(
                f"the first line of {self.path} is damaged or of another version, so that nobody knows whose results "
                "it holds; give another folder or --overwrite"
            )
        first = {name: value for name, value in first.items() if name != _CONFIGURATION}
        if first != self._first:
            if first | {"inputs": ""} == self._first | {"inputs": ""}:
                raise ConfigError(f"{out} holds a run of other or changed files; give another folder or --overwrite")
            raise ConfigError(f"{out} holds another run; give another folder or --overwrite")

    def _rows(self, line: bytes) -> dict[int, ImageRows] | None:
        """A line's rows by image, none where it marks a fault; None where nothing of the line may be used."""
        data = opened(line, self._key)
        if data is None or "images" in data:
            return None if data is None else finished(data, self._planned)
        return {} if "fault" in data else None

    def _open(self) -> int:
        # Without O_NONBLOCK a pipe in its place would wait for a reader.
        descriptor = open_file(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0))
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ConfigError(f"{self.path} is not a file; give another folder or --overwrite")
        return descriptor

    def _write(self, data: dict[str, Any]) -> None:
        assert self._descriptor is not None, "the journal is not open"
        try:
            if os.fstat(self._descriptor).st_nlink == 0:  # else the run would go on to its end for nothing
                raise DiskFault(f"{self.path.name} was removed, or its folder, while the run was writing to it")
            write_all(self._descriptor, sealed(data, self._key))
            # Else a power failure takes lines that `append` has promised, and a rerun could not know which.
            os.fsync(self._descriptor)
        except OSError as error:
            raise disk_fault(self.path, error) from error

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def begun_configuration(path: Path) -> dict[str, Any] | None:
    """What the first line of a journal says of its run's configuration; nothing in it is checked but its seal.

    Returns:
        Empty where it says nothing, or cannot be read; None where there is no journal, or nothing in it.
    """
    try:
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
        with os.fdopen(open_file(path, flags), "rb") as file:
            line = file.readline(_LONGEST_FIRST_LINE) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b"\n"
    except FileNotFoundError:
        return None
    except OSError:
        return {}
    if not line.endswith(b"\n"):  # empty, or torn before anything was scored: `Journal` begins anew
        return None
    said = (opened(line, "") or {}).get(_CONFIGURATION)
    return said if isinstance(said, dict) else {}


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.readline(_LONGEST_LINE), b"")


def _contradicted(lines: Iterable[dict[int, ImageRows]]) -> set[int]:
    """Images of which two lines say different things: no telling which is right."""
    said: dict[int, ImageRows] = {}
    return {i for rows in lines for i, image in rows.items() if said.setdefault(i, image) != image}

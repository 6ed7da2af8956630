"""The journal of an output folder: what became of each image, so that nothing is scored twice.

The first line says what the results are of (the model, the spec, the configuration and the versions that results depend
on) and the configuration that the folder began with. Every other line has the images of one finished batch, each known
by the files that it is made of (`journal_lines.image_key`): files may come and go, and a killed run loses at most what
was under way. What does not verify is dropped and scored again.
"""

from __future__ import annotations

import logging
import marshal
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from dtvit_edge.dicom.slice import SliceImage
from dtvit_edge.errors import ConfigError, DiskFault
from dtvit_edge.files import disk_fault, open_file, unusable, write_all, write_atomically
from dtvit_edge.reasons import PASSING
from dtvit_edge.scoring.identity import differences
from dtvit_edge.scoring.journal_lines import (
    ImageRows,
    Outcomes,
    batch,
    finished,
    opened,
    outcomes_of,
    rows_of,
    sealed,
)
from dtvit_edge.spec import digest_json

FILE_NAME = "journal.jsonl"
FORMAT = 6
# A batch of 64 images of 16 slices each has 0.5 MB. What is longer is read in parts, none of which verifies.
_LONGEST_LINE = 64 * 2**20
_LONGEST_FIRST_LINE = 2**16
_CONFIGURATION = "configuration"
# Images of files that are gone are kept, since a disk may be back tomorrow, until there are more of them than of those
# that are here, and so many.
MOST_GONE = 1000
_A_LINE = 64  # images, where a journal is written anew

log = logging.getLogger(__name__)


class Journal:
    """Opened for one run, whose folder is locked; a context manager.

    Args:
        identity: what results depend on, as plain JSON types; a journal of another one is refused.
        configuration: of the run, as plain JSON types. A journal keeps the one that it began with, for
            `begun_configuration`.

    Attributes:
        images: how many are in it.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], configuration: Mapping[str, Any] | None = None) -> None:
        self.path = path
        self._identity = dict(identity)
        self._first = {"journal": FORMAT, "identity": self._identity, _CONFIGURATION: dict(configuration or {})}
        self._key = digest_json(self._identity)
        self._done: dict[str, bytes] = {}  # packed: as dicts the outcomes of a million slices would take gigabytes
        self._descriptor: int | None = None

    def __enter__(self) -> Journal:
        """Read what was finished before.

        Raises:
            ConfigError: the journal is another run's, its first line is damaged, or it cannot be written.
        """
        try:
            self._load()
            self._descriptor = self._open()
            if os.fstat(self._descriptor).st_size == 0:
                write_all(self._descriptor, sealed(self._first, ""))
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

    @property
    def images(self) -> int:
        """How many are in it."""
        return len(self._done)

    def rows(self, key: str, image: SliceImage) -> ImageRows | None:
        """What became of an image of these very files, with today's paths; None where it is not in the journal.

        Args:
            key: the image's, by `journal_lines.image_key`.
        """
        packed = self._done.get(key)
        outcomes = [] if packed is None else _unpacked(packed)
        return rows_of(image, outcomes) if len(outcomes) == len(image.headers) else None

    def append(self, images: Mapping[str, ImageRows]) -> None:
        """Record finished images by their keys; on return they are on the disk.

        An image in which something failed for a reason that may pass is left out: a rerun scores it again.

        Raises:
            DiskFault: it cannot be recorded.
        """
        kept = {
            key: outcomes_of(rows) for key, rows in images.items() if not any(row.reason in PASSING for row in rows)
        }
        if kept:
            self._write(batch(kept.items()))
            self._done.update((key, _packed(outcomes)) for key, outcomes in kept.items())

    def fault(self, paths: Sequence[str], message: str) -> None:
        """Mark what was in flight when the device failed; a rerun scores it again."""
        self._write({"fault": message, "in_flight": list(paths)})

    def drop(self, keys: Collection[str]) -> None:
        """Drop what is known under some keys, at once.

        Raises:
            DiskFault: the journal cannot be written anew.
        """
        if wrong := self._done.keys() & set(keys):
            self._done = {key: done for key, done in self._done.items() if key not in wrong}
            self._rewrite()

    def forget_all_but(self, keys: Collection[str]) -> None:
        """Drop what no file is left of, once that is most of it; not where nothing is left, as of a share that is away.

        Args:
            keys: of the images that are here.

        Raises:
            DiskFault: the journal cannot be written anew.
        """
        gone = self._done.keys() - set(keys)
        if keys and len(gone) > max(MOST_GONE, len(self._done) - len(gone)):
            self.drop(gone)

    def _load(self) -> None:
        if not self.path.exists():
            return
        with os.fdopen(self._open(), "rb") as file:
            lines = _lines(file)
            first = next(lines, b"")
            if not first.endswith(b"\n") and sealed(self._first, "").startswith(first):
                whole = b""  # torn while it was written: nothing had been scored
            else:
                whole = first
                self._first[_CONFIGURATION] = self._checked(opened(first, ""))[_CONFIGURATION]
            taken: list[tuple[bytes, dict[str, bytes]]] = []
            dropped, torn = 0, not whole
            for line in lines:
                if not line.endswith(b"\n"):  # a batch that did not finish
                    torn = True
                elif (images := self._images(line)) is None:
                    dropped += 1
                else:
                    taken.append((line, images))
        wrong = _contradicted(images for _, images in taken)
        kept = [(line, images) for line, images in taken if not wrong & images.keys()]
        dropped += len(taken) - len(kept)
        for _, images in kept:
            self._done.update(images)
        if dropped or torn:  # else a finished run would say it again
            write_atomically(self.path, b"".join([whole, *(line for line, _ in kept)]))
        if dropped:
            log.warning(
                "the journal is damaged or was edited: %d of its lines do not verify; what they say is scored again",
                dropped,
            )

    def _checked(self, first: dict[str, Any] | None) -> dict[str, Any]:
        out = self.path.parent
        if first is None:
            raise ConfigError(
                f"the first line of {self.path} is damaged, so that nobody knows whose results it holds; "
                "give another folder or --overwrite"
            )
        if first.keys() != self._first.keys() or first["journal"] != FORMAT:
            raise ConfigError(
                f"{out} was written by another version of dtvit-edge (journal of format {first.get('journal')}, this "
                f"one reads {FORMAT}); its results stay as they are: give another folder, or --overwrite to score anew"
            )
        if first["identity"] != self._identity:
            differing = differences(first["identity"], self._identity)
            raise ConfigError(f"{out} holds another run ({differing}); give another folder or --overwrite")
        return first

    def _images(self, line: bytes) -> dict[str, bytes] | None:
        """A line's outcomes by image, none where it marks a fault; None where nothing of the line may be used."""
        data = opened(line, self._key)
        if data is None or "images" not in data:
            return {} if data is not None and "fault" in data else None
        images = finished(data)
        return None if images is None else {key: _packed(outcomes) for key, outcomes in images.items()}

    def _open(self) -> int:
        # Without O_NONBLOCK a pipe in its place would wait for a reader.
        descriptor = open_file(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0))
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ConfigError(f"{self.path} is not a file; give another folder or --overwrite")
        return descriptor

    def _rewrite(self) -> None:
        images = list(self._done.items())
        parts = (images[i : i + _A_LINE] for i in range(0, len(images), _A_LINE))
        lines = [sealed(batch((key, _unpacked(packed)) for key, packed in part), self._key) for part in parts]
        write_atomically(self.path, b"".join([sealed(self._first, ""), *lines]))
        if self._descriptor is not None:  # of the file that was there before
            self._close()
            try:
                self._descriptor = self._open()
            except OSError as error:
                raise disk_fault(self.path, error) from error

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
    first = begun(path)
    said = (first or {}).get(_CONFIGURATION)
    return None if first is None else said if isinstance(said, dict) else {}


def begun(path: Path) -> dict[str, Any] | None:
    """The fields of a journal's first line; nothing in it is checked but its seal.

    Returns:
        Empty where it does not verify, or cannot be read; None where there is no journal, or nothing in it.
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
    return opened(line, "") or {}


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.readline(_LONGEST_LINE), b"")


def _packed(outcomes: Outcomes) -> bytes:
    """Equal outcomes have equal bytes: version 2 refers to no object twice."""
    return marshal.dumps(outcomes, 2)


def _unpacked(packed: bytes) -> Outcomes:
    outcomes: Outcomes = marshal.loads(packed)
    return outcomes


def _contradicted(lines: Iterable[dict[str, bytes]]) -> set[str]:
    """Images of which two lines say different things: no telling which is right."""
    said: dict[str, bytes] = {}
    return {key for images in lines for key, image in images.items() if said.setdefault(key, image) != image}

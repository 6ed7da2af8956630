"""Every file below the folders that are given, in an order that does not depend on the file system.

What cannot be listed, or is no file, has a row as well: a folder that vanished in silence would take its slices with
it. Links are resolved, so that each file is read once, at its real place: a link to a file or folder inside the folders
given adds nothing but another name, and no loop can be entered.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dtvit_edge import reasons
from dtvit_edge.dicom.planned_file import FileState, file_state, open_folder
from dtvit_edge.dicom.slice import Rejection
from dtvit_edge.errors import ConfigError
from dtvit_edge.reasons import Reason
from dtvit_edge.results import Identity


@dataclass(frozen=True, slots=True)  # of a million files there are as many
class StudyFile:
    """One file below the folders that were given: `path` is relative to its folder, with forward slashes.

    `file` is where it really lies, `state` what it was when it was found, before anything was read from it.
    """

    file: Path
    path: str
    state: FileState | None = None


@dataclass(frozen=True)
class Walk:
    """What lies below the folders that were given.

    Attributes:
        files: to be read, sorted by path.
        rejected: rows of folders and files that cannot be listed, or that are refused for what they are.
        links: other names of files and folders: real path -> paths of links to it, inside the folders given.
    """

    files: tuple[StudyFile, ...]
    rejected: tuple[Rejection, ...] = ()
    links: dict[Path, tuple[Path, ...]] = field(default_factory=dict)


def walk(folders: Sequence[Path], *, exclude: Path | None = None, step: Callable[[], None] = lambda: None) -> Walk:
    """Every file below the folders, whatever its name, sorted by path; a file may be given instead of a folder.

    A linked file is read wherever it lies. A linked folder is read where it lies inside the folders given.

    Args:
        exclude: a folder that is left out (the output folder, where it lies inside).
        step: called once a folder.

    Raises:
        ConfigError: a folder that is not there or cannot be listed, or a path that is neither folder nor file.
    """
    walker = _Walker(None if exclude is None else os.path.realpath(exclude), step)
    roots = [_Root(folder) for folder in folders]
    walker.roots = [root.real for root in roots if root.is_folder]
    for root in roots:
        if root.is_folder:
            walker.folder(root.real)
        else:
            walker.file(root.real, root.given, _text(root.given.name), root.state)
    return walker.result()


class _Root:
    """A path that was given: what it is, and where it really lies."""

    def __init__(self, given: Path) -> None:
        try:
            status = os.stat(given)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ConfigError(f"{given}: no such folder") from error
        except OSError as error:
            raise ConfigError(f"{given}: {error.strerror}") from error
        self.is_folder = stat.S_ISDIR(status.st_mode)
        if not self.is_folder and not stat.S_ISREG(status.st_mode):
            raise ConfigError(f"{given} is neither a folder nor a file that could be read")
        self.real = os.path.realpath(given)
        self.given = Path(os.path.realpath(given.parent), given.name)
        self.state = file_state(status)
        if self.is_folder:
            try:
                os.close(open_folder(self.real))
            except OSError as error:
                raise ConfigError(f"{given} cannot be listed: {error.strerror}") from error


class _Walker:
    """Collects; `roots` are the real paths of the folders given."""

    def __init__(self, exclude: str | None, step: Callable[[], None]) -> None:
        self._step = step
        self.roots: list[str] = []
        self._exclude = exclude
        self._files: dict[str, StudyFile] = {}
        self._folders: set[str] = set()
        self._rejected: list[Rejection] = []
        self._links: list[tuple[str, Path]] = []

    def result(self) -> Walk:
        links: dict[Path, tuple[Path, ...]] = {}
        for target, link in self._links:
            real = self._files[target].file if target in self._files else Path(target)
            if link != real:
                links[real] = (*links.get(real, ()), link)
        files = sorted(self._files.values(), key=lambda f: (f.path, os.fspath(f.file)))
        rejected = sorted(self._rejected, key=lambda r: (r.path, str(r.file)))
        return Walk(tuple(files), tuple(rejected), links)

    def file(self, real: str, file: Path, path: str, state: FileState) -> None:
        """A regular file; the first path by which it is met is its row's."""
        self._files.setdefault(real, StudyFile(file, path, state))
        if real != os.fspath(file):
            self._links.append((real, file))

    def folder(self, root: str) -> None:
        """All below one of the folders given, without recursion: folders can be nested deeper than Python's stack."""
        todo = [(root, "")]
        while todo:
            folder, path = todo.pop()
            if folder in self._folders:
                continue
            self._folders.add(folder)
            self._step()
            try:
                todo += reversed(self._list(folder, path))
            except OSError as error:
                self._reject(folder, path or ".", reasons.UNREADABLE, error)

    def _list(self, folder: str, path: str) -> list[tuple[str, str]]:
        """Take the files of one folder; returns the folders in it."""
        folders = []
        # Entries are asked through the folder's descriptor, which no length of the path can hinder.
        descriptor = open_folder(folder) if os.scandir in os.supports_fd else None
        try:
            for entry in self._entries(descriptor or folder, folder, path):
                real = os.path.join(folder, entry.name)
                below = f"{path}/{entry.name}" if path else entry.name
                try:
                    if entry.is_symlink():
                        self._link(entry, real, below)
                    elif entry.is_dir(follow_symlinks=False):
                        if real != self._exclude:
                            folders.append((real, below))
                    else:
                        self._entry(_status(entry, real), real, real, below)
                except OSError as error:
                    self._reject(real, below, reasons.UNREADABLE, error)
        finally:
            if descriptor is not None:
                os.close(descriptor)
        return folders

    def _entries(self, listed: int | str, folder: str, path: str) -> list[os.DirEntry[str]]:
        """Sorted by name; where the listing breaks off, those that came before, and a row."""
        found: list[os.DirEntry[str]] = []
        with os.scandir(listed) as entries:
            try:
                found.extend(entries)
            except OSError as error:
                self._reject(folder, path or ".", reasons.UNREADABLE, error)
        return sorted(found, key=lambda entry: entry.name)

    def _entry(self, status: os.stat_result, real: str, file: str, path: str) -> None:
        if stat.S_ISREG(status.st_mode):
            self.file(real, Path(file), _text(path), file_state(status))
        else:
            # A FIFO, socket or device stores nothing, so that no slice is missing with it; `beside` looks at its name.
            self._reject(file, path, reasons.NOT_DICOM)

    def _link(self, entry: os.DirEntry[str], link: str, path: str) -> None:
        status = entry.stat()  # of what it leads to
        real = os.path.realpath(link)
        if real == link:  # too long a path to be resolved
            self._reject(link, path, reasons.UNREADABLE)
        elif self._left_out(real):
            return
        elif any(_is_below(real, root) for root in self.roots):
            self._links.append((real, Path(link)))
        elif stat.S_ISDIR(status.st_mode):
            self._reject(link, path, reasons.LINKED_OUTSIDE)
        else:
            self._entry(status, real, link, path)

    def _left_out(self, real: str) -> bool:
        """Whether a link's target is what the walk leaves out: the output folder inside a folder given.

        A folder given that lies in the output folder is walked, so that its files are read whatever leads to them.
        """
        out = self._exclude
        if out is None or not _is_below(real, out):
            return False
        if any(_is_below(root, out) and _is_below(real, root) for root in self.roots):
            return False
        return any(_is_below(out, root) for root in self.roots)

    def _reject(self, file: str, path: str, reason: Reason, error: OSError | None = None) -> None:
        detail = "" if error is None else error.strerror or type(error).__name__
        self._rejected.append(Rejection(Identity(), 1, _text(path), reason, Path(file), detail))


def _status(entry: os.DirEntry[str], real: str) -> os.stat_result:
    # With the listing Windows tells what a file was when it was last closed, and an opened one would seem another.
    return os.lstat(real) if os.name == "nt" else entry.stat(follow_symlinks=False)


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))


def _text(path: str) -> str:
    """A path that can be written as UTF-8: bytes that are none become `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")

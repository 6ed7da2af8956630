"""Datasets and bytes that a program hands in, for a while as files that nobody else can open."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtvit_edge.dicom.planned_file import file_state
from dtvit_edge.dicom.slice import Rejection
from dtvit_edge.dicom.walk import StudyFile, Walk
from dtvit_edge.errors import ConfigError, SliceRejected
from dtvit_edge.files import disk_fault, write_all
from dtvit_edge.results import Identity

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
_DIGITS = 6  # so that names sort as they were given


class PrivateFolder:
    """A folder of 0700 that goes with the last reference to it at the latest, and at the end of this process.

    It lies where the system has its temporary files (TMPDIR).

    Raises:
        DiskFault: it cannot be made.
    """

    def __init__(self) -> None:
        self._numbers = count()
        self._make()

    def write(self, data: bytes) -> StudyFile:
        """A file of 0600 under a name that it has for itself.

        Raises:
            DiskFault: it cannot be written.
        """
        name = str(next(self._numbers))
        try:
            descriptor = os.open(self.path / name, _NEW, 0o600)
        except FileNotFoundError:  # what is old in a temporary folder may be cleared away
            self._make()
            return self.write(data)
        except OSError as error:
            raise disk_fault(self.path / name, error) from error
        file = self.path / name
        try:
            try:
                write_all(descriptor, data)
                return StudyFile(file, name, file_state(os.fstat(descriptor)))
            finally:
                os.close(descriptor)
        except OSError as error:
            file.unlink(missing_ok=True)
            raise disk_fault(file, error) from error

    def _make(self) -> None:
        try:
            self.path = Path(os.path.realpath(tempfile.mkdtemp(prefix="dtvit-edge-handed-in-")))
        except OSError as error:
            raise disk_fault(Path(tempfile.gettempdir()), error) from error
        weakref.finalize(self, _remove, self.path, os.getpid())


class HandedIn:
    """What was handed in, in its order, as files; a context manager, whose end removes them.

    What goes through files goes through the same bounds as other people's files do.

    Args:
        items: at least one; each is written as it comes.
        folder: where they are written.

    Raises:
        ConfigError: there is none, or something else than a dataset or bytes among them.
        DiskFault: they cannot be written.
    """

    def __init__(self, items: Iterable[Dataset | bytes], folder: PrivateFolder) -> None:
        if isinstance(items, (str, bytes, bytearray)) or not isinstance(items, Iterable) or _is_dataset(items):
            raise ConfigError(f"several datasets are asked for, not {type(items).__name__}; `score_dataset` takes one")
        self._folder = folder
        self._files: list[StudyFile] = []
        self._rejected: list[Rejection] = []
        # An iterator that nobody ever began would not come to the end of a with statement.
        self._remove = weakref.finalize(self, _remove_files, self._files, os.getpid())
        try:
            for item in items:
                self._take(item, len(self._files) + len(self._rejected) + 1)
            if not self._files and not self._rejected:
                raise ConfigError("no dataset was given")
        except BaseException:
            self._remove()
            raise

    def __enter__(self) -> HandedIn:
        return self

    def __exit__(self, *details: object) -> None:
        self._remove()

    def walk(self) -> Walk:
        """As of a folder that holds them."""
        return Walk(tuple(self._files), tuple(self._rejected))

    def _take(self, item: Any, number: int) -> None:
        name = f"{number:0{_DIGITS}d}"
        if isinstance(item, (bytes, bytearray, memoryview)):
            data = bytes(item)
        elif _is_dataset(item):
            from dtvit_edge.dicom.dataset_file import file_bytes

            try:
                data = file_bytes(item)
            except SliceRejected as error:
                file = self._folder.path / name
                self._rejected.append(Rejection(Identity(), 1, name, error.reason, file, error.detail))
                return
        else:
            raise ConfigError(
                f"item {number} is {type(item).__name__}, expected a dataset of pydicom or the bytes of a DICOM file"
            )
        self._files.append(replace(self._folder.write(data), path=name))


def _is_dataset(item: object) -> bool:
    module = sys.modules.get("pydicom.dataset")  # who holds a dataset has loaded it
    return module is not None and isinstance(item, module.Dataset)


def _remove_files(files: list[StudyFile], process: int) -> None:
    if os.getpid() == process:  # a fork that ends must not take its parent's files
        for entry in files:
            entry.file.unlink(missing_ok=True)


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)

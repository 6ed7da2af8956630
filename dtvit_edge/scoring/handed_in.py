"""Datasets and bytes that a program hands in, for a while as files that nobody else can open."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtvit_edge.dicom.slice import Rejection
from dtvit_edge.dicom.walk import Walk, walk
from dtvit_edge.errors import ConfigError, SliceRejected
from dtvit_edge.files import disk_fault, write_all
from dtvit_edge.results import Identity

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_DIGITS = 6  # so that names sort as they were given


class HandedIn:
    """A folder of 0700 with what was handed in, in its order; a context manager, whose end removes it.

    What goes through files goes through the same bounds as other people's files do. The folder lies where the system
    has its temporary files (TMPDIR), and goes with the last reference at the latest.

    Args:
        items: at least one; each is written as it comes.

    Raises:
        ConfigError: there is none, or something else than a dataset or bytes among them.
        DiskFault: they cannot be written.
    """

    def __init__(self, items: Iterable[Dataset | bytes]) -> None:
        if isinstance(items, (str, bytes, bytearray)) or not isinstance(items, Iterable) or _is_dataset(items):
            raise ConfigError(f"several datasets are asked for, not {type(items).__name__}; `score_dataset` takes one")
        try:
            self.folder = Path(os.path.realpath(tempfile.mkdtemp(prefix="dtvit-edge-")))
        except OSError as error:
            raise disk_fault(Path(tempfile.gettempdir()), error) from error
        self._remove = weakref.finalize(self, _remove, self.folder, os.getpid())
        self._rejected: list[Rejection] = []
        try:
            count = 0
            for item in items:
                count += 1
                self._take(item, count)
            if not count:
                raise ConfigError("no dataset was given")
        except BaseException:
            self._remove()
            raise

    def __enter__(self) -> HandedIn:
        return self

    def __exit__(self, *details: object) -> None:
        self._remove()

    def walk(self) -> Walk:
        """The files, and a row for each dataset that could not be one."""
        walked = walk([self.folder])
        return replace(walked, rejected=(*walked.rejected, *self._rejected)) if self._rejected else walked

    def _take(self, item: Any, number: int) -> None:
        name = f"{number:0{_DIGITS}d}"
        file = self.folder / name
        if isinstance(item, (bytes, bytearray, memoryview)):
            data = bytes(item)
        elif _is_dataset(item):
            from dtvit_edge.dicom.dataset_file import file_bytes

            try:
                data = file_bytes(item)
            except SliceRejected as error:
                self._rejected.append(Rejection(Identity(), 1, name, error.reason, file, error.detail))
                return
        else:
            raise ConfigError(
                f"item {number} is {type(item).__name__}, expected a dataset of pydicom or the bytes of a DICOM file"
            )
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
            try:
                write_all(descriptor, data)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise disk_fault(self.folder, error) from error


def _is_dataset(item: object) -> bool:
    module = sys.modules.get("pydicom.dataset")  # who holds a dataset has loaded it
    return module is not None and isinstance(item, module.Dataset)


def _remove(folder: Path, process: int) -> None:
    if os.getpid() == process:  # a fork that ends must not take its parent's files
        shutil.rmtree(folder, ignore_errors=True)

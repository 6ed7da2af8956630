"""Received objects on the disk: under names of ours, whole or not there, and on the disk before they are acknowledged.

received/STUDY/DIGEST.dcm     named by its instance and bytes: what comes again is known by its name
incoming/                     being written; what a killed process left is removed at the start
results/STUDY/                the run of the study
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import threading
from contextlib import suppress
from pathlib import Path

from dtvit_edge.errors import ConfigError
from dtvit_edge.files import disk_fault, flush_folder, make_folder, open_file, unusable, write_all
from dtvit_edge.pacs.uids import is_uid
from dtvit_edge.report.service_folder import RESULTS

_PROBE_BYTES = 1 << 16


class Inbox:
    """The folders of a service."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._received, self._incoming, self._results = (folder / n for n in ("received", "incoming", RESULTS))
        self._naming = threading.Lock()  # a folder that is removed takes no file with it that has just been kept

    def open(self) -> None:
        """Make the folders, and remove what was half written.

        Raises:
            ConfigError: they cannot be made or written.
        """
        for made in (self._received, self._incoming, self._results):
            make_folder(made)
        try:
            for left in self._incoming.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        except OSError as error:
            raise unusable(self._incoming, error) from error

    def keep(self, study_uid: str, sop_uid: str, data: bytes) -> Path | None:
        """Put an object on the disk; its path, or None where the very same one is there already.

        Raises:
            DiskFault: the disk is full, read-only, gone or broken; nothing is kept.
        """
        assert is_uid(study_uid), "names a folder"
        folder = self._received / study_uid
        name = hashlib.sha256(sop_uid.encode() + b"\n" + data).hexdigest()[:40]
        path = folder / f"{name}.dcm"
        part = self._incoming / secrets.token_hex(8)
        try:
            if path.exists():
                return None
            try:
                descriptor = open_file(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                try:
                    write_all(descriptor, data)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                with self._naming:
                    is_new = not folder.exists()
                    make_folder(folder)
                    os.replace(part, path)
            finally:
                part.unlink(missing_ok=True)
            flush_folder(folder)
            if is_new:
                flush_folder(self._received)
        except OSError as error:
            raise disk_fault(path, error) from error
        except ConfigError as error:  # the study's folder could not be made
            raise disk_fault(path, OSError(str(error.__cause__ or "no folder"))) from error
        return path

    def files_of(self, study_uid: str) -> Path:
        """The folder of a study's files."""
        return self._received / study_uid

    def results_of(self, study_uid: str) -> Path:
        """The output folder of a study's run."""
        return self._results / study_uid

    def studies(self) -> list[str]:
        """Studies with files."""
        return sorted(path.name for path in self._received.iterdir() if is_uid(path.name))

    def digest(self, study_uid: str) -> str:
        """Of the names of a study's files, which tell their bytes."""
        try:
            names = sorted(path.name for path in self.files_of(study_uid).iterdir())
        except OSError:
            names = []
        return hashlib.sha256("\n".join(names).encode()).hexdigest() if names else ""

    def remove(self, study_uid: str) -> None:
        """Delete a study's files and results."""
        for folder in (self.files_of(study_uid), self.results_of(study_uid)):
            away = self._incoming / secrets.token_hex(8)
            with self._naming, suppress(FileNotFoundError):
                folder.rename(away)
            shutil.rmtree(away, ignore_errors=True)

    def takes(self, count: int) -> bool:
        """Whether the disk has room for so many bytes now, and can be written."""
        part = self._incoming / secrets.token_hex(8)
        try:
            descriptor = open_file(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            try:
                write_all(descriptor, bytes(_PROBE_BYTES))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
                part.unlink()
        except OSError:
            return False
        return self.free_bytes() >= count

    def free_bytes(self) -> int:
        """What the disk has left."""
        with suppress(OSError):
            return shutil.disk_usage(self.folder).free
        return 0

"""Every file below the folders that are given, in an order that does not depend on the file system."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dtvit_edge.dicom.slice import Rejection
from dtvit_edge.errors import ConfigError


@dataclass(frozen=True)
class StudyFile:
    """One file below the folders that were given: `path` is relative to its folder, with forward slashes."""

    file: Path
    path: str


@dataclass(frozen=True)
class Walk:
    """What lies below the folders that were given.

    Attributes:
        files: to be read, sorted by path.
        rejected: rows of folders and files that cannot be listed, or that are refused for what they are.
    """

    files: tuple[StudyFile, ...]
    rejected: tuple[Rejection, ...] = ()


def walk(folders: Sequence[Path], *, exclude: Path | None = None) -> Walk:
    """Every file below the folders, whatever its name, sorted by path; a file may be given instead of a folder.

    Args:
        exclude: a folder that is left out (the output folder, where it lies inside).

    Raises:
        ConfigError: a folder that is not there.
    """
    files: dict[str, StudyFile] = {}
    left_out = None if exclude is None else exclude.resolve()
    for folder in folders:
        if folder.is_file():
            files.setdefault(os.path.realpath(folder), StudyFile(folder, _text(folder.name)))
            continue
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder")
        for root, directories, names in os.walk(folder):
            directories[:] = sorted(d for d in directories if (Path(root) / d).resolve() != left_out)
            for name in names:
                file = Path(root) / name
                path = file.relative_to(folder).as_posix()
                files.setdefault(os.path.realpath(file), StudyFile(file, _text(path)))
    return Walk(tuple(sorted(files.values(), key=lambda f: (f.path, str(f.file)))))


def _text(path: str) -> str:
    """A path that can be written as UTF-8: bytes that are none become `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")

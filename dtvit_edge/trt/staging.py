"""A folder in `engines/` in which something is built, and the way from there into place."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dtvit_edge.errors import ConfigError, EngineError
from dtvit_edge.files import FILE_MODE, is_another_process, make_folder, not_ours, write_atomically


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A folder in this one that goes whatever happens, with those that killed builds have left.

    Raises:
        ConfigError: the bundle cannot be written, or the disk is full.
    """
    try:
        make_folder(folder)
        _sweep(folder)
        stage = Path(tempfile.mkdtemp(prefix=f".{os.getpid()}.", suffix=".part", dir=folder))
        try:
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)
            if not any(folder.iterdir()):
                folder.rmdir()
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error}") from error


def place(built: Path, target: Path, older: str, record: Path, text: str) -> None:
    """Move a built file to where its record says it is, then replace the record; what the pattern `older` names goes.

    A reader sees the old file or the new one, whole. Nobody else may write any of it, whatever the umask says.
    """
    target.parent.chmod(target.parent.stat().st_mode & ~0o022)
    built.chmod(built.stat().st_mode & FILE_MODE)
    os.replace(built, target)
    write_atomically(record, text)
    record.chmod(target.stat().st_mode & 0o777)
    for old in target.parent.glob(older):
        if old != target:
            old.unlink()


def require_ours(folder: Path) -> None:
    """Refuse a folder in which somebody else may have put engines.

    Raises:
        EngineError: with what to type.
    """
    try:
        why = not_ours(folder)
    except OSError:  # there is none; who looks for engines says so
        return
    if why:
        raise EngineError(f"{folder}: {why}")


def _sweep(folder: Path) -> None:
    """Remove what builds that were killed have left; a pid of this process's own is a container's earlier run."""
    for left in folder.glob(".*.part"):
        pid = left.name.split(".")[1]
        if left.is_dir() and pid.isdigit() and not is_another_process(int(pid)):
            shutil.rmtree(left, ignore_errors=True)

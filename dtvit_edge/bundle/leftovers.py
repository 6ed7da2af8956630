"""What a killed process left beside a bundle that it was writing: half a bundle, or the one that it was replacing."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from dtvit_edge.files import is_another_process

# Beside `NAME.dtvit`, with the number of the process that writes: what it writes, and what it replaces.
_LEFT = re.compile(r"\.(?P<name>.+)\.(?P<process>[0-9]+)\.(?P<what>part|earlier)")


def staging_of(path: Path) -> Path:
    """Where this process writes a bundle before it appears under its name."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def earlier_of(path: Path) -> Path:
    """Where this process moves a bundle that it replaces."""
    return path.with_name(f".{path.name}.{os.getpid()}.earlier")


def clear_leftovers(path: Path) -> None:
    """Bring back the bundle that a killed process had moved away from this name, and remove what else it left.

    What a process that still runs on this machine is writing stays.
    """
    if not path.parent.is_dir():
        return
    for left in sorted(path.parent.iterdir()):
        match = _LEFT.fullmatch(left.name)
        if (
            match is None
            or match["name"] != path.name
            or left.is_symlink()
            or is_another_process(int(match["process"]))
        ):
            continue
        if match["what"] == "earlier" and not os.path.lexists(path):
            left.rename(path)
        else:
            shutil.rmtree(left, ignore_errors=True)

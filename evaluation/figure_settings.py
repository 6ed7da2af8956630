"""matplotlib's own folder: it would keep its list of fonts in the home folder, and take settings from there."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from functools import partial

FOLDER = "MPLCONFIGDIR"


def use_a_passing_folder() -> None:
    """Give matplotlib a folder that goes when this process ends; has an effect before it is imported.

    Figures are then the same whatever a user has configured. A folder that the environment names is left to it.
    """
    if FOLDER in os.environ:
        return
    folder = os.environ[FOLDER] = tempfile.mkdtemp(prefix="dtvit-edge-figures-")
    atexit.register(partial(_remove, folder, os.getpid()))


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # a process that was forked leaves it to its parent
        shutil.rmtree(folder, ignore_errors=True)

"""Archives of arrays (.npz) that somebody else may have damaged."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dtvit_edge.errors import ConfigError

# What numpy and zipfile raise of one, by the place of the wrong byte; a file without an archive has no `files`.
_FAULTS = (OSError, ValueError, KeyError, EOFError, AttributeError, NotImplementedError, RuntimeError, TypeError)


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of a file, by name.

    Raises:
        ConfigError: it is no such archive, is damaged, or holds pickles.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (*_FAULTS, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(f"{path}: not readable as an .npz file without pickles: {error}") from error

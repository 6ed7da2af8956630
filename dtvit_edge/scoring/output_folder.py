"""The output folder of a run: which files it has, who holds it, and what may be in it before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from dtvit_edge.errors import ConfigError
from dtvit_edge.files import make_folder, parts_of, remove_parts, unusable
from dtvit_edge.scoring.journal import FILE_NAME as JOURNAL
from dtvit_edge.scoring.lock import FILE_NAME as LOCK
from dtvit_edge.scoring.lock import FolderLock
from dtvit_edge.spec import digest_file

SLICES, STUDIES, SERIES, RUN = "slices.csv", "studies.csv", "series.csv", "run.json"
OUTPUT_FILES = (SLICES, STUDIES, SERIES, RUN, JOURNAL)


@contextmanager
def held_folder(out: Path, *, overwrite: bool, begun: Mapping[str, str] = MappingProxyType({})) -> Iterator[None]:
    """Make the folder and hold it; what an earlier run left goes only with `overwrite`, anything else never.

    Args:
        begun: sha256 of tables that are written without a journal: where an attempt before was cut off, some lie there.

    Raises:
        ConfigError: it cannot be used, another process holds it, or it holds something else than a run.
    """
    make_folder(out)
    _refuse_others(out, overwrite, begun)  # before the lock leaves its file among them
    with FolderLock(out):
        _refuse_others(out, overwrite, begun)
        try:
            for name in OUTPUT_FILES:
                remove_parts(out / name)
                if overwrite:
                    (out / name).unlink(missing_ok=True)
        except OSError as error:
            raise unusable(out, error) from error
        yield


def _refuse_others(out: Path, overwrite: bool, begun: Mapping[str, str]) -> None:
    try:
        strange = {path.name for path in out.iterdir()} - {LOCK}
        if begun and not overwrite:
            halves = {part.name for name in OUTPUT_FILES for part in parts_of(out / name)}
            wholes = {name for name in strange & begun.keys() if digest_file(out / name) == begun[name]}
            strange -= halves | wholes
    except OSError as error:
        raise unusable(out, error) from error
    if strange and not overwrite and JOURNAL not in strange:
        raise ConfigError(f"{out} is not empty and holds no run; give another folder or --overwrite")

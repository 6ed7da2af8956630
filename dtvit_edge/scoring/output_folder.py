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
        begun: sha256 of files that are written without a journal: they lie there where the same was done before, to its
            end or not. Empty where a journal says what is gone on with.

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
    if overwrite:
        return
    try:
        found = {path.name for path in out.iterdir()} - {LOCK}
        halves = {part.name for name in OUTPUT_FILES for part in parts_of(out / name)} if begun else set()
        wholes = {name for name in found & begun.keys() if digest_file(out / name) == begun[name]}
    except OSError as error:
        raise unusable(out, error) from error
    is_done = bool(begun) and wholes == begun.keys()  # what was made of it since, its pages, may lie beside
    goes_on = JOURNAL in found and not begun  # the journal itself refuses another run
    if not found - halves - wholes or goes_on or is_done:
        return
    if JOURNAL in found:
        raise ConfigError(f"{out} holds a run of `score`; give another folder or --overwrite")
    if {SLICES, STUDIES, RUN} <= found:
        raise ConfigError(
            f"{out} holds a result without the journal that a run goes on from (`merge` writes none); "
            "give another folder or --overwrite"
        )
    raise ConfigError(f"{out} is not empty and holds no run; give another folder or --overwrite")

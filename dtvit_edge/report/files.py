"""The files of a report: their names, whose results they show, and which of them are to go."""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path

from dtvit_edge.files import read_regular, remove_parts, unusable
from dtvit_edge.scoring.output_folder import SLICES, STUDIES
from dtvit_edge.spec import digest_file

FOLDER, INDEX = "report", "index.html"
# A UID as PS3.5 section 9.1 has it; anything else is no name of a file.
_UID = re.compile(r"(?=.{1,64}\Z)(0|[1-9]\d*)(\.(0|[1-9]\d*))*\Z", re.ASCII)
_OURS = re.compile(r"(index(-\d+)?|study-[0-9a-f.]+)\.html", re.ASCII)
_SHOWN = re.compile(rb'<meta name="results" content="([0-9a-f]{64})">')
_LONGEST_INDEX = 2**26

log = logging.getLogger(__name__)


def page_name(uid: str) -> str:
    """The file of a study's page: by its UID, or a digest of what is no UID."""
    return f"study-{uid if _UID.match(uid) else hashlib.sha256(uid.encode('utf-8', 'replace')).hexdigest()[:32]}.html"


def results_digest(out: Path) -> str:
    """Of the tables that a report shows."""
    both = digest_file(out / STUDIES) + digest_file(out / SLICES)
    return hashlib.sha256(both.encode()).hexdigest()


def shown_digest(out: Path) -> str | None:
    """Of the tables that a report was made of; None where its index does not say.

    Raises:
        OSError: there is no index, or it cannot be read.
    """
    shown = _SHOWN.search(read_regular(out / FOLDER / INDEX, _LONGEST_INDEX))
    return None if shown is None else shown[1].decode()


def remove_others(folder: Path, names: set[str]) -> None:
    """Remove the pages of ours but these; nothing that is not named as one.

    Raises:
        ConfigError: the folder cannot be written.
    """
    try:
        for path in folder.iterdir():
            if _OURS.fullmatch(path.name) and path.name not in names:
                path.unlink()
        for name in names:
            remove_parts(folder / name)
    except OSError as error:
        raise unusable(folder, error) from error


def remove_report(out: Path) -> None:
    """Remove a report whatever it shows, since the results are about to change.

    Raises:
        ConfigError: the folder cannot be written.
    """
    if (out / FOLDER).is_dir():
        remove_others(out / FOLDER, set())


def remove_stale(out: Path) -> None:
    """Remove a report that shows other results than those that lie beside it now.

    Raises:
        ConfigError: the folder cannot be written.
    """
    try:
        if shown_digest(out) == results_digest(out):
            return
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("%s is not looked at: %s", f"{FOLDER}/{INDEX}", error.strerror)
        return
    remove_others(out / FOLDER, set())
    log.warning("the pages in %s showed other results and were removed; `dtvit-edge report` makes them anew", FOLDER)

"""The folder of a `serve`, looked at while it goes on: the output folders of its studies, one each, as one worklist."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from dtvit_edge.errors import ConfigError
from dtvit_edge.report.run_results import SliceRow
from dtvit_edge.report.slice_lookup import slices_of_no_study
from dtvit_edge.report.standing import Entry, OutputFolder, Stamp, Standing, read_standing, stamp_of
from dtvit_edge.scoring.output_folder import RUN, SERIES, STUDIES
from dtvit_edge.scoring.series_file import SeriesOutcome

# What `serve` writes there: its memory, and the run of each study.
DATABASE, RESULTS = "service.sqlite", "results"


class ServiceFolder:
    """Looks at the results of a service, as `OutputFolder` does at those of a run; from any thread.

    A study's folder is read again where a table of it changed. One that cannot be read is named, and hides no other.
    The newest run that has ended stands for all in what is said of the bundle.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Stamp, Standing]] = {}
        self.now()

    def now(self) -> Standing:
        """How the service stands.

        Raises:
            ConfigError: the folder cannot be read.
        """
        with self._lock:
            known, unreadable = {}, []
            for name in self._names():
                try:
                    read = self._read(name)
                except ConfigError as error:
                    unreadable.append((name, str(error)))
                else:
                    known.update({} if read is None else {name: read})
            self._known = known
            together = _together({name: standing for name, (_, standing) in known.items()})
            return replace(together, unreadable=tuple(unreadable))

    def of_study(self, entry: Entry) -> tuple[Path, Standing]:
        """The output folder of a study that has a page, and how its run stands.

        Raises:
            ConfigError: as `now`.
        """
        with self._lock:
            known = self._known.get(entry.study.uid)
        if known is None:
            raise ConfigError("the study's results are being deleted")
        return self.path / RESULTS / entry.study.uid, known[1]

    def of_no_study(self, first: int, count: int) -> list[SliceRow]:
        """Rows of files that belong to no study.

        Args:
            first: so many are passed over.
        """
        with self._lock:
            names = [name for name, (_, standing) in self._known.items() if standing.of_no_study]
        found: list[SliceRow] = []
        for name in names:
            found += slices_of_no_study(self.path / RESULTS / name, 0, first + count - len(found))
        return found[first:]

    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self.path / RESULTS))
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be looked at: {error.strerror}") from error

    def _read(self, name: str) -> tuple[Stamp, Standing] | None:
        """A study's run; None where it has no table yet, or its folder has just been deleted.

        Raises:
            ConfigError: a table is not as `score` writes it, or cannot be read.
        """
        out = self.path / RESULTS / name
        stamp = stamp_of(out, STUDIES, SERIES, RUN)
        known = self._known.get(name)
        if known is not None and known[0] == stamp:
            return known
        try:
            return stamp, read_standing(out)
        except ConfigError:
            if (out / STUDIES).exists():
                raise
            return None


def folder_at(path: Path) -> OutputFolder | ServiceFolder:
    """What lies in a folder: a run's results, or a service's.

    Raises:
        ConfigError: neither, or it cannot be read.
    """
    is_service = (path / DATABASE).is_file() and (path / RESULTS).is_dir()
    return ServiceFolder(path) if is_service else OutputFolder(path)


def _together(found: dict[str, Standing]) -> Standing:
    ended = [standing.results for standing in found.values() if standing.results is not None]
    newest = max(ended, key=lambda results: str(results.run.get("finished")), default=None)
    return Standing(
        newest,
        tuple(entry for name, standing in found.items() for entry in _entries(name, standing)),
        (*_of_no_study(found), *(row for standing in found.values() for row in standing.series if row.study_uid)),
        None if newest is None else newest.threshold[0],
        None if newest is None else newest.slice_threshold,
        serves=True,
    )


def _entries(name: str, standing: Standing) -> Iterator[Entry]:
    """A study's row leads to a page; that of a file which says that it is of another study does not."""
    for entry in standing.entries:
        yield entry if entry.study.uid == name else replace(entry, page="")


def _of_no_study(found: dict[str, Standing]) -> list[SeriesOutcome]:
    """Files that belong to no study, counted over all."""
    counted: dict[tuple[str, str], SeriesOutcome] = {}
    for standing in found.values():
        for row in standing.of_no_study:
            key = str(row.status), row.reason
            counted[key] = replace(row, slices=row.slices + (counted[key].slices if key in counted else 0))
    return list(counted.values())

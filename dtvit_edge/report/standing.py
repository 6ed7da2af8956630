"""How a run stands, read from its output folder while it grows: what is kept between two looks, and when it is reread.

Nothing is written there. The tables are parsed once, and again where one of them is another file than it was; `score`
replaces them whole, so that each is read as one state or another.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from dtvit_edge.errors import ConfigError
from dtvit_edge.report.files import page_name
from dtvit_edge.report.run_results import RunResults, SliceRow, StudyRow, read_run, read_series, read_studies
from dtvit_edge.report.slice_lookup import slices_of_no_study
from dtvit_edge.report.words import answer_kind
from dtvit_edge.scoring.journal import FILE_NAME as JOURNAL
from dtvit_edge.scoring.journal import begun
from dtvit_edge.scoring.output_folder import RUN, SERIES, STUDIES
from dtvit_edge.scoring.series_file import SeriesOutcome

# Rereading takes a twentieth of the time at most, whoever asks how often.
TIMES_THE_COST = 20.0

Stamp: TypeAlias = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True)
class Entry:
    """A study of the worklist.

    Attributes:
        kind: of its answer (`words.answer_kind`).
        page: the name of its page; empty where two rows have its UID, whose images cannot be told apart.
        scanners, protocols: of its series; codes: its own reasons, and those of its images.
        date: YYYY-MM-DD; empty where the tables have none (without `--identify`).
    """

    study: StudyRow
    kind: str
    page: str
    scanners: tuple[str, ...]
    protocols: tuple[str, ...]
    codes: frozenset[str]
    date: str

    @property
    def more(self) -> dict[str, str]:
        """The columns that identify the study, where the tables have them."""
        return dict(self.study.more)


@dataclass(frozen=True)
class Standing:
    """One state of an output folder.

    Attributes:
        results: of a run that has ended; None while it is under way, or where it was stopped.
        entries: its studies, in the order of the table; series: the rows of `series.csv`.
        threshold: of studies; slice_threshold: of slices. None where nothing says.
        serves: it is a service's, which goes on; `results` are those of its newest run.
        unreadable: studies of a service whose results cannot be read, each with why: they are not among `entries`.
    """

    results: RunResults | None
    entries: tuple[Entry, ...]
    series: tuple[SeriesOutcome, ...]
    threshold: float | None
    slice_threshold: float | None
    serves: bool = False
    unreadable: tuple[tuple[str, str], ...] = ()

    @cached_property
    def by_page(self) -> dict[str, Entry]:
        """The studies by the names of their pages: there is no other way to one."""
        return {entry.page: entry for entry in self.entries if entry.page}

    @cached_property
    def identifying(self) -> list[str]:
        """The columns that identify studies, where the tables have them."""
        return sorted({name for entry in self.entries for name, _ in entry.study.more})

    @cached_property
    def of_no_study(self) -> list[SeriesOutcome]:
        """Files that belong to no study, by what became of them."""
        return [row for row in self.series if not row.study_uid]

    @cached_property
    def known(self) -> dict[str, list[str]]:
        """Every reason, scanner and protocol that there is, to choose from."""
        return {
            "reason": sorted({code for entry in self.entries for code in entry.codes}),
            "scanner": sorted({name for entry in self.entries for name in entry.scanners}),
            "protocol": sorted({name for entry in self.entries for name in entry.protocols}),
        }

    @property
    def has_dates(self) -> bool:
        """Whether any study has one."""
        return any(entry.date for entry in self.entries)


class OutputFolder:
    """Looks at the output folder of a run; from any thread.

    Args:
        clock: seconds.

    Raises:
        ConfigError: it is not there, or holds no run.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._stamp: Stamp | None = None
        self._standing: Standing | None = None
        self._next = float("-inf")
        self.now()

    def now(self) -> Standing:
        """How the run stands.

        Raises:
            ConfigError: a table is not as `score` writes it, or cannot be read.
        """
        with self._lock:
            stamp = self.stamp()
            begun_at = self._clock()
            if self._standing is None or (stamp != self._stamp and begun_at >= self._next):
                self._standing = None
                self._standing, self._stamp = read_standing(self.path), stamp
                ended = self._clock()
                self._next = ended + TIMES_THE_COST * (ended - begun_at)
            return self._standing

    def stamp(self) -> Stamp:
        """Tells one state of the tables from another."""
        return stamp_of(self.path, STUDIES, SERIES, RUN)

    def of_study(self, entry: Entry) -> tuple[Path, Standing]:
        """The output folder of a study, and how its run stands.

        Raises:
            ConfigError: as `now`.
        """
        return self.path, self.now()

    def of_no_study(self, first: int, count: int) -> list[SliceRow]:
        """Rows of files that belong to no study.

        Args:
            first: so many are passed over.
        """
        return slices_of_no_study(self.path, first, count)


def stamp_of(out: Path, *names: str) -> Stamp:
    """Tells one state of some files from another."""
    return tuple(_stamp(out / name) for name in names)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def read_standing(out: Path) -> Standing:
    """How the run in an output folder stands.

    Raises:
        ConfigError: it is not there, holds no run, or a table is not as `score` writes it.
    """
    # Else a folder that is gone, or whose disk is, would look like a run that has not found anything yet.
    try:
        names = os.listdir(out)
    except OSError as error:
        raise ConfigError(f"{out} cannot be looked at: {error.strerror}") from error
    if not {JOURNAL, STUDIES} & set(names):
        raise ConfigError(f"{out} holds no run: give the folder that `score` writes to")
    results = None
    if (out / RUN).exists():
        try:
            results = read_run(out)
        except ConfigError:
            if (out / RUN).exists():  # else a run has begun in between
                raise
    studies = results.studies if results is not None else _or_none(read_studies, out)
    series = _or_none(read_series, out)
    ended = None if results is None else (results.threshold[0], results.slice_threshold)
    return Standing(results, _entries(studies, series), series, *(ended or _begun_thresholds(out)))


def _or_none(read: Callable[[Path], tuple[Any, ...]], out: Path) -> tuple[Any, ...]:
    """A table's rows; none where it is not there yet, or was not written by an earlier version."""
    try:
        return read(out)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ConfigError(f"{out} cannot be read: {error.strerror or type(error).__name__}") from error


def _begun_thresholds(out: Path) -> tuple[float | None, float | None]:
    """The thresholds that the journal's first line names, of studies and of slices."""
    identity = (begun(out / JOURNAL) or {}).get("identity")
    said = identity.get("thresholds") if isinstance(identity, Mapping) else None
    values = [said.get(name) if isinstance(said, Mapping) else None for name in ("study", "slice")]
    study, slice_ = (value if type(value) is float and 0 < value < 1 else None for value in values)
    return study, slice_


def _entries(studies: Sequence[StudyRow], series: Sequence[SeriesOutcome]) -> tuple[Entry, ...]:
    rows: dict[str, list[SeriesOutcome]] = defaultdict(list)
    for row in series:
        rows[row.study_uid].append(row)
    count = Counter(study.uid for study in studies)
    return tuple(
        Entry(
            study,
            answer_kind(study),
            page_name(study.uid) if study.uid and count[study.uid] == 1 else "",
            tuple(sorted({row.scanner for row in rows[study.uid]} - {""})),
            tuple(sorted({row.protocol for row in rows[study.uid]} - {""})),
            frozenset({*study.reasons, *(row.reason for row in rows[study.uid])} - {""}),
            _date(dict(study.more).get("study_date", "")),
        )
        for study in studies
    )


def _date(text: str) -> str:
    """The first of the dates of a study, as ISO 8601 has it; empty where it is none."""
    first = text.split(";")[0]
    if len(first) != 8 or not (first.isascii() and first.isdigit()):
        return ""
    return f"{first[:4]}-{first[4:6]}-{first[6:]}" if "01" <= first[4:6] <= "12" and "01" <= first[6:] <= "31" else ""

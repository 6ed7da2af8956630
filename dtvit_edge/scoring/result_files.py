"""The tables, written anew as studies end, and `run.json`, which says that they are whole.

Each study's lines are made once; what is written each time is all of them, in their order. `run.json` is removed before
the first line of another state of the folder is written, and comes last: where it is missing, the tables are those of a
run that has not ended.
"""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from dtvit_edge.files import disk_fault, flush_folder, replaced_file, write_atomically
from dtvit_edge.results import SliceScore, StudyScore
from dtvit_edge.scoring.csv_files import Identification, slice_head, slice_lines, study_head, study_line
from dtvit_edge.scoring.output_folder import RUN, SERIES, SLICES, STUDIES
from dtvit_edge.scoring.series_file import SeriesOutcome, series_head, series_lines

# Between two versions of the tables pass so many seconds at least, and so many times what the last one took: all of
# them together take a twentieth of a run's time, however large the tables become.
LEAST_SECONDS = 2.0
TIMES_THE_COST = 20.0


class ResultFiles:
    """The result files of one state of the folder.

    Args:
        model_status: of the last columns.
        identify: whether the tables have the columns by which a study and its scanner are found.
        clock: seconds.

    Attributes:
        counts, reasons: of the rows so far, by status and by reason.
    """

    def __init__(
        self, out: Path, model_status: str, *, identify: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self._out = out
        self._model_status = model_status
        self._identify = identify
        self._clock = clock
        self._next = float("-inf")
        self._is_written = False
        self._lines: dict[str, _Lines] = {}

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where they are."""
        return tuple(self._out / name for name in (SLICES, STUDIES, SERIES, RUN))

    def add(
        self,
        uid: str,
        rows: Sequence[SliceScore],
        study: StudyScore | None,
        identification: Identification | None,
        series: Sequence[SeriesOutcome] = (),
    ) -> None:
        """Take the rows of a study and its series, or those that belong to none, of the empty UID."""
        line = (
            "" if study is None else study_line(study, self._model_status, identification if self._identify else None)
        )
        self.take(
            uid,
            slice_lines(rows, self._model_status),
            line,
            series_lines(series, self._model_status, identify=self._identify),
        )
        self.counts.update(str(row.status) for row in rows)
        self.reasons.update(row.reason for row in rows if row.reason)

    def take(self, uid: str, of_slices: str, of_study: str, of_series: str) -> None:
        """Take a study's lines as they stand in the tables, each with its end."""
        self._is_written = False
        self._lines[uid] = _Lines(
            _packed(of_slices), of_study, _packed(of_series), *map(_count, (of_slices, of_series))
        )

    def contents(self) -> dict[str, Any]:
        """What is in the tables: each study's UID and how many slices' and series' lines it has, and all digests."""
        uids = sorted(self._lines)
        digests = {}
        for name, parts in self._tables(uids):
            digest = hashlib.sha256()
            for part in parts:
                digest.update(part)
            digests[name] = digest.hexdigest()
        counts = [[uid, self._lines[uid].slice_count, self._lines[uid].series_count] for uid in uids]
        return {"studies": counts, "sha256": digests}

    def write_if_due(self) -> None:
        """Write what is there, unless that was done a short time ago.

        Raises:
            DiskFault: it cannot be written.
        """
        begun = self._clock()
        if begun >= self._next:
            self.write()
            ended = self._clock()
            self._next = ended + max(LEAST_SECONDS, TIMES_THE_COST * (ended - begun))

    def write(self) -> None:
        """Write what is there.

        Raises:
            DiskFault: it cannot be written.
        """
        self.begin()
        for name, parts in self._tables(sorted(self._lines)):
            with replaced_file(self._out / name) as file:
                file.writelines(parts)
        self._is_written = True

    def begin(self) -> None:
        """From here on the tables are not those of a run that has ended.

        Raises:
            DiskFault: `run.json` cannot be removed.
        """
        try:
            (self._out / RUN).unlink()
            flush_folder(self._out)
        except FileNotFoundError:
            return
        except OSError as error:
            raise disk_fault(self._out / RUN, error) from error

    def finish(self, report: dict[str, Any]) -> None:
        """Write what is not written yet, and `run.json` last.

        Raises:
            DiskFault: something cannot be written.
        """
        if not self._is_written:
            self.write()
        write_atomically(self._out / RUN, report_text(report))

    def _tables(self, uids: Sequence[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Each table's name and its parts: as one text they would take as much memory as all else."""
        slices = (zlib.decompress(self._lines[uid].slices) for uid in uids)
        studies = (self._lines[uid].study.encode() for uid in uids)
        series = (zlib.decompress(self._lines[uid].series) for uid in uids)
        yield SLICES, chain([slice_head().encode()], slices)
        yield STUDIES, chain([study_head(identify=self._identify).encode()], studies)
        yield SERIES, chain([series_head(identify=self._identify).encode()], series)


@dataclass(frozen=True)
class _Lines:
    """A study's lines; packed where there are many, since most of a row is what the last one was."""

    slices: bytes
    study: str
    series: bytes
    slice_count: int
    series_count: int


def _packed(lines: str) -> bytes:
    return zlib.compress(lines.encode(), 1)


def _count(lines: str) -> int:
    return lines.count("\n")


def report_text(report: dict[str, Any]) -> str:
    """What `run.json` says of a run."""
    return json.dumps(report, indent=1) + "\n"


def is_finished(out: Path) -> bool:
    """Whether the tables in an output folder are those of a run that has ended."""
    return (out / RUN).is_file()

"""Folders that grow under a run that stays: looked at every few seconds, with the model open in between.

A look is a walk; nothing is read of files that have not changed. A file counts once it is quiet: of one size and time
in two looks. Until then it has no row, and a study that alone has slices beside it is not whole. The folders are
polled, since shares of other machines tell nobody of what others write to them; where the system does
(`change_events`), an idle run looks at once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from dtvit_edge.bundle import Bundle
from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.plan import PackedParts, Plan
from dtvit_edge.dicom.planned_file import FileState
from dtvit_edge.dicom.walk import StudyFile, Walk, walk
from dtvit_edge.errors import ConfigError
from dtvit_edge.progress import Progress, silent
from dtvit_edge.reasons import PASSING
from dtvit_edge.scoring.change_events import change_events
from dtvit_edge.scoring.opened import RunModel, model_of
from dtvit_edge.scoring.options import Options
from dtvit_edge.scoring.run import RunReport, open_output, resolve_for
from dtvit_edge.scoring.run_report import RunFacts

# What failed for a reason that may pass is tried again with the next change, or after so many looks, but not sooner
# than this: a file that nobody may read would keep the run busy.
RETRY_LOOKS = 10
RETRY_SECONDS = 60.0

log = logging.getLogger(__name__)


def watch(
    bundle: Bundle,
    folders: Sequence[Path],
    out: Path,
    options: Options,
    seconds: float,
    *,
    overwrite: bool = False,
    identify: bool = False,
    progress: Progress = silent,
    begun: Callable[[], None] = lambda: None,
    scored: Callable[[RunReport], None] = lambda report: None,
    sleep: Callable[[float], None] | None = None,
    model: RunModel | None = None,
) -> NoReturn:
    """Score what is below the folders, and what comes, until an exception ends it: an interrupt does so in order.

    Args:
        seconds: between two looks, at least; so long a file has to be quiet.
        begun: told once the output folder is held, before anything in it changes.
        scored: told of each state of the folders that was scored.
        sleep: waits so many seconds; None waits by the clock, and while no file is still being written by events too.
        model: as of `run.run`.

    Raises:
        ConfigError, DeviceFault, DiskFault: as `run.run`. Folders that vanish later are waited for.
    """
    walk(folders, exclude=out)  # what is wrong now is said now
    chosen = model or resolve_for(bundle, out, options, overwrite=overwrite)
    growing = GrowingFolders(folders, out, chosen.options)
    with (
        model_of(bundle, chosen) as opened,
        open_output(bundle, opened, out, overwrite=overwrite, identify=identify) as output,
        nullcontext() if sleep else change_events(folders, out, seconds) as events,
    ):
        begun()
        while True:
            facts = RunFacts()
            plan = growing.look(progress)
            if plan is not None:
                report = output.score(plan, facts, progress)
                growing.retry = any(reason in PASSING for reason in report.reasons)
                log.info(
                    "%d studies, %d slices scored now, %d files still being written",
                    len(report.studies), report.processed, growing.waiting,
                )  # fmt: skip
                scored(report)
            if events is not None and not growing.waiting:
                growing.waited(events.pause(seconds))
            else:
                (sleep or time.sleep)(seconds)
                growing.waited(seconds)


@dataclass(frozen=True)
class _Look:
    """What a look saw; two that are equal need nothing between them."""

    files: tuple[StudyFile, ...]
    waiting: tuple[StudyFile, ...]
    rest: object


class GrowingFolders:
    """What lies below some folders, look by look.

    Attributes:
        retry: something failed in the last plan that may pass.
        waiting: files that were not quiet in the last look.
    """

    def __init__(self, folders: Sequence[Path], out: Path, options: Options) -> None:
        self.retry = False
        self.waiting = 0
        self._folders = folders
        self._out = out
        self._options = options
        self._seen: dict[str, FileState | None] | None = None
        self._last: _Look | None = None
        self._plan: Plan | None = None
        self._looks = 0
        self._waited = 0.0

    def waited(self, seconds: float) -> None:
        """So much time has passed since the last look."""
        self._looks += 1
        self._waited += seconds

    def look(self, progress: Progress = silent) -> Plan | None:
        """Look again: a plan of the files that are quiet, or None where nothing has changed since the last one.

        The first look sees nothing that is quiet yet, and makes no plan.
        """
        try:
            walked = walk(self._folders, exclude=self._out)
        except ConfigError:
            # A share that is away for a moment is no folder without studies.
            log.warning("a folder given is not there, or cannot be listed; the results stay as they are until it is")
            return None
        before, self._seen = self._seen, {str(file.file): file.state for file in walked.files}
        if before is None:
            self.waiting = len(walked.files)
            return None
        look = _look(walked, before)
        self.waiting = len(look.waiting)
        due = self.retry and self._looks >= RETRY_LOOKS and self._waited >= RETRY_SECONDS
        if look == self._last and not due:
            return None
        self._looks, self._waited = 0, 0.0
        parts = None if self._plan is None else self._plan.parts
        known = parts.known_files() if isinstance(parts, PackedParts) else None
        quiet = Walk(look.files, walked.rejected, walked.links)
        with progress("headers", len(look.files)) as step:
            self._plan = discover(
                quiet,
                any_series=self._options.any_series,
                fast=self._options.fast,
                progress=lambda: step(1),
                known=known,
                waiting=look.waiting,
            )
        self._last = look
        return self._plan


def _look(walked: Walk, before: dict[str, FileState | None]) -> _Look:
    quiet: list[StudyFile] = []
    waiting: list[StudyFile] = []
    for file in walked.files:
        name = str(file.file)
        is_quiet = name in before and before[name] == file.state
        (quiet if is_quiet else waiting).append(file)
    return _Look(tuple(quiet), tuple(waiting), (walked.rejected, walked.links))

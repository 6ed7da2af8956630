"""When studies are due: quiet for so many seconds, by a clock that nobody can set."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from dtvit_edge.pacs.incoming import Relevance


class StudyClock:
    """Studies that wait to be scored. Any object makes its study due; suitable slices alone put that off.

    Args:
        quiet: seconds without a suitable slice.
        clock: seconds, of whatever beginning.
    """

    def __init__(self, quiet: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet = quiet
        self._clock = clock
        self._due: dict[str, float] = {}
        self._soft: set[str] = set()
        self._changed = threading.Condition()
        self._ended = False

    def arrived(self, study_uid: str, found: Relevance) -> None:
        """An object came that was not there before."""
        with self._changed:
            if found.suitable and not found.bone:
                self._soft.add(study_uid)
            puts_off = found.suitable and not (found.bone and study_uid in self._soft)
            self._wait(study_uid, self._quiet, puts_off=puts_off)

    def again(self, study_uid: str, seconds: float) -> None:
        """Score a study again in so many seconds, or sooner where something comes."""
        with self._changed:
            self._wait(study_uid, seconds, puts_off=False)

    def forget(self, study_uid: str) -> None:
        """A study's files are gone."""
        with self._changed:
            self._soft.discard(study_uid)

    def next(self, most_seconds: float) -> str | None:
        """The study that is due, waiting for one so long at most; None where there is none, or all has ended."""
        end = self._clock() + most_seconds
        with self._changed:
            while not self._ended:
                now = self._clock()
                uid = min(self._due, key=lambda uid: self._due[uid], default=None)
                if uid is not None and self._due[uid] <= now:
                    del self._due[uid]
                    return uid
                if now >= end:
                    return None
                until = end if uid is None else min(end, self._due[uid])
                self._changed.wait(max(until - now, 0.001))
            return None

    def end(self) -> None:
        """Wake whoever waits; nothing is due any more."""
        self._ended = True  # no lock: a signal's handler may have interrupted its holder
        if self._changed.acquire(blocking=False):
            self._changed.notify_all()
            self._changed.release()

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, study_uid: object) -> bool:
        return study_uid in self._due

    def _wait(self, study_uid: str, seconds: float, *, puts_off: bool) -> None:
        due = self._clock() + seconds
        if study_uid not in self._due or puts_off:
            self._due[study_uid] = due
        self._changed.notify_all()

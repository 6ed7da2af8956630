"""`python -m dtvit_edge`, and the console script: nothing is imported before an interrupt has somebody to catch it."""

from __future__ import annotations

import _thread
import atexit
import gc
import os
import signal
import sys
import time
from types import FrameType

# A terminal that is closed sends a hang-up twice, and a shutdown two kinds of signals: the second must not end the work
# that the first one began, which is to end other processes.
SAME_EVENT_S = 1.0
# Python looks for cycles each time that so many more objects were made than freed: 700 would be 0.05 s of loading
# modules, which leave none.
NEW_OBJECTS = 50_000
# Python's own loading of modules: an exception in it, or in what the end of its locks calls, can leave the lock of all
# imports held, and every other thread that loads something would wait for ever.
_IMPORTING = "<frozen importlib._bootstrap>"
_AGAIN_S = 0.005
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def entry() -> None:
    """Run the command line; interrupted while it is still being loaded, it ends with 130 as later."""
    end = QuickEnd()
    interrupt_on_signals()
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
    try:
        from dtvit_edge.cli.commands import main

        status = main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    ignore_signals()
    end.status = status
    sys.exit(status)


class QuickEnd:
    """Ends the process when all that was to run at its end has run, by what the system does: it takes everything back.

    Python would first take modules apart one by one, and libraries what they hold, for 0.1 s and more. Threads have
    been waited for by then, and functions of `atexit` run the later the earlier they came: this one is the last.

    Attributes:
        status: of the process; None leaves the end to Python.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        atexit.register(self._end)

    def _end(self) -> None:
        if self.status is None:
            return
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            return  # Python says so in its own words, with a status of its own
        os._exit(self.status)


def interrupt_on_signals() -> None:
    """From now on SIGTERM and SIGHUP do what SIGINT does; one that is ignored, as `nohup` has it, stays ignored.

    None of the three interrupts Python amid its locks of imports: it comes again a moment later.
    """
    last, main = -SAME_EVENT_S, _thread.get_ident()

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if frame is not None and frame.f_code.co_filename == _IMPORTING:
            _thread.start_new_thread(_send_again, (number, main))
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        elif time.monotonic() - last >= SAME_EVENT_S:
            last = time.monotonic()
            raise KeyboardInterrupt

    for number in (*SIGNALS, signal.SIGINT):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, interrupt)


def _send_again(number: int, thread: int) -> None:
    """Send a signal to the thread that handles it, which may be waiting for something."""
    time.sleep(_AGAIN_S)
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(thread, number)
    else:
        signal.raise_signal(number)


def ignore_signals() -> None:
    """The work is done: while it ends, Python would take its handlers off and die of what still arrives."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    entry()

"""`python -m dtvit_edge`, and the console script: nothing is imported before an interrupt has somebody to catch it."""

from __future__ import annotations

import gc
import signal
import sys
import time
from types import FrameType

# A terminal that is closed sends a hang-up twice, and a shutdown two kinds of signals: the second must not end the work
# that the first one began, which is to end other processes.
SAME_EVENT_S = 1.0
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def entry() -> None:
    """Run the command line; interrupted while it is still being loaded, it ends with 130 as later."""
    interrupt_on_signals()
    try:
        from dtvit_edge.cli.commands import main

        status = main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130
    ignore_signals()
    gc.freeze()  # all of it goes with the process; Python would look through it twice first, for 0.05 s
    sys.exit(status)


def interrupt_on_signals() -> None:
    """From now on SIGTERM and SIGHUP do what SIGINT does; one that is ignored, as `nohup` has it, stays ignored."""
    last = -SAME_EVENT_S

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if time.monotonic() - last >= SAME_EVENT_S:
            last = time.monotonic()
            raise KeyboardInterrupt

    for number in SIGNALS:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, interrupt)


def ignore_signals() -> None:
    """The work is done: while it ends, Python would take its handlers off and die of what still arrives."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    entry()

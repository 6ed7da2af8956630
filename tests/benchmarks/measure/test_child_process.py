from __future__ import annotations

import sys

import numpy as np

from benchmarks.measure.child_process import run


def test_a_childs_memory_is_its_own_and_not_its_starters() -> None:
    held = np.ones(300 * 2**20 // 8)
    ended = run([sys.executable, "-S", "-c", "print('done')"])
    assert ended.stdout == "done\n" and ended.status == 0
    assert 2**20 < ended.peak_bytes < 100 * 2**20 < held.nbytes
    assert 0 < ended.seconds < 60


def test_an_exit_status_and_a_signal_are_told_apart() -> None:
    assert run([sys.executable, "-c", "import sys; print('no', file=sys.stderr); sys.exit(7)"]).status == 7
    assert run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]).status == -9


def test_stderr_is_kept_where_it_is_asked_for() -> None:
    assert run([sys.executable, "-c", "import sys; print('why', file=sys.stderr)"]).stderr == "why\n"

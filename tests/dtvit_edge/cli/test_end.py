"""How the process ends: quickly, and with everything done that was to be done."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

AT_THE_END = """
import atexit, sys, threading, time
from dtvit_edge.__main__ import entry

class Slow:
    def __del__(self):
        print("taken apart", flush=True)

slow, sys.argv = Slow(), ["dtvit-edge", *sys.argv[1:]]
def work():
    time.sleep(0.2)
    atexit.register(print, "was registered")
    print("worked", end="")  # flushed by nobody
threading.Thread(target=work).start()
entry()
"""


def run(*words: str, stdout: int | IO[str] = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", AT_THE_END, *words]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "status"), [(["--version"], 0), (["no-such-command"], 2)], ids=["done", "wrong usage"]
)
def test_threads_are_waited_for_and_all_is_written_but_nothing_is_taken_apart(words: list[str], status: int) -> None:
    ended = run(*words)
    assert ended.returncode == status
    assert "was registered" in ended.stdout and "worked" in ended.stdout
    assert "taken apart" not in ended.stdout


def test_output_that_cannot_be_written_is_not_a_success() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w") as full:
        assert run("--version", stdout=full).returncode not in (0, 2)

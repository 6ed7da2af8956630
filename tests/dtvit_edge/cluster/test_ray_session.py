"""Ray's begin and end, whatever interrupts them; a stand-in begins what a real one would."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dtvit_edge.cluster.ray_session import ray_session


@pytest.fixture(params=["SIGTERM", "SIGINT"])
def number(request: pytest.FixtureRequest) -> Iterator[int]:
    """A signal that interrupts, as the command line has it."""
    number = getattr(signal, request.param)
    before = signal.signal(number, signal.default_int_handler)
    yield number
    signal.signal(number, before)


def stand_in(monkeypatch: pytest.MonkeyPatch, init: Any) -> list[str]:
    """A module `ray` in the place of the real one; what is called of it."""
    called: list[str] = []

    def begin(*arguments: Any, **more: Any) -> None:
        folder = Path(more["_temp_dir"])
        folder.mkdir()
        init()
        called.append(str(folder.parent))

    fake = SimpleNamespace(init=begin, shutdown=lambda: called.append("shutdown"), is_initialized=lambda: False)
    monkeypatch.setitem(sys.modules, "ray", fake)
    return called


def test_an_interrupt_while_ray_begins_ends_in_order_once_it_has_begun(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a Ray that is half begun nobody could end the processes, and its folder would stay."""

    def interrupted() -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))  # as Ray does
        signal.raise_signal(number)  # in this thread: one that another thread takes comes later

    called = stand_in(monkeypatch, interrupted)
    with pytest.raises(KeyboardInterrupt), ray_session("local"):
        pytest.fail("the block was entered")
    folder, shut = called
    assert shut == "shutdown" and not os.path.exists(folder)
    assert signal.getsignal(number) is signal.default_int_handler


@pytest.fixture
def interruptible() -> Iterator[None]:
    """As in a terminal: a shell that starts tests in the background lets them ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_interrupt_while_ray_begins_ends_it_at_once(
    monkeypatch: pytest.MonkeyPatch, interruptible: None
) -> None:
    def interrupted() -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    called = stand_in(monkeypatch, interrupted)
    with pytest.raises(KeyboardInterrupt), ray_session("local"):
        pytest.fail("the block was entered")
    assert called == ["shutdown"]

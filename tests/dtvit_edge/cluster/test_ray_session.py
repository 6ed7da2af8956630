"""Ray's begin and end, whatever interrupts them; a stand-in begins what a real one would."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dtvit_edge.cluster.ray_session import ray_session
from dtvit_edge.errors import ConfigError
from tests.support.pacs_peers import free_port


def stand_in(monkeypatch: pytest.MonkeyPatch, init: Callable[[], Any]) -> list[str]:
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


def interrupted_session(number: int, times: int, answer: Connection) -> None:
    """In a process of its own, which a signal may end: a session that is interrupted while Ray begins.

    Sends what was called of Ray, and whether the handler is the one of before.
    """
    signal.signal(number, signal.default_int_handler)  # as the command line has it

    def interrupts() -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))  # as Ray does
        for _ in range(times):
            signal.raise_signal(number)

    with pytest.MonkeyPatch.context() as patch:
        called = stand_in(patch, interrupts)
        with pytest.raises(KeyboardInterrupt), ray_session("local"):
            pytest.fail("the block was entered")
    answer.send((called, signal.getsignal(number) is signal.default_int_handler))


def after_interrupts(number: int, times: int = 1) -> list[str]:
    """What was called of Ray in a session that was interrupted so."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=interrupted_session, args=(number, times, theirs))
    process.start()
    theirs.close()
    process.join()
    assert process.exitcode == 0
    called, handler_is_back = ours.recv()
    assert handler_is_back
    return called


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_an_interrupt_while_ray_begins_ends_in_order_once_it_has_begun(name: str) -> None:
    """Of a Ray that is half begun nobody could end the processes, and its folder would stay."""
    folder, shut = after_interrupts(getattr(signal, name))
    assert shut == "shutdown" and not os.path.exists(folder)


def test_a_second_interrupt_while_ray_begins_ends_it_at_once() -> None:
    assert after_interrupts(signal.SIGINT, times=2) == ["shutdown"]


@pytest.mark.parametrize("host", ["127.0.0.1", "nobody.invalid"])
def test_an_address_where_nobody_listens_is_refused_at_once(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would ask for a quarter of an hour, and could not be interrupted."""
    monkeypatch.setenv("RAY_NUM_REDIS_GET_RETRIES", "3")
    stand_in(monkeypatch, lambda: pytest.fail("Ray was asked"))
    with (
        pytest.raises(ConfigError, match=rf"no Ray at {host}:\d+: .*`ray start --head`"),
        ray_session(f"{host}:{free_port()}"),
    ):
        pytest.fail("the block was entered")


def test_a_cluster_that_asks_for_a_token_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **more: Any) -> None:
        try:
            raise RuntimeError("Failed to connect to GCS. ... ray.exceptions.AuthenticationError: RPC error: ...")
        except RuntimeError as error:
            raise ConnectionError("Failed to connect to Ray cluster") from error

    monkeypatch.setenv("RAY_NUM_REDIS_GET_RETRIES", "3")
    fake = SimpleNamespace(init=refuse, shutdown=lambda: None, is_initialized=lambda: False)
    monkeypatch.setitem(sys.modules, "ray", fake)
    with pytest.raises(ConfigError, match=r"RAY_AUTH_MODE=token, and bring ~/\.ray/auth_token"), ray_session("auto"):
        pytest.fail("the block was entered")


def test_a_ray_of_this_machine_keeps_its_token_out_of_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    seen: list[str] = []
    stand_in(monkeypatch, lambda: seen.append(os.environ["RAY_AUTH_TOKEN"]))
    for _ in range(2):
        with ray_session("local"):
            pass
        assert "RAY_AUTH_TOKEN" not in os.environ
    assert len(set(seen)) == 2 and all(len(token) == 64 for token in seen)

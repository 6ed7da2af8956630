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
from dtvit_edge.errors import ConfigError
from tests.support.pacs_peers import free_port


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

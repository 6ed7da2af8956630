"""Ray, found or begun: the one place that imports it.

Ray's core is used, actors and `ray.wait`, and not its data sets: an item that kills its worker has to be halved and
given up at last, which they cannot do, and a journal wants answers as they come, whichever comes first. Usage reports
are switched off before Ray is loaded, and what it prints of its workers stays with them.
"""

from __future__ import annotations

import importlib
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any

from dtvit_edge.environment import install_line, switch_telemetry_off, usable_cores
from dtvit_edge.errors import ConfigError, MissingDependency

LOCAL = "local"
# Ray asks an address that is silent for a quarter of an hour, lets nobody interrupt it, and fills stderr meanwhile.
_ANSWER_S = 5.0
_TRIES = "3"
_TOKEN_OF_ONES_OWN = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
# Ray puts sockets below its folder, and a socket's path has 107 bytes at most.
_LONGEST_TEMPORARY = 30
# Small: what travels are headers and rows, and a bundle is opened from this machine's own disk.
_STORE_BYTES = 150 * 2**20

log = logging.getLogger(__name__)


@contextmanager
def ray_session(address: str) -> Iterator[Any]:
    """The module `ray`, connected: to a cluster, or with `local` to one of this machine's cores and GPUs.

    A local one ends with the block. Its files lie in a folder of its own that only this user can open, and go with it.

    Raises:
        MissingDependency: Ray is not installed.
        ConfigError: there is no cluster at that address, or none can be begun.
    """
    switch_telemetry_off()
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # else it warns of its next release
    if address != LOCAL:
        os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", _TRIES)  # how often the head of a cluster is asked
    try:
        import ray
    except ImportError as error:
        raise MissingDependency(f"ray is not installed, and --ray runs on it; {install_line('ray')}") from error
    if "://" in address:
        raise ConfigError(f"--ray {address}: Ray's client is not used; run the command on a machine of the cluster")
    _see_that_it_answers(address)
    with ExitStack() as undo:
        undo.enter_context(_unsaid())
        undo.enter_context(_token_of_this_session(address))
        try:
            with _interrupts_later():
                if address == LOCAL:
                    here = tempfile.gettempdir()
                    here = here if len(here) <= _LONGEST_TEMPORARY else "/tmp"
                    folder = tempfile.mkdtemp(prefix="dtvit-ray-", dir=here)
                    undo.callback(shutil.rmtree, folder, ignore_errors=True)
                    log.info("Ray keeps its own files in %s, and removes them at the end", folder)
                if not ray.is_initialized():  # else it is the caller's own, and is refused
                    undo.callback(ray.shutdown)
                if address == LOCAL:
                    ray.init(
                        LOCAL,
                        num_cpus=usable_cores(),
                        include_dashboard=False,
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                        object_store_memory=_STORE_BYTES,
                        _temp_dir=os.path.join(folder, "r"),  # Ray opens it to everybody: that is for the folder above
                        _node_ip_address="127.0.0.1",  # and no port to any other machine
                    )
                else:
                    ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:
            if _asks_for_a_token(error):
                raise ConfigError(
                    f"no Ray at {address}: it asks for a token; set RAY_AUTH_MODE=token, and bring ~/.ray/auth_token "
                    "of the cluster's head to the same place here"
                ) from error
            said = " ".join(str(error).split())[:300]
            raise ConfigError(f"no Ray at {address}: {type(error).__name__}: {said}") from error
        yield ray


def _see_that_it_answers(address: str) -> None:
    """Refuse an address where nobody listens."""
    host, colon, port = address.rpartition(":")
    if not (colon and port.isdecimal()):
        return  # `local`, `auto`, and what Ray itself calls no address
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_S).close()
    except (OSError, ValueError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"no Ray at {address}: {why}; `ray start --head` on a machine begins a cluster, and says its address"
        ) from error


@contextmanager
def _token_of_this_session(address: str) -> Iterator[None]:
    """A Ray that begins here asks for a token, which it would keep in the home folder; this one is in memory alone.

    Threads of Ray outlive its end and ask for the token that they know: it is forgotten when the next session begins.
    """
    if address != LOCAL or any(os.environ.get(name) for name in _TOKEN_OF_ONES_OWN):
        _read_token_again()
        yield
        return
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    _read_token_again()
    try:
        yield
    finally:
        for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE"):  # the latter is set by Ray
            os.environ.pop(name, None)


def _read_token_again() -> None:
    with suppress(ImportError, AttributeError):  # a Ray that keeps none
        importlib.import_module("ray._raylet").AuthenticationTokenLoader.instance().reset_cache()


def _asks_for_a_token(error: BaseException | None) -> bool:
    while error is not None:
        if "AuthenticationError" in f"{type(error).__name__} {error}":
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def _unsaid() -> Iterator[None]:
    """Ray says of a lost worker on stdout, where results belong, and with addresses; no option of `init` keeps it."""
    try:
        from ray._private import worker
    except ImportError:  # a Ray that has its parts elsewhere: its words are seen then
        yield
        return
    before = getattr(worker, "_worker_logs_enabled", True)
    worker._worker_logs_enabled = False
    try:
        yield
    finally:
        worker._worker_logs_enabled = before


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """An interrupt comes when the block has ended, a second Ctrl-C at once.

    Ray takes SIGTERM for itself, which ends a run in order here; and of a Ray that is half begun nobody could end the
    processes. Only the main thread can set handlers, so that while it is in the block nobody but Ray is kept from it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    come: list[int] = []

    def later(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in come:
            raise KeyboardInterrupt
        come.append(number)

    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    kept = {number: handler for number, handler in before.items() if callable(handler)}
    set_handler = signal.signal
    for number in kept:
        set_handler(number, later)
    signal.signal = lambda number, handler: signal.getsignal(number)  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = set_handler
        for number, handler in kept.items():
            set_handler(number, handler)
    if come:
        raise KeyboardInterrupt

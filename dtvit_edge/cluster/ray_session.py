"""Ray, found or begun: the one place that imports it.

Ray's core is used, actors and `ray.wait`, and not its data sets: an item that kills its worker has to be halved and
given up at last, which they cannot do, and a journal wants answers as they come, whichever comes first. Usage reports
are switched off before Ray is loaded, and what it prints of its workers stays with them.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dtvit_edge.environment import switch_telemetry_off, usable_cores
from dtvit_edge.errors import ConfigError, MissingDependency

LOCAL = "local"
INSTALL = "pip install ray"
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
    try:
        import ray
    except ImportError as error:
        raise MissingDependency(f"ray is not installed, and --ray runs on it; {INSTALL}") from error
    if "://" in address:
        raise ConfigError(f"--ray {address}: Ray's client is not used; run the command on a machine of the cluster")
    folder = None
    try:
        with _signals_kept():
            if address == LOCAL:
                here = tempfile.gettempdir()
                folder = tempfile.mkdtemp(prefix="dtvit-ray-", dir=here if len(here) <= _LONGEST_TEMPORARY else "/tmp")
                log.info("Ray keeps its own files in %s, and removes them at the end", folder)
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
        if folder:
            shutil.rmtree(folder, ignore_errors=True)
        said = str(error).strip().split("\n")[0][:200]
        raise ConfigError(f"no Ray at {address}: {type(error).__name__}: {said}") from error
    try:
        yield ray
    finally:
        ray.shutdown()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself, which ends a run in order here."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

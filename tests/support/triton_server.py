"""A real Triton inference server, as the wheel of nvidia-pytriton brings it: with its Python backend alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support.data import ROOT


def server_folder() -> Path:
    """Where the wheel lies; a test skips where it is not."""
    found = find_spec("pytriton")
    if found is None or found.origin is None or find_spec("tritonclient") is None:
        pytest.skip("nvidia-pytriton or tritonclient is not installed; `make test-real` installs both")
    return Path(found.origin).parent / "tritonserver"


@dataclass(frozen=True)
class Server:
    """A server that answers: where, a client of it, its process and its log."""

    address: str
    client: Any
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def serving(repo: Path, model: str, work: Path) -> Iterator[Server]:
    """A server over one model of a repository, once it is live; ready it may not be."""
    import tritonclient.http as http

    folder = server_folder()
    python = work / "backends" / "python"
    python.mkdir(parents=True, exist_ok=True)
    stub = folder / "python_backend_stubs" / f"3.{sys.version_info.minor}" / "triton_python_backend_stub"
    for file in (*(folder / "backends" / "python").glob("*.*"), stub):
        link = python / file.name
        if not link.exists():
            link.symlink_to(file)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [folder / "bin" / "tritonserver", "--model-repository", repo, "--backend-directory", work / "backends",
               "--model-control-mode=explicit", f"--load-model={model}", "--exit-on-error=false",
               "--http-address=127.0.0.1", f"--http-port={port}", "--allow-grpc=false", "--allow-metrics=false",
               "--strict-readiness=true"]  # fmt: skip
    libraries = [str(folder.parents[1] / "nvidia_pytriton.libs"), os.environ.get("LD_LIBRARY_PATH", "")]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
        # The server embeds Python, which takes its packages from beside the `python3` that it finds.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
    }
    log = work / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen([*map(str, command)], env=environment, stdout=out, stderr=subprocess.STDOUT)
    address = f"127.0.0.1:{port}"
    client = http.InferenceServerClient(address)
    try:
        deadline = time.monotonic() + 60
        while not _is_live(client) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        yield Server(address, client, process, log)
    finally:
        client.close()
        process.terminate()
        process.wait()


def _is_live(client: Any) -> bool:
    try:
        return bool(client.is_server_live())
    except Exception:  # nobody listens yet
        return False

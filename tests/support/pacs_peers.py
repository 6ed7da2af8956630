"""A service in a thread for tests; its peers are those of the measurements."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.standalone.bedside_peers import HOST, OwnPacs, ServedProcess, free_port, send, send_datasets, wait_for
from dtvit_edge.bundle import Bundle
from dtvit_edge.pacs.peers import Peer
from dtvit_edge.pacs.receiver import ReceiverSettings
from dtvit_edge.pacs.service import Service, ServiceSettings
from dtvit_edge.scoring.options import Options

__all__ = ["HOST", "OwnPacs", "ServedProcess", "free_port", "send", "send_datasets", "wait_for"]


def settings_of(folder: Path, pacs_port: int, **changes: Any) -> ServiceSettings:
    """A service for tests: at any port, a study is quiet after 0.3 s."""
    most_bytes = changes.pop("most_bytes", 1 << 24)
    receiver = ReceiverSettings("DTVIT", HOST, 0, (Peer("PACS", HOST),), most_bytes)
    settings = ServiceSettings(folder, Peer("PACS", HOST, pacs_port), receiver, 0.3, 24.0, 0)
    return replace(settings, **changes)


@contextmanager
def running(bundle: Bundle, settings: ServiceSettings, **options: Any) -> Iterator[Service]:
    """A service in a thread."""
    service = Service(bundle, Options(**{"backend": "onnxruntime", "threads": 1, **options}), settings)
    failed: list[BaseException] = []

    def serve() -> None:
        try:
            service.run()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        wait_for(lambda: service.listens or bool(failed))
        yield service
    finally:
        service.end()
        thread.join(30)
        assert not thread.is_alive()
    if failed:
        raise failed[0]

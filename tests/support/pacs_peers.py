"""Peers of the service for tests: a PACS of our own on pynetdicom, senders, and a service in a thread or a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from dtvit_edge.bundle import Bundle
from dtvit_edge.pacs.peers import Peer
from dtvit_edge.pacs.receiver import IMAGES, OURS, SYNTAXES, ReceiverSettings
from dtvit_edge.pacs.sender import FIND
from dtvit_edge.pacs.service import Service, ServiceSettings
from dtvit_edge.scoring.options import Options
from tests.support.data import ROOT

HOST = "127.0.0.1"


class OwnPacs:
    """Keeps what it is sent, by UID; a context manager.

    Attributes:
        kept: datasets by SOP instance UID; sent: UIDs in the order in which they came, each time.
        answer: makes a status of a dataset's UID, and of how often it came.
    """

    def __init__(self, *, classes: Sequence[str] = (*IMAGES, *OURS), finds: bool = True) -> None:
        self.kept: dict[str, Dataset] = {}
        self.sent: list[str] = []
        self.answer: Callable[[str, int], int] = lambda uid, times: 0
        self._classes, self._finds = classes, finds
        self.port = 0

    def __enter__(self) -> OwnPacs:
        from pynetdicom import AE, evt

        entity = AE(ae_title="PACS")
        for sop_class in self._classes:
            entity.add_supported_context(sop_class, list(SYNTAXES))
        if self._finds:
            entity.add_supported_context(FIND)
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_C_FIND, self._find)]
        self._server: Any = entity.start_server((HOST, self.port), block=False, evt_handlers=handlers)
        self.port = self._server.server_address[1]
        return self

    def __exit__(self, *details: object) -> None:
        self._server.shutdown()

    def reports(self, study_uid: str | None = None) -> list[Dataset]:
        """The SRs that it has, by InstanceNumber."""
        found = [ds for ds in self.kept.values() if ds.Modality == "SR"]
        found = [ds for ds in found if study_uid in (None, ds.StudyInstanceUID)]
        return sorted(found, key=lambda ds: int(ds.InstanceNumber))

    def _store(self, event: Any) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        uid = str(dataset.SOPInstanceUID)
        self.sent.append(uid)
        status = self.answer(uid, self.sent.count(uid))
        if status == 0:
            self.kept.setdefault(uid, dataset)
        return status

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        uid = str(event.identifier.SOPInstanceUID)
        if uid in self.kept:
            yield 0xFF00, event.identifier


def send(
    files: Sequence[Path],
    port: int,
    *,
    calling: str = "PACS",
    called: str = "DTVIT",
    each: Callable[[], None] = lambda: None,
) -> list[int | None]:
    """Send files in one association; the status of each, None where there was no answer."""
    return send_datasets([pydicom.dcmread(file) for file in files], port, calling=calling, called=called, each=each)


def send_datasets(
    datasets: Sequence[Dataset],
    port: int,
    *,
    calling: str = "PACS",
    called: str = "DTVIT",
    each: Callable[[], None] = lambda: None,
) -> list[int | None]:
    """Send datasets in one association; no status at all where it is refused."""
    from pynetdicom import AE

    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    for sop_class, syntax in dict.fromkeys((ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) for ds in datasets):
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate(HOST, port, ae_title=called)
    if not association.is_established:
        return []
    statuses: list[int | None] = []
    for dataset in datasets:
        try:
            statuses.append(association.send_c_store(dataset).get("Status"))
        except (RuntimeError, ValueError):  # it is aborted, or the class was not accepted
            statuses.append(None)
        each()
    association.release()
    return statuses


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


def wait_for(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.02)


class ServedProcess:
    """`dtvit-edge serve` in a process of its own; a context manager that ends it by SIGTERM.

    Attributes:
        status: of its end.
    """

    def __init__(self, bundle: Path, folder: Path, pacs: str, port: int, status_port: int, *options: str) -> None:
        self._command = [
            sys.executable, "-m", "dtvit_edge", "serve", str(bundle), "-o", str(folder), "--pacs", pacs,
            "--port", str(port), "--status-port", str(status_port), "--backend", "onnxruntime", "--threads", "1",
            *options,
        ]  # fmt: skip
        self._status_port = status_port
        self._log = folder.parent / f"{folder.name}.log"
        self.status: int | None = None

    def __enter__(self) -> ServedProcess:
        self.begin()
        return self

    def __exit__(self, *details: object) -> None:
        self.end()

    def begin(self, *, wait: bool = True) -> None:
        """Start it; with `wait` until it listens."""
        with self._log.open("ab") as log:
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, env=environment)
        if wait:
            wait_for(lambda: self.health() is not None, 60)

    def kill(self) -> None:
        """As the system does where memory runs out."""
        self._process.kill()
        self._process.wait()

    def end(self) -> None:
        """SIGTERM, and wait."""
        self._process.send_signal(signal.SIGTERM)
        self.status = self._process.wait(60)

    @property
    def resident_kib(self) -> int:
        """What it holds in memory."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS"))

    @property
    def log(self) -> str:
        """Everything that it said, in all its lives."""
        return self._log.read_text()

    def health(self) -> dict[str, Any] | None:
        """What /health says; None while nobody answers, or it does not listen for objects yet."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self._status_port}/health", timeout=5) as answer:
                said = json.load(answer)
        except urllib.error.HTTPError as error:
            said = json.load(error)
        except (OSError, ValueError):
            return None
        return said if said["listens"] else None

"""Peers of the service for tests and measurements: a PACS of our own on pynetdicom, senders, and the service itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset

from dtvit_edge.pacs.association import answers_wait_for_who_asked
from dtvit_edge.pacs.receiver import IMAGES, OURS, SYNTAXES
from dtvit_edge.pacs.sender import FIND

HOST = "127.0.0.1"
ROOT = Path(__file__).resolve().parents[2]


class OwnPacs:
    """Keeps what it is sent, by UID; a context manager.

    Attributes:
        kept: datasets by SOP instance UID; sent: UIDs in the order in which they came, each time.
        times: of `time.monotonic` when an instance came first.
        changed: UIDs that came again with other content.
        answer: makes a status of a dataset's UID, and of how often it came.
    """

    def __init__(self, *, classes: Sequence[str] = (*IMAGES, *OURS)) -> None:
        self.kept: dict[str, Dataset] = {}
        self.changed: list[str] = []
        self.times: dict[str, float] = {}
        self.sent: list[str] = []
        self.answer: Callable[[str, int], int] = lambda uid, times: 0
        self._classes = classes
        self.port = 0

    def __enter__(self) -> OwnPacs:
        from pynetdicom import AE, evt

        entity = AE(ae_title="PACS")
        for sop_class in self._classes:
            entity.add_supported_context(sop_class, list(SYNTAXES))
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
            self.times.setdefault(uid, time.monotonic())
            if self.kept.setdefault(uid, dataset) != dataset:
                self.changed.append(uid)
        return status

    def _find(self, event: Any) -> Iterator[tuple[int, Dataset | None]]:
        uid = str(event.identifier.SOPInstanceUID)
        if uid in self.kept:
            yield 0xFF00, event.identifier


def send(files: Sequence[Path], port: int) -> list[int | None]:
    """Send files in one association; the status of each, None where there was no answer."""
    return send_datasets([pydicom.dcmread(file) for file in files], port)


def send_datasets(
    datasets: Sequence[Dataset],
    port: int,
    *,
    calling: str = "PACS",
    called: str = "DTVIT",
    each: list[int | None] | None = None,
) -> list[int | None]:
    """Send datasets in one association; no status at all where it is refused.

    Args:
        each: is added to as answers come.
    """
    from pynetdicom import AE

    entity = AE(ae_title=calling)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    for sop_class, syntax in dict.fromkeys((ds.SOPClassUID, ds.file_meta.TransferSyntaxUID) for ds in datasets):
        entity.add_requested_context(sop_class, syntax)
    association = entity.associate(HOST, port, ae_title=called)
    if not association.is_established:
        return []
    answers_wait_for_who_asked(association)
    statuses: list[int | None] = [] if each is None else each
    for dataset in datasets:
        try:
            statuses.append(association.send_c_store(dataset).get("Status"))
        except (RuntimeError, ValueError):  # it is aborted, or the class was not accepted
            statuses.append(None)
    association.release()
    return statuses


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as stream:
        stream.bind((HOST, 0))
        return int(stream.getsockname()[1])


def wait_for(is_so: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.02)


class ServedProcess:
    """`dtvit-edge serve` in a process of its own; a context manager that ends it by SIGTERM.

    Attributes:
        port: where it listens; status: of its end.
    """

    def __init__(self, bundle: Path, folder: Path, pacs: str, port: int, status_port: int, *options: str) -> None:
        self._command = [
            sys.executable, "-m", "dtvit_edge", "serve", str(bundle), "-o", str(folder), "--pacs", pacs,
            "--port", str(port), "--status-port", str(status_port), *options,
        ]  # fmt: skip
        self.port, self._status_port = port, status_port
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

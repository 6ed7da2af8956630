"""The service at the bedside: studies come in from a PACS, are scored when they are quiet, and their SR goes back.

A study's folder is scored by `scoring.run`, as the command `score` does it, with the model open. The service adds when
that happens, and that each new result ends as one object in the PACS.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from dtvit_edge.bundle import Bundle
from dtvit_edge.dicom.pydicom_warnings import quiet
from dtvit_edge.errors import ConfigError, DeviceFault, DiskFault, DtvitError
from dtvit_edge.files import make_folder
from dtvit_edge.pacs.association import Requestor
from dtvit_edge.pacs.heartbeat import Heartbeat
from dtvit_edge.pacs.inbox import Inbox
from dtvit_edge.pacs.key_image import SECONDARY_CAPTURE, key_image
from dtvit_edge.pacs.metrics import Metrics, StatusPages
from dtvit_edge.pacs.packages import SERVICE, require
from dtvit_edge.pacs.peers import Peer
from dtvit_edge.pacs.receiver import Receiver, ReceiverSettings
from dtvit_edge.pacs.sender import Sender
from dtvit_edge.pacs.store import PARKED, WAITING, KnownStudy, OutgoingObject, Store
from dtvit_edge.pacs.structured_report import COMPREHENSIVE_3D, Naming, object_bytes, prepare, structured_report
from dtvit_edge.pacs.study_clock import StudyClock
from dtvit_edge.pacs.uids import derived_uid
from dtvit_edge.pacs.write import StudyStatement, study_statements
from dtvit_edge.reasons import Status
from dtvit_edge.report.run_results import read_run
from dtvit_edge.report.service_folder import DATABASE
from dtvit_edge.scoring.api import Options
from dtvit_edge.scoring.lock import FolderLock
from dtvit_edge.scoring.opened import OpenModel, opened_model
from dtvit_edge.scoring.run import resolve_for, run

# A study that could not be scored is tried again so often, after so long.
MOST_TRIES, RETRY_SECONDS = 3, 60.0
# Objects that wait for so long are a reason to look.
LATE_SECONDS = 600.0
# What is known of studies stays so much longer than their files: a PACS that sends one again gets no second answer.
_MEMORY = 30
_TEND_SECONDS = 30.0
# So long the service looks for something to do before it looks whether it shall end.
_LOOK_SECONDS = 0.5
# What is being sent has so long to be sent.
_END_SECONDS = 2.0
UNREADABLE = "none of its files can be read"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServiceSettings:
    """What the service is asked for.

    Attributes:
        folder: of what it received and knows; pacs: where results go.
        quiet_seconds: without a new suitable slice, until a study is due; keep_hours: for received objects.
        status_port: of `/metrics` and `/health`; heartbeat_hours: between two heartbeats, None for none.
        with_key_image: flagged studies get one; resend: parked objects are sent once more.
    """

    folder: Path
    pacs: Peer
    receiver: ReceiverSettings
    quiet_seconds: float
    keep_hours: float
    status_port: int
    heartbeat_hours: float | None = None
    with_key_image: bool = False
    resend: bool = False


class Service:
    """One service; `run` serves until `end` is called."""

    def __init__(self, bundle: Bundle, options: Options, settings: ServiceSettings) -> None:
        require(*SERVICE)
        self._bundle = bundle
        self._options = options
        self._settings = settings
        self._metrics = Metrics()
        self._inbox = Inbox(settings.folder)
        self._clock = StudyClock(settings.quiet_seconds)
        self._receiver = Receiver(settings.receiver, self._inbox, self._clock.arrived, self._metrics.incoming)
        self._troubled: dict[str, int] = {}
        self._due_since: dict[str, float] = {}
        self._ended = self._busy = False
        self._pages = StatusPages(settings.status_port, self._metrics, self.health)
        self._store: Store
        self._sender: Sender
        self._model: OpenModel
        self._heartbeat: Heartbeat | None = None

    @property
    def listens(self) -> bool:
        """Whether objects can come in."""
        return self._receiver.listens and not self._ended

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._receiver.port

    @property
    def status_port(self) -> int:
        """Where `/metrics` and `/health` are."""
        return self._pages.port

    def end(self) -> None:
        """Finish the study that is being scored, and end; safe in a signal's handler."""
        self._ended = True
        self._clock.end()

    def run(self) -> None:
        """Serve.

        Raises:
            ConfigError: a folder, address or port that cannot be used, or a second service on the folder.
            DeviceFault: the device failed; nothing that was received is lost.
        """
        settings = self._settings
        make_folder(settings.folder)
        with ExitStack() as stack:
            stack.enter_context(FolderLock(settings.folder))
            stack.enter_context(quiet())  # pynetdicom decodes in threads of its own what peers send
            self._inbox.open()
            self._store = Store(settings.folder / DATABASE)
            stack.callback(self._store.close)
            chosen = resolve_for(self._bundle, settings.folder, self._options)
            self._model = stack.enter_context(opened_model(self._bundle, chosen))
            requestor = Requestor(settings.pacs, settings.receiver.title)
            self._sender = Sender(self._store, requestor, self._was_stored, self._metrics.failed)
            self._expose()
            if settings.heartbeat_hours is not None:
                self._heartbeat = Heartbeat(
                    settings.heartbeat_hours, requestor, self._store, self._bundle, self._model, settings.quiet_seconds
                )
            stack.enter_context(self._pages)
            prepare()
            self._take_up()
            if self._heartbeat is not None:
                beating = threading.Thread(target=self._beat, args=(self._heartbeat,), name="heartbeat", daemon=True)
                beating.start()
                stack.callback(beating.join, _END_SECONDS)
            self._sender.start()
            stack.callback(self._sender.end, _END_SECONDS)
            stack.enter_context(self._receiver)
            log.info(
                "%s listens at %s port %d, results go to %s; health and metrics at port %d",
                settings.receiver.title, settings.receiver.host, self.port, settings.pacs.title, self.status_port,
            )  # fmt: skip
            self._serve()
        log.info("ended in order")

    def health(self) -> dict[str, Any]:
        """Whether all is well, in words that name nobody."""
        waiting, parked = self._store.count(WAITING), self._store.count(PARKED)
        failing = self._sender.failing_since
        why = []
        if parked:
            why.append(f"{parked} objects were refused by the PACS for good; see the log, then --resend")
        if failing is not None and time.monotonic() - failing > LATE_SECONDS:
            why.append(f"the PACS has taken nothing for {(time.monotonic() - failing) / 60:.0f} minutes")
        if self._receiver.disk_failed:
            why.append("what came last could not be written, and could not be now: the disk is full or broken")
        if self._troubled:
            why.append(f"{len(self._troubled)} studies could not be scored; see the log")
        if self._heartbeat is not None and (said := self._heartbeat.trouble):
            why.append(f"heartbeat: {said}")
        return {
            "status": "red" if why else "ok",
            "why": why,
            "listens": self.listens,
            "studies_waiting": len(self._clock),
            "objects_waiting": waiting,
            "objects_parked": parked,
            "free_bytes": self._inbox.free_bytes(),
            "heartbeat": None if self._heartbeat is None else self._heartbeat.state,
        }

    def _expose(self) -> None:
        watch = self._metrics.watch
        watch("objects_waiting", "Objects that wait to be sent.", lambda: self._store.count(WAITING))
        watch("objects_parked", "Objects that the PACS refused for good.", lambda: self._store.count(PARKED))
        watch("studies_waiting", "Studies that wait until they are quiet.", lambda: len(self._clock))
        watch("free_bytes", "What the disk has left.", self._inbox.free_bytes)
        watch("healthy", "1 where /health says ok.", lambda: float(self.health()["status"] == "ok"))
        watch(
            "heartbeat_seconds", "The last heartbeat's way through the PACS and back; -1 while it is late or wrong.",
            lambda: -1.0 if self._heartbeat is None else self._heartbeat.seconds,
        )  # fmt: skip

    def _take_up(self) -> None:
        """What a service before this one received and did not score."""
        if self._settings.resend and (count := self._store.unpark()):
            log.info("%d parked objects are sent once more", count)
        for uid in self._inbox.studies():
            known = self._store.study(uid)
            files = self._inbox.digest(uid)
            if files and (known is None or known.files != files):
                self._clock.again(uid, self._settings.quiet_seconds)

    def _serve(self) -> None:
        tended = time.monotonic()
        while not self._ended:
            uid = self._clock.next(_LOOK_SECONDS)
            self._busy = uid is not None
            if uid is not None and not self._ended:
                self._due_since[uid] = time.monotonic()
                self._attempt(uid)
            self._busy = False
            if (since := time.monotonic() - tended) >= _TEND_SECONDS:
                tended += since
                self._tend(since)

    def _beat(self, heartbeat: Heartbeat) -> None:
        """In a thread of its own: a PACS that does not answer it keeps no study from being scored."""
        while not self._ended:
            try:
                heartbeat.tick()
            except Exception as error:  # it watches the service, and is no reason to end it
                heartbeat.trouble = f"it could not be looked at: {type(error).__name__}"
            time.sleep(_LOOK_SECONDS)

    def _attempt(self, uid: str) -> None:
        """Score a study; what fails is tried again, and never ends the service unless the device is gone."""
        try:
            self._score(uid)
            self._troubled.pop(uid, None)
        except DeviceFault:
            raise
        except Exception as error:
            tries = self._troubled[uid] = self._troubled.get(uid, 0) + 1
            log.error("study %s could not be scored: %s", uid, _words(error))
            if tries < MOST_TRIES or isinstance(error, DiskFault):
                self._clock.again(uid, RETRY_SECONDS)
            with suppress(DiskFault):
                self._store.failed(uid)

    def _score(self, uid: str) -> None:
        files = self._inbox.digest(uid)
        if not files:
            return
        folder, out = self._inbox.files_of(uid), self._inbox.results_of(uid)
        try:
            done = run(self._bundle, [folder], out, self._options, model=self._model)
        except ConfigError:  # begun with another model or version: this one counts from now on
            done = run(self._bundle, [folder], out, self._options, model=self._model, overwrite=True)
        self._metrics.scored()
        study = next(study_statements(read_run(out), done.plan, uid), UNREADABLE)
        known = self._store.study(uid)
        if isinstance(study, str):
            log.warning("study %s has no object: %s", uid, study)
            self._store.seen(uid, files)
        elif known is not None and _nothing_new(known, study):
            self._store.seen(uid, files)
        else:
            self._put(uid, files, study, known)

    def _put(self, uid: str, files: str, study: StudyStatement, known: KnownStudy | None) -> None:
        """Freeze a new result in the outbox."""
        device = self._store.device_uid
        before = known.report_uid if known is not None else ""
        naming = Naming(
            series_uid=derived_uid("series", device, uid),
            sop_uid=derived_uid("report", device, study.digest, before),
            device_uid=device,
            made=datetime.now().astimezone(),
            number=1 if known is None else known.number + 1,
            predecessors=((known.report_class, before),) if known is not None and before else (),
        )
        report = structured_report(study.statement, study.found, naming, study.remarks)
        objects = [(naming.sop_uid, COMPREHENSIVE_3D, object_bytes(report))]
        if self._settings.with_key_image:
            image = key_image(study.statement, study.found, naming, self._bundle.manifest.spec)
            if image is not None:
                objects.append((str(image.SOPInstanceUID), SECONDARY_CAPTURE, object_bytes(image)))
        self._store.put(uid, files, study.statement.fingerprint, naming.number, objects)
        self._metrics.result(study.statement.flagged)
        self._sender.wake()

    def _was_stored(self, one: OutgoingObject) -> None:
        since = self._due_since.pop(one.study_uid, None)
        self._metrics.stored(None if since is None else time.monotonic() - since)

    def _tend(self, seconds: float) -> None:
        """Delete what is old enough."""
        keep = self._settings.keep_hours * 3600
        try:
            self._store.grow_older(seconds)
            for uid in self._store.older_than(keep):
                if uid not in self._clock:
                    self._inbox.remove(uid)
                    self._store.gone(uid)
                    self._clock.forget(uid)
                    self._due_since.pop(uid, None)
                    self._troubled.pop(uid, None)
            self._store.forget(keep * _MEMORY)
        except DiskFault as error:
            log.error("%s", error)


def _words(error: Exception) -> str:
    """An error without what it quotes, which may be a patient's name; those of this program quote nothing."""
    if isinstance(error, DtvitError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}, {Path(last.filename).name} line {last.lineno}"


def _nothing_new(known: KnownStudy, study: StudyStatement) -> bool:
    """Whether an object would say nothing new.

    A late slice of a study whose files were deleted, scored by itself, says less than what the PACS has.
    """
    if known.fingerprint == study.statement.fingerprint:
        return True
    is_less = study.statement.status is not Status.SCORED and not study.statement.flagged
    return known.gone and bool(known.fingerprint) and is_less

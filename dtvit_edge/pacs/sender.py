"""C-STORE SCU by pynetdicom: sends what waits in the outbox, in its order, until the PACS has it.

What a PACS cannot take now is tried again, later and later; what it refuses for good is parked, and seen in /health.
"""

from __future__ import annotations

import io
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import Any

from dtvit_edge.dicom.pydicom_warnings import quiet
from dtvit_edge.errors import DiskFault
from dtvit_edge.pacs.association import Requestor
from dtvit_edge.pacs.key_image import SECONDARY_CAPTURE
from dtvit_edge.pacs.store import PARKED, STORED, WAITING, OutgoingObject, Store
from dtvit_edge.pacs.structured_report import COMPREHENSIVE, COMPREHENSIVE_3D, as_comprehensive

FIND = "1.2.840.10008.5.1.4.1.2.2.1"  # Study Root Query/Retrieve Information Model
DUPLICATE = 0x0111
# PS3.4 table B.2-1 and PS3.7 annex C: out of resources, a failure in processing, resource limitation.
_PASSING = (0x0110, 0x0213)
# So often a peer may say that it cannot now, about one object: two hours long.
MOST_TRIES = 360
# A PACS that is back has waited for a result no longer than the second one.
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 20.0
_BREAKS = 10
_CLASSES = (COMPREHENSIVE_3D, COMPREHENSIVE, SECONDARY_CAPTURE, FIND)

log = logging.getLogger(__name__)


class Sender:
    """Sends in a thread of its own.

    Args:
        requestor: of associations with the PACS.
        stored: told of each object that the PACS has; failed: told why something was not sent.

    Attributes:
        failing_since: of `time.monotonic`, while the PACS cannot be reached or takes nothing; else None.
    """

    def __init__(
        self,
        store: Store,
        requestor: Requestor,
        stored: Callable[[OutgoingObject], None],
        failed: Callable[[str], None],
    ) -> None:
        self.failing_since: float | None = None
        self._store = store
        self._requestor = requestor
        self._stored = stored
        self._failed = failed
        self._wake = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="sender", daemon=True)

    def start(self) -> None:
        """Begin with what waits."""
        self._thread.start()

    def wake(self) -> None:
        """Something waits."""
        self._wake.set()

    def end(self, seconds: float) -> None:
        """Send nothing more; what is under way has so many seconds, and is broken off then: it stays in the outbox."""
        self._ended = True
        self._wake.set()
        self._thread.join(timeout=seconds)
        for _ in range(_BREAKS):  # a connection may only just begin
            self._requestor.end()
            self._thread.join(timeout=0.1)

    def _run(self) -> None:
        wait = FIRST_WAIT_SECONDS
        while not self._ended:
            try:
                done = self.send_waiting()
            except DiskFault as error:
                log.error("%s", error)
                self._failed("disk")
                done = False
            except Exception as error:  # what a peer answers may be anything; the next time is another chance
                log.error("sending failed: %s", type(error).__name__)
                self._failed("error")
                done = False
            if done:
                wait, self.failing_since = FIRST_WAIT_SECONDS, None
                self._wake.wait()
                self._wake.clear()
                continue
            self.failing_since = self.failing_since or time.monotonic()
            self._pause(wait * random.uniform(0.8, 1.2))
            wait = min(2 * wait, LONGEST_WAIT_SECONDS)

    def _pause(self, seconds: float) -> None:
        """Wait, whatever new objects come: they wait for the same peer."""
        end = time.monotonic() + seconds
        while not self._ended and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))

    def send_waiting(self) -> bool:
        """Send what waits; whether nothing is left that could not be sent now."""
        waiting = self._store.objects(WAITING)
        if not waiting:
            return True
        association = self._requestor.associate(_CLASSES)
        if association is None:
            self._failed("no_association")
            return False
        try:
            done = [self._tried(association, one) for one in waiting if not self._ended]
            return all(done) and not self._ended
        finally:
            association.release()

    def _tried(self, association: Any, one: OutgoingObject) -> bool:
        """Send one; an object that raises holds back no other one."""
        try:
            return self._send(association, one)
        except DiskFault:
            raise
        except Exception as error:  # what a peer answers, and what an image's header holds, may be anything
            log.error("an object could not be sent: %s; instance %s", type(error).__name__, one.uid)
            # Where the association is gone, the peer is the reason.
            return self._not_now(one, "error") if association.is_established else False

    def _send(self, association: Any, one: OutgoingObject) -> bool:
        """Send one; whether it needs no other try."""
        import pydicom

        if not association.is_established:
            return False
        accepted = {str(context.abstract_syntax) for context in association.accepted_contexts}
        data = self._store.data(one.uid)
        if data is None:
            self._became(one, PARKED, "its bytes are gone")
            return True
        if one.sop_class == COMPREHENSIVE_3D and one.sop_class not in accepted and COMPREHENSIVE in accepted:
            data = as_comprehensive(data)
            self._store.reclassed(one.uid, COMPREHENSIVE, data)
        elif one.sop_class not in accepted:
            self._became(one, PARKED, "the peer accepts no object of this class")
            return True
        with quiet():
            answer = association.send_c_store(pydicom.dcmread(io.BytesIO(data)))
        status = answer.get("Status")
        if status is None:  # the association is gone: whether it was stored, the next try tells
            self._failed("no_answer")
            return False
        status = int(status)
        if status == 0 or status >> 12 == 0xB or status in (0x0107, 0x0116):
            self._became(one, STORED)
            return True
        said = f"0x{status:04X}"
        if status == DUPLICATE and self._is_there(association, accepted, data):
            self._became(one, STORED, said)
            return True
        if status >> 8 == 0xA7 or status in (DUPLICATE, *_PASSING):
            return self._not_now(one, said)
        self._became(one, PARKED, said)
        return True

    def _not_now(self, one: OutgoingObject, said: str) -> bool:
        """One is tried again, but not for ever; whether it needs no other try."""
        if one.tries + 1 >= MOST_TRIES:
            self._became(one, PARKED, said)
            return True
        self._failed(said)
        self._store.became(one.uid, WAITING, said, tried=True)
        return False

    def _is_there(self, association: Any, accepted: set[str], data: bytes) -> bool:
        """Whether the PACS finds the instance."""
        import pydicom

        if FIND not in accepted:
            return False
        with quiet():
            made = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
        return found_at(association, made.StudyInstanceUID, made.SeriesInstanceUID, made.SOPInstanceUID)

    def _became(self, one: OutgoingObject, state: str, answer: str = "") -> None:
        self._store.became(one.uid, state, answer, tried=state == PARKED)
        if state == STORED:
            self._stored(one)
        else:
            self._failed("parked")
            log.error("an object is parked, and not sent again: %s; instance %s", answer, one.uid)


def found_at(association: Any, study_uid: str, series_uid: str, sop_uid: str) -> bool:
    """Whether a peer finds an instance, by C-FIND at the level IMAGE (PS3.4 annex C)."""
    from pydicom.dataset import Dataset

    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID, query.SeriesInstanceUID, query.SOPInstanceUID = study_uid, series_uid, sop_uid
    answers = [
        identifier
        for status, identifier in association.send_c_find(query, FIND)
        if status and status.get("Status") in (0xFF00, 0xFF01) and identifier is not None
    ]
    return any(str(answer.get("SOPInstanceUID")) == sop_uid for answer in answers)

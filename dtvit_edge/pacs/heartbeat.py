"""A phantom on the way that a patient's study takes: through the PACS, this device, and back; red where it does not.

The PACS has to send the phantom here as it does other studies. Its answer is known beforehand: the same model has
scored the same images in this process, from a folder.
"""

from __future__ import annotations

import copy
import io
import logging
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtvit_edge.bundle import Bundle
from dtvit_edge.dicom.pydicom_warnings import quiet
from dtvit_edge.dicom.uids import CTImageStorage
from dtvit_edge.files import make_folder
from dtvit_edge.pacs.association import Requestor
from dtvit_edge.pacs.reading import statement_of_object
from dtvit_edge.pacs.sender import FIND, found_at
from dtvit_edge.pacs.statement import Statement, statement_of
from dtvit_edge.pacs.store import STORED, Store
from dtvit_edge.pacs.structured_report import COMPREHENSIVE, COMPREHENSIVE_3D
from dtvit_edge.pacs.uids import derived_uid
from dtvit_edge.report.run_results import read_run
from dtvit_edge.scoring.opened import OpenModel
from dtvit_edge.scoring.run import run

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# A head with a bleeding; PatientID is PHANTOM-HEARTBEAT.
SEED, LOCATION, PATIENT = 1, "deep", "HEARTBEAT"
# What a PACS takes to send a study on, and the device to answer, beside the quiet time.
LATE_SECONDS = 600.0

log = logging.getLogger(__name__)


class Heartbeat:
    """One beat every so many hours, the first at once; `tick` is called again and again.

    Args:
        requestor: of associations with the PACS.
        model: of the bundle, open; asked in this thread, before anything is sent.

    Attributes:
        trouble: what is wrong with the last beat; empty where nothing is.
        seconds: that the last one took; -1 while it is late or wrong.
    """

    def __init__(
        self,
        hours: float,
        requestor: Requestor,
        store: Store,
        bundle: Bundle,
        model: OpenModel,
        quiet_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trouble = ""
        self.seconds = -1.0
        self._every = hours * 3600
        self._requestor = requestor
        self._store = store
        self._late = quiet_seconds + LATE_SECONDS
        self._clock = clock
        self._next = clock()
        self._study = ""
        self._begun = 0.0
        self._beats = 0
        self._slices = _phantom()
        self._expected, self._top = _expected(self._slices, bundle, model)

    @property
    def state(self) -> dict[str, Any]:
        """For /health."""
        under_way = "under way" if self._study else "ok" if self._beats else "none yet"
        return {"state": self.trouble or under_way, "beats": self._beats, "seconds": round(self.seconds, 1)}

    def tick(self) -> None:
        """Begin a beat that is due, or look what became of the last one."""
        now = self._clock()
        if self._study:
            self._look(now)
        elif now >= self._next:
            self._next, self._begun = now + self._every, now
            self._study = f"2.25.{uuid.uuid4().int}"
            threading.Thread(target=self._send, args=(self._study,), name="heartbeat", daemon=True).start()

    def _look(self, now: float) -> None:
        objects = [one for one in self._store.objects_of(self._study) if one.state == STORED]
        reports = [one for one in objects if one.sop_class in (COMPREHENSIVE_3D, COMPREHENSIVE)]
        data = self._store.data(reports[-1].uid) if reports else None
        if data is not None:
            wrong = self._wrong(data)
            if not wrong:
                self._end(now, "")
                return
            if now - self._begun > self._late:
                self._end(now, wrong)
        elif now - self._begun > self._late:
            self._end(now, self.trouble or "late: no result has come back through the PACS")

    def _end(self, now: float, trouble: str) -> None:
        self._study, self._beats, self.trouble = "", self._beats + 1, trouble
        self.seconds = -1.0 if trouble else now - self._begun
        if trouble:
            log.error("heartbeat: %s", trouble)

    def _wrong(self, data: bytes) -> str:
        """What is wrong with a beat's SR; empty where it says what was expected, and the PACS finds it."""
        import pydicom

        with quiet():
            report = pydicom.dcmread(io.BytesIO(data))
            said = statement_of_object(report)
        differences = [d for d in self._expected.differences(said) if not d.startswith("top_sop_uid")]
        if said.top_sop_uid != _sop_uid(self._study, self._top):
            differences.append("another top slice")
        if differences:
            return "wrong: " + "; ".join(differences)
        association = self._requestor.associate([FIND])
        if association is None:
            return "late: the PACS cannot be asked"
        try:
            is_there = found_at(association, self._study, report.SeriesInstanceUID, report.SOPInstanceUID)
        finally:
            association.release()
        return "" if is_there else "wrong: the PACS took the result and does not find it"

    def _send(self, study_uid: str) -> None:
        """Send the phantom to the PACS, under UIDs of this beat."""
        try:
            association = self._requestor.associate([CTImageStorage])
            if association is None:
                self.trouble = "late: the PACS cannot be reached"
                return
            try:
                for index, dataset in enumerate(self._slices):
                    answer = association.send_c_store(_named(dataset, study_uid, _sop_uid(study_uid, index)))
                    if answer.get("Status") != 0:
                        self.trouble = "late: the PACS does not take the phantom"
                        return
            finally:
                association.release()
        except Exception as error:
            self.trouble = f"late: the phantom could not be sent: {type(error).__name__}"


def _sop_uid(study_uid: str, index: int) -> str:
    return derived_uid("heartbeat", study_uid, str(index))


def _phantom() -> list[Dataset]:
    from dtvit_edge.phantom import render_study
    from dtvit_edge.phantom.files import slice_dataset

    study = render_study(SEED, LOCATION)
    return [slice_dataset(study, one, PATIENT) for one in study.slices]


def _expected(slices: list[Dataset], bundle: Bundle, model: OpenModel) -> tuple[Statement, int]:
    """What the model says of the phantom, and of which slice most."""
    with tempfile.TemporaryDirectory(prefix="dtvit-heartbeat-") as made:
        files, out = Path(made, "in"), Path(made, "out")
        make_folder(files)
        for index, dataset in enumerate(slices):
            dataset.save_as(files / f"{index:04d}.dcm", enforce_file_format=True)
        run(bundle, [files], out, model.options, model=model)
        results = read_run(out)
    (study,) = results.studies
    statement = statement_of(results, study, study.uid, ())  # its files have one frame each
    uids = [str(dataset.SOPInstanceUID) for dataset in slices]
    return statement, uids.index(statement.top_sop_uid) if statement.top_sop_uid in uids else -1


def _named(dataset: Dataset, study_uid: str, sop_uid: str) -> Dataset:
    """A slice of the phantom as one of today's."""
    named: Any = copy.deepcopy(dataset)
    named.StudyInstanceUID, named.SeriesInstanceUID = study_uid, f"{study_uid[:60]}.1"
    named.SOPInstanceUID = named.file_meta.MediaStorageSOPInstanceUID = sop_uid
    now = datetime.now()
    named.StudyDate = named.SeriesDate = named.AcquisitionDate = named.ContentDate = now.strftime("%Y%m%d")
    named.StudyTime = named.SeriesTime = named.AcquisitionTime = named.ContentTime = now.strftime("%H%M%S")
    return named

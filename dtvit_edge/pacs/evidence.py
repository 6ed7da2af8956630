"""What a study's object refers to: its instances by what became of them, and the header that it copies from."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtvit_edge import reasons
from dtvit_edge.dicom.opening import open_header
from dtvit_edge.dicom.plan import Plan
from dtvit_edge.dicom.planned_file import FileState, open_planned
from dtvit_edge.dicom.pydicom_warnings import quiet
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.errors import SliceRejected
from dtvit_edge.escaping import csv_cell
from dtvit_edge.pacs.statement import top_row
from dtvit_edge.pacs.uids import is_uid
from dtvit_edge.reasons import Status
from dtvit_edge.report.run_results import SliceRow

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# SOPClassUID is among the first elements of a dataset (PS3.6: group 0008), behind the file meta information.
_REACH = 1 << 14
_IDENTITY = ["SOPClassUID", "SOPInstanceUID"]


@dataclass(frozen=True)
class Instance:
    """A SOP instance of the study."""

    series_uid: str
    sop_uid: str
    sop_class: str


@dataclass(frozen=True)
class Evidence:
    """The instances of a study.

    Attributes:
        scored: that the result comes from, at least in part; other: refused, skipped or broken ones.
        source: the header of one of them, without pixels: the top slice's where there is one.
        top: the top slice; None where nothing was scored.
        top_header: of the top slice, to read its pixels.
    """

    study_uid: str
    scored: tuple[Instance, ...]
    other: tuple[Instance, ...]
    source: Dataset
    top: Instance | None
    top_header: SliceHeader | None


def evidence(study_uid: str, plan: Plan, rows: Sequence[SliceRow], top_sop_uid: str) -> Evidence | None:
    """Collect a study's instances; None where no file of it has a header that can be copied from.

    What has no UID, or text that is none, cannot be referred to and is left out.

    Args:
        plan: the study's part of the plan, of the files as they are; rows: what became of them.
    """
    files = {sop_uid: (file, series, state) for series, sop_uid, file, state in _files(plan)}
    became: dict[str, set[Status]] = {}
    for row in rows:
        if row.sop_uid in files and row.reason != reasons.OWN_OBJECT.code:
            became.setdefault(row.sop_uid, set()).add(row.status)
    instances = _instances(became, files)
    scored = tuple(i for uid, i in instances.items() if Status.SCORED in became[uid])
    other = tuple(i for uid, i in instances.items() if Status.SCORED not in became[uid])
    top = next((i for i in scored if i.sop_uid == top_sop_uid), None)
    for instance in filter(None, (top, *scored, *other)):
        file, _, state = files[instance.sop_uid]
        source = _source(file, state, study_uid)
        if source is not None:
            return Evidence(study_uid, scored, other, source, top, _header_of(plan, top, rows))
    return None


def _files(plan: Plan) -> Iterator[tuple[str, str, Path, FileState | None]]:
    """Series UID, SOP UID and file of everything in a study's plan that says what it is."""
    for series in plan.series:
        for header in series.headers:
            yield header.identity.series_uid, header.identity.sop_uid, header.file, header.state
    for rejection in plan.rejected:
        if rejection.file is not None and rejection.reason is not reasons.OWN_OBJECT:
            yield rejection.identity.series_uid, rejection.identity.sop_uid, rejection.file, None


def _instances(uids: Iterable[str], files: Mapping[str, tuple[Path, str, FileState | None]]) -> dict[str, Instance]:
    found = {}
    for sop_uid in sorted(uids):
        file, series_uid, state = files[sop_uid]
        if is_uid(sop_uid) and is_uid(series_uid) and is_uid(sop_class := _sop_class(file, state)):
            found[sop_uid] = Instance(series_uid, sop_uid, sop_class)
    return found


def _sop_class(file: Path, state: FileState | None) -> str:
    """A file's SOP class, from its first bytes alone; empty where they do not say it."""
    import pydicom

    try:
        with open_planned(file, state) as stream:
            start = io.BytesIO(stream.read(_REACH))
        with quiet():
            dataset = pydicom.dcmread(start, stop_before_pixels=True, force=True, specific_tags=_IDENTITY)
            return str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID") or "")
    except Exception:  # a beginning of a file ends anywhere, and pydicom raises nearly anything on it
        return _sop_class_of_whole(file, state)


def _sop_class_of_whole(file: Path, state: FileState | None) -> str:
    try:
        return str(open_header(file, state)[0].get("SOPClassUID") or "")
    except Exception:
        return ""


def _source(file: Path, state: FileState | None, study_uid: str) -> Dataset | None:
    try:
        dataset = open_header(file, state)[0]
    except (SliceRejected, OSError):
        return None
    found: Any = dataset.get("StudyInstanceUID")
    return dataset if str(found) == study_uid else None


def _header_of(plan: Plan, top: Instance | None, rows: Sequence[SliceRow]) -> SliceHeader | None:
    """The top slice's header, of the very file and frame that answered."""
    row = None if top is None else top_row(rows, top.sop_uid)
    if row is None:
        return None
    headers = (h for series in plan.series for h in series.headers)
    return next((h for h in headers if (csv_cell(h.path), h.frame) == (row.path, row.frame)), None)

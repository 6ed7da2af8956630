"""Read every header below some folders, and make the plan of what would be scored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path

from dtvit_edge import reasons
from dtvit_edge.dicom.beside import judged_by_name, touched_studies
from dtvit_edge.dicom.header_pool import FileHeaders, read_files
from dtvit_edge.dicom.plan import KnownFiles, PackedParts, PackedStudy
from dtvit_edge.dicom.plan import Plan as Plan
from dtvit_edge.dicom.records import Records, SharedValues, folder_of, study_of
from dtvit_edge.dicom.slice import Rejection
from dtvit_edge.dicom.walk import StudyFile, Walk
from dtvit_edge.reasons import PASSING
from dtvit_edge.results import Identity


def discover(
    walk: Walk,
    *,
    any_series: bool = False,
    fast: bool = True,
    progress: Callable[[], None] = lambda: None,
    known: KnownFiles | None = None,
    waiting: Sequence[StudyFile] = (),
) -> Plan:
    """Read every header and make the plan.

    Args:
        any_series: unsuitable series are planned all the same.
        fast: the common case is read without pydicom.
        progress: called once a file.
        known: files whose state has not changed since are not read again.
        waiting: files that are still being written: they have no row, and what lies beside them is not whole.
    """
    shared = SharedValues()
    records: dict[str, Records] = defaultdict(lambda: Records(shared))
    lie: list[tuple[Path, str]] = []
    rejected: list[Rejection] = list(walk.rejected)
    unread: KnownFiles = {}
    folders: set[tuple[str, str]] = set()
    with closing(_read(walk.files, fast, known or {})) as reading:  # else an interrupt would leave its processes
        for entry, found in reading:
            progress()
            if isinstance(found, tuple):
                code, detail, uids, frames = found
                reason, identity = reasons.REASONS[code], Identity(*uids)
                rejected.extend(
                    Rejection(identity, i + 1, entry.path, reason, entry.file, detail) for i in range(frames)
                )
                if code not in PASSING:
                    unread[str(entry.file), entry.path] = entry.state, found
                continue
            for of_series, own in found:
                records[study_of(of_series)].add(of_series, own)
            of_series = found[0][0]
            place = folder_of(of_series), study_of(of_series)
            # With links each file may lie in a folder more; without, a folder's first one says where all of it lie.
            if walk.links or place not in folders:
                folders.add(place)
                lie.append((entry.file, place[1]))
    rejected = judged_by_name(rejected, lie, walk.links)
    arriving = [Rejection(Identity(), 1, file.path, reasons.UNREADABLE, file.file) for file in waiting]
    touched = touched_studies([*rejected, *judged_by_name(arriving, lie, walk.links)], lie, walk.links)
    of_study: dict[str, list[Rejection]] = defaultdict(list)
    for rejection in rejected:
        of_study[rejection.identity.study_uid].append(rejection)
    studies = {}
    for uid in records.keys() | of_study.keys():
        of_headers = records[uid] if uid in records else Records(shared)
        studies[uid] = PackedStudy(of_headers, tuple(of_study.get(uid, ())), touched.get(uid, frozenset()))
    return Plan(PackedParts(studies, unread, any_series=any_series))


def _read(
    files: Sequence[StudyFile], fast: bool, known: KnownFiles
) -> Generator[tuple[StudyFile, FileHeaders], None, None]:
    """Every file with what is in it, in the order given."""

    def before(entry: StudyFile) -> FileHeaders | None:
        state, found = known.get((str(entry.file), entry.path), (None, None))
        return found if state == entry.state and entry.state is not None else None

    if not known:
        yield from zip(files, read_files(files, fast=fast), strict=True)
        return
    answers = read_files([entry for entry in files if before(entry) is None], fast=fast)
    for entry in files:
        found = before(entry)
        yield entry, next(answers) if found is None else found

"""What a run would do: which series are suitable, and why everything else is not, study by study.

A study is grouped, ordered and judged when it is asked for, not before: of the others only packed headers are held.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeAlias

from dtvit_edge import reasons
from dtvit_edge.dicom.grouping import Stack, is_bone, is_dynamic, split, stacks
from dtvit_edge.dicom.header_pool import FileHeaders
from dtvit_edge.dicom.identity import patients, without_copies
from dtvit_edge.dicom.planned_file import FileState
from dtvit_edge.dicom.records import Records
from dtvit_edge.dicom.slice import Rejection, Series, SliceHeader
from dtvit_edge.dicom.suitability import series_doubts, series_refusal, series_warnings
from dtvit_edge.reasons import Reason

# What was found in files before, by real path and path: their state then, and their headers or why they have none.
KnownFiles: TypeAlias = dict[tuple[str, str], tuple[FileState | None, FileHeaders]]


@dataclass(frozen=True)
class StudyPart:
    """One study of a plan.

    Attributes:
        series: sorted by series and first position; the refused ones among them.
        rejected: its files and frames that are no slices or cannot be read.
        patients: how many patients' images carry its UID; 0 where none says.
        touched: what could not be read beside its slices.
    """

    series: tuple[Series, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    patients: int = 0
    touched: frozenset[Reason] = frozenset()


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        parts: by study UID, sorted; rows without one stand under the empty UID. They may be made as they are asked for.
    """

    parts: Mapping[str, StudyPart]

    @property
    def series(self) -> tuple[Series, ...]:
        """Sorted by study, series and first position; the refused ones among them."""
        return tuple(series for part in self.parts.values() for series in part.series)

    @property
    def rejected(self) -> tuple[Rejection, ...]:
        """Files and frames that are no slices or cannot be read, study by study."""
        return tuple(rejection for part in self.parts.values() for rejection in part.rejected)

    @property
    def patients(self) -> dict[str, int]:
        """How many patients' images carry a study's UID, by study UID."""
        return {uid: part.patients for uid, part in self.parts.items() if part.patients}

    @property
    def touched(self) -> dict[str, frozenset[Reason]]:
        """By study UID, what could not be read beside its slices."""
        return {uid: part.touched for uid, part in self.parts.items() if part.touched}

    @property
    def study_uids(self) -> list[str]:
        """Every study that has at least one row, sorted; rows without a study UID belong to none."""
        return [uid for uid in self.parts if uid]

    @property
    def slices(self) -> int:
        """How many slices there are, copies among them."""
        if isinstance(self.parts, PackedParts):
            return self.parts.slices
        return sum(len(series.headers) for series in self.series)

    def study(self, uid: str) -> Plan:
        """The part of the plan that is one study's."""
        return Plan({uid: self.parts[uid]})

    def only(self, wanted: Callable[[str], bool]) -> Plan:
        """The part of the plan whose study UIDs are wanted; the empty one stands for rows without a study."""
        if isinstance(self.parts, PackedParts):
            return Plan(self.parts.only(wanted))
        return Plan({uid: part for uid, part in self.parts.items() if wanted(uid)})

    def stacks(self, thickness_mm: float) -> list[Stack]:
        """The suitable series, study by study, as what results are made of (`grouping.stacks`)."""
        suitable = [s for s in self.series if s.refusal is None]
        by_study = groupby(suitable, lambda s: s.study_uid)
        return [stack for _, group in by_study for stack in stacks(group, thickness_mm)]


@dataclass(frozen=True)
class PackedStudy:
    """What a study's part of a plan is made of.

    Attributes:
        records: its headers; rejected, touched: as of `StudyPart`.
    """

    records: Records
    rejected: tuple[Rejection, ...] = ()
    touched: frozenset[Reason] = frozenset()

    def is_as(self, other: PackedStudy | None) -> bool:
        """Whether the same part is made of both."""
        return (
            other is not None
            and (self.rejected, self.touched) == (other.rejected, other.touched)
            and self.records.is_as(other.records)
        )


class PackedParts(Mapping[str, StudyPart]):
    """The parts of a plan, each made when it is asked for, and kept by nobody.

    Args:
        unread: files without a slice, for `known_files`; none of those that may be readable the next time.
        any_series: unsuitable series are planned all the same.
    """

    def __init__(self, studies: Mapping[str, PackedStudy], unread: KnownFiles, *, any_series: bool) -> None:
        self.studies = {uid: studies[uid] for uid in sorted(studies)}
        self._unread = unread
        self._any_series = any_series

    @property
    def slices(self) -> int:
        """How many headers there are."""
        return sum(len(study.records) for study in self.studies.values())

    def only(self, wanted: Callable[[str], bool]) -> PackedParts:
        """The parts whose study UIDs are wanted."""
        studies = {uid: study for uid, study in self.studies.items() if wanted(uid)}
        return PackedParts(studies, self._unread, any_series=self._any_series)

    def known_files(self) -> KnownFiles:
        """What is known of every file, so that another plan need not read those again that have not changed."""
        known: KnownFiles = dict(self._unread)
        for study in self.studies.values():
            for file, path, state, packed in study.records.packed():
                _, headers = known.setdefault((file, path), (state, []))
                assert isinstance(headers, list), "a file without a slice has one"
                headers.append(packed)
        return known

    def __getitem__(self, uid: str) -> StudyPart:
        packed = self.studies[uid]
        return study_part(list(packed.records), packed.rejected, packed.touched, any_series=self._any_series)

    def __iter__(self) -> Iterator[str]:
        return iter(self.studies)

    def __len__(self) -> int:
        return len(self.studies)


def study_part(
    headers: list[SliceHeader], rejected: tuple[Rejection, ...], touched: frozenset[Reason], *, any_series: bool
) -> StudyPart:
    """Group, order and judge the headers of one study."""
    of_patients = patients(headers)
    headers, copies = without_copies(headers)
    series = [part for group in _by_series(headers) for part in _parts(group)]
    if not any_series:
        series = _with_refusals(series)
    series.sort(key=lambda s: (s.series_uid, s.headers[0].path, s.headers[0].frame))
    return StudyPart(tuple(series), (*rejected, *copies), sum(of_patients.values()), touched)


def _by_series(headers: Iterable[SliceHeader]) -> list[list[SliceHeader]]:
    groups: dict[str, list[SliceHeader]] = defaultdict(list)
    for header in headers:
        groups[header.identity.series_uid].append(header)
    return list(groups.values())


def _parts(group: list[SliceHeader]) -> list[Series]:
    identity = group[0].identity
    return [
        Series(
            identity.study_uid,
            identity.series_uid,
            block,
            warnings=series_warnings(block),
            doubts=series_doubts(block),
        )
        for block in split(group)
    ]


def _with_refusals(series: list[Series]) -> list[Series]:
    """Ask every series alone, then set bone kernels aside in studies that also have a softer suitable one."""
    judged = [replace(s, refusal=_refusal(s)) for s in series]
    soft = any(s.refusal is None and not is_bone(s.headers) for s in judged)
    return [
        s
        if s.refusal is not None or not is_bone(s.headers)
        else replace(s, refusal=reasons.BONE_KERNEL)
        if soft
        else replace(s, doubts=(*s.doubts, "bone_kernel_only"))
        for s in judged
    ]


def _refusal(series: Series) -> Reason | None:
    return series_refusal(series.headers) or (reasons.DYNAMIC if is_dynamic(series.headers) else None)

"""Read headers, group and order them: what would be scored, and why everything else is not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby

from dtvit_edge import reasons
from dtvit_edge.dicom.beside import TouchedBy, judged_by_name, touched_studies
from dtvit_edge.dicom.decoder_pool import read_headers_apart
from dtvit_edge.dicom.grouping import Stack, is_bone, is_dynamic, split, stacks
from dtvit_edge.dicom.header import FileRejected
from dtvit_edge.dicom.identity import patients, without_copies
from dtvit_edge.dicom.slice import Rejection, Series, SliceHeader
from dtvit_edge.dicom.suitability import series_doubts, series_refusal, series_warnings
from dtvit_edge.dicom.walk import Walk
from dtvit_edge.reasons import Reason


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        series: sorted by study, series and first position; the refused ones among them.
        rejected: files and frames that are no slices or cannot be read.
        patients: how many patients' images carry a study's UID, by study UID.
        touched: by study UID, what could not be read beside its slices.
    """

    series: tuple[Series, ...]
    rejected: tuple[Rejection, ...]
    patients: Mapping[str, int] = field(default_factory=dict)
    touched: Mapping[str, TouchedBy] = field(default_factory=dict)

    @property
    def study_uids(self) -> list[str]:
        """Every study that has at least one row, sorted; rows without a study UID belong to none."""
        return sorted(self._by_study.keys() - {""})

    def study(self, uid: str) -> Plan:
        """The part of the plan that is one study's."""
        series, rejected = self._by_study[uid]
        return Plan(tuple(series), tuple(rejected), self.patients, self.touched)

    def stacks(self, thickness_mm: float) -> list[Stack]:
        """The suitable series, study by study, as what results are made of (`grouping.stacks`)."""
        suitable = [s for s in self.series if s.refusal is None]
        by_study = groupby(suitable, lambda s: s.study_uid)
        return [stack for _, group in by_study for stack in stacks(group, thickness_mm)]

    @cached_property
    def _by_study(self) -> dict[str, tuple[list[Series], list[Rejection]]]:
        parts: dict[str, tuple[list[Series], list[Rejection]]] = defaultdict(lambda: ([], []))
        for series in self.series:
            parts[series.study_uid][0].append(series)
        for rejection in self.rejected:
            parts[rejection.identity.study_uid][1].append(rejection)
        return parts


def discover(
    walk: Walk,
    *,
    any_series: bool = False,
    fast: bool = True,
    progress: Callable[[], None] = lambda: None,
) -> Plan:
    """Read every header and make the plan.

    Args:
        any_series: unsuitable series are planned all the same.
        fast: the common case is read without pydicom.
        progress: called once a file.
    """
    headers: list[SliceHeader] = []
    rejected: list[Rejection] = list(walk.rejected)
    for entry in walk.files:
        try:
            headers.extend(read_headers_apart(entry.file, entry.path, fast=fast, state=entry.state))
        except FileRejected as error:
            rejected.extend(
                Rejection(error.identity, i + 1, entry.path, error.reason, entry.file, error.detail)
                for i in range(error.frames)
            )
        progress()
    rejected = judged_by_name(rejected, headers, walk.links)
    touched = touched_studies(rejected, headers, walk.links)
    headers, copies = without_copies(headers)
    series = [part for group in _by_series(headers) for part in _parts(group)]
    if not any_series:
        series = _with_refusals(series)
    series.sort(key=lambda s: (s.study_uid, s.series_uid, s.headers[0].path, s.headers[0].frame))
    return Plan(tuple(series), (*rejected, *copies), patients(headers), touched)


def _by_series(headers: Iterable[SliceHeader]) -> list[list[SliceHeader]]:
    groups: dict[tuple[str, str], list[SliceHeader]] = defaultdict(list)
    for header in headers:
        groups[header.identity.study_uid, header.identity.series_uid].append(header)
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
    soft = {s.study_uid for s in judged if s.refusal is None and not is_bone(s.headers)}
    return [
        s
        if s.refusal is not None or not is_bone(s.headers)
        else replace(s, refusal=reasons.BONE_KERNEL)
        if s.study_uid in soft
        else replace(s, doubts=(*s.doubts, "bone_kernel_only"))
        for s in judged
    ]


def _refusal(series: Series) -> Reason | None:
    return series_refusal(series.headers) or (reasons.DYNAMIC if is_dynamic(series.headers) else None)

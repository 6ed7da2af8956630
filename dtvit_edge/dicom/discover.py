"""Read headers, group and order them: what would be scored, and why everything else is not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

from dtvit_edge import reasons
from dtvit_edge.dicom.beside import judged_by_name
from dtvit_edge.dicom.geometry import ordered, repeats_positions
from dtvit_edge.dicom.header import FileRejected, read_headers
from dtvit_edge.dicom.slice import Rejection, SliceHeader, SliceImage
from dtvit_edge.dicom.suitability import is_bone_kernel, series_refusal, series_warnings
from dtvit_edge.dicom.walk import Walk
from dtvit_edge.reasons import Reason


@dataclass(frozen=True)
class Series:
    """Slices that belong together: one series, or one acquisition, kernel or orientation of it.

    Attributes:
        headers: in order from feet to head.
        refusal: why no result may come from it; None where it is suitable.
        warnings: codes of what could not be asked.
    """

    study_uid: str
    series_uid: str
    headers: tuple[SliceHeader, ...]
    refusal: Reason | None = None
    warnings: tuple[str, ...] = ()

    @property
    def images(self) -> tuple[SliceImage, ...]:
        """What the model is shown of it, from feet to head."""
        return tuple(SliceImage((header,), i + 1) for i, header in enumerate(self.headers))


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        series: sorted by study, series and first position; the refused ones among them.
        rejected: files and frames that are no slices or cannot be read.
    """

    series: tuple[Series, ...]
    rejected: tuple[Rejection, ...]

    @property
    def study_uids(self) -> list[str]:
        """Every study that has at least one row, sorted; rows without a study UID belong to none."""
        return sorted(self._by_study.keys() - {""})

    def study(self, uid: str) -> Plan:
        """The part of the plan that is one study's."""
        series, rejected = self._by_study[uid]
        return Plan(tuple(series), tuple(rejected))

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
    seen: set[tuple[str, int]] = set()
    for entry in walk.files:
        try:
            for header in read_headers(entry.file, entry.path, fast=fast, state=entry.state):
                key = (header.identity.sop_uid, header.frame)
                if key in seen:
                    rejected.append(Rejection(header.identity, header.frame, header.path, reasons.DUPLICATE))
                else:
                    seen.add(key)
                    headers.append(header)
        except FileRejected as error:
            rejected.extend(
                Rejection(error.identity, i + 1, entry.path, error.reason, entry.file, error.detail)
                for i in range(error.frames)
            )
        progress()
    rejected = judged_by_name(rejected, headers, walk.links)
    series = [s for group in _by_series(headers) for s in _split(group)]
    if not any_series:
        series = _with_refusals(series)
    series.sort(key=lambda s: (s.study_uid, s.series_uid, s.headers[0].path, s.headers[0].frame))
    return Plan(tuple(series), tuple(rejected))


def _by_series(headers: Iterable[SliceHeader]) -> list[list[SliceHeader]]:
    groups: dict[tuple[str, str], list[SliceHeader]] = defaultdict(list)
    for header in headers:
        groups[header.identity.study_uid, header.identity.series_uid].append(header)
    return list(groups.values())


def _split(group: list[SliceHeader]) -> list[Series]:
    """One SeriesInstanceUID by kernel and orientation, and by acquisition where passes overlap."""
    parts: dict[object, list[SliceHeader]] = defaultdict(list)
    for header in group:
        plane = header.orientation and tuple(round(v, 2) for axis in header.orientation for v in axis)
        parts[header.kernel, plane].append(header)
    series = []
    for part in parts.values():
        passes: dict[int | None, list[SliceHeader]] = defaultdict(list)
        overlapping = repeats_positions(part)
        for header in part:
            passes[header.acquisition_number if overlapping else None].append(header)
        for headers in passes.values():
            identity = headers[0].identity
            series.append(
                Series(
                    identity.study_uid,
                    identity.series_uid,
                    ordered(headers),
                    warnings=series_warnings(headers),
                )
            )
    return series


def _with_refusals(series: list[Series]) -> list[Series]:
    """Ask every series alone, then set bone kernels aside in studies that also have a softer suitable one."""
    judged = [replace(s, refusal=series_refusal(s.headers)) for s in series]
    soft = {s.study_uid for s in judged if s.refusal is None and not is_bone_kernel(s.headers[0].kernel)}
    return [
        replace(s, refusal=reasons.BONE_KERNEL)
        if s.refusal is None and s.study_uid in soft and is_bone_kernel(s.headers[0].kernel)
        else s
        for s in judged
    ]

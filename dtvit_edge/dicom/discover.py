"""Walk folders, read headers, group and order: what would be scored, and a row for everything else."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dtvit_edge import reasons
from dtvit_edge.dicom.geometry import ordered, repeats_positions
from dtvit_edge.dicom.header import FileRejected, read_headers
from dtvit_edge.dicom.slice import Identity, SliceHeader
from dtvit_edge.dicom.suitability import is_bone_kernel, series_refusal, series_warnings
from dtvit_edge.errors import ConfigError
from dtvit_edge.reasons import Reason, Status
from dtvit_edge.results import SliceScore


@dataclass(frozen=True)
class Found:
    """One file below the folders that were given: `path` is relative to its folder, with forward slashes."""

    file: Path
    path: str


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


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        series: sorted by study, series and first position; the refused ones among them.
        rejected: rows of files that are no slices or cannot be read.
    """

    series: tuple[Series, ...]
    rejected: tuple[SliceScore, ...]

    @property
    def study_uids(self) -> list[str]:
        """Every study that has at least one row, sorted; rows without a study UID belong to none."""
        return sorted(self._by_study.keys() - {""})

    def study(self, uid: str) -> Plan:
        """The part of the plan that is one study's."""
        series, rejected = self._by_study[uid]
        return Plan(tuple(series), tuple(rejected))

    @cached_property
    def _by_study(self) -> dict[str, tuple[list[Series], list[SliceScore]]]:
        parts: dict[str, tuple[list[Series], list[SliceScore]]] = defaultdict(lambda: ([], []))
        for series in self.series:
            parts[series.study_uid][0].append(series)
        for row in self.rejected:
            parts[row.study_uid][1].append(row)
        return parts


def walk(folders: Sequence[Path], *, exclude: Path | None = None) -> tuple[Found, ...]:
    """Every file below the folders, whatever its name, sorted by path; a file may be given instead of a folder.

    Args:
        exclude: a folder that is left out (the output folder, where it lies inside).

    Raises:
        ConfigError: a folder that is not there.
    """
    found: dict[str, Found] = {}
    left_out = None if exclude is None else exclude.resolve()
    for folder in folders:
        if folder.is_file():
            found.setdefault(os.path.realpath(folder), Found(folder, _text(folder.name)))
            continue
        if not folder.is_dir():
            raise ConfigError(f"{folder}: no such folder")
        for root, directories, names in os.walk(folder):
            directories[:] = sorted(d for d in directories if (Path(root) / d).resolve() != left_out)
            for name in names:
                file = Path(root) / name
                path = file.relative_to(folder).as_posix()
                found.setdefault(os.path.realpath(file), Found(file, _text(path)))
    return tuple(sorted(found.values(), key=lambda f: (f.path, str(f.file))))


def discover(
    files: Iterable[Found],
    *,
    any_series: bool = False,
    plain: bool = True,
    progress: Callable[[], None] = lambda: None,
) -> Plan:
    """Read every header and make the plan.

    Args:
        any_series: unsuitable series are planned all the same.
        plain: the plain case is read without pydicom.
        progress: called once a file.
    """
    headers: list[SliceHeader] = []
    rejected: list[SliceScore] = []
    seen: set[tuple[str, int]] = set()
    for found in files:
        try:
            for header in read_headers(found.file, found.path, plain=plain):
                key = (header.identity.sop_uid, header.frame)
                if key in seen:
                    rejected.append(rejected_row(header, reasons.DUPLICATE))
                else:
                    seen.add(key)
                    headers.append(header)
        except FileRejected as error:
            rejected.extend(_file_rows(found.path, error))
        progress()
    series = [s for group in _by_series(headers) for s in _split(group)]
    if not any_series:
        series = _with_refusals(series)
    series.sort(key=lambda s: (s.study_uid, s.series_uid, s.headers[0].path, s.headers[0].frame))
    return Plan(tuple(series), tuple(rejected))


def slice_row(identity: Identity, frame: int, path: str, status: Status, reason: str = "", **scores: Any) -> SliceScore:
    """A row of `slices.csv`; `scores` are the fields that only a scored slice has."""
    return SliceScore(identity.study_uid, identity.series_uid, identity.sop_uid, frame, path, status, reason, **scores)


def rejected_row(header: SliceHeader, reason: Reason) -> SliceScore:
    """The row of a slice that is not scored."""
    return slice_row(header.identity, header.frame, header.path, reason.status, reason.code)


def _text(path: str) -> str:
    """A path that can be written as UTF-8: bytes that are none become `\\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _file_rows(path: str, error: FileRejected) -> list[SliceScore]:
    reason = error.reason
    return [slice_row(error.identity, i + 1, path, reason.status, reason.code) for i in range(error.frames)]


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

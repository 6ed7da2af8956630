"""Which images are the same: a file twice, a copy that was cut short, and two patients under one UID.

A UID alone proves nothing: anonymisers and exports have given one to many images. Two files hold the same image where
their UIDs, place and pixels are the same, and pixels are compared when they have been read (`scoring.judgement`); only
files that are equal byte for byte are set aside before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from dtvit_edge import reasons
from dtvit_edge.dicom.geometry import SAME_POSITION_MM
from dtvit_edge.dicom.slice import Rejection, SliceHeader
from dtvit_edge.spec import digest_file


def without_copies(headers: Sequence[SliceHeader]) -> tuple[list[SliceHeader], list[Rejection]]:
    """Set files that are equal byte for byte aside, and mark what may be the same image otherwise as `twin`.

    Returns:
        The headers that are left, in their order, and a row of every frame of a file that is there twice.
    """
    claims: dict[tuple[str, str, str, int], list[int]] = defaultdict(list)
    for i, header in enumerate(headers):
        uids = header.identity
        claims[uids.study_uid, uids.series_uid, uids.sop_uid, header.frame].append(i)
    content = cache(_content)  # of a multi-frame file each frame asks
    copies: set[int] = set()
    twins: set[int] = set()
    for claimants in claims.values():
        if len(claimants) > 1:
            copies |= _repeats(claimants, lambda i: content(headers[i].file))
            left = [i for i in claimants if i not in copies]
            later = _repeats(left, lambda i: place(headers[i]))
            places = {place(headers[i]) for i in later}
            twins.update(i for i in left if place(headers[i]) in places)
    kept = [replace(h, twin=True) if i in twins else h for i, h in enumerate(headers) if i not in copies]
    again = [headers[i] for i in sorted(copies)]
    return kept, [Rejection(h.identity, h.frame, h.path, reasons.DUPLICATE) for h in again]


def place(header: SliceHeader) -> Hashable:
    """Equal for images of one patient in one place, `SAME_POSITION_MM` apart at most."""
    position = header.position_mm
    patient = header.patient.partition(":")[0]
    return patient, position and tuple(round(p / SAME_POSITION_MM) for p in position)


def patients(headers: Iterable[SliceHeader]) -> dict[str, int]:
    """How many patients' images carry a study's UID, by study UID.

    Images without a PatientID say nothing. Two issuers make two patients of one id; a missing one makes none.
    """
    issuers: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for header in headers:
        if header.patient:
            patient, _, issuer = header.patient.partition(":")
            issuers[header.identity.study_uid][patient].add(issuer)
    return {uid: sum(max(len(i - {""}), 1) for i in of_study.values()) for uid, of_study in issuers.items()}


def _repeats(indices: Sequence[int], key: Callable[[int], Hashable]) -> set[int]:
    """Those whose key an earlier one has."""
    first: dict[Hashable, int] = {}
    return {i for i in indices if first.setdefault(key(i), i) != i}


def _content(file: Path) -> Hashable:
    """Equal for files that are equal byte for byte."""
    try:
        return digest_file(file)
    except OSError:  # it is a row of its own when its pixels are read
        return file

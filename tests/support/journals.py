"""Journals without a run: the images of a plan, their rows, and lines that say something else."""

from __future__ import annotations

from pathlib import Path

from dtvit_edge.dicom.slice import SliceImage
from dtvit_edge.reasons import Status
from dtvit_edge.results import Identity, PixelMeasures, SliceScore
from dtvit_edge.scoring.journal import Journal
from dtvit_edge.scoring.journal_lines import ImageRows, image_key
from tests.support.headers import header

MEASURES = PixelMeasures(1 / 3, 0.0, False, "00ff")


def _scored(name: str, place: int, ich: float, *, frame: int = 1) -> SliceScore:
    return SliceScore(
        "S", "s", name, frame, f"a/ü={name}", Status.SCORED, "", ich, (0.1, 0.2, 0.7), ich > 0.5, place, MEASURES, 1234
    )


def _error(name: str, place: int, reason: str, *, frame: int = 1) -> SliceScore:
    return SliceScore("S", "s", name, frame, f"a/ü={name}", Status.ERROR, reason, place=place)


ROWS: tuple[ImageRows, ...] = (  # of four images, the third of two slices
    (_scored("1", 1, 1 / 3),),
    (_scored("2", 2, 2 / 3),),
    (_error("3", 3, "truncated", frame=2), SliceScore("S", "s", "4", 1, "a/ü=4", Status.SKIPPED, "no_head", place=3)),
    (_scored("5", 4, 1.0),),
)
PLANNED = [
    SliceImage(
        tuple(
            header(None, name=r.path, identity=Identity(r.study_uid, r.series_uid, r.sop_uid), frame=r.frame)
            for r in rows
        ),
        rows[0].place or 0,
    )
    for rows in ROWS
]
DONE = dict(enumerate(ROWS))
KEYS = [image_key(image) for image in PLANNED]


def journal(path: Path, run: str = "run") -> Journal:
    return Journal(path, {"run": run}, {"batch": 2})


def done(opened: Journal) -> dict[int, ImageRows]:
    """What a journal has of the planned images, by number."""
    found = {i: opened.rows(key, image) for i, (key, image) in enumerate(zip(KEYS, PLANNED, strict=True))}
    return {i: rows for i, rows in found.items() if rows is not None}


def append(opened: Journal, *numbers: int) -> None:
    opened.append({KEYS[i]: ROWS[i] for i in numbers})


def written(path: Path) -> bytes:
    """A journal of two batches of two images each."""
    with journal(path) as opened:
        append(opened, 0, 1)
        append(opened, 2, 3)
    return path.read_bytes()

"""Output folders of runs that never were, for pages of results: tables as `score` writes them, of any size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtvit_edge.escaping import csv_cell
from dtvit_edge.scoring.csv_columns import csv_text
from dtvit_edge.scoring.csv_files import slice_head, study_head
from dtvit_edge.scoring.journal_lines import sealed
from dtvit_edge.scoring.series_file import series_head
from dtvit_edge.spec import NOTICE, PreprocessSpec

if TYPE_CHECKING:
    from starlette.testclient import TestClient

END = ("synthetic", NOTICE)


@dataclass(frozen=True)
class StudyLine:
    uid: str
    status: str
    reason: str
    flagged: str
    probability: str
    scanner: str
    date: str
    path: str
    name: str
    brain: str


def study_line(
    uid: str, status: str = "scored", reason: str = "", *, flagged: str = "", probability: str = "",
    scanner: str = "A", date: str = "", path: str = "", name: str = "", brain: str = "0.8000",
) -> StudyLine:  # fmt: skip
    return StudyLine(uid, status, reason, flagged, probability, scanner, date, path, name, brain)


def run_json(profile: dict[str, Any] | None = None) -> dict[str, Any]:
    level = {"value": 0.5, "source": "not tuned"}
    return {
        "bundle": {"name": "demo", "digest": "0" * 64, "training": "synthetic", "encoder": "vit", "profile": profile},
        "thresholds": {"slice": level, "study": level},
        "spec": PreprocessSpec().to_dict(),
        "spec_digest": "1" * 64,
        "options": {"batch": 4},
        "backend": {"backend": "onnxruntime", "version": "1"},
        "packages": {"dtvit-edge": "0.1.0"},
        "machine": {"system": "Linux"},
        "seconds": {"infer": 1.0},
        "started": "2026-03-01T10:00:00+00:00",
        "finished": "2026-03-01T10:01:00+00:00",
    }


def write_tables(out: Path, studies: Sequence[StudyLine], *, profile: dict[str, Any] | None = None) -> Path:
    """A finished run: three slices a study, of which one is cut in those of scanner A, and three files of no study."""
    out.mkdir(exist_ok=True)
    none = ["", "", "", "1"]
    slices = [[*none, f"notes-{i}.txt", "skipped", "not_dicom", *[""] * 7, *END] for i in range(3)]
    series = [["", "", "", "", "", "skipped", "not_dicom", "3", "", "", *END]]
    rows = []
    for s in sorted(studies, key=lambda s: s.uid):
        uid, folder = csv_cell(s.uid), csv_cell(s.path or f"study-{s.uid}")
        rows.append([uid, s.status, s.reason, s.flagged, s.probability, "deep" if s.flagged == "1" else "", "3", "2",
                     f"{uid}.9.1", "150.0", "1.0000", csv_cell(s.name or f"acc {s.uid}"), s.date, folder,
                     *END])  # fmt: skip
        for i in range(3):
            cut = i == 2 and s.scanner == "A"
            outcome = ("error", "truncated") if cut else ("scored", "") if s.probability else ("refused", "not_hu")
            shares = [s.probability, "0", "", "", "", ""] if outcome[0] == "scored" else [""] * 6
            slices.append([uid, f"{uid}.9", f"{uid}.9.{i}", "1", f"{folder}/{i}", *outcome, *shares, str(i + 1), *END])
        scanner, protocol = csv_cell(s.scanner), csv_cell(f"HEAD {s.scanner}")
        known = [uid, f"{uid}.9", scanner, protocol, "H31S"]
        if s.probability:
            series.append([*known, "scored", "", "2", s.probability, s.brain, *END])
        else:
            series.append([*known, "refused", "not_hu", "2", "", "", *END])
        if s.scanner == "A":
            series.append([*known, "error", "truncated", "1", "", "", *END])
    (out / "studies.csv").write_text(study_head(identify=True) + csv_text(rows), encoding="utf-8")
    (out / "slices.csv").write_text(slice_head() + csv_text(slices), encoding="utf-8")
    (out / "series.csv").write_text(series_head() + csv_text(series), encoding="utf-8")
    thresholds = {"slice": 0.5, "study": 0.5}
    (out / "journal.jsonl").write_bytes(sealed({"journal": 6, "identity": {"thresholds": thresholds}}, ""))
    (out / "run.json").write_text(json.dumps(run_json(profile)))
    return out


def client(out: Path, **options: Any) -> TestClient:
    """Asks the pages of a folder, as a browser on this machine does."""
    from starlette.testclient import TestClient

    from dtvit_edge.report.page_server import Pages, application

    return TestClient(
        application(Pages(out), **options), base_url="http://127.0.0.1:8417", raise_server_exceptions=True
    )

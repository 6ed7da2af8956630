"""What tests of objects for a PACS share: studies of every kind, their objects, and what an object holds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom

from dtvit_edge.bundle import Bundle
from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.walk import walk
from dtvit_edge.pacs.write import StudyStatement, study_statements, write_objects
from dtvit_edge.report.run_results import read_run
from tests.support.dicom_files import series
from tests.support.open_models import slices_of
from tests.support.scoring_runs import score

# The tiny bundle's probabilities of the phantoms lie on both sides of the one, and below the other.
FLAGGING, NOT_FLAGGING = 0.01, 0.99


def one_study(phantoms: Path, folder: Path) -> Path:
    """A copy of the first phantom study, which is whole."""
    shutil.copytree(phantoms / "study-0001", folder)
    return folder


def studies_of_every_kind(bundle: Bundle, phantoms: Path, folder: Path) -> dict[str, tuple[Path, Path]]:
    """A folder of files and the output of its run: flagged, not flagged, partial, and without a score."""
    found = {}
    for kind, threshold in (
        ("flagged", FLAGGING), ("not_flagged", NOT_FLAGGING), ("partial", NOT_FLAGGING), ("not_scored", FLAGGING)
    ):  # fmt: skip
        files = folder / kind / "in"
        if kind == "not_scored":
            series(files, [0.0, 5, 10], ContrastBolusAgent="IOPAMIDOL")
        else:
            one_study(phantoms, files)
        if kind == "partial":
            ordered = sorted(slices_of(files), key=lambda p: float(pydicom.dcmread(p).SliceLocation))
            for path in ordered[10:13]:
                path.unlink()
        score(bundle, files, folder / kind / "out", threshold=threshold)
        found[kind] = files, folder / kind / "out"
    return found


def report_of(files: Path, out: Path, to: Path, **options: Any) -> pydicom.Dataset:
    """The one SR of a run, read again."""
    written = write_objects(out, [files], to, **options)
    (path,) = [file for file in written.files if file.name.endswith("-sr.dcm")]
    return pydicom.dcmread(path)


def statement_in(files: Path, out: Path) -> StudyStatement:
    """The one study of a run, ready to be made into objects."""
    results = read_run(out)
    (study,) = study_statements(results, discover(walk([files], exclude=out)))
    assert isinstance(study, StudyStatement)
    return study


def items(dataset: pydicom.Dataset) -> Iterator[tuple[str, str, Any]]:
    """Value type, concept's meaning and value of every content item."""
    for item in dataset.get("ContentSequence") or []:
        name = item.ConceptNameCodeSequence[0].CodeMeaning
        if item.ValueType == "CODE":
            yield "CODE", name, item.ConceptCodeSequence[0].CodeMeaning
        elif item.ValueType == "TEXT":
            yield "TEXT", name, item.TextValue
        elif item.ValueType == "NUM":
            yield "NUM", name, float(item.MeasuredValueSequence[0].NumericValue)
        elif item.ValueType == "IMAGE":
            yield "IMAGE", name, item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        yield from items(item)


def evidence_of(dataset: pydicom.Dataset, keyword: str) -> list[str]:
    """SOP instance UIDs of a sequence of evidence."""
    return sorted(
        str(instance.ReferencedSOPInstanceUID)
        for study in dataset.get(keyword) or []
        for series_ in study.ReferencedSeriesSequence
        for instance in series_.ReferencedSOPSequence
    )

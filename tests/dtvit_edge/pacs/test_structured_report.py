"""A study's SR: what it says of each kind of result, and what it refers to."""

from __future__ import annotations

import io
import subprocess
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pydicom
import pytest

from dtvit_edge.pacs.structured_report import COMPREHENSIVE, Naming, as_comprehensive, object_bytes, structured_report
from tests.support.orthanc import environment, tool
from tests.support.pacs_objects import evidence_of, items, report_of, statement_in
from tests.support.scoring_runs import table

pytest.importorskip("highdicom", reason="the extra `pacs` is not installed")

Kinds = dict[str, tuple[Path, Path]]
CURRENT, OTHER = "CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"
KINDS = ["flagged", "not_flagged", "partial", "not_scored"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_says_what_the_table_says_and_no_more(kinds: Kinds, kind: str, tmp_path: Path) -> None:
    files, out = kinds[kind]
    report = report_of(files, out, tmp_path)
    (study,) = table(out / "studies.csv")
    said = list(items(report))
    presence = [value for type_, name, value in said if (type_, name) == ("CODE", "Cerebral hemorrhage")]
    assert presence == {"1": ["Present"], "0": ["Absent"], "": []}[study["flagged"]]
    # What viewers show alone names a finding only where there is one.
    assert ("CODE", "Finding", "Cerebral hemorrhage") in said or study["flagged"] != "1"
    assert not any(name == "Finding" for _, name, _ in said) or study["flagged"] == "1"
    numbers = [value for type_, _, value in said if type_ == "NUM"]
    assert numbers == ([float(study["ich_probability"])] if study["ich_probability"] else [])
    reasons = [value.split(":")[0] for _, name, value in said if name == "Why the study is not whole"]
    assert reasons == [code for code in study["reason"].split(";") if code]
    assert report.CompletionFlag == ("COMPLETE" if study["status"] == "scored" else "PARTIAL")
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert [value for type_, _, value in said if type_ == "IMAGE"] == [study["top_sop_uid"]] * bool(
        study["scored"] != "0"
    )
    text = " ".join(value for type_, _, value in said if type_ == "TEXT")
    assert "Research use only, not a medical device" in text
    assert ("A study that is not flagged is not a normal study." in text) == (study["flagged"] != "1")


@pytest.mark.parametrize("kind", KINDS)
def test_current_evidence_is_what_was_scored_and_other_evidence_the_rest(
    kinds: Kinds, kind: str, tmp_path: Path
) -> None:
    files, out = kinds[kind]
    report = report_of(files, out, tmp_path)
    rows = table(out / "slices.csv")
    assert evidence_of(report, CURRENT) == sorted(row["sop_uid"] for row in rows if row["status"] == "scored")
    assert evidence_of(report, OTHER) == sorted(row["sop_uid"] for row in rows if row["status"] != "scored")


def test_origin_and_private_codes_are_declared(kinds: Kinds, tmp_path: Path) -> None:
    files, out = kinds["flagged"]
    report = report_of(files, out, tmp_path)
    parameters = dict(v.split("=", 1) for _, name, v in items(report) if name == "Algorithm Parameters")
    assert len(parameters["bundle_sha256"]) == 64 and parameters["model_status"] == "synthetic"
    assert parameters["threshold"] == "0.01" and parameters["threshold_source"] == "asked for"
    schemes = {str(item.CodingSchemeDesignator) for item in report.CodingSchemeIdentificationSequence}
    used = {str(e.value) for e in report.iterall() if e.keyword == "CodingSchemeDesignator"}
    assert {scheme for scheme in used if scheme.startswith("99")} <= schemes


def test_a_later_result_names_the_one_before_it(kinds: Kinds) -> None:
    study = statement_in(*kinds["flagged"])
    naming = Naming("2.25.1", "2.25.2", "2.25.3", datetime(2026, 1, 2, 3, 4, 5), 2, ((COMPREHENSIVE, "2.25.9"),))
    report = structured_report(study.statement, study.found, naming)
    assert evidence_of(report, "PredecessorDocumentsSequence") == ["2.25.9"]
    assert report.InstanceNumber == 2 and str(report.ContentDate) == "20260102"


def test_the_same_document_goes_out_under_the_plainer_class(kinds: Kinds) -> None:
    study = statement_in(*kinds["flagged"])
    naming = Naming("2.25.1", "2.25.2", "2.25.3", datetime(2026, 1, 2))
    before = object_bytes(structured_report(study.statement, study.found, naming))
    plainer = pydicom.dcmread(io.BytesIO(as_comprehensive(before)))
    assert plainer.SOPClassUID == plainer.file_meta.MediaStorageSOPClassUID == COMPREHENSIVE
    assert plainer.SOPInstanceUID == "2.25.2"
    assert list(items(plainer)) == list(items(pydicom.dcmread(io.BytesIO(before))))


def test_text_of_a_bundle_that_is_not_ascii_harms_no_name(kinds: Kinds) -> None:
    study = statement_in(*kinds["not_scored"])
    strange = replace(study.statement, backend="Gerät \x00\n", threshold_source="ä\\ö")
    naming = Naming("2.25.1", "2.25.2", "2.25.3", datetime(2026, 1, 2))
    data = object_bytes(structured_report(strange, study.found, naming, ["ünicode"]))
    assert pydicom.dcmread(io.BytesIO(data)).PatientName == "PHANTOM^0001"


@pytest.mark.real
@pytest.mark.parametrize("plainer", [False, True], ids=["3d", "plainer"])
@pytest.mark.parametrize("kind", KINDS)
def test_other_peoples_validator_and_viewer_take_it(kinds: Kinds, kind: str, plainer: bool, tmp_path: Path) -> None:
    verify, dump = tool("dciodvfy"), tool("dsrdump")
    report_of(*kinds[kind], tmp_path)
    (file,) = tmp_path.glob("*-sr.dcm")
    if plainer:
        file.write_bytes(as_comprehensive(file.read_bytes()))
    checked = subprocess.run([verify, file], capture_output=True, text=True, env=environment())
    said = checked.stdout + checked.stderr
    assert "Error" not in said and ("ComprehensiveSR" if plainer else "Comprehensive3DSR") in said, said
    shown = subprocess.run([dump, file], capture_output=True, text=True, env=environment())
    assert shown.returncode == 0 and "Research use only" in shown.stdout, shown.stderr

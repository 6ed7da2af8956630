"""Patient, study and order in an object are those of the images, byte by byte."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.pacs.patient import copy_patient_and_study
from tests.support.dicom_files import dataset, item, save, with_raw
from tests.support.pacs_objects import report_of
from tests.support.scoring_runs import score

pytest.importorskip("highdicom", reason="the extra `pacs` is not installed")

# PS3.5 annex H (Japanese), I (Korean) and J (Chinese), and what scanners write that declare nothing.
NAMES = {
    "japanese": (
        "\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    ),
    "japanese half-width": (
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
    ),
    "korean": (
        "\\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
    ),
    "chinese": ("GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab"),
    "latin": ("ISO_IR 100", "Müller^Jörg".encode("latin-1")),
    "utf-8": ("ISO_IR 192", "Müller^Jörg=王^小東".encode()),
    "undeclared": ("", "Müller^Jörg".encode("latin-1")),
    "unknown": ("ISO_IR 999", b"M\xfcller^J\xf6rg"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_copied_in_its_own_character_set(name: str, tiny_bundle: Bundle, tmp_path: Path) -> None:
    characters, raw = NAMES[name]
    ds = dataset(SpecificCharacterSet=None)
    padded = raw + b" " * (len(raw) % 2)
    values = {"PatientName": padded}
    if characters:
        values["SpecificCharacterSet"] = characters.encode() + b" " * (len(characters) % 2)
    ds = with_raw(ds, **values)
    ds.set_original_encoding(False, True, ds._character_set)  # so that it is written as it is
    save(tmp_path / "in" / "1", ds)
    assert padded in (tmp_path / "in" / "1").read_bytes()
    score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    report = report_of(tmp_path / "in", tmp_path / "out", tmp_path / "to")
    stored = report.get_item("PatientName")
    assert (stored.value if stored.is_raw else stored.value.original_string).rstrip(b" ") == raw
    assert report.get("SpecificCharacterSet", "") in (characters, characters.split("\\"))
    assert report.PatientName == pydicom.dcmread(tmp_path / "in" / "1").PatientName


def test_orders_are_referred_to_and_nothing_else_is_copied(tiny_bundle: Bundle, tmp_path: Path) -> None:
    order = item(RequestedProcedureID="RP7", AccessionNumber="A1", RequestedProcedureDescription="CT HEAD")
    save(
        tmp_path / "in" / "1",
        AccessionNumber="A1",
        RequestAttributesSequence=[order],
        PatientComments="a secret",
        AdditionalPatientHistory="another",
        InstitutionName="a hospital",
        OperatorsName="Somebody",
        IssuerOfPatientID="HIS",
        PatientAge="034Y",
    )
    score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    report = report_of(tmp_path / "in", tmp_path / "out", tmp_path / "to")
    (request,) = report.ReferencedRequestSequence
    assert (request.RequestedProcedureID, request.AccessionNumber) == ("RP7", "A1")
    assert request.StudyInstanceUID == report.StudyInstanceUID and "FillerOrderNumberImagingServiceRequest" in request
    assert (report.AccessionNumber, report.IssuerOfPatientID, report.PatientAge) == ("A1", "HIS", "034Y")
    for keyword in ("PatientComments", "AdditionalPatientHistory", "InstitutionName", "OperatorsName"):
        assert keyword not in report


def test_what_the_images_lack_is_empty_and_not_invented(tiny_bundle: Bundle, tmp_path: Path) -> None:
    lacking = ("PatientName", "PatientBirthDate", "PatientSex", "StudyTime", "StudyID", "ReferringPhysicianName")
    save(tmp_path / "in" / "1", **dict.fromkeys(lacking), DeidentificationMethod="", StudyDescription="")
    score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    report = report_of(tmp_path / "in", tmp_path / "out", tmp_path / "to")
    assert all(keyword in report and not report.get(keyword) for keyword in lacking)
    for keyword in (
        "ReferencedRequestSequence",
        "DeidentificationMethod",
        "PatientIdentityRemoved",
        "StudyDescription",
    ):
        assert keyword not in report  # a value or nothing: empty, some of them would not be valid


def test_a_value_that_no_standard_knows_is_copied_as_it_is() -> None:
    source, target = with_raw(dataset(), PatientSex=b"FEMALE", PatientBirthDate=b"1.1.1950"), pydicom.Dataset()
    copy_patient_and_study(source, target)
    assert (target.get_item("PatientSex").value, target.get_item("PatientBirthDate").value) == (b"FEMALE", b"1.1.1950")

"""The objects of a finished run, read back, replayed, and known when they come back."""

from __future__ import annotations

import json
import shutil
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.errors import ConfigError
from dtvit_edge.pacs.reading import read_statement
from dtvit_edge.pacs.statement import Statement
from dtvit_edge.pacs.write import digest_of, write_objects
from dtvit_edge.reasons import Status
from dtvit_edge.report.run_results import SliceRow
from tests.support.dicom_files import save, series
from tests.support.open_models import slices_of
from tests.support.pacs_objects import FLAGGING, report_of, statement_in
from tests.support.scoring_runs import score, table
from tests.support.tiny_bundle import write_tiny_bundle

pytest.importorskip("highdicom", reason="the extra `pacs` is not installed")

Kinds = dict[str, tuple[Path, Path]]


def test_the_same_run_gives_the_same_files(kinds: Kinds, tmp_path: Path) -> None:
    files, out = kinds["flagged"]
    for name in ("one", "two"):
        assert main(["-q", "sr", str(out), str(files), "-o", str(tmp_path / name), "--key-image"]) == 0
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("one", "two"))
    assert first == second and len(first) == 2
    assert all(p.stat().st_mode & 0o777 == 0o640 for p in (tmp_path / "one").iterdir())


def test_a_later_version_gives_the_objects_of_a_run_the_uids_that_an_archive_knows_them_by() -> None:
    row = SliceRow("1.2", "1.2.1", "1.2.3", 1, "a/1", Status.SCORED, "", 0.9, "deep", (0.8, 0.1, 0.1), 1)
    said = Statement("1.2", Status.SCORED, (), True, 0.9, "deep", "1.2.3", "b", "s", "synthetic", 0.5, "not tuned",
                     "onnxruntime 1", {"batch": 4})  # fmt: skip
    made = digest_of(said, [row], datetime(2026, 3, 1, tzinfo=timezone.utc))
    assert made == "8ed3a9fb013dc661cf5bd95fa8233fa8ec91d24bdfc488428632e300ea02667b"  # as of the first version


@pytest.mark.parametrize("kind", ["flagged", "not_flagged", "partial", "not_scored"])
def test_what_an_object_says_is_read_back(kinds: Kinds, kind: str, tmp_path: Path) -> None:
    files, out = kinds[kind]
    report_of(files, out, tmp_path)
    (file,) = tmp_path.glob("*-sr.dcm")
    assert read_statement(file) == statement_in(files, out).statement


def test_two_patients_under_one_study_have_no_object(tiny_bundle: Bundle, tmp_path: Path) -> None:
    series(tmp_path / "in" / "a", [0.0, 5], PatientID="A")
    series(tmp_path / "in" / "b", [10.0, 15], uid="2.25.78", PatientID="B")
    score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    written = write_objects(tmp_path / "out", [tmp_path / "in"], tmp_path / "to")
    assert not written.files and list(written.without.values()) == [1]
    assert list(written.without) == ["images of more than one patient carry its UID"]


@pytest.mark.parametrize("uid", ["../../outside", "2.25.1/../../x", "1.2.840 ", "=1+1", "x" * 64])
def test_a_study_uid_that_is_none_names_no_file(uid: str, tiny_bundle: Bundle, tmp_path: Path) -> None:
    series(tmp_path / "in", [0.0], study=uid)
    score(tiny_bundle, tmp_path / "in", tmp_path / "out")
    written = write_objects(tmp_path / "out", [tmp_path / "in"], tmp_path / "to")
    assert not written.files or uid.strip() == "1.2.840"
    assert {p.name for p in tmp_path.iterdir()} == {"in", "out", "to"}


def test_folders_that_are_not_those_of_the_run_are_refused(kinds: Kinds, tmp_path: Path) -> None:
    files, out = kinds["flagged"]
    less = shutil.copytree(files, tmp_path / "less")
    slices_of(less)[3].unlink()
    with pytest.raises(ConfigError, match="do not hold what the run scored"):
        write_objects(out, [less], tmp_path / "to")


def test_our_own_objects_in_a_folder_are_rows_and_change_nothing(
    kinds: Kinds, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    files, out = kinds["flagged"]
    grown = shutil.copytree(files, tmp_path / "in")
    written = write_objects(out, [files], grown, with_key_image=True)
    assert len(written.files) == 2
    score(tiny_bundle, grown, tmp_path / "out", threshold=FLAGGING)
    before, after = ({r["sop_uid"]: r for r in table(o / "slices.csv")} for o in (out, tmp_path / "out"))
    assert {r["reason"] for uid, r in after.items() if uid not in before} == {"own_object"}
    (was,), (now,) = (table(o / "studies.csv") for o in (out, tmp_path / "out"))
    assert now | {"slices": ""} == was | {"slices": ""}
    # And an object made of the grown folder does not refer to them.
    again = report_of(grown, tmp_path / "out", tmp_path / "to")
    assert not {pydicom.dcmread(p).SOPInstanceUID for p in written.files} & {
        str(e.value) for e in again.iterall() if e.keyword == "ReferencedSOPInstanceUID"
    }


def test_replay_says_equal_or_not(
    kinds: Kinds, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, out = kinds["not_flagged"]
    report_of(files, out, tmp_path / "to")
    (file,) = (tmp_path / "to").iterdir()
    command = ["-q", "replay", str(file), "--bundle", str(tiny_bundle.path)]
    assert main([*command, str(files), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"equal": True, "differences": []}
    changed = shutil.copytree(files, tmp_path / "changed")
    for path in slices_of(changed)[:3]:
        ds = pydicom.dcmread(path)
        ds.PixelData = (ds.pixel_array + np.int16(30)).astype("<i2").tobytes()
        ds.save_as(path)
    assert main([*command, str(changed)]) == 1
    assert "not equal: " in capsys.readouterr().err
    other = write_tiny_bundle(tmp_path / "other.dtvit", slope=0.06)
    assert main(["-q", "replay", str(file), "--bundle", str(other.path), str(files)]) == 2
    assert main([*command, str(kinds["not_scored"][0])]) == 2
    assert "hold no file of the object's study" in capsys.readouterr().err


def test_what_is_no_object_of_ours_is_refused_in_words(kinds: Kinds, tmp_path: Path) -> None:
    files, out = kinds["flagged"]
    report_of(files, out, tmp_path / "to")
    (file,) = (tmp_path / "to").iterdir()
    ours = pydicom.dcmread(file)
    broken = {"image": slices_of(files)[0].read_bytes(), "text": b"nothing", "half": file.read_bytes()[:3000]}
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ConfigError):
            read_statement(tmp_path / name)
    for keyword, value in (("TextValue", "threshold=nan"), ("NumericValue", "1e999"), ("CodeValue", "DT999")):
        changed = pydicom.dcmread(file)
        for element in changed.iterall():
            if element.keyword == keyword and (keyword != "TextValue" or element.value.startswith("threshold=")):
                element.value = value
        with pydicom.config.disable_value_validation():
            save(tmp_path / keyword, changed)
        with pytest.raises(ConfigError):
            read_statement(tmp_path / keyword)
    assert ours.Manufacturer == "dtvit-edge"


@pytest.mark.parametrize("value", [[], {"a": 1}, 7, None])
def test_an_object_that_asks_for_a_configuration_of_another_kind_is_refused_in_words(
    value: object, kinds: Kinds, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, out = kinds["flagged"]
    report_of(files, out, tmp_path / "to")
    (file,) = (tmp_path / "to").iterdir()
    changed = pydicom.dcmread(file)
    for element in changed.iterall():
        if element.keyword == "TextValue" and element.value.startswith("options="):
            element.value = "options=" + json.dumps(json.loads(element.value[8:]) | {"backend": value})
    save(tmp_path / "changed", changed)
    assert main(["-q", "replay", str(tmp_path / "changed"), "--bundle", str(tiny_bundle.path), str(files)]) == 2
    assert "backend is " in capsys.readouterr().err


def test_a_key_image_is_of_flagged_studies_alone_and_has_the_notice_burned_in(kinds: Kinds, tmp_path: Path) -> None:
    for kind in ("flagged", "not_flagged", "partial", "not_scored"):
        files, out = kinds[kind]
        written = write_objects(out, [files], tmp_path / kind, with_key_image=True)
        assert any(p.name.endswith("-key.dcm") for p in written.files) == (kind == "flagged")
    (file,) = (tmp_path / "flagged").glob("*-key.dcm")
    image = pydicom.dcmread(file)
    assert (image.BurnedInAnnotation, image.BodyPartExamined, image.Modality) == ("YES", "HEAD", "OT")
    top = statement_in(*kinds["flagged"]).statement.top_sop_uid
    assert image.SourceImageSequence[0].ReferencedSOPInstanceUID == top
    pixels = image.pixel_array
    amber = (pixels[..., 0] > 150) & (pixels[..., 2] < 60)
    assert amber[:40].sum() > 300 and amber[-40:].sum() > 300 and not amber[60:-60].any()
    assert (pixels[60:-60, :, 0] == pixels[60:-60, :, 1]).all(), "the picture itself is grey"

"""Files: DICOM that reads back to the same densities, the order on disk, truth.csv, the same bytes again."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from dtvit_edge.errors import ConfigError
from dtvit_edge.phantom import (
    TRUTH_COLUMNS,
    PhantomStudy,
    collection_seeds,
    files,
    phantom_uid,
    plan_study,
    render_plan,
    slice_dataset,
    write_phantoms,
    write_study,
)
from dtvit_edge.phantom.study import StudyPlan


def tilted_plan() -> StudyPlan:
    return next(p for p in (plan_study(s, "lobar") for s in range(100)) if p.acquisition.tilt_deg > 8)


@pytest.fixture(scope="module")
def study() -> PhantomStudy:
    plan = tilted_plan()
    first = plan.positive[0]
    return render_plan(plan, [first - 4, first - 3, first - 2, first - 1, first, first + 1])


@pytest.fixture(scope="module")
def written(study: PhantomStudy, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_study(study, tmp_path_factory.mktemp("study"), "0042")


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("phantoms"), studies=2, seed=3)


def test_files_read_back_to_the_same_hounsfield_units(study: PhantomStudy, written: list[Path]) -> None:
    for path, phantom_slice in zip(written, study.slices, strict=True):
        dataset = pydicom.dcmread(path)
        hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        np.testing.assert_array_equal(hu, phantom_slice.hu)


def test_same_study_gives_the_same_bytes(study: PhantomStudy, written: list[Path], tmp_path: Path) -> None:
    again = render_plan(plan_study(study.seed, study.location), [s.index for s in study.slices])
    for one, other in zip(written, write_study(again, tmp_path, "0042"), strict=True):
        assert one.name == other.name
        assert one.read_bytes() == other.read_bytes()


def test_geometry_gives_the_anatomical_order_and_file_names_do_not(study: PhantomStudy, written: list[Path]) -> None:
    datasets = {path: pydicom.dcmread(path, stop_before_pixels=True) for path in written}
    cosines = np.array(study.orientation)
    normal = np.cross(cosines[:3], cosines[3:])

    def along(path: Path) -> float:
        return float(np.array(datasets[path].ImagePositionPatient, float) @ normal)

    assert sorted(written, key=along) == written
    assert sorted(written) not in (written, written[::-1])
    steps = np.diff([along(path) for path in written])
    np.testing.assert_allclose(steps, study.spacing_mm, atol=1e-4)
    assert study.tilt_deg > 8 and abs(normal[1]) > 0.1


def test_dataset_is_a_complete_ct_image(written: list[Path]) -> None:
    dataset = pydicom.dcmread(written[0])
    assert dataset.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert dataset.SOPClassUID == dataset.file_meta.MediaStorageSOPClassUID == pydicom.uid.CTImageStorage
    assert list(dataset.ImageType) == ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert (dataset.Modality, dataset.BodyPartExamined, dataset.RescaleType) == ("CT", "HEAD", "HU")
    assert (dataset.PatientName, dataset.PatientIdentityRemoved) == ("PHANTOM^0042", "YES")
    assert "SYNTHETIC PHANTOM" in dataset.StudyDescription
    assert float(dataset.KVP) == 120
    assert float(dataset.SpacingBetweenSlices) >= float(dataset.SliceThickness)
    np.testing.assert_allclose(
        float(dataset.GantryDetectorTilt),
        -np.degrees(np.arcsin(dataset.ImageOrientationPatient[5])),
        atol=1e-3,
    )
    assert not any(element.tag.is_private for element in dataset)
    for element in dataset.iterall():
        if element.VR == "UI":
            pydicom.uid.UID(element.value)
            assert pydicom.uid.UID(element.value).is_valid


def test_uids_are_one_per_study_series_and_instance(written: list[Path]) -> None:
    datasets = [pydicom.dcmread(path, stop_before_pixels=True) for path in written]
    assert len({d.SOPInstanceUID for d in datasets}) == len(datasets)
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({d[name].value for d in datasets}) == 1
    assert phantom_uid("a", 1) == phantom_uid("a", 1) != phantom_uid("a", 2)
    assert phantom_uid("a").startswith("2.25.") and phantom_uid("a").is_valid


def test_another_seed_or_location_gives_other_uids(study: PhantomStudy) -> None:
    other = render_plan(plan_study(study.seed, None), [study.slices[0].index])
    ours, theirs = (slice_dataset(s, s.slices[0]) for s in (study, other))
    assert ours.StudyInstanceUID != theirs.StudyInstanceUID
    assert ours.SOPInstanceUID != theirs.SOPInstanceUID


def test_truth_has_a_row_per_file_and_agrees_with_it(collection: Path) -> None:
    with collection.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        rows = list(reader)
    assert tuple(reader.fieldnames or ()) == TRUTH_COLUMNS
    assert TRUTH_COLUMNS[:4] == ("path", "patient", "ich", "location")
    folder = collection.parent
    on_disk = {p.relative_to(folder).as_posix() for p in folder.rglob("IM*")}
    assert {row["path"] for row in rows} == on_disk
    assert {row["patient"] for row in rows} == {"PHANTOM-0001", "PHANTOM-0002"}
    for row in rows:
        dataset = pydicom.dcmread(folder / row["path"], stop_before_pixels=True)
        assert dataset.PatientID == row["patient"]
        assert int(dataset.InstanceNumber) == int(row["slice"]) + 1
        positive = row["ich"] == "1"
        assert positive == bool(row["location"]) == (float(row["haemorrhage_mm2"]) > 0)
        assert float(row["haemorrhage_mm2"]) == 0 or float(row["haemorrhage_mm2"]) >= 40
    by_patient = [{row["ich"] for row in rows if row["patient"] == p} for p in ("PHANTOM-0001", "PHANTOM-0002")]
    assert by_patient == [{"0", "1"}, {"0"}]


def test_truth_matches_the_masks(collection: Path) -> None:
    with collection.open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["patient"] == "PHANTOM-0001"]
    plan = plan_study(*collection_seeds(2, 3)[0])
    assert {int(row["slice"]) for row in rows if row["ich"] == "1"} == set(plan.positive)
    assert {row["location"] for row in rows} == {"", plan.location}
    areas = {int(row["slice"]): float(row["haemorrhage_mm2"]) for row in rows}
    assert sorted(areas) == list(range(plan.slice_count))
    for phantom_slice in render_plan(plan, plan.positive).slices:
        area = np.count_nonzero(phantom_slice.haemorrhage) * plan.acquisition.pixel_spacing_mm**2
        assert areas[phantom_slice.index] == pytest.approx(area, abs=0.051)


def test_collection_is_half_positive_and_its_locations_are_balanced() -> None:
    drawn = [location for _, location in collection_seeds(24, 9)]
    assert [drawn.count(name) for name in (None, "deep", "lobar", "subtentorial")] == [12, 4, 4, 4]
    assert len({seed for seed, _ in collection_seeds(24, 9)}) == 24


def test_no_studies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="1 or more"):
        write_phantoms(tmp_path, 0)


@pytest.fixture
def drawn_once(study: PhantomStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices that are rendered already, every study with one fewer: what is asked is which files come and go."""
    count = iter(range(len(study.slices), 0, -1))
    monkeypatch.setattr(
        files, "render_study", lambda seed, location: replace(study, seed=seed, slices=study.slices[: next(count)])
    )


@pytest.mark.usefixtures("drawn_once")
def test_an_earlier_collection_is_replaced_whole_or_refused(tmp_path: Path) -> None:
    write_phantoms(tmp_path, studies=2, seed=1)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="not empty; give another folder or --overwrite"):
        write_phantoms(tmp_path, studies=1, seed=2)
    done: list[int] = []
    truth = write_phantoms(tmp_path, studies=1, seed=2, overwrite=True, progress=lambda: done.append(1))
    with truth.open(newline="") as stream:
        named = {row["path"] for row in csv.DictReader(stream)}
    assert {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("IM*")} == named
    assert (tmp_path / "letter.txt").exists()
    assert done == [1]


@pytest.mark.usefixtures("drawn_once")
def test_overwriting_removes_what_an_earlier_call_listed_and_nothing_else(tmp_path: Path) -> None:
    write_phantoms(tmp_path, studies=2)
    kept = [tmp_path / "study-0002" / "patient.dcm", tmp_path / "study-0007" / "patient.dcm", tmp_path / "notes.txt"]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("somebody's")
    write_phantoms(tmp_path, studies=1, overwrite=True)
    assert all(path.read_text() == "somebody's" for path in kept)
    assert [path.name for path in (tmp_path / "study-0002").iterdir()] == ["patient.dcm"]


@pytest.mark.parametrize("truth", [None, "path,patient\n", "rubbish", "listed"])
def test_a_folder_that_no_earlier_call_wrote_is_never_overwritten(tmp_path: Path, truth: str | None) -> None:
    patient = tmp_path / "study-0001" / "a.dcm"
    patient.parent.mkdir()
    patient.write_text("somebody's")
    if truth == "listed":
        truth = ",".join(TRUTH_COLUMNS) + "\n../elsewhere.txt,P,0,,0,0\n"
    if truth is not None:
        (tmp_path / "truth.csv").write_text(truth)
    with pytest.raises(ConfigError, match="holds something else than the phantoms of an earlier call"):
        write_phantoms(tmp_path, studies=1, overwrite=True)
    assert patient.read_text() == "somebody's"

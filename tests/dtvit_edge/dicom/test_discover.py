from __future__ import annotations

import shutil
from pathlib import Path

from dtvit_edge.dicom.discover import Plan, discover
from dtvit_edge.dicom.walk import walk
from tests.support.data import real
from tests.support.dicom_files import save, series


def plan(*folders: Path, **options: bool) -> Plan:
    return discover(walk(folders), **options)


def refusals(discovered: Plan) -> dict[str, str]:
    return {s.series_uid: s.refusal.code if s.refusal else "" for s in discovered.series}


def test_the_same_instance_again_is_a_duplicate(tmp_path: Path) -> None:
    save(tmp_path / "a")
    shutil.copy(tmp_path / "a", tmp_path / "b")
    discovered = plan(tmp_path)
    assert [len(s.headers) for s in discovered.series] == [1]
    assert [(r.path, r.reason.code, str(r.reason.status)) for r in discovered.rejected] == [
        ("b", "duplicate", "skipped")
    ]


def test_a_series_is_split_by_kernel_and_orientation_but_not_by_rotation(tmp_path: Path) -> None:
    series(tmp_path / "a", [0, 5, 10], uid="2.25.1", AcquisitionNumber=1)
    for i, kernel in enumerate(("H31s", "H60s")):
        series(tmp_path / f"k{i}", [20, 25], uid=f"2.25.9{i}", ConvolutionKernel=kernel)
        for file in (tmp_path / f"k{i}").iterdir():
            import pydicom

            ds = pydicom.dcmread(file)
            ds.SeriesInstanceUID = "2.25.9"
            ds.save_as(file)
    discovered = plan(tmp_path)
    assert sorted((s.series_uid, len(s.headers)) for s in discovered.series) == [
        ("2.25.1", 3),
        ("2.25.9", 2),
        ("2.25.9", 2),
    ]


def test_two_passes_in_one_series_are_one_part(tmp_path: Path) -> None:
    for acquisition in (1, 2):
        for i in range(3):
            save(
                tmp_path / f"{acquisition}-{i}",
                SOPInstanceUID=f"2.25.{acquisition}{i}",
                AcquisitionNumber=acquisition,
                ImagePositionPatient=[0, 0, 5.0 * i],
                ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            )
    assert [len(s.headers) for s in plan(tmp_path).series] == [6]


def test_bone_is_refused_only_where_a_softer_series_of_the_study_exists(tmp_path: Path) -> None:
    series(tmp_path / "a", [0, 5], uid="2.25.1", study="2.25.10", ConvolutionKernel="H60s")
    series(tmp_path / "b", [0, 5], uid="2.25.2", study="2.25.10", ConvolutionKernel="H31s")
    series(tmp_path / "c", [0, 5], uid="2.25.3", study="2.25.11", ConvolutionKernel="H60s")
    series(tmp_path / "d", [0, 5], uid="2.25.4", study="2.25.12", ConvolutionKernel="H60s")
    series(
        tmp_path / "e",
        [0, 5],
        uid="2.25.5",
        study="2.25.12",
        ConvolutionKernel="H31s",
        ContrastBolusAgent="X",
    )
    assert refusals(plan(tmp_path)) == {
        "2.25.1": "bone_kernel",
        "2.25.2": "",
        "2.25.3": "",
        "2.25.4": "",
        "2.25.5": "contrast",
    }
    assert set(refusals(plan(tmp_path, any_series=True)).values()) == {""}


def test_the_real_study_passes_whole() -> None:
    discovered = plan(real("studies", "ge-head"))
    assert [(len(s.headers), s.refusal, s.warnings) for s in discovered.series] == [(28, None, ())]
    assert not discovered.rejected


def test_real_chest_slices_are_refused() -> None:
    assert set(refusals(plan(real("transfer-syntaxes", "nema-ct1"))).values()) == {"contrast"}
    assert set(refusals(plan(real("transfer-syntaxes", "ctimage"))).values()) == {"not_head"}
    assert set(refusals(plan(real("transfer-syntaxes", "nema-ct2"))).values()) == {""}


def test_everything_odd_ends_in_a_row() -> None:
    folder = real("odd")
    discovered = plan(folder)
    files = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    rows = {r.path for r in discovered.rejected} | {h.path for s in discovered.series for h in s.headers}
    assert rows == files
    reasons = {r.path: r.reason.code for r in discovered.rejected}
    assert reasons["philips-rgb/DIRFILE"] == "dicomdir"
    assert reasons["philips-scout/I10"] == "scout"
    assert reasons["philips-rgb/I40"] == "secondary_capture"
    assert reasons["TestPattern_Palette.dcm"] == "not_ct"
    assert reasons["no-pixel-data.dcm"] == "not_an_image"

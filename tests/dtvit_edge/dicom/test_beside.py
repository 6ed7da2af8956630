"""Files without UIDs: what their names and neighbours say of them, and which studies they touch."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dtvit_edge import reasons
from dtvit_edge.dicom.beside import judged_by_name, touched_studies
from dtvit_edge.dicom.slice import Rejection
from dtvit_edge.reasons import Reason
from dtvit_edge.results import Identity

ROOT = Path("/in")


def header(path: str, study: str = "1", root: Path = ROOT) -> tuple[Path, str]:
    return root / path, study


def rejection(path: str, reason: Reason = reasons.NOT_DICOM, root: Path = ROOT, study: str = "") -> Rejection:
    return Rejection(Identity(study, study, study), 1, path, reason, root / path)


def judged(name: str, reason: Reason = reasons.NOT_DICOM) -> str:
    """What becomes of a file beside a slice."""
    (row,) = judged_by_name([rejection(f"a/{name}", reason)], [header("a/IM0001")])
    return row.reason.code


@pytest.mark.parametrize(
    "name",
    [
        "x.dcm",
        "X.DCM",
        "x.dicom",
        "x.IMA",
        "x.img",
        "IM0002",
        "I10",
        "00000017",
        "1.2.840.113619.2",
        "CT.1.2.840.1",
        "x.dcm.gpg",
        "x.dcm.enc",
        "x.dcm.part",
        "x.dcm~",
        "x.dicom.bak",
        "x.dcm.txt",
    ],
)
def test_what_is_named_like_a_slice_beside_slices_is_broken(name: str) -> None:
    assert judged(name) == "broken_file"


@pytest.mark.parametrize(
    "name",
    [
        *("README", "Readme.md", "LICENSE", "DICOMDIR", "a.txt", "a.csv", "a.json", "a.xml", "a.jpg", "a.png", "a.pdf"),
        *("a.html", ".DS_Store", "Thumbs.db", "desktop.ini", "._IM0002", ".hidden", "a.nii.gz", "md5sum", "Icon\r"),
        *("a.unknown", "autorun.inf"),
    ],
)
def test_what_is_named_otherwise_is_only_not_dicom(name: str) -> None:
    assert judged(name) == "not_dicom"


@pytest.mark.parametrize(
    ("path", "code"),
    [("b/x.dcm", "broken_file"), ("b/IM0002", "not_dicom"), ("b/7", "not_dicom"), ("a/b/IM0002", "not_dicom")],
)
def test_away_from_slices_only_a_name_that_no_other_program_gives_counts(path: str, code: str) -> None:
    (row,) = judged_by_name([rejection(path)], [header("a/IM0001")])
    assert row.reason.code == code


@pytest.mark.parametrize("folder", ["__MACOSX", ".Trash-1000", "@eaDir", "$RECYCLE.BIN", ".git", ".AppleDouble", ".x"])
def test_what_systems_leave_is_no_error(folder: str) -> None:
    for name in ("IM0001", "IM0002.dcm"):
        for reason in (reasons.NOT_DICOM, reasons.EMPTY_FILE, reasons.ZERO_FILE, reasons.ARCHIVE):
            path = f"a/{folder}/{name}"
            (row,) = judged_by_name([rejection(path, reason)], [header("a/IM0001"), header(f"a/{folder}/IM0009")])
            assert row.reason.code == "not_dicom"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("lost+found", "not_dicom"),
        ("System Volume Information", "not_dicom"),
        (".Trashes", "not_dicom"),
        ("a/.#IM0001", "not_dicom"),
        (".study", "unreadable"),
        ("a/upper", "unreadable"),
        ("a/README", "unreadable"),
    ],
)
def test_of_folders_that_cannot_be_listed_only_a_systems_own_are_no_error(path: str, code: str) -> None:
    (row,) = judged_by_name([rejection(path, reasons.UNREADABLE)], [header("a/IM0001")])
    assert row.reason.code == code


@pytest.mark.parametrize(
    ("name", "reason", "code"),
    [
        ("IM0002", reasons.ZERO_FILE, "zero_file"),
        ("IM0002", reasons.EMPTY_FILE, "empty_file"),
        ("a.unknown", reasons.EMPTY_FILE, "empty_file"),
        ("done.txt", reasons.EMPTY_FILE, "not_dicom"),
        (".gitkeep", reasons.EMPTY_FILE, "not_dicom"),
        ("a.log", reasons.ZERO_FILE, "not_dicom"),
        ("report.docx", reasons.ARCHIVE, "not_dicom"),
        ("ct.nii.gz", reasons.ARCHIVE, "not_dicom"),
        ("export.zip", reasons.ARCHIVE, "archive"),
        ("slices.tar.gz", reasons.ARCHIVE, "archive"),
        ("IM0002.dcm.gz", reasons.ARCHIVE, "archive"),
        ("x.dcm", reasons.BAD_HEADER, "bad_header"),
    ],
)
def test_a_name_excuses_what_no_slice_can_be_lost_with(name: str, reason: Reason, code: str) -> None:
    assert judged(name, reason) == code


def test_a_row_with_uids_stays_what_it_is() -> None:
    row = rejection("a/__MACOSX/x.txt", reasons.TRUNCATED, study="1")
    assert judged_by_name([row], [header("a/IM0001")]) == [row]


def test_a_broken_file_touches_studies_in_its_folder_and_below() -> None:
    headers = [header("a/1", "A"), header("a/s/2", "A"), header("b/3", "B"), header("ab/4", "AB")]
    assert touched_studies([rejection("a/x", reasons.BROKEN_FILE)], headers) == {"A": frozenset({reasons.BROKEN_FILE})}
    # A folder lies in the one above it, and a file of no study below a study's is not looked for there.
    assert touched_studies([rejection("a/upper", reasons.UNREADABLE)], headers).keys() == {"A"}
    assert touched_studies([rejection("a/upper/x", reasons.BROKEN_FILE)], headers) == {}


def test_in_a_folder_that_studies_share_it_touches_none() -> None:
    headers = [header("a/1", "A"), header("b/3", "B")]
    rows = [rejection("export.zip", reasons.ARCHIVE), rejection("b/zeros", reasons.ZERO_FILE), rejection("zeros.dcm")]
    assert touched_studies(rows, headers) == {"B": frozenset({reasons.ZERO_FILE})}


def test_an_archive_touches_a_study_beside_its_slices_and_not_above_them() -> None:
    assert touched_studies([rejection("a.zip", reasons.ARCHIVE)], [header("a/1", "A")]) == {}
    assert touched_studies([rejection("a/b.zip", reasons.ARCHIVE)], [header("a/1", "A")]).keys() == {"A"}


def test_what_is_skipped_or_has_a_study_of_its_own_touches_none() -> None:
    rows = [rejection("a/x"), rejection("a/y", reasons.TRUNCATED, study="C"), rejection("a/z", reasons.DICOMDIR)]
    assert touched_studies(rows, [header("a/1", "A")]) == {}


def test_equal_paths_below_two_folders_given_are_not_mixed_up() -> None:
    other = Path("/other")
    headers = [header("s/1", "A"), header("s/1", "B", root=other)]
    assert touched_studies([rejection("s/x", reasons.BROKEN_FILE, root=other)], headers).keys() == {"B"}
    (row,) = judged_by_name([rejection("s/2", root=other)], [header("s/1", "A")])
    assert row.reason == reasons.NOT_DICOM


def test_a_linked_file_or_folder_touches_where_it_is_linked_as_well() -> None:
    headers = [header("study/1", "A"), header("other/1", "B")]
    links = {ROOT / "store/upper": (ROOT / "study/upper",), ROOT / "store/one": (ROOT / "other/one", ROOT / "o")}
    unreadable = rejection("store/upper", reasons.UNREADABLE)
    assert touched_studies([unreadable], headers, links).keys() == {"A"}
    assert touched_studies([unreadable], headers) == {}
    assert touched_studies([rejection("store/one", reasons.ZERO_FILE)], headers, links).keys() == {"B"}
    assert [r.reason.code for r in judged_by_name([rejection("store/one")], headers, links)] == ["broken_file"]
    # The slices are in a linked folder, and something beside the link is broken.
    assert touched_studies([rejection("study/x", reasons.ZERO_FILE)], [header("store/upper/1", "C")], links).keys() == {
        "C"
    }


def test_links_in_circles_end() -> None:
    links = {ROOT / "a": (ROOT / "a/here", ROOT / "b/m"), ROOT / "b": (ROOT / "a/l",)}
    rows = [rejection("a/x", reasons.ZERO_FILE)]
    assert touched_studies(rows, [header("b/1", "B")], links).keys() == {"B"}


def test_ten_thousand_files_and_a_thousand_rows_take_no_time() -> None:
    headers = [header(f"a/b/s{i % 5}/{i}", f"{i % 5}") for i in range(10_000)]
    rows = [rejection(f"a/b/s{i % 5}/x{i}") for i in range(1000)]
    start = time.perf_counter()
    touched = touched_studies(judged_by_name(rows, headers), headers)
    assert time.perf_counter() - start < 1
    assert touched == {f"{i}": frozenset({reasons.BROKEN_FILE}) for i in range(5)}

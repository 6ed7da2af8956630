"""`view` on the folder of a service: the runs of its studies as one worklist, while they come and go."""

from __future__ import annotations

import shutil
from pathlib import Path

import pydicom
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.report.service_folder import DATABASE, RESULTS
from tests.support.viewed_runs import client, study_line, write_tables

pytest.importorskip("jinja2")
pytest.importorskip("starlette", reason="starlette, of the extra `view`, is not installed")


def scored(service: Path, uid: str, *, flagged: str = "0", scanner: str = "A") -> Path:
    """The run of one study of a service, as it is when it has ended."""
    probability = "0.9" if flagged == "1" else "0.1"
    (service / RESULTS).mkdir(parents=True, exist_ok=True)
    (service / DATABASE).touch()
    line = study_line(uid, flagged=flagged, probability=probability, scanner=scanner)
    return write_tables(service / RESULTS / uid, [line])


def test_the_studies_of_a_service_are_one_worklist_that_follows_what_comes_and_goes(tmp_path: Path) -> None:
    scored(tmp_path, "1.1", flagged="1")
    asked = client(tmp_path)
    first = asked.get("/").text
    assert "1 study so far" in first and "results of a service" in first and "loaded again every" in first
    scored(tmp_path, "1.2", scanner="B")
    (tmp_path / RESULTS / "1.3").mkdir()  # of which nothing is known yet
    text = asked.get("/").text
    assert "2 studies so far" in text and text.index(">1.1<") < text.index(">1.2<")
    assert asked.get("/scanners.html").text.count("HEAD ") >= 2 and asked.get("/drift.html").status_code == 200
    shutil.rmtree(tmp_path / RESULTS / "1.1")
    assert "1 study so far" in asked.get("/").text and asked.get("/study-1.1.html").status_code == 404


def test_each_study_has_the_page_of_its_own_run_and_files_of_no_study_are_counted_over_all(tmp_path: Path) -> None:
    scored(tmp_path, "1.1", flagged="1")
    scored(tmp_path, "1.2")
    asked = client(tmp_path)
    for uid, word in (("1.1", "verdict flagged"), ("1.2", "verdict not-flagged")):
        page = asked.get(f"/study-{uid}.html").text
        assert word in page and uid in page
    files = asked.get("/files.html").text
    assert files.count("notes-") == 6 and '<td class="n">6</td>' in asked.get("/").text


def test_a_file_that_says_it_is_of_another_study_leads_to_no_page(tmp_path: Path) -> None:
    scored(tmp_path, "1.1", flagged="1")
    scored(tmp_path, "1.2")
    both = [study_line("1.2", flagged="0", probability="0.1"), study_line("1.1", flagged="0", probability="0.2")]
    write_tables(tmp_path / RESULTS / "1.2", both)
    asked = client(tmp_path)
    assert "3 studies so far" in asked.get("/").text
    assert "verdict flagged" in asked.get("/study-1.1.html").text, "that of its own run"


@pytest.mark.parametrize("name", ["studies.csv", "series.csv", "run.json"])
def test_a_study_whose_results_cannot_be_read_is_named_and_hides_no_other(tmp_path: Path, name: str) -> None:
    for uid in ("1.1", "1.2"):
        scored(tmp_path, uid)
    asked = client(tmp_path)
    table = tmp_path / RESULTS / "1.2" / name
    whole = table.read_bytes()
    table.write_bytes(b"a,b\n")
    for look in (asked, client(tmp_path)):  # one that began before, and one that begins now
        text = look.get("/").text
        assert "1 study so far" in text and ">1.1<" in text and "results of 1 study cannot be read" in text
        assert '<span class="uid">1.2</span>: ' in text and name in text
        assert look.get("/study-1.1.html").status_code == 200 and look.get("/study-1.2.html").status_code == 404
    table.write_bytes(whole)
    text = asked.get("/").text
    assert "2 studies so far" in text and "cannot be read" not in text


def test_a_service_that_has_scored_nothing_yet_is_no_error(tmp_path: Path) -> None:
    (tmp_path / RESULTS).mkdir()
    (tmp_path / DATABASE).touch()
    assert "0 studies so far" in client(tmp_path).get("/").text


@pytest.mark.real  # seconds
def test_a_service_that_runs_is_looked_at_and_goes_on(
    tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pynetdicom", reason="the extra `pacs` is not installed")
    pytest.importorskip("highdicom", reason="the extra `pacs` is not installed")
    from tests.support.open_models import slices_of
    from tests.support.pacs_peers import OwnPacs, running, send, settings_of, wait_for

    files = slices_of(phantom_folder / "study-0001")
    uid = str(pydicom.dcmread(files[0]).StudyInstanceUID)
    settings = settings_of(tmp_path / "s", 1)
    with running(tiny_bundle, settings, threshold=0.01) as service, OwnPacs():
        asked = client(tmp_path / "s")
        assert "0 studies so far" in asked.get("/").text
        assert set(send(files, service.port)) == {0}
        wait_for(lambda: "1 study so far" in asked.get("/").text and uid in asked.get("/").text)
        wait_for(lambda: "verdict flagged" in asked.get(f"/study-{uid}.html").text)
        assert not service._troubled

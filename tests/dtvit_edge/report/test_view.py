"""Pages of a run that people look at: what the worklist shows, in which order, and while the run goes on."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError
from dtvit_edge.report.files import page_name
from dtvit_edge.report.write import write_report
from tests.support.scoring_runs import score
from tests.support.viewed_runs import client, study_line, write_tables

pytest.importorskip("jinja2")
pytest.importorskip("starlette", reason="starlette, of the extra `view`, is not installed")

STUDIES = [
    study_line("1.1", flagged="1", probability="0.9", scanner="A", date="20260105"),
    study_line("1.2", "partial", "gap;coverage", flagged="", probability="0.2", scanner="B", date="20260301"),
    study_line("1.3", flagged="0", probability="0.1", scanner="A", date="20260110"),
    study_line("1.4", "not_scored", "no_suitable_series", scanner="B", date="20260110"),
    study_line("1.5", flagged="1", probability="0.95", scanner="B"),
]


def shown(page: str) -> list[str]:
    return re.findall(r'<a href="/study-([\d.]+)\.html">', page)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return write_tables(tmp_path / "out", STUDIES)


def test_flagged_studies_come_first_and_nothing_is_left_out(out: Path) -> None:
    page = client(out).get("/").text
    assert shown(page) == ["1.5", "1.1", "1.2", "1.4", "1.3"]
    assert "A slice is missing" in page and "No series of the study is suitable." in page
    assert "The file is not DICOM." in page and "Files that belong to no study" in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("sort=probability", "1.5 1.1 1.2 1.3 1.4"),
        ("sort=probability&order=up", "1.4 1.3 1.2 1.1 1.5"),
        ("sort=date", "1.2 1.3 1.4 1.1 1.5"),
        ("sort=scanner", "1.1 1.3 1.2 1.4 1.5"),
        ("sort=study&order=down", "1.5 1.4 1.3 1.2 1.1"),
        ("sort=status", "1.4 1.2 1.1 1.3 1.5"),
        ("sort=nothing&order=sideways", "1.5 1.1 1.2 1.4 1.3"),
        ("answer=flagged", "1.5 1.1"),
        ("status=partial", "1.2"),
        ("reason=gap", "1.2"),
        ("reason=truncated", "1.1 1.3"),
        ("scanner=A", "1.1 1.3"),
        ("protocol=HEAD+B&answer=no-answer", "1.2 1.4"),
        ("since=2026-01-10&until=2026-02-01", "1.4 1.3"),
        ("since=yesterday", "1.5 1.1 1.2 1.4 1.3"),
        ("find=1.3", "1.3"),
        ("find=acc+1.4", "1.4"),
        ("page=0", "1.5 1.1 1.2 1.4 1.3"),
        ("page=99999999999999999999", "1.5 1.1 1.2 1.4 1.3"),
        ("answer=nobody", ""),
    ],
)
def test_studies_are_sorted_and_chosen_by_their_columns(out: Path, query: str, found: str) -> None:
    answer = client(out).get(f"/?{query}")
    assert answer.status_code == 200 and shown(answer.text) == found.split()
    if not found:
        assert "No study is as chosen" in answer.text
    elif len(found.split()) < len(STUDIES):
        assert f"{len(found.split())} of {len(STUDIES)} studies" in answer.text and "Show all" in answer.text


def test_titles_lead_to_the_other_order_and_say_which_one_is_shown(out: Path) -> None:
    page = client(out).get("/?sort=probability&scanner=A").text
    assert '<th colspan="2" aria-sort="descending"><a href="/?sort=probability&amp;order=up&amp;scanner=A">' in page
    assert page.count('aria-sort="descending"') == 1


def test_many_studies_make_many_pages(tmp_path: Path) -> None:
    many = [study_line(f"1.{i}", flagged="0", probability="0.1", scanner="A") for i in range(1050)]
    asked = client(write_tables(tmp_path / "out", many))
    first, last = asked.get("/").text, asked.get("/?page=11").text
    assert len(shown(first)) == 100 and len(shown(last)) == 50 and "1050 studies" in first
    assert 'aria-label="Page 11"' in first and "Studies 1001 to 1050 of 1050" in last
    assert len(first) < 200_000


def test_a_run_under_way_says_so_and_is_loaded_again(out: Path) -> None:
    (out / "run.json").unlink()
    asked = client(out)
    page = asked.get("/").text
    assert "This run has not ended" in page and '<meta http-equiv="refresh" content="10">' in page
    assert 'http-equiv="refresh"' not in asked.get("/?refresh=off").text
    assert "at a probability of 0.5 or more" in page, "the journal says which"
    assert "made of the tables alone" in asked.get("/study-1.1.html").text.lower()


def test_what_the_run_writes_is_shown_and_read_once(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dtvit_edge.report import standing

    reads = []
    read = standing.read_series
    monkeypatch.setattr(standing, "read_series", lambda folder: reads.append(1) or read(folder))
    monkeypatch.setattr(standing, "TIMES_THE_COST", 0.0)
    asked = client(out)
    for _ in range(3):
        assert len(shown(asked.get("/").text)) == 5
    assert len(reads) == 1
    write_tables(out, STUDIES[:2])
    assert shown(asked.get("/").text) == ["1.1", "1.2"] and len(reads) == 2


def test_before_the_first_study_has_ended_there_is_an_empty_list(out: Path) -> None:
    for name in ("run.json", "studies.csv", "series.csv", "slices.csv"):
        (out / name).unlink()
    asked = client(out)
    assert "No study has ended yet" in asked.get("/").text
    for name in ("scanners", "drift", "files"):
        assert asked.get(f"/{name}.html").status_code == 200


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        client(tmp_path)
    with pytest.raises(ConfigError, match="cannot be looked at: No such file"):
        client(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("studies.csv", b"\xff\xfe"),
        ("studies.csv", b"study_uid\n1\n"),
        ("series.csv", b'"' + b"x" * 200_000),
        ("run.json", b"[" * 100_000),
    ],
    ids=["no text", "a column is missing", "an endless cell", "deep"],
)
def test_a_broken_table_is_a_sentence_at_the_start_and_amid_it(out: Path, name: str, text: bytes) -> None:
    asked = client(out)
    (out / name).write_bytes(text)
    answer = asked.get("/")
    assert answer.status_code in (200, 503), "the state before may be shown for a moment"
    with pytest.raises(ConfigError, match=r"run.json|studies.csv|series.csv"):
        client(out)


@pytest.mark.parametrize("left", ["nothing", "an empty folder", "another folder"])
def test_a_folder_that_is_gone_is_said_and_no_run_without_studies(
    left: str, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dtvit_edge.report import standing

    monkeypatch.setattr(standing, "TIMES_THE_COST", 0.0)
    asked = client(out)
    assert asked.get("/").status_code == 200
    out.rename(out.with_name("away"))
    if left != "nothing":
        out.mkdir()
    if left == "another folder":
        (out / "notes.txt").write_text("nothing of a run")
    for address in ("/", "/scanners.html", "/drift.html", "/files.html"):
        answer = asked.get(address)
        assert answer.status_code == 503 and "cannot be read now" in answer.text, address
    out.rename(out.with_name("other")) if out.exists() else None
    out.with_name("away").rename(out)
    assert asked.get("/").status_code == 200


def test_a_study_that_vanishes_is_a_page_that_is_not_there(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dtvit_edge.report import standing

    monkeypatch.setattr(standing, "TIMES_THE_COST", 0.0)
    asked = client(out)
    assert asked.get("/study-1.3.html").status_code == 200
    (out / "slices.csv").unlink()
    assert asked.get("/study-1.3.html").status_code == 200, "the row is still there"
    write_tables(out, STUDIES[:1])
    assert asked.get("/study-1.3.html").status_code == 404


def test_files_of_no_study_are_listed_page_by_page(out: Path) -> None:
    page = client(out).get("/files.html").text
    assert "3 files belong to no study" in page and page.count('<td class="path">notes-') == 3
    assert client(out).get("/files.html?page=2").text.count('<td class="path">') == 0


@pytest.fixture
def finished(tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for file in sorted(phantom_folder.glob("study-*/*")):
        if file.parent.name == "study-0001":
            shutil.copy(file, tmp_path / "in" / file.name)
    score(tiny_bundle, tmp_path / "in", tmp_path / "out", threshold=0.1, identify=True)
    return tmp_path


def test_a_written_page_is_shown_while_it_shows_these_results(finished: Path) -> None:
    out = finished / "out"
    asked = client(out)
    (name,) = re.findall(r'<a href="/(study-[\d.]+\.html)">', asked.get("/").text)
    from_tables = asked.get(f"/{name}").text
    numbers = re.findall(r'<li class="s\d[^>]*>\s*([\d.]+)<span>', from_tables)
    assert len(numbers) > 20 and "data:image" not in from_tables
    write_report(out, [finished / "in"])
    assert "data:image" in client(out).get(f"/{name}").text
    assert '<a href="index.html">' in client(out).get(f"/{name}").text and client(out).get("/index.html").is_success
    page = out / "report" / name
    page.write_text(page.read_text().replace("<style>", "<style>x{}"))
    assert "data:image" not in client(out).get(f"/{name}").text, "the page of another version"
    write_report(out, [finished / "in"])
    with (out / "slices.csv").open("a") as table:
        table.write("\n")
    assert "data:image" not in client(out).get(f"/{name}").text, "other results than the report's"


def test_looking_changes_no_file(finished: Path) -> None:
    out = finished / "out"
    write_report(out, [finished / "in"])
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.rglob("*") if path.is_file()}
    asked = client(out)
    for address in ("/", "/scanners.html", "/drift.html", "/files.html", "/" + page_name("1"), "/?sort=date"):
        asked.get(address)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in out.rglob("*") if path.is_file()} == before


def test_a_journal_of_anybody_names_no_threshold(out: Path) -> None:
    (out / "run.json").unlink()
    (out / "journal.jsonl").write_text(json.dumps({"identity": {"thresholds": {"study": "x"}}}) + "\n")
    assert "at a probability of" not in client(out).get("/").text

"""Pages of finished runs: what they say, what they never do, and which of them lie there."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pydicom
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.dicom.slice import SliceImage
from dtvit_edge.errors import ConfigError, MissingDependency
from dtvit_edge.report import templates
from dtvit_edge.report.files import page_name
from dtvit_edge.report.run_results import read_run
from dtvit_edge.report.study_view import MOST_CELLS, StackView, StripCell, bounded
from dtvit_edge.report.write import Report, write_report
from tests.support.made_once import made_once
from tests.support.scoring_runs import results, score

pytest.importorskip("jinja2")
HOSTILE = '1.2.<script>alert(1)</script>"\u202e'


@pytest.fixture(scope="session")
def finished(tiny_bundle: Bundle, phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with its report, beside the studies: one whole, one with a gap, and a file that is cut."""

    def make(folder: Path) -> None:
        shutil.copytree(phantom_folder, folder / "studies", ignore=shutil.ignore_patterns("truth.csv"))
        slices = sorted(
            (folder / "studies" / "study-0002").iterdir(),
            key=lambda f: float(pydicom.dcmread(f, stop_before_pixels=True).SliceLocation),
        )
        slices[9].unlink()
        slices[15].write_bytes(slices[15].read_bytes()[:9000])
        (folder / "studies" / "notes.txt").write_text("no image")
        score(tiny_bundle, folder / "studies", folder / "out", threshold=0.1)
        write_report(folder / "out", [folder / "studies"], tiny_bundle)

    return made_once(tmp_path_factory, "finished-run", make)


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def pages(out: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (out / "report").iterdir()}


def of_study(out: Path, name: str) -> str:
    """The page of the study whose slices are in this folder."""
    with (out / "slices.csv").open(newline="") as stream:
        uid = next(row["study_uid"] for row in csv.DictReader(stream) if row["path"].startswith(name))
    return (out / "report" / page_name(uid)).read_text()


def test_a_study_has_a_page_and_the_index_leads_to_it(finished: Path) -> None:
    found = pages(finished / "out")
    studies = [name for name in found if name.startswith("study-")]
    assert len(studies) == 2
    assert sorted(re.findall(r'<a href="(study-[^"]+)"', found["index.html"])) == sorted(studies)
    assert all('<a href="index.html">' in found[name] for name in studies)


def test_the_verdict_its_reason_and_what_was_left_out_come_first(finished: Path) -> None:
    page = of_study(finished / "out", "study-0002")
    first = page[page.index("<main id=") : page.index("</section>")]
    assert "Flagged" in first and "threshold of 0.1" in first and "asked for" in first
    assert "1 could not be read" in first and "A slice is missing" in first
    assert "trained on synthetic heads alone" in first


def test_images_are_in_order_with_number_and_colour_and_gaps_are_seen(finished: Path) -> None:
    page = of_study(finished / "out", "study-0002")
    cells = re.findall(r'<li class="(s\d|none)[^>]*>\s*([\d.–]+)<span>(-?\d+)</span>', page)
    with (finished / "out" / "slices.csv").open(newline="") as stream:
        rows = [r for r in csv.DictReader(stream) if r["path"].startswith("study-0002")]
    assert len(cells) == len(rows)
    assert [int(mm) for _, _, mm in cells] == sorted(int(mm) for _, _, mm in cells)
    assert sorted(p for _, p, _ in cells if p != "–") == sorted(
        f"{float(r['ich_probability']):.2f}" for r in rows if r["ich_probability"]
    )
    assert all((css == "none") == (p == "–") for css, p, _ in cells)
    assert all(css == "none" or int(css[1]) == min(int(float(p) * 10 + 1e-6), 9) for css, p, _ in cells)
    assert page.count('<li class="gap"') == 1 and page.count('<rect class="gap"') == 1
    assert len(re.findall('class="cross"', page)) == sum(p == "–" for _, p, _ in cells)


def test_maps_lie_beside_the_pictures_and_say_what_they_are(finished: Path) -> None:
    page = of_study(finished / "out", "study-0001")
    assert page.count('src="data:image/png;base64,') == 3
    assert page.count("<strong>Where hiding changes the answer</strong>") == 6
    assert "not where blood is" in page


def test_what_was_refused_or_skipped_stands_there_with_its_sentence(finished: Path) -> None:
    page = of_study(finished / "out", "study-0002")
    assert "The file ends before its pixel data do." in page
    assert "The file is not DICOM." in pages(finished / "out")["index.html"]


class Loads(HTMLParser):
    """Everything of a page that could make a browser load or run something."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "iframe", "object", "embed", "form", "base", "use", "image"):
            self.found.append(tag)
        for name, value in attrs:
            local = re.fullmatch(r"data:image/png;base64,[\w+/=]+|(index|study-)[\w.-]*\.html|#[\w-]+", value or "")
            if (
                name.startswith("on")
                or name == "style"
                or (name in ("src", "href", "srcset", "xlink:href") and not local)
            ):
                self.found.append(f"{tag} {name}={value}")


def test_a_page_loads_nothing_runs_nothing_and_allows_its_own_style_alone(finished: Path) -> None:
    for name, page in pages(finished / "out").items():
        loads = Loads()
        loads.feed(page)
        assert not loads.found, name
        style = page[page.index("<style>") + 7 : page.index("</style>")]
        assert page.count("<style>") == 1 and "@import" not in style
        assert not re.search(r"url\((?!#)", style)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
        assert "default-src &#39;none&#39;" in policy and f"style-src &#39;sha256-{digest}&#39;" in policy
        assert "unsafe" not in policy
        assert len(page) <= 1e6


def test_the_word_is_said_only_to_deny_it_and_every_page_has_the_notice(finished: Path) -> None:
    for page in pages(finished / "out").values():
        text = " ".join(page.split())
        assert len(re.findall(r"\bnormal\b", text, re.IGNORECASE)) == len(re.findall("is not a normal study", text)) > 0
        assert "Research use only, not a medical device" in text


def test_pages_change_no_byte_of_the_results(finished: Path, tiny_bundle: Bundle, tmp_path: Path) -> None:
    score(tiny_bundle, finished / "studies", tmp_path / "out", threshold=0.1)
    assert results(tmp_path / "out") == results(finished / "out")


def test_without_the_bundle_there_are_pictures_and_no_maps(run: Path) -> None:
    written = write_report(run / "out", [run / "studies"])
    assert written == Report(run / "out" / "report" / "index.html", 2, 2, 0, 0)
    page = of_study(run / "out", "study-0001")
    assert "the bundle was not given" in page and "data:image/png" in page


def test_where_the_files_have_gone_the_page_says_so(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_report(run / "out", [tmp_path / "empty"])
    page = of_study(run / "out", "study-0001")
    assert "Flagged" in page and "data:image" not in page


def test_a_map_is_left_out_where_the_model_answers_otherwise_now(run: Path, tiny_bundle: Bundle) -> None:
    table = (run / "out" / "slices.csv").read_text().splitlines()
    at = table[0].split(",").index("ich_probability")
    cells = [line.split(",") for line in table[1:]]
    changed = [[*c[:at], "0.9999" if c[at] else "", *c[at + 1 :]] for c in cells]
    (run / "out" / "slices.csv").write_text("\n".join([table[0], *(",".join(c) for c in changed)]) + "\n")
    assert write_report(run / "out", [run / "studies"], tiny_bundle).maps == 0
    assert "not as in the results" in of_study(run / "out", "study-0001")


def test_hostile_text_is_shown_as_text_and_names_no_file(run: Path) -> None:
    for name in ("studies.csv", "slices.csv"):
        text = (run / "out" / name).read_text()
        uid = re.search(r"^2\.25\.\d+", text, re.MULTILINE)
        assert uid
        text = text.replace(uid[0], '"' + HOSTILE.replace('"', '""') + '"')
        (run / "out" / name).write_text(text.replace("study-0001/", "<img src=x onerror=alert(1)>/"))
    write_report(run / "out", [run / "studies"])
    for name, page in pages(run / "out").items():
        loads = Loads()
        loads.feed(page)
        assert not loads.found
        assert "<script" not in page and "\u202e" not in page
        assert re.fullmatch(r"(index|study-[0-9a-f.]+)\.html", name)
    assert "1.2.&lt;script&gt;alert(1)&lt;/script&gt;&#34;\\u202e" in pages(run / "out")["index.html"]


@pytest.mark.parametrize(
    "uid", ["", "../../x", "1..2", "1.02", "2." * 40, "1.2\n", "１.2", "a", "1.2/../3", "-1.2"], ids=repr
)
def test_what_is_no_uid_names_its_page_by_a_digest(uid: str) -> None:
    assert re.fullmatch(r"study-[0-9a-f]{32}\.html", page_name(uid))
    assert page_name("1.2.840.10") == "study-1.2.840.10.html"


def test_pages_of_studies_that_are_gone_go_and_other_files_stay(run: Path) -> None:
    folder = run / "out" / "report"
    (folder / "study-1.2.3.html").write_text("")
    (folder / "notes.html").write_text("mine")
    write_report(run / "out", [run / "studies"])
    assert not (folder / "study-1.2.3.html").exists() and (folder / "notes.html").exists()


def test_a_uid_of_two_rows_has_no_page_and_the_index_says_why(run: Path) -> None:
    table = run / "out" / "studies.csv"
    lines = table.read_text().splitlines(keepends=True)
    table.write_text("".join([*lines, lines[1]]))
    written = write_report(run / "out", [run / "studies"])
    uid = lines[1].split(",")[0]
    assert written.studies == 1 and page_name(uid) not in pages(run / "out")
    index = pages(run / "out")["index.html"]
    assert index.count(f">{uid}<") == 2 and f">{uid}</a>" not in index
    assert index.count("studies.csv has more than one row of this UID") == 2


def test_many_studies_make_many_indices(run: Path) -> None:
    lines = (run / "out" / "studies.csv").read_text().splitlines()
    uid = lines[1].split(",")[0]
    more = [lines[1].replace(uid, f"1.2.{i}") for i in range(1200)]
    (run / "out" / "studies.csv").write_text("\n".join([*lines, *more]) + "\n")
    write_report(run / "out", [run / "studies"])
    found = pages(run / "out")
    assert {name for name in found if name.startswith("index")} == {"index.html", "index-2.html", "index-3.html"}
    assert '<a href="index-3.html">3</a>' in found["index.html"] and "1202 studies" in found["index-2.html"]


def test_columns_that_identify_a_study_are_shown_where_the_results_have_them(run: Path) -> None:
    lines = (run / "out" / "studies.csv").read_text().splitlines()
    lines[0] += ",accession_number"
    (run / "out" / "studies.csv").write_text("\n".join([lines[0], *(f"{line},<b>A7</b>" for line in lines[1:])]) + "\n")
    write_report(run / "out", [run / "studies"])
    assert "accession number" in pages(run / "out")["index.html"]
    assert "&lt;b&gt;A7&lt;/b&gt;" in of_study(run / "out", "study-0001")


def test_a_run_that_is_not_finished_or_another_bundles_is_refused(
    run: Path, tiny_bundle_without_location: Bundle
) -> None:
    with pytest.raises(ConfigError, match="a run of another bundle"):
        write_report(run / "out", [run / "studies"], tiny_bundle_without_location)
    (run / "out" / "run.json").unlink()
    with pytest.raises(ConfigError, match="holds no finished run"):
        write_report(run / "out", [run / "studies"])


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("run.json", '"thresholds"', '"other"'),
        ("run.json", "{", "["),
        ("run.json", '"value": 0.', '"value": 1' + "0" * 400),
        ("studies.csv", ",partial,", ",finished,"),
        ("studies.csv", "flagged", "flag"),
        ("slices.csv", ",scored,,0", ",scored,,7"),
        ("slices.csv", ",scored,,0", ",scored,,nan"),
    ],
)
def test_damaged_results_are_refused_in_words(run: Path, name: str, old: str, new: str) -> None:
    text = (run / "out" / name).read_text()
    assert old in text
    (run / "out" / name).write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=re.escape(name)):
        write_report(run / "out", [run / "studies"])


def test_score_writes_the_report_and_a_later_run_removes_what_no_longer_holds(
    run: Path, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in sorted((run / "studies").glob("study-*/*"))[8:]:
        file.unlink()
    asked = ["score", str(tiny_bundle.path), str(run / "studies"), "-o", str(run / "o"), "--backend", "onnxruntime"]
    assert main([*asked, "--report", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["files"][-1] == str(run / "o" / "report" / "index.html")
    assert main(asked) == 0
    assert (run / "o" / "report" / "index.html").exists(), "the same results, so that the pages still hold"
    assert main([*asked, "--overwrite", "--threshold", "0.9"]) == 0
    assert not list((run / "o" / "report").iterdir())
    assert main(["report", str(run / "o"), str(run / "studies"), "--bundle", str(tiny_bundle.path)]) == 0
    assert (run / "o" / "report" / "index.html").exists()


def test_a_watch_that_is_refused_leaves_the_pages_where_they_are(
    run: Path, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    before = pages(run / "out")
    asked = ["score", str(tiny_bundle.path), str(run / "studies"), "-o", str(run / "out"), "--watch", "1"]
    assert main([*asked, "--threshold", "0.9", "--backend", "onnxruntime"]) == 2
    assert "holds another run" in capsys.readouterr().err
    assert pages(run / "out") == before


def test_without_jinja2_a_run_stops_before_its_first_file(
    run: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    templates._environment.cache_clear()
    with pytest.raises(MissingDependency, match=r"pip install '\.\[report\]'"):
        templates.require()
    assert main(["score", str(tiny_bundle.path), str(run / "studies"), "-o", str(run / "o"), "--report"]) == 2
    assert not (run / "o").exists()


def test_a_finished_run_is_read_back_as_it_was_written(finished: Path) -> None:
    found = read_run(finished / "out")
    assert found.options.batch == 4 and found.threshold == (0.1, "asked for")
    rows = [row for _, group in found.slices_by_study() for row in group]
    assert sum(study.slices for study in found.studies) == sum(bool(row.study_uid) for row in rows)


def test_a_page_stays_below_a_megabyte_whatever_a_study_holds() -> None:
    cell = StripCell(SliceImage((), 1), 1, 0.0, 0.5, 5, "", "", None, 0)
    views = [StackView((cell,) * count, None, (), (), "", "", True) for count in (MOST_CELLS - 10, 1000, 5)]
    shown = bounded(views)
    assert [len(view.drawn) for view in shown] == [MOST_CELLS - 10, 10] and shown[1].hidden == 990


def test_of_equal_probabilities_the_highest_of_the_results_comes_first(run: Path) -> None:
    lines = (run / "out" / "slices.csv").read_text().splitlines()
    at = lines[0].split(",").index("ich_probability")
    cells = [line.split(",") for line in lines[1:]]
    even = [",".join([*c[:at], "0.5000" if c[at] else "", *c[at + 1 :]]) for c in cells]
    (run / "out" / "slices.csv").write_text("\n".join([lines[0], *even]) + "\n")
    found = read_run(run / "out")
    write_report(run / "out", [run / "studies"])
    page = of_study(run / "out", "study-0001")
    rows = {r.sop_uid: r for _, group in found.slices_by_study() for r in group if r.path.startswith("study-0001")}
    top = next(rows[study.top_sop_uid] for study in found.studies if study.top_sop_uid in rows)
    numbers = re.findall(r'alt="Slice in the brain window, place (\d+),', page)
    assert numbers[0] == str(top.place)

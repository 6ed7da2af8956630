"""Pages of results in a real browser: what people click, press and see, and what it never asks for elsewhere."""

from __future__ import annotations

import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.viewed_runs import study_line, write_tables

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytest.importorskip("jinja2")
pytest.importorskip("starlette", reason="starlette, of the extra `view`, is not installed")
pytest.importorskip("uvicorn", reason="uvicorn, of the extra `view`, is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
]
HOSTILE = "<script>document.title='run'</script>"
FIRST_PAGE_MS = 200
NOTHING_SCROLLS_SIDEWAYS = "[...document.querySelectorAll('.wide')].every(one => one.scrollWidth <= one.clientWidth)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Served:
    """An output folder that is served in this process."""

    def __init__(self, out: Path, **options: Any) -> None:
        import uvicorn

        from dtvit_edge.report.page_server import Pages, application

        self.out = out
        listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        app: Any = application(Pages(out), **options)
        self._server = uvicorn.Server(uvicorn.Config(app, ws="none", lifespan="off", log_config=None))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]}, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    lines = [
        study_line("1.1", flagged="1", probability="0.9", scanner="A", date="20260105", name=HOSTILE, path=HOSTILE),
        study_line("1.2", "partial", "gap", flagged="", probability="0.2", scanner="B", date="20260301"),
        study_line("1.3", flagged="0", probability="0.1", scanner="A", date="20260110"),
    ]
    found = Served(write_tables(tmp_path / "out", lines))
    yield found
    found.close()


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """A tab; what it asked for elsewhere, and what its console complained of, is nothing."""
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    yield page
    elsewhere = [url for url in asked if not re.match(r"http://127\.0\.0\.1:\d+/|data:image/png", url)]
    context.close()
    assert not elsewhere
    assert not [text for text in said if "favicon" not in text and "404" not in text and "40" not in text]


def rows(tab: Page) -> list[str]:
    return [text.strip() for text in tab.locator("table.sortable td.uid").all_inner_texts()]


def test_a_worklist_is_opened_sorted_chosen_from_and_leads_to_a_study(served: Served, tab: Page) -> None:
    tab.goto(served.address)
    assert rows(tab) == ["1.1", "1.2", "1.3"]
    tab.locator("th a", has_text="Date").click()
    assert rows(tab) == ["1.2", "1.3", "1.1"]
    tab.get_by_label("Scanner").select_option("A")
    tab.get_by_role("button", name="Show").click()
    assert sorted(rows(tab)) == ["1.1", "1.3"] and tab.get_by_text("2 of 3 studies").is_visible()
    tab.get_by_role("link", name="1.1").click()
    assert tab.locator(".verdict.flagged").is_visible()
    for title in ("Scanners", "Drift", "Files of no study", "Worklist"):
        tab.get_by_role("link", name=title).click()
        assert tab.locator("nav.menu a[aria-current]").inner_text() == title


def test_a_keyboard_is_enough(served: Served, tab: Page) -> None:
    tab.goto(served.address)
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"
    assert tab.locator("a.skip").bounding_box()["x"] >= 0  # type: ignore[index]
    for _ in range(40):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.textContent") == "1.1":
            break
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.keyboard.press("Enter")
    tab.wait_for_selector(".verdict.flagged")


def test_a_script_in_a_cell_is_text(served: Served, tab: Page) -> None:
    tab.goto(served.address)
    assert tab.get_by_text(HOSTILE).first.is_visible() and tab.title() == "1 of 3 studies flagged"
    tab.get_by_role("link", name="1.1").click()
    assert HOSTILE in tab.inner_text("body") and tab.title() != "run"


def test_a_run_under_way_grows_before_ones_eyes(served: Served, tab: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    from dtvit_edge.report import standing, worklist

    monkeypatch.setattr(worklist, "REFRESH_SECONDS", 1)
    monkeypatch.setattr(standing, "TIMES_THE_COST", 0.0)
    (served.out / "run.json").unlink()
    tab.goto(served.address)
    assert tab.get_by_text("This run has not ended.").is_visible()
    write_tables(served.out, [study_line(f"2.{i}", flagged="1", probability="0.9") for i in range(4)])
    tab.wait_for_selector("text=4 studies", timeout=10_000)
    tab.wait_for_selector("text=The run ended at", timeout=10_000)


def test_another_site_gets_nothing_and_a_token_opens_it_once(tmp_path: Path, browser: Browser) -> None:
    out = write_tables(tmp_path / "out", [study_line("1.1", flagged="1", probability="0.9")])
    served = Served(out, token="k" * 20)
    try:
        context = browser.new_context()
        page = context.new_page()
        answer = page.goto(served.address)
        assert answer is not None and answer.status == 401
        page.goto(f"{served.address}/?token={'k' * 20}")
        page.wait_for_selector("text=1.1", timeout=10_000)
        assert "token" not in page.url
        cookies = context.cookies()
        assert [c["httpOnly"] and c["sameSite"] for c in cookies] == ["Strict"]
        other = context.new_page()
        other.goto("data:text/html,<title>other</title>")
        other.set_content(f'<iframe src="{served.address}"></iframe><a id="to" href="{served.address}">x</a>')
        other.click("#to")
        other.wait_for_selector("text=Not from another site", timeout=10_000)
        context.close()
    finally:
        served.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(served: Served, browser: Browser, width: int, scheme: Any) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    for address in ("/", "/study-1.1.html", "/scanners.html", "/drift.html", "/files.html"):
        page.goto(served.address + address)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
        if "study" not in address:  # whose profile has a least width
            assert page.evaluate(NOTHING_SCROLLS_SIDEWAYS), address
    context.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_a_scanner_with_a_long_name_and_no_blank_is_no_wider_than_the_window(
    width: int, tmp_path: Path, browser: Browser
) -> None:
    # As long as Manufacturer and ManufacturerModelName (LO) may be.
    line = study_line("1.1", flagged="1", probability="0.9", scanner="W" * 64, date="20260105", name="A" * 16)
    served = Served(write_tables(tmp_path / "out", [line]))
    context = browser.new_context(viewport={"width": width, "height": 900})
    try:
        page = context.new_page()
        for address in ("/", "/study-1.1.html", "/scanners.html", "/drift.html", "/files.html"):
            page.goto(served.address + address)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, address
            assert "study" in address or page.evaluate(NOTHING_SCROLLS_SIDEWAYS), address
    finally:
        context.close()
        served.close()


def test_ten_thousand_studies_have_a_small_first_page_at_once(tmp_path: Path, tab: Page) -> None:
    many = [
        study_line(f"1.{i}", flagged=str(i % 2), probability=f"0.{i:04}", scanner=f"S{i % 7}") for i in range(10_000)
    ]
    served = Served(write_tables(tmp_path / "out", many))
    try:
        tab.goto(served.address)
        taken = []
        for address in ("/", "/?sort=date&page=100", "/?scanner=S3&find=99", "/study-1.5000.html", "/scanners.html"):
            begun = time.thread_time(), time.process_time(), time.perf_counter()
            answer = tab.request.get(served.address + address)
            assert answer.ok and len(answer.body()) < 200_000
            taken.append((address, time.process_time() - begun[1], time.perf_counter() - begun[2]))
        for address, cpu, wall in taken:
            print(f"{address}: {1000 * cpu:.0f} ms of CPU, {1000 * wall:.0f} ms")
        assert min(taken[0][1:]) * 1000 <= 5 * FIRST_PAGE_MS, "the machine may be busy"
    finally:
        served.close()

"""Who may look at pages of results, and what an address, a header or a cell can do: nothing but show a page."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.support.viewed_runs import client, study_line, write_tables

pytest.importorskip("jinja2")
pytest.importorskip("starlette", reason="starlette, of the extra `view`, is not installed")

TOKEN = "k" * 20
HOSTILE = '1.2.<script>alert(1)</script>"\u202e'


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = [study_line("1.1", flagged="1", probability="0.9")]
    return write_tables(tmp_path_factory.mktemp("viewed") / "out", lines)


@pytest.mark.parametrize(
    "address",
    ["/../run.json", "/%2e%2e/run.json", "/..%2frun.json", "/run.json", "/report/index.html", "/studies.csv",
     "//etc/passwd", "/study-1.1.html/x", "/study-1.1.html%00", "/study-..%2f..%2frun.json.html", "/study-.html",
     "/%ff%fe", "/\u00e4",
     "/.lock", "/study-1.2.html"],
)  # fmt: skip
def test_an_address_leads_to_a_page_of_ours_or_nowhere(out: Path, address: str) -> None:
    answer = client(out).get(address, follow_redirects=False)
    assert answer.status_code == 404 and "No such page" in answer.text
    assert "study_uid" not in answer.text and "finished" not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
def test_nothing_can_be_sent(out: Path, method: str) -> None:
    answer = client(out).request(method, "/")
    assert answer.status_code == 405 and answer.headers["allow"] == "GET, HEAD"


def test_a_head_is_the_answer_without_its_page(out: Path) -> None:
    answer = client(out).head("/")
    assert answer.status_code == 200 and not answer.content and int(answer.headers["content-length"]) > 1000


@pytest.mark.parametrize("status", [200, 404, 405, 421, 403, 401])
def test_every_answer_has_the_headers(out: Path, status: int) -> None:
    asked = client(out, token=TOKEN if status == 401 else None)
    answer = {
        200: lambda: asked.get("/"),
        404: lambda: asked.get("/x"),
        405: lambda: asked.post("/"),
        421: lambda: asked.get("/", headers={"host": "evil.example"}),
        403: lambda: asked.get("/", headers={"sec-fetch-site": "cross-site"}),
        401: lambda: asked.get("/"),
    }[status]()
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-") and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "script-src" not in policy and "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("127.0.0.1:8417", True),
        ("127.0.0.1", True),
        ("127.8.8.8:1", True),
        ("localhost:9000", True),
        ("LOCALHOST", True),
        ("[::1]:8417", True),
        ("[::1]", True),
        ("evil.example", False),
        ("localhost.evil.example:8417", False),
        ("127.0.0.1.evil.example", False),
        ("192.168.1.4:8417", False),
        ("localhost:x", False),
        ("", False),
        ("[::1", False),
        ("127.0.0.1@evil", False),
    ],
)
def test_a_name_that_somebody_leads_here_is_refused(out: Path, host: str, is_ours: bool) -> None:
    assert client(out).get("/", headers={"host": host}).status_code == (200 if is_ours else 421)


def test_where_others_may_look_addresses_and_given_names_are_taken(out: Path) -> None:
    asked = client(out, names=("ct1.clinic",), token=TOKEN, only_loopback=False)
    for host, status in (("192.168.1.4:8417", 401), ("ct1.clinic", 401), ("evil.example", 421)):
        assert asked.get("/", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 403),
        ({"sec-fetch-site": "something"}, 403),
        ({"origin": "http://127.0.0.1:8417"}, 200),
        ({"origin": "http://127.0.0.1:80"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
    ],
)
def test_a_page_of_another_origin_gets_nothing(out: Path, headers: dict[str, str], status: int) -> None:
    assert client(out).get("/", headers=headers).status_code == status


def test_an_address_without_end_is_refused(out: Path) -> None:
    assert client(out).get("/?find=" + "a" * 5000).status_code == 414
    assert client(out).get("/" + "a" * 5000).status_code == 414
    assert client(out).get("/?" + "&".join(f"a{i}=1" for i in range(500))).status_code == 200


def test_the_token_is_asked_for_once_and_kept_as_a_cookie(out: Path) -> None:
    asked = client(out, token=TOKEN)
    for wrong in ("/", "/?token=", f"/?token={TOKEN}x", f"/?token={TOKEN[:-1]}", "/study-1.1.html", "/?token=%ff"):
        answer = asked.get(wrong)
        assert answer.status_code == 401 and "study-1.1" not in answer.text and TOKEN not in answer.text
    entered = asked.get(f"/?token={TOKEN}")
    cookie = entered.headers["set-cookie"]
    assert entered.status_code == 200 and '<a href="/">' in entered.text and "study-1.1" not in entered.text
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
    assert TOKEN not in cookie
    assert "study-1.1.html" in asked.get("/").text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": f"Bearer {TOKEN}"}, 200),
        ({"authorization": f"bearer {TOKEN}"}, 200),
        ({"authorization": f"Bearer {TOKEN}1"}, 401),
        ({"authorization": f"Basic {TOKEN}"}, 401),
        ({"cookie": f"dtvit_view={TOKEN}"}, 401),
        ({"cookie": "dtvit_view=\xe4"}, 401),
        ({"cookie": "dtvit_view"}, 401),
        ({"cookie": "=;;=\x01,dtvit_view=a; b=c"}, 401),
    ],
)
def test_a_header_may_carry_the_token_and_a_cookie_its_digest_alone(
    out: Path, headers: dict[str, str], status: int
) -> None:
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    assert client(out, token=TOKEN).get("/", headers=raw).status_code == status


class Loads(HTMLParser):
    """What a page could load, run or send."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "iframe", "object", "embed", "base", "img", "b1"):
            self.found.append(tag)
        for name, value in attrs:
            local = re.fullmatch(r"(#[\w-]+|/[\w.?&=%+-]*)", value or "") and not (value or "").startswith("//")
            if name.startswith("on") or name == "style" or (name in ("src", "href", "action") and not local):
                self.found.append(f"{tag} {name}={value}")


def test_hostile_cells_are_shown_as_text(tmp_path: Path) -> None:
    lines = [
        study_line(HOSTILE, flagged="1", probability="0.9", scanner="<b1>\u202e", path="<img src=x onerror=a()>",
                   name="<script>alert('name')</script>"),
        study_line("javascript:alert(1)", "partial", "<script>", flagged="", probability="0.3", scanner="=cmd()"),
    ]  # fmt: skip
    asked = client(write_tables(tmp_path / "out", lines))
    first = asked.get("/").text
    names = re.findall(r'<a href="(/study-[^"]+)"', first)
    assert len(names) == 2 and all(re.fullmatch(r"/study-[0-9a-f]{32}\.html", name) for name in names)
    for address in ("/", "/scanners.html", "/drift.html", "/files.html", *names, "/?find=<script>&scanner=%22onx=%22",
                    "/?find=%E2%80%AE%00%0a"):  # fmt: skip
        answer = asked.get(address)
        loads = Loads()
        loads.feed(answer.text)
        assert answer.status_code == 200 and not loads.found, address
        assert "<script" not in answer.text and "\u202e" not in answer.text
    assert "&lt;script&gt;alert(&#39;name&#39;)&lt;/script&gt;" in first
    assert "&lt;img src=x onerror=a()&gt;" in asked.get(names[0]).text


def test_an_error_of_the_program_says_nothing_of_the_tables(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dtvit_edge.report import page_server

    def broken(*given: object) -> str:
        raise RuntimeError("study 1.1 of Jane Doe")

    asked = client(out)
    monkeypatch.setattr(page_server, "worklist_page", broken)
    answer = asked.get("/")
    assert answer.status_code == 500 and "Jane" not in answer.text and "error of the program" in answer.text

"""What text from files becomes on its way to a terminal, a log, a CSV or a report."""

from __future__ import annotations

import re

import pytest

from dtvit_edge import escaping

HOSTILE = {
    "colour": "a\x1b[31mb",
    "title": "a\x1b]0;owned\x07b",
    "c1": "a\x9b31mb",
    "carriage return": "evil\rgood",
    "line": "a\nERROR b",
    "override": "exe.\u202egnp",
    "isolate": "a\u2066b\u2069",
    "separator": "a\u2028b",
    "surrogate": "a\udcffb",
}
_OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_that_would_be_obeyed_is_left(name: str) -> None:
    text = HOSTILE[name]
    for sink in (escaping.one_line, escaping.csv_cell):
        assert not _OBEYED.search(sink(text)) and "\n" not in sink(text)
    for sink in (escaping.lines, escaping.markdown):
        assert not _OBEYED.search(sink(text))
    escaping.one_line(text).encode("utf-8")


def test_what_people_write_stays() -> None:
    for text in ("Schädel nativ 5 mm", "頭部CT", "רגיל", "a\\b", "x_1", ""):
        assert escaping.one_line(text) == escaping.csv_cell(text) == text


def test_a_forged_line_of_a_message_is_indented() -> None:
    assert escaping.lines("a\nerror: b\n    c\n") == "a\n  error: b\n    c\n"


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "[x](javascript:alert(1))", "[x]: javascript:alert(1)", "![x](http://a/b)",
             "<img src=x onerror=alert(1)>", "\\[x](javascript:1)", "`` ` <script> `"],
)  # fmt: skip
def test_no_tag_link_or_picture_is_left_of_a_text_in_markdown(text: str) -> None:
    assert not set("<>[]\\") & set(escaping.markdown(text))

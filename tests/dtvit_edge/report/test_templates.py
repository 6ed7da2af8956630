"""What every page has in common, whatever a text may hold."""

from __future__ import annotations

import re
from html import unescape

import pytest

from dtvit_edge.report.templates import page
from tests.dtvit_edge.test_escaping import HOSTILE

pytest.importorskip("jinja2")


def shown(text: str) -> str:
    return page("document.html", title=text, warning="", summaries=((text, (text,)),), parts=(("paragraph", text),))


@pytest.mark.parametrize("name", HOSTILE)
def test_nothing_that_a_browser_or_reader_would_obey_is_left(name: str) -> None:
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", shown(HOSTILE[name]))
    shown(HOSTILE[name]).encode("utf-8")


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "\" onload='x' <b>", "</title><style>*{}</style>", "{{ 7 * 7 }}"]
)
def test_markup_is_shown_as_text(text: str) -> None:
    made = shown(text)
    assert made.count("<script") == 0 and made.count("<style>") == 1 and "onload='" not in made
    assert unescape(made).count(text) == 5  # its title, heading, summary's heading and sentence, and paragraph


def test_what_people_write_stays() -> None:
    for text in ("Schädel nativ 5 mm", "頭部CT", "רגיל"):
        assert text in shown(text)

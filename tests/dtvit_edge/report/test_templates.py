"""What every page has in common, whatever a text may hold."""

from __future__ import annotations

import re
from html import unescape

import pytest

from dtvit_edge.report import templates
from dtvit_edge.report.templates import page
from tests.dtvit_edge.test_escaping import HOSTILE

pytest.importorskip("jinja2")
# The least contrast of text, and of what else has to be seen (WCAG 2.1, 1.4.3 and 1.4.11).
TEXT, GRAPHICS = 4.5, 3.0


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


def test_text_has_contrast_and_the_scale_grows_steadily_in_both_themes() -> None:
    style = templates._style()
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.S)[:2]
    )
    inks = re.findall(r"\.(s\d) \{[^}]*; color: var\(--([\w-]+)\)", style)
    assert len(inks) == 10
    for theme in (light, dark):
        for ink in ("ink", "quiet", "accent"):
            assert min(contrast(theme[ink], theme[back]) for back in ("paper", "raised")) >= TEXT, ink
        assert contrast(theme["accent-ink"], theme["accent"]) >= TEXT
        assert min(contrast(theme["line-strong"], theme[back]) for back in ("paper", "raised")) >= GRAPHICS
        for level, ink in inks:
            assert contrast(theme[level], theme[ink]) >= TEXT, level
        steps = [luminance(theme[f"s{i}"]) for i in range(10)]
        # One hue whose lightness alone grows: it survives every kind of colour blindness, and print.
        assert steps in (sorted(steps), sorted(steps, reverse=True))


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.1)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(a: str, b: str) -> float:
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)

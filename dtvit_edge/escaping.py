"""Text from files, made harmless for where it goes: one function for each sink.

A UID, a description, a file's name or a manifest may hold whatever its writer liked: sequences that a terminal obeys,
line ends that begin a forged line of a log, marks that reverse the order of what is read, formulas, markup.

| sink | function |
|---|---|
| a line or cell on the terminal, a line of a log | `one_line` |
| words of several lines on the terminal | `lines` |
| a cell of a CSV that people open | `csv_cell` |
| a title, cell, note or paragraph of a Markdown report | `markdown` |
| an HTML page | `report.templates.page`, whose templates escape every value |
"""

from __future__ import annotations

import re

# C0, DEL and C1; line and paragraph separators; marks, embeddings, overrides and isolates of writing direction (UAX
# #9); the byte order mark; lone surrogates: bytes of a file's name that are no UTF-8, which cannot be written as such.
_OBEYED = "\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
_IN_A_LINE = re.compile(f"[{_OBEYED}]")
# A spreadsheet would run a cell that begins with one of these (OWASP, CSV injection).
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
# As references a reader sees the same signs, and no link, image, tag or reference begins with them.
_MARKDOWN = str.maketrans({sign: f"&#{ord(sign)};" for sign in "&<>[]\\"})


def one_line(text: str) -> str:
    r"""Text that stands on one line and is shown as it is: what would be obeyed is spelled, as `\x1b` or `\u202e`."""
    return _IN_A_LINE.sub(_spelled, text)


def lines(text: str) -> str:
    """The same for several lines; those after the first are indented, so that none passes for a new message."""
    first, *more = (one_line(line) for line in text.split("\n"))
    return "\n".join([first, *(line if line.startswith("  ") or not line else f"  {line}" for line in more)])


def csv_cell(text: str) -> str:
    """Text that stands on one line and that no spreadsheet takes for a formula."""
    return ("'" if text.startswith(_FORMULA_STARTS) else "") + one_line(text)


def markdown(text: str) -> str:
    """Text without links, pictures or HTML of its own; headings, emphasis and code keep their meaning.

    Line ends stay: what must not have any goes through `one_line` first.
    """
    return "\n".join(one_line(line).translate(_MARKDOWN) for line in text.split("\n"))


def _spelled(character: re.Match[str]) -> str:
    return character[0].encode("unicode_escape").decode("ascii")

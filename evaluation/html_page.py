"""A report as one HTML file with everything in it, in the look of the runtime's pages: nothing is loaded or run."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence

import matplotlib
from matplotlib.figure import Figure

from dtvit_edge.report.templates import page as filled
from dtvit_edge.report.templates import safe
from evaluation.plots import Plot
from evaluation.tables import Table

Part = tuple[str, object]  # what it is, and what the template takes


def page(title: str, notice: str, summaries: Sequence[tuple[str, Sequence[str]]],
         parts: Sequence[Table | Plot | str]) -> str:  # fmt: skip
    """The whole page.

    Args:
        notice: below the title, before anything else.
        summaries: heading and sentences; parts: in order, a text being headings (`#` to `###`), lists of `-` and
            paragraphs of Markdown.
    """
    drawn = [part for source in parts for part in _parts(source)]
    return filled("document.html", style_attributes=True, title=title, warning=notice, summaries=summaries, parts=drawn)


def svg(figure: Figure, salt: str) -> str:
    """A figure as an inline SVG element, without the prologue that names a DTD elsewhere.

    Args:
        salt: makes its ids differ from those of the page's other figures.
    """
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawn = text.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    # Matplotlib's one style element, which the page's policy would not apply: `stroke-linejoin` and `stroke-linecap`.
    drawn = re.sub(r"<style[^>]*>.*?</style>", "", drawn, flags=re.DOTALL)
    # Two figures on a page must not share an id, or one draws with the other's clip paths and letters.
    drawn = re.sub(r'\bid="', f'id="{salt}-', drawn)
    return re.sub(r'(xlink:href="|url\()#', rf"\g<1>#{salt}-", drawn)


def _parts(part: Table | Plot | str) -> Iterator[Part]:
    if isinstance(part, Table):
        yield "table", part
    elif isinstance(part, Plot):
        yield "plot", {"plot": part, "svg": safe(svg(part.figure, re.sub(r"\W+", "-", part.name)))}
    else:
        for block in part.split("\n\n"):
            if block.strip():
                yield _block(block.strip())


def _block(block: str) -> Part:
    if heading := re.fullmatch(r"(#{1,3}) (.*)", block):
        return f"h{max(len(heading[1]), 2)}", heading[2]
    if block.startswith("- "):
        return "list", [item.replace("\n", " ").replace("**", "") for item in block.removeprefix("- ").split("\n- ")]
    return "paragraph", block

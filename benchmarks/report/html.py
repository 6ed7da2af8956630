"""One HTML file with everything in it: no script, no font, no picture from elsewhere, every text escaped."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure

from dtvit_edge.escaping import html as escape
from evaluation.plots import Plot
from evaluation.tables import Table

# Texts of HTML pages may load nothing: whatever a text or a picture may hold, a browser fetches nothing for it.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; background: #fff; max-width: 68rem; margin: 0 auto;
  padding: 1.5rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; margin: 2.6rem 0 .6rem; border-bottom: 2px solid #d5dde5; padding-bottom: .2rem; }
h3 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
.notice { background: #fff4e5; border-left: 4px solid #d9822b; padding: .6rem .9rem; margin: 1rem 0; }
.summary { background: #eef4fa; border-left: 4px solid #2b6cb0; padding: .7rem .9rem .7rem 1.9rem; margin: .6rem 0; }
.summary li { margin: .2rem 0; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .28rem .7rem .28rem 0; border-bottom: 1px solid #e3e9ef; }
th { font-weight: 600; border-bottom: 2px solid #b9c6d3; }
ul.notes { color: #52606d; font-size: .8rem; padding-left: 1.1rem; margin: .5rem 0 0; overflow-wrap: anywhere; }
figure { margin: 1rem 0 0; }
figure svg { max-width: 100%; height: auto; }
"""


def page(title: str, notice: str, summaries: Sequence[tuple[str, Sequence[str]]],
         parts: Sequence[Table | Plot | str]) -> str:  # fmt: skip
    """The whole page.

    Args:
        summaries: heading and sentences; parts: in order, a text being `## HEADING` or `### HEADING` and paragraphs.
    """
    body = [f"<h1>{escape(title)}</h1>", f'<p class="notice">{escape(notice)}</p>']
    for heading, sentences in summaries:
        items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
        body.append(f'<h2>{escape(heading)}</h2><ul class="summary">{items}</ul>')
    body += [_part(part) for part in parts]
    lines = "\n".join(body)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n{lines}\n</body></html>\n"
    )


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
    # Two figures on a page must not share an id, or one draws with the other's clip paths and letters.
    drawn = re.sub(r'\bid="', f'id="{salt}-', drawn)
    return re.sub(r'(xlink:href="|url\()#', rf"\g<1>#{salt}-", drawn)


def _part(part: Table | Plot | str) -> str:
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Plot):
        drawn = svg(part.figure, re.sub(r"\W+", "-", part.name))
        return f"<h3>{escape(part.title)}</h3><figure>{drawn}</figure>{_notes(part.notes)}"
    return "".join(_paragraph(block) for block in part.split("\n\n") if block.strip())


def _paragraph(block: str) -> str:
    for mark, tag in (("### ", "h3"), ("## ", "h2")):
        if block.startswith(mark):
            return f"<{tag}>{escape(block.removeprefix(mark).strip())}</{tag}>"
    return f"<p>{escape(block.strip())}</p>"


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    drawn = f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    return f"<h3>{escape(table.title)}</h3>{drawn}{_notes(table.notes)}"


def _notes(notes: Sequence[str]) -> str:
    if not notes:
        return ""
    coded = [re.sub("`([^`]*)`", r"<code>\1</code>", escape(note)) for note in notes]
    items = "".join(f"<li>{note}</li>" for note in coded)
    return f'<ul class="notes">{items}</ul>'

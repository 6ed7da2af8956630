"""Pages from templates: every text escaped, one style sheet, nothing loaded and nothing run.

A page's policy names its own style sheet by digest, so that a browser applies no other, whatever a text may hold.
"""

from __future__ import annotations

import base64
import hashlib
from functools import lru_cache
from importlib.resources import files
from typing import Any

from dtvit_edge.environment import install_line
from dtvit_edge.errors import MissingDependency
from dtvit_edge.escaping import one_line
from dtvit_edge.spec import NOTICE

STYLE = "report.css"


def page(template: str, *, style_attributes: bool = False, forms: bool = False, **values: Any) -> str:
    """A whole page of HTML.

    Args:
        template: a file of `templates/`.
        style_attributes: elements may have styles of their own, as matplotlib's SVG does.
        forms: the page has a form that asks the server which it came from.

    Raises:
        MissingDependency: jinja2 is not installed.
    """
    digest, allowed = style_digest(), policy(forms=forms)
    if style_attributes:
        allowed += f"; style-src-elem 'sha256-{digest}'; style-src-attr 'unsafe-inline'"
    values = {"here": "", "refresh": 0} | values
    text: str = (
        _environment()
        .get_template(template)
        .render(policy=allowed, style=_markup(_style()), notice=f"{NOTICE[0].upper()}{NOTICE[1:]}.", **values)
    )
    return text


def policy(*, forms: bool = False) -> str:
    """What a page may load and run: its own style sheet, pictures that it holds, and nothing else."""
    to = "'self'" if forms else "'none'"
    return f"default-src 'none'; style-src 'sha256-{style_digest()}'; img-src data:; base-uri 'none'; form-action {to}"


@lru_cache(maxsize=1)
def style_digest() -> str:
    """The SHA-256 of the style sheet, in base64."""
    return base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode("ascii")


def require() -> None:
    """Raise `MissingDependency` where the templates cannot be filled in."""
    _environment()


def safe(html: str) -> Any:
    """HTML that was made of escaped text, for a template to take as it is."""
    return _markup(html)


@lru_cache(maxsize=1)
def _style() -> str:
    # The digest is of what stands between the tags; a browser normalises line ends before it compares.
    return (files("dtvit_edge.report") / "templates" / STYLE).read_text(encoding="utf-8").replace("\r\n", "\n")


@lru_cache(maxsize=1)
def _environment() -> Any:
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingDependency(
            f"jinja2 is not installed, and reports are made with it; {install_line('report')}"
        ) from error
    return Environment(
        loader=PackageLoader("dtvit_edge.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # What is escaped for HTML may still reverse the order of what is read, or end a line.
        finalize=lambda value: one_line(value) if type(value) is str else value,
    )


def _markup(html: str) -> Any:
    _environment()
    from markupsafe import Markup

    return Markup(html)

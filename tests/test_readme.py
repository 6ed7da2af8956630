"""README's tables and figures are what the code and the records say; `test_docs` has its commands and links."""

from __future__ import annotations

import re

import pytest

from benchmarks.report.figures_page import tables
from benchmarks.results import CPU_RECORDS
from evaluation.records import latest
from tests.support.data import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(tables()))
def test_tables_are_what_code_and_records_say(name: str) -> None:
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", README, re.DOTALL)
    assert found is not None
    assert found.group(1) == tables()[name], "python -m benchmarks.report.figures_page writes it anew"


def test_the_figures_have_records() -> None:
    from benchmarks.measure import slice_cost
    from benchmarks.standalone import graph_rewrites, startup

    for module in (graph_rewrites, slice_cost, startup):
        assert latest(CPU_RECORDS, module.WHAT) is not None, module.__name__

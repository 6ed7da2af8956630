from __future__ import annotations

import csv
from pathlib import Path

from evaluation.tables import Table, csv_text

TABLE = Table("t", "A table", ("model", "accuracy"), (("a|b", "0.5 (0.4 to 0.6)"), ("c", "not assessed")), ("seed 0",))


def test_a_table_is_written_as_text_and_as_numbers_with_its_notes(tmp_path: Path) -> None:
    TABLE.write(tmp_path)
    with (tmp_path / "t.csv").open(newline="") as stream:
        assert list(csv.reader(stream)) == [list(TABLE.columns), *map(list, TABLE.rows)]
    text = (tmp_path / "t.md").read_text()
    assert "### A table" in text and "| a\\|b | 0.5 (0.4 to 0.6) |" in text and "- seed 0" in text


def test_texts_of_files_are_no_markup_and_no_formula() -> None:
    evil = "<script>|[x](javascript:alert(1))\n# forged\x1b[31m"
    text = Table("t", evil, (evil, "b"), ((evil, "c"),), (evil,)).markdown()
    assert not set("<>[]\x1b") & set(text) and "\n# forged" not in text and len(text.splitlines()) == 7
    assert csv_text(("a", "b", "c"), [("=1+1", "-0.25", -0.5), ("\x1b[31m\n", "", 3)]).splitlines()[1:] == [
        "'=1+1,-0.25,-0.5",
        "\\x1b[31m\\n,,3",
    ]

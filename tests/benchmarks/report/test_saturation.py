"""What fills up first, from records."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from benchmarks.report.saturation import INT8, parts, saturation_table
from benchmarks.standalone import driver_memory
from evaluation.records import Record


def view(title: str, milliseconds: float, threads: int | None = 1) -> Any:
    return SimpleNamespace(
        title=title, threads=threads, passed={INT8: None}, median_ms=lambda configuration: milliseconds
    )


DRIVER = Record(driver_memory.WHAT, "MiB", {"32 files": [1.0]}, {"us a slice": 500.0}, {}, {})


def test_parts_stand_in_the_order_in_which_they_fill_up_and_shared_ones_say_how_many_cores_do_it() -> None:
    rows = saturation_table([view("large", 100), view("small", 1)], [DRIVER]).strip().splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells == [
        ["a core that infers, large, int8", "10", "", ""],
        ["a network of 1 Gbit/s", "238", "24", "0.2"],
        ["a core that infers, small, int8", "1,000", "", ""],
        ["the driver, one core", "2,000", "200", "2.0"],
        ["a network of 10 Gbit/s", "2,384", "238", "2.4"],
    ]


def test_runs_on_more_than_a_core_say_nothing_of_one() -> None:
    assert not [part for part in parts([view("all", 5, None)], []) if "infers" in part.name]

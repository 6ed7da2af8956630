"""The report's table of the bedside's time."""

from __future__ import annotations

import statistics

from benchmarks.report.run_view import RunView
from benchmarks.results import names
from evaluation.tables import Table


def bedside(view: RunView) -> Table | None:
    """Seconds from a study's last image to its SR in the PACS."""
    record = view.records.get(names.BEDSIDE)
    if record is None:
        return None
    rows = tuple(
        (configuration, str(len(values)), f"{statistics.median(values):.2f}", f"{max(values):.2f}")
        for configuration, values in record.samples.items()
    )
    columns = ("configuration", "studies", "from the last image to the SR, s (median)", "longest, s")
    notes = (f"{record.options['images']} images a study; {record.options['inside']}",)
    return Table("bedside", f"At the bedside: {view.title}", columns, rows, notes)

"""The committed records, one JSON line a measurement, and the names that their writers and readers share."""

from __future__ import annotations

from pathlib import Path

import click

from dtvit_edge.cli.option_set import Decorator

FOLDER = Path(__file__).parent
CPU_RECORDS = FOLDER / "cpu.jsonl"
BENCH_RECORDS = FOLDER / "bench.jsonl"
GATE_RECORDS = FOLDER / "gate.jsonl"
EVALUATION_RECORDS = FOLDER / "paper.jsonl"
ENCODER_RECORDS = FOLDER / "encoders.jsonl"


def record_option(records: Path = CPU_RECORDS) -> Decorator:
    """The option `--out` of a measurement: the file to which its record is appended; it takes `out`."""
    return click.option(
        "--out",
        default=records,
        show_default=True,
        type=click.Path(path_type=Path, dir_okay=False),
        help="Append the record to this file.",
    )

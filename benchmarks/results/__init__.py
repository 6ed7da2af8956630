"""The committed records, one JSON line a measurement, and the names that their writers and readers share."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
CPU_RECORDS = FOLDER / "cpu.jsonl"

"""The committed records, one JSON line a measurement, and the names that their writers and readers share."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent
CPU_RECORDS = FOLDER / "cpu.jsonl"
BENCH_RECORDS = FOLDER / "bench.jsonl"
GATE_RECORDS = FOLDER / "gate.jsonl"
EVALUATION_RECORDS = FOLDER / "paper.jsonl"
ENCODER_RECORDS = FOLDER / "encoders.jsonl"
GPU_RECORDS = FOLDER / "gpu.jsonl"

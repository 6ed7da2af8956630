"""Tables of what gpu-check measured, from records made up here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.gpu_check import engines, faults, kernel, machine, studies
from benchmarks.gpu_check.stages import WHAT_PYTORCH
from benchmarks.report.gpu_tables import accuracy_table, engine_table, gpu_part, kernel_table
from dtvit_edge.preprocess.kernel import SPREAD
from evaluation.records import Record, append

ABOUT = {"encoder": "vit", "training": "untrained", "precision": "fp16", "stage": "speed-fp16"}
BUNDLE = {"bundle": "b" * 64}
MACHINE = {"gpu": "A GPU", "library": "TensorRT 8.6.0", "compilers": "nvcc; NVRTC", "stage": "machine"}


def timed(way: bool, us: float, stage: str = "kernel") -> Record:
    samples = {"batch 8": [us, us, 9 * us]} | {f"batch 8: {entry}": [us / 4] for entry in SPREAD if way}
    options = {"stage": stage, "way": kernel.WAYS[way], "matrix": [512, 512]}
    return Record(kernel.WHAT_TIME, "us", samples, {}, {}, options)


def speed(batch: int, ms: float, **more: Any) -> Record:
    summary = {f"engine {batch}: p50 ms": ms, f"executor {batch}: p50 ms": ms + 1}
    summary |= {f"executor {batch}: slices a second": 1e3 * batch / (ms + 1)}
    return Record(engines.WHAT_SPEED, "ms", {"engine": [ms]}, summary, BUNDLE, ABOUT | {"batch": str(batch)} | more)


def rows(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


BUILT = Record(engines.WHAT_BUILD, "s", {"build": [7.0]}, {"seconds": 7.0}, BUNDLE, {"precision": "fp16"})
BYTES_OF = {"slices": 20.0, "too many runs": 1.0, "slices that differ": 1.0}
BYTES = Record(kernel.WHAT_BYTES, "us", {"a": [1.0]}, BYTES_OF, {}, {})
PYTORCH = Record(
    WHAT_PYTORCH,
    "ms",
    {"eager": [6.0], "torch.compile": [4.0], "CUDA graph": [1.0, 2.0, 9.0]},
    {},
    BUNDLE,
    {"batch": 8},
)


def test_a_batch_is_told_both_ways_by_its_median_and_launches_of_the_whole_batch() -> None:
    table = kernel_table([timed(True, 2.0), timed(False, 5.0), timed(True, 3.0, "kernel-capped"),
                          timed(False, 6.0, "kernel-capped"), BYTES])  # fmt: skip
    assert rows(table) == [
        ["512 x 512", "shared memory", "8", "2.00", "5.00", "4.0", "4.0", "4.0"],
        ["512 x 512", "global memory", "8", "3.00", "6.00", "6.0", "6.0", "6.0"],
    ]
    assert "19 times a slice (the same ones by each way and compiler): 1 differ. 1 of noise had" in table


def test_engines_stand_beside_pytorch_where_it_ran_the_same_batch_of_the_same_bundle() -> None:
    made = rows(engine_table([BUILT, speed(1, 1.0), speed(8, 3.0, computes_in="fp32"), PYTORCH]))
    assert made == [
        ["vit (untrained)", "fp16", "1", "1.000", "2.000", "500", "7", "", "", ""],
        [
            "vit (untrained)",
            "fp16 asked, computed in fp32",
            "8",
            "3.000",
            "4.000",
            "2,000",
            "7",
            "6.000",
            "4.000",
            "2.000",
        ],
    ]


def test_accuracy_names_the_model_and_what_faults_left() -> None:
    golden = {"slices": 12.0, "differing bytes": 0.0, "worst": 0.0035, "tolerance": 0.009}
    decided = {"slices": 194.0, "flips": 2.0, "largest difference": 0.25}
    memory = {"batch before": 64.0, "batch after": 16.0, "largest difference": 0.0}
    fault = {"status": 5.0, "rows": 201.0, "from the journal": 4.0}
    precision = {"precision": "fp16"}
    table = accuracy_table([
        speed(1, 1.0),
        Record(engines.WHAT_GOLDEN, "logit", {"a": [0.1]}, golden, BUNDLE, precision),
        Record(studies.WHAT, "probability", {"a": [0.1]}, decided, BUNDLE, precision),
        Record(faults.WHAT_MEMORY, "logit", {"a": [0.1]}, memory, BUNDLE, {}),
        Record(faults.WHAT_FAULT, "rows", {"a": [0.1]}, fault, {}, precision),
    ])  # fmt: skip
    assert rows(table) == [["vit (untrained)", "fp16", "12", "0", "0.0035", "0.009", "194", "2", "0.25"]]
    assert "from 64 to 16" in table and "status 5; the rerun takes 4 of 201 rows" in table


def test_without_records_the_page_says_that_nothing_was_measured(tmp_path: Path) -> None:
    assert "Nothing has been measured" in gpu_part(tmp_path / "none.jsonl")
    for record in (Record(machine.WHAT, "bytes", {"free": [1.0]}, {}, {}, MACHINE), BUILT, speed(8, 3.0), BYTES):
        append(tmp_path / "gpu.jsonl", record)
    assert "A GPU, TensorRT 8.6.0, kernel by nvcc, 20" in gpu_part(tmp_path / "gpu.jsonl")

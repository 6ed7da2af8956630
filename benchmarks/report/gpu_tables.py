"""What `make gpu-check` measured on a GPU, for docs/figures.md: one table a question, from its committed records.

    records: benchmarks/results/gpu.jsonl, from the `records.jsonl` of a run

A record names the bundle that it is about by digest; what encoder that is, records of speed say.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.gpu_check.engines import WHAT_BUILD, WHAT_GOLDEN, WHAT_SPEED
from benchmarks.gpu_check.faults import WHAT_FAULT, WHAT_MEMORY
from benchmarks.gpu_check.kernel import WAYS, WHAT_BYTES, WHAT_TIME
from benchmarks.gpu_check.machine import WHAT as WHAT_MACHINE
from benchmarks.gpu_check.stages import WHAT_PYTORCH
from benchmarks.gpu_check.studies import WHAT as WHAT_STUDIES
from dtvit_edge.preprocess import kernel
from evaluation.records import Record, read

_PEERS = ("eager", "torch.compile", "CUDA graph")


def gpu_part(path: Path) -> str:
    """Every table; a sentence where nothing has been measured."""
    records = list(read(path)) if path.is_file() else []
    if not records:
        return "\nNothing has been measured on a GPU yet.\n"
    return "\n".join((_machine(records), kernel_table(records), engine_table(records), accuracy_table(records)))


def kernel_table(records: Sequence[Record]) -> str:
    """Microseconds of a batch and a slice, both ways, and by launch where it is spread."""
    heads = ("matrix", "masks and labels", "batch", *(f"{way}, us a slice" for way in WAYS.values()),
             *(f"`{entry}`, us a batch" for entry in kernel.SPREAD))  # fmt: skip
    timed = [r for r in records if r.what == WHAT_TIME]
    rows = []
    for spread in (r for r in timed if r.options["way"] == WAYS[True]):
        block = next(r for r in timed if _place(r) == _place(spread) and r.options["way"] == WAYS[False])
        stage, batch = _place(spread)
        each = [_median(r, f"batch {batch}") for r in (spread, block)]
        steps = [batch * _median(spread, f"batch {batch}: {entry}") for entry in kernel.SPREAD]
        matrix = " x ".join(map(str, spread.options["matrix"]))
        where = "global memory" if "capped" in stage else "shared memory"
        rows.append((matrix, where, str(batch), *(f"{us:.2f}" for us in each), *(f"{us:.1f}" for us in steps)))
    checked = [r for r in records if r.what == WHAT_BYTES]
    slices, wrong, refused = (
        sum(r.summary.get(of, 0.0) for r in checked) for of in ("slices", "slices that differ", "too many runs")
    )
    said = (
        f"Byte by byte against the CPU path, {slices - refused:.0f} times a slice (the same ones by each way and "
        f"compiler): {wrong:.0f} differ. {refused:.0f} of noise had more runs of pixels than the kernel labels, and "
        "was refused."
    )
    return f"{_table(heads, rows)}\n{said}\n"


def engine_table(records: Sequence[Record]) -> str:
    """Milliseconds of a batch: the engine, the executor from host memory on, and PyTorch in float16."""
    heads = ("model", "precision", "batch", "engine, ms", "executor, ms", "slices a second", "built in, s",
             *(f"PyTorch {peer}, ms" for peer in _PEERS))  # fmt: skip
    peers = {(r.digests["bundle"], int(r.options["batch"])): r for r in records if r.what == WHAT_PYTORCH}
    built = {(r.digests["bundle"], r.options["precision"]): r for r in records if r.what == WHAT_BUILD}
    rows = []
    for r in (r for r in records if r.what == WHAT_SPEED):
        batch, bundle, precision = int(r.options["batch"]), r.digests["bundle"], r.options["precision"]
        peer = peers.get((bundle, batch))
        others = [f"{_median(peer, name):.3f}" if peer else "" for name in _PEERS]
        s = r.summary
        rows.append((
            f"{r.options['encoder']} ({r.options['training']})", _precision(r), str(batch),
            f"{s[f'engine {batch}: p50 ms']:.3f}", f"{s[f'executor {batch}: p50 ms']:.3f}",
            f"{s[f'executor {batch}: slices a second']:,.0f}", f"{built[bundle, precision].summary['seconds']:.0f}",
            *others,
        ))  # fmt: skip
    return _table(heads, rows)


def accuracy_table(records: Sequence[Record]) -> str:
    """Golden slices from stored pixels on, against float64, and decisions on studies against the CPU in fp32."""
    heads = ("model", "precision", "golden slices", "bytes that differ", "largest deviation of a logit", "allowed",
             "studies: slices", "decided otherwise", "largest difference of a probability")  # fmt: skip
    models = {r.digests["bundle"]: f"{r.options['encoder']} ({r.options['training']})"
              for r in records if r.what == WHAT_SPEED}  # fmt: skip
    decided = {(r.digests["bundle"], r.options["precision"]): r.summary for r in records if r.what == WHAT_STUDIES}
    rows = []
    for r in (r for r in records if r.what == WHAT_GOLDEN):
        s, key = r.summary, (r.digests["bundle"], r.options["precision"])
        d = decided.get(key)
        studies = ("", "", "") if d is None else (f"{d['slices']:.0f}", f"{d['flips']:.0f}",
                                                  f"{d['largest difference']:.2g}")  # fmt: skip
        rows.append((models.get(key[0], "?"), _precision(r), f"{s['slices']:.0f}", f"{s['differing bytes']:.0f}",
                     f"{s['worst']:.2g}", f"{s['tolerance']:.2g}", *studies))  # fmt: skip
    return f"{_table(heads, rows)}\n{''.join(_faults(records))}"


def _faults(records: Iterable[Record]) -> Iterator[str]:
    for r in records:
        s = r.summary
        if r.what == WHAT_MEMORY:
            yield (
                f"- With memory for a quarter of a batch left, batches shrink from {s['batch before']:.0f} to "
                f"{s['batch after']:.0f}, and answers differ by {s['largest difference']:.2g} at most.\n"
            )
        if r.what == WHAT_FAULT:
            yield (
                f"- An illegal address ends a run with status {s['status']:.0f}; the rerun takes "
                f"{s['from the journal']:.0f} of {s['rows']:.0f} rows from the journal and leaves the bytes of a whole "
                "run.\n"
            )


def _machine(records: Iterable[Record]) -> str:
    told = next(r for r in records if r.what == WHAT_MACHINE)
    o = told.options
    return f"\n{o['gpu']}, {o['library']}, kernel by {o['compilers'].split(';')[0]}, {told.taken[:10]}.\n"


def _precision(record: Record) -> str:
    """What was asked for, and what the engine was found to compute in where that is something else."""
    asked, found = str(record.options["precision"]), record.options.get("computes_in")
    return f"{asked} asked, computed in {found}" if found else asked


def _place(record: Record) -> tuple[str, int]:
    """The stage and the batch of a record of the kernel's time."""
    return str(record.options["stage"]), next(int(name[6:]) for name in record.samples if ":" not in name)


def _median(record: Record, name: str) -> float:
    return statistics.median(record.samples[name])


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (f"| {' | '.join(cells)} |\n" for cells in (heads, ["---"] * len(heads), *rows))
    return f"\n{''.join(lines)}\n"

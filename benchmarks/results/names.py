"""What the records of a run are called, and the names of their samples; writers and readers take them from here."""

from __future__ import annotations

# An option of the latency's record: cores that other work kept busy meanwhile.
OTHERS = "other_work_cores"
PREFIX = "bench: "
ACCURACY = "bench: accuracy"
LATENCY = "bench: latency of one slice"
STAGES = "bench: a slice's stages before the model"
THROUGHPUT = "bench: throughput over batch"
END_TO_END = "bench: from folder to result"
COLD = "bench: cold start"
MEMORY = "bench: peak memory of a process"
SUSTAINED = "bench: sustained"
LAYERS = "bench: layers"
TRTEXEC = "bench: trtexec"

FILE = "bench.jsonl"
PROBABILITY = "probability of ich"
MS, SECONDS, RATE, BYTES = "ms", "s", "slices/s", "bytes"

# The side that answers at once: what it takes is the harness.
NULL = "null"
LABELS, LOCATIONS, PATIENTS = "labels: ich", "labels: location", "patients"


def part(side: str, name: str) -> str:
    """A sample or figure of a side: `SIDE: NAME`."""
    return f"{side}: {name}"


def at_batch(side: str, batch: int) -> str:
    """The samples of a side at a batch size."""
    return part(side, f"batch {batch}")


def side_and_batch(key: str) -> tuple[str, int]:
    """The other way round."""
    side, _, rest = key.rpartition(": batch ")
    return side, int(rest)


def file(precision: str) -> str:
    """The size of a precision's ONNX file."""
    return f"file: {precision}"


A_SLICE, OPENING = "a slice", "opening"


def with_workers(side: str, workers: int) -> str:
    """A side whose files are read ahead by so many threads."""
    return f"{side}, {workers} worker{'s' if workers > 1 else ''}"

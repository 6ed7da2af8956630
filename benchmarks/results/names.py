"""What the records of a run are called, and the names of their samples; writers and readers take them from here."""

from __future__ import annotations

# What each record is about.
PREFIX = "bench: "
ACCURACY = "bench: accuracy"
LATENCY = "bench: latency of one slice"
STAGES = "bench: a slice's stages before the model"
THROUGHPUT = "bench: throughput over batch"
END_TO_END = "bench: from folder to result"
COLD_START = "bench: cold start"
MEMORY = "bench: peak memory of a process"
SUSTAINED = "bench: sustained"
LAYERS = "bench: layers"
BEDSIDE = "bench: from the last image to the SR"
TRTEXEC = "bench: trtexec"
OTHER_INT8 = "bench: int8 by other tools"

# The file of a run's records, in its output folder.
RECORDS_FILE = "bench.jsonl"
# Units of samples.
ICH_PROBABILITY = "probability of ich"
MS, SECONDS, SLICES_PER_SECOND, BYTES = "ms", "s", "slices/s", "bytes"

# Samples: of the backend that answers at once, whose time is the harness; of labels; from folder to result.
NULL_BACKEND = "null"
ICH_LABELS, LOCATION_LABELS, PATIENTS = "labels: ich", "labels: location", "patients"
PER_SLICE, MODEL_OPENING = "a slice", "opening"
# An option of the latency's record: cores that other work kept busy meanwhile.
OTHER_WORK = "other_work_cores"


def key_of(contender: str, figure: str) -> str:
    """A sample or figure of a contender: `CONTENDER: NAME`."""
    return f"{contender}: {figure}"


def batch_key(contender: str, batch: int) -> str:
    """The samples of a contender at a batch size."""
    return key_of(contender, f"batch {batch}")


def contender_and_batch(key: str) -> tuple[str, int]:
    """The other way round."""
    contender, _, rest = key.rpartition(": batch ")
    return contender, int(rest)


def file_size_key(precision: str) -> str:
    """The size of a precision's ONNX file."""
    return f"file: {precision}"


def with_workers(contender: str, workers: int) -> str:
    """A contender whose files are read ahead by so many threads."""
    return f"{contender}, {workers} worker{'s' if workers > 1 else ''}"

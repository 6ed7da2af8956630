"""What the records of a run are called, and the names of their samples; writers and readers take them from here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

_T = TypeVar("_T")

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
_BATCH, _STAGE = "batch ", "stage "
# Figures of a configuration that runs on a device, and of a batch size.
DEVICE_BYTES, JOULES_A_SLICE = "device_bytes", "joules a slice"
# An option of the latency's record: cores that other work kept busy meanwhile.
OTHER_WORK = "other_work_cores"
# An option of the cold start's record: samples of the processes' CPU seconds, by configuration.
CPU_SECONDS = "cpu_seconds"


def key_of(contender: str, figure: str) -> str:
    """A sample or figure of a contender: `CONTENDER: NAME`."""
    return f"{contender}: {figure}"


def by_contender(values: Mapping[str, _T]) -> dict[str, dict[str, _T]]:
    """A record's samples or figures by contender and name (see `key_of`); those of a contender alone have no name."""
    nested: dict[str, dict[str, _T]] = {}
    for key, value in values.items():
        contender, _, figure = key.partition(": ")
        nested.setdefault(contender, {})[figure] = value
    return nested


def batch_key(contender: str, batch: int) -> str:
    """The samples of a contender at a batch size."""
    return key_of(contender, f"{_BATCH}{batch}")


def stage_key(contender: str, stage: str) -> str:
    """The samples of a stage of a contender's runs from folder to result."""
    return key_of(contender, f"{_STAGE}{stage}")


def by_batch(figures: Mapping[str, _T]) -> dict[int, _T]:
    """Of a contender's samples or figures those that belong to a batch size."""
    return {int(name.removeprefix(_BATCH)): value for name, value in figures.items() if name.startswith(_BATCH)}


def by_stage(figures: Mapping[str, _T]) -> dict[str, _T]:
    """Of a contender's samples those of a run's stages."""
    return {name.removeprefix(_STAGE): value for name, value in figures.items() if name.startswith(_STAGE)}


def file_size_key(precision: str) -> str:
    """The size of a precision's ONNX file."""
    return f"file: {precision}"


def with_workers(contender: str, workers: int) -> str:
    """A contender whose files are read ahead by so many threads."""
    return f"{contender}, {workers} worker{'s' if workers > 1 else ''}"

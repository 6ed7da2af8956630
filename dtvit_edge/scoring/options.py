"""What is asked of a run."""

from __future__ import annotations

from dataclasses import dataclass

from dtvit_edge import backends
from dtvit_edge.bundle import Threshold
from dtvit_edge.errors import ConfigError

READERS = ("auto", "pydicom")
AUTO = backends.AUTO  # of a backend, and of a precision


@dataclass(frozen=True)
class Options:
    """What is asked for; all but `workers` is part of a run's identity.

    Attributes:
        backend: a name of `dtvit_edge.backends.NAMES`, or `auto`.
        precision: of the model or engine; `auto` takes the device profile's configuration, fp32 where there is none.
        batch: slices a batch; None takes what suits the backend.
        threads: for the backend; None leaves it to the backend.
        device: CUDA's number of the GPU, for a backend that runs on one; None is 0.
        hint: OpenVINO's inference precision, `bf16` where it is asked for by name; None is fp32.
        any_series: score unsuitable series all the same.
        keep_all: score slices with no brain in view as well.
        reader: `pydicom` reads every file with it, `auto` the common case without.
        deterministic: every batch has one size, the last padded, for the same bytes in every run on a GPU; on CPU
            backends nothing but bf16 needs that, which has it always.
        threshold: for slices and studies of this run; None takes the bundle's.
        workers: threads that read and decode; None takes what suits the machine.
    """

    backend: str = AUTO
    precision: str = AUTO
    batch: int | None = None
    threads: int | None = None
    device: int | None = None
    hint: str | None = None
    any_series: bool = False
    keep_all: bool = False
    reader: str = READERS[0]
    deterministic: bool = False
    workers: int | None = None
    threshold: float | None = None

    @property
    def fast(self) -> bool:
        """True where the common case is read without pydicom."""
        return self.reader == "auto"

    def __post_init__(self) -> None:
        if self.reader not in READERS:
            raise ConfigError(f"reader is {self.reader!r}, expected one of {', '.join(READERS)}")
        if self.threshold is not None:
            Threshold(self.threshold)  # refuses what is no probability
        for name, value in (("batch", self.batch), ("threads", self.threads), ("workers", self.workers)):
            if value is not None and value < 1:
                raise ConfigError(f"{name} is {value}, expected 1 or more")
        if self.device is not None and self.device < 0:
            raise ConfigError(f"device is {self.device}, expected 0 or more")

"""What is asked of a run."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from numbers import Real
from typing import Any

from dtvit_edge import backends
from dtvit_edge.bundle import Bundle, Threshold, Thresholds
from dtvit_edge.errors import ConfigError

READERS = ("auto", "pydicom")
AUTO = backends.AUTO  # of a backend, and of a precision
_KINDS: tuple[tuple[str, type | tuple[type, ...], str], ...] = (
    *((name, str, "a name") for name in ("backend", "precision", "reader")),
    ("hint", (str, type(None)), "a name or nothing"),
    *((name, bool, "true or false") for name in ("any_series", "keep_all", "deterministic")),
)


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
        # Not only a command asks: a table, an SR or a script may have been written by anybody.
        for name, kind, words in _KINDS:
            if not isinstance(getattr(self, name), kind):
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected {words}")
        if self.reader not in READERS:
            raise ConfigError(f"reader is {self.reader!r}, expected one of {', '.join(READERS)}")
        if self.threshold is not None:
            if not isinstance(self.threshold, Real) or isinstance(self.threshold, bool):
                raise ConfigError(f"the threshold is {self.threshold!r}, expected a number between 0 and 1")
            # A NumPy number would make NumPy's booleans of all that is compared with it.
            object.__setattr__(self, "threshold", float(self.threshold))
            Threshold(self.threshold)  # refuses what is no probability
        for name, least in (("batch", 1), ("threads", 1), ("workers", 1), ("device", 0)):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _whole(getattr(self, name), name, least))


def thresholds_of(bundle: Bundle, options: Options) -> Thresholds:
    """The bundle's thresholds, or the one that was asked for, at both levels."""
    if options.threshold is None:
        return bundle.thresholds
    asked = Threshold(options.threshold, "asked for")
    return Thresholds(asked, asked)


def _whole(value: Any, name: str, least: int) -> int:
    try:
        found = operator.index(value)
    except TypeError as error:
        raise ConfigError(f"{name} is {value!r}, expected a whole number, {least} or more") from error
    if isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}, expected a whole number, {least} or more")
    if found < least:
        raise ConfigError(f"{name} is {found}, expected {least} or more")
    return found

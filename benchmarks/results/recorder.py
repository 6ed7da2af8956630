"""A record of one bundle's run, with what they all say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.measure.yardstick import Yardstick
from benchmarks.peers import trtexec
from benchmarks.settings import Settings
from dtvit_edge.bundle import Bundle
from evaluation.records import Record

# More than any clock here has.
_DIGITS = 7


@dataclass(frozen=True)
class Measured:
    """What one measurement gives its record.

    Attributes:
        extra, digests: options and digests of this one alone.
    """

    what: str
    unit: str
    samples: Mapping[str, list[float]]
    summary: Mapping[str, float]
    extra: Mapping[str, Any]
    digests: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Recorder:
    """Makes records.

    Attributes:
        data: what a report calls the slices of the accuracy; left_out: why a configuration has no latency, by its name.
        yardstick: what it took since the last record goes into the next.
    """

    bundle: Bundle
    data: str
    settings: Settings
    left_out: Mapping[str, str]
    yardstick: Yardstick

    def __call__(self, measured: Measured) -> Record:
        """The record of a measurement."""
        manifest = self.bundle.manifest
        largest = max(self.settings.effort.batches)
        options = {
            "bundle": manifest.name,
            "encoder": manifest.encoder,
            "training": manifest.training,
            "data": self.data,
            "threads": self.settings.threads,
            "left_out": dict(self.left_out),
            "trtexec": trtexec.lines(self.bundle, largest),
            "trtexec_absent": trtexec.why_not(),
            "command": self.settings.command,
            **self.yardstick.take_options(),
        }
        all_digests = {"bundle": self.bundle.digest, "weights": manifest.weights_sha256, **measured.digests}
        kept = {name: [float(f"{value:.{_DIGITS}g}") for value in values] for name, values in measured.samples.items()}
        return Record(
            measured.what,
            measured.unit,
            kept,
            dict(measured.summary),
            digests=all_digests,
            options=options | dict(measured.extra),
        )

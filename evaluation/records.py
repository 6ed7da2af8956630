"""One JSON line per measurement: what, raw samples, digests, environment and options.

Every figure that this project reports is read from such a line. A record keeps the raw samples, so that another summary
can be made later, and names the bytes and the machine that it is about.
"""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dtvit_edge.environment import RUNTIME_PACKAGES, machine, package_versions
from dtvit_edge.errors import ConfigError
from dtvit_edge.files import disk_fault, make_folder, open_file

if TYPE_CHECKING:
    from evaluation.metrics import HeadFigures

FORMAT = 1
WORKSTATION_PACKAGES = ("torch", "timm", "torchvision", "onnx", "onnxscript", "pillow", "scipy")


@dataclass(frozen=True)
class Record:
    """One measurement.

    Attributes:
        what: what was measured, as a short sentence; the same sentence for the same measurement.
        unit: of every sample.
        samples: raw samples by side or stage, in the order in which they were taken.
        summary: figures computed from the samples.
        digests: sha256 of the bundle, weights or data that the samples are about.
        options: everything that was chosen: encoder, batch, threads, rounds, and the command that repeats it.
        environment: versions and machine; filled in by default.
    """

    what: str
    unit: str
    samples: dict[str, list[float]]
    summary: dict[str, float]
    digests: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(
        default_factory=lambda: {
            "machine": machine(),
            "packages": package_versions(RUNTIME_PACKAGES + WORKSTATION_PACKAGES),
        }
    )
    taken: str = field(default_factory=lambda: datetime.now(timezone.utc).isoformat(timespec="seconds"))

    def __post_init__(self) -> None:
        if not self.samples or not all(self.samples.values()):
            raise ConfigError(f"{self.what}: a record without raw samples proves nothing")
        values = [v for side in self.samples.values() for v in side] + list(self.summary.values())
        if not all(math.isfinite(v) for v in values):
            raise ConfigError(f"{self.what}: a sample or figure is not finite")


def append(path: Path, record: Record) -> None:
    """Append one line; the folder is made where it is missing.

    Raises:
        DiskFault: the disk is full, read-only, gone or broken.
    """
    make_folder(path.parent)
    line = json.dumps({"format": FORMAT, **asdict(record)}, allow_nan=False)
    try:
        with open(open_file(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as file:
            file.write(f"{line}\n".encode())
    except OSError as error:
        raise disk_fault(path, error) from error


def read(path: Path) -> Iterator[Record]:
    """The records of a file, in order.

    Raises:
        ConfigError: a line that is no record of this format.
    """
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            data = json.loads(line)
            if data.pop("format") != FORMAT:
                raise ValueError("another format")
            yield Record(**data)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}:{number}: not a record: {error}") from error


def latest(path: Path, what: str) -> Record | None:
    """The newest record of a measurement, or None."""
    records = [record for record in read(path) if record.what == what] if path.is_file() else []
    return records[-1] if records else None


def ratio_summary(slow: Sequence[float], fast: Sequence[float]) -> dict[str, float]:
    """How many times faster: median and quartiles of the ratios, pair by pair of two alternating sides."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    lower, _, upper = statistics.quantiles(ratios, n=4, method="inclusive")
    return {
        "ratio_median": statistics.median(ratios),
        "ratio_lower_quartile": lower,
        "ratio_upper_quartile": upper,
        "pairs": float(len(ratios)),
    }


def head_summary(head: str, head_figures: HeadFigures) -> dict[str, float]:
    """A head's figures for a record's summary, as `ich_auc`, `ich_auc_low` and `ich_auc_high`; NaN is left out."""
    summary = {f"{head}_slices": float(head_figures.slices), f"{head}_patients": float(head_figures.patients)}
    for figure, interval in head_figures.figures.items():
        ends = {"": interval.value, "_low": interval.low, "_high": interval.high}
        summary |= {f"{head}_{figure}{end}": value for end, value in ends.items() if not math.isnan(value)}
    return summary


def interval_text(summary: Mapping[str, float], name: str) -> str | None:
    """A figure of `head_summary` with its interval; None where there is none."""
    if name not in summary:
        return None
    if f"{name}_low" not in summary:
        return f"{summary[name]:.4f}"
    return f"{summary[name]:.4f} ({summary[f'{name}_low']:.3f} to {summary[f'{name}_high']:.3f})"

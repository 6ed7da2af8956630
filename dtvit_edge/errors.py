"""The one error tree. Only the command line catches its base; everybody else lets it pass.

DtvitError                     base; `exit_status` is what the command line returns
├── ConfigError          (2)   wrong options, paths or an output folder of another run
│   └── MissingDependency (2)  an optional package is absent; the message says what to install
├── BundleError          (2)   a bundle that cannot be used
│   ├── DigestMismatch   (2)   a file's bytes are not the ones that the manifest names
│   ├── EngineError      (2)   an engine that cannot be used here; the message says what builds it anew
│   ├── SignatureError   (2)   a bundle that no trusted key has signed as it is
│   └── UnknownFormat    (2)   a manifest of a format version that this code does not know
├── CheckpointError      (2)   weights that do not fit the model, with the keys listed in words
├── BuildError           (2)   a graph, or a machine, for which this TensorRT builds no engine
├── VerdictError         (1)   parity, self-test or gate said no
├── DeviceFault          (5)   the device failed while running; what was in flight is marked
│   ├── OutOfDeviceMemory (5)  an allocation on the device failed; the context can still be used
│   └── BuildKilled      (5)   the process that built an engine was killed or crashed
├── DiskFault            (5)   the disk failed under an output; what was finished before is whole
└── SliceRejected              one file or frame cannot be scored; becomes a row, never a traceback

Any other exception         (6)   an internal error: the command line says what to report
"""

from __future__ import annotations

from dtvit_edge.reasons import Reason


class DtvitError(Exception):
    """Base of every error that this project raises on purpose."""

    exit_status = 2


class ConfigError(DtvitError):
    """Wrong options, paths or settings; raised before the first file is read."""


class MissingDependency(ConfigError):
    """An optional package is absent; the message names the line that installs it."""


class BundleError(DtvitError):
    """A bundle is missing, incomplete or inconsistent."""


class DigestMismatch(BundleError):
    """A file's sha256 differs from the one recorded in the manifest."""


class UnknownFormat(BundleError):
    """The manifest's format version is not one that this code reads."""


class EngineError(BundleError):
    """An engine is missing, damaged, or made for another device, version or graph."""


class SignatureError(BundleError):
    """A bundle is not signed by a trusted key, or is not what was signed."""


class CheckpointError(DtvitError):
    """Weights do not fit the model they are meant for."""


class BuildError(DtvitError):
    """A graph, or a machine, for which this TensorRT builds no engine."""


class VerdictError(DtvitError):
    """A check (parity, self-test, gate) ran to its end and said no."""

    exit_status = 1


class DeviceFault(DtvitError):
    """The accelerator failed; its context cannot be used again."""

    exit_status = 5


class OutOfDeviceMemory(DeviceFault):
    """An allocation on the device failed; unlike after other faults, its context can still be used."""


class BuildKilled(DeviceFault):
    """The process that built an engine was killed or crashed; nothing was installed."""


class DiskFault(DtvitError):
    """An output cannot be written any more: the disk is full, read-only, gone or broken."""

    exit_status = 5


class SliceRejected(DtvitError):
    """One file or frame cannot be scored.

    Attributes:
        reason: the code that becomes the row's `reason`; its status is `reason.status`.
        detail: what was found and what was expected, for the log; never a patient's name, id or date.
    """

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.code}: {detail or reason.sentence}")
        self.reason = reason
        self.detail = detail

"""dtvit-edge: intracerebral haemorrhage on head CT, scored on the device. Research use only.

    import dtvit_edge

    bundle = dtvit_edge.open_bundle("demo.dtvit")
    for result in dtvit_edge.score(bundle, ["studies/"]):
        print(result.study.study_uid, result.study.status, result.study.flagged)

Importing this package loads NumPy at most; everything else is loaded when it is used, `__version__` included. It
switches the telemetry of ONNX Runtime and OpenVINO off, in this process and those that it starts.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dtvit_edge.environment import switch_telemetry_off

if TYPE_CHECKING:
    from dtvit_edge.bundle import Bundle, Trust
    from dtvit_edge.scoring.api import Options, StudyResult, score

    __version__: str

__all__ = ["Bundle", "Options", "StudyResult", "__version__", "open_bundle", "score"]

switch_telemetry_off()

# What `__version__` says where the package's files are used without being installed.
UNKNOWN_VERSION = "0+unknown"

_LAZY = {
    "Bundle": "dtvit_edge.bundle",
    "Options": "dtvit_edge.scoring.api",
    "StudyResult": "dtvit_edge.scoring.api",
    "score": "dtvit_edge.scoring.api",
}


def open_bundle(
    path: str, *, expect_digest: str | None = None, accept_engines: Collection[str] = (), trust: Trust | None = None
) -> Bundle:
    """Open a bundle directory; see `dtvit_edge.bundle.Bundle.open`."""
    from dtvit_edge.bundle import Bundle

    return Bundle.open(path, expect_digest=expect_digest, accept_engines=accept_engines, trust=trust)


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name == "__version__":
        return _version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _version() -> str:
    """The version that the installed package's metadata says: pyproject.toml alone states it."""
    from importlib import metadata

    try:
        return metadata.version("dtvit-edge")
    except metadata.PackageNotFoundError:
        return UNKNOWN_VERSION

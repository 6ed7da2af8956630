"""dtvit-edge: intracerebral haemorrhage on head CT, scored on the device. Research use only.

    import dtvit_edge

    with dtvit_edge.open_model("demo.dtvit") as model:
        for result in model.score("studies/"):
            print(result.study.study_uid, result.study.status, result.study.flagged)

Importing this package loads NumPy at most; everything else is loaded when it is used, `__version__` included. It
switches the telemetry of ONNX Runtime and OpenVINO off, in this process and those that it starts.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING

from dtvit_edge.environment import switch_telemetry_off

__all__ = [
    "Bundle",
    "Model",
    "Options",
    "Prediction",
    "StudyResult",
    "__version__",
    "open_bundle",
    "open_model",
    "score",
]

switch_telemetry_off()

if TYPE_CHECKING:
    from dtvit_edge.bundle import Bundle, Trust
    from dtvit_edge.scoring.api import StudyResult, score
    from dtvit_edge.scoring.model import Model, open_model
    from dtvit_edge.scoring.options import Options
    from dtvit_edge.scoring.prediction import Prediction

    __version__: str

# What `__version__` says where the package's files are used without being installed.
UNKNOWN_VERSION = "0+unknown"

_PLACES = {
    "Bundle": "dtvit_edge.bundle",
    "Model": "dtvit_edge.scoring.model",
    "Options": "dtvit_edge.scoring.options",
    "Prediction": "dtvit_edge.scoring.prediction",
    "StudyResult": "dtvit_edge.scoring.api",
    "open_model": "dtvit_edge.scoring.model",
    "score": "dtvit_edge.scoring.api",
}


def open_bundle(
    path: str | PathLike[str],
    *,
    expect_digest: str | None = None,
    accept_engines: Collection[str] = (),
    trust: Trust | None = None,
) -> Bundle:
    """Open a bundle directory; see `dtvit_edge.bundle.Bundle.open`."""
    from dtvit_edge.bundle import Bundle

    return Bundle.open(path, expect_digest=expect_digest, accept_engines=accept_engines, trust=trust)


if not TYPE_CHECKING:  # a type checker takes a module with a `__getattr__` to have every name that is misspelt

    def __getattr__(name: str) -> object:
        if name in _PLACES:
            return getattr(import_module(_PLACES[name]), name)
        if name == "__version__":
            return _version()
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _version() -> str:
    """The version that the installed package's metadata says: pyproject.toml alone states it."""
    from importlib import metadata

    try:
        return metadata.version("dtvit-edge")
    except metadata.PackageNotFoundError:
        return UNKNOWN_VERSION

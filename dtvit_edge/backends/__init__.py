"""Backends, and the one place that chooses among them.

Each module has the same shape: NAME, INSTALL, HINTS, PRECISIONS, RUNS, `unavailable()` and what makes its backend; one
that runs models also has `library` and `loader`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

from dtvit_edge.backend import ENGINES, Backend
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError, MissingDependency

# In the order in which `auto` takes them: name -> (module, what makes the backend).
_BACKENDS = {
    "tensorrt": ("dtvit_edge.trt.tensorrt", "open_backend"),
    "tensorrt-rtx": ("dtvit_edge.trt.tensorrt_rtx", "open_backend"),
    "openvino": ("dtvit_edge.backends.openvino", "OpenVinoBackend"),
    "onnxruntime": ("dtvit_edge.backends.onnxruntime", "OnnxRuntimeBackend"),
}
NAMES = tuple(_BACKENDS)
AUTO = "auto"


@dataclass(frozen=True)
class Choice:
    """The backend that will run, and in words why."""

    name: str
    why: str


def choose(name: str = AUTO) -> Choice:
    """Resolve `auto` to the best backend that this machine has, or check that the named one is there.

    Raises:
        MissingDependency: the named backend is absent (with the line that installs it), or none is there.
        ConfigError: no such backend.
    """
    if name == AUTO:
        passed_over: list[str] = []
        for candidate, why_not in availability().items():
            if why_not is None:
                return Choice(candidate, "; ".join(["the first of " + ", ".join(NAMES) + " found here", *passed_over]))
            passed_over.append(why_not)
        raise MissingDependency(f"no backend is installed; {_module(NAMES[-1]).INSTALL}")
    if name not in _BACKENDS:
        raise ConfigError(f"no backend called {name!r}; there are {', '.join(NAMES)}")
    module = _module(name)
    why_not = module.unavailable()
    if why_not is not None:
        raise MissingDependency(f"{why_not}; {module.INSTALL}")
    return Choice(name, "asked for")


def availability() -> dict[str, str | None]:
    """For each backend why it cannot run here, or None."""
    return {name: _module(name).unavailable() for name in NAMES}


def precisions(name: str) -> tuple[str, ...]:
    """The bundle's models that a backend runs, where the bundle has them."""
    return tuple(_module(name).PRECISIONS)


def native_hints(name: str) -> tuple[str, ...]:
    """The precision hints below fp32 that a backend's own arithmetic has on this machine; it has to be there."""
    return tuple(getattr(_module(name), "native_hints", tuple)())


def runs_engines(name: str) -> bool:
    """It runs what `build` made for this device; else the bundle's models themselves."""
    return bool(_module(name).RUNS == ENGINES)


def what_runs(name: str) -> str:
    """What a backend runs, for people."""
    return "engines that `build` makes" if runs_engines(name) else ", ".join(precisions(name))


def load_library(name: str) -> None:
    """Import what a backend that runs models computes with, as opening it would."""
    _module(name).library()


def model_loader(name: str, bundle: Bundle, precision: str, hint: str | None) -> Callable[[], Any]:
    """What gives a backend that runs models its verified bytes when it is opened; `load` of `create`."""
    loader: Callable[[], Any] = _module(name).loader(bundle, precision, hint)
    return loader


def create(
    name: str,
    load: Callable[..., Any],
    precision: str,
    *,
    threads: int | None = None,
    device: int | None = None,
    hint: str | None = None,
) -> Backend:
    """Make the backend of a `Choice`; nothing is allocated before it is entered.

    Args:
        load: gives what it runs, already verified, when the backend is opened: a model's bytes, or for one that runs
            engines a `trt.store.Engine`, asked with the library's version and the GPU.
        threads: None leaves it to the backend.
        device: CUDA's number of the GPU, for a backend that runs engines; None is 0.
        hint: inference precision of a backend that has such a setting; None is fp32.

    Raises:
        ConfigError: a precision that the backend does not run, or a device or hint that it does not have.
    """
    if not runs_engines(name) and precision not in precisions(name):
        raise ConfigError(f"{name} runs {', '.join(precisions(name))}, not {precision!r}")
    options: dict[str, Any] = {"threads": threads}
    if device is not None:
        if not runs_engines(name):
            raise ConfigError(f"--device is the number of a GPU; {name} runs on the CPU")
        options["device"] = device
    if hint is not None:
        if hint not in _module(name).HINTS:
            raise ConfigError(
                f"{name} has no precision hint {hint!r}; it has: {', '.join(_module(name).HINTS) or 'none'}"
            )
        options["hint"] = hint
    return cast(Backend, getattr(_module(name), _BACKENDS[name][1])(load, precision, **options))


def _module(name: str) -> Any:
    return import_module(_BACKENDS[name][0])

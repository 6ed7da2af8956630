"""The one place that chooses between `tensorrt` and `tensorrt_rtx`, and imports either."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from dtvit_edge.errors import BuildError, ConfigError, EngineError, MissingDependency
from dtvit_edge.trt.releases import RTX, TENSORRT, TITLES, Release

AUTO = "auto"
MODULES = {TENSORRT: "tensorrt", RTX: "tensorrt_rtx"}
INSTALL = {
    TENSORRT: "JetPack brings it; elsewhere install TensorRT's Python package from NVIDIA",
    RTX: "pip install tensorrt-rtx-cu13",
}

_NO_CUDA = "most often CUDA cannot be initialised (no GPU, or a driver older than the library wants)"


def unavailable(flavour: str) -> str | None:
    """Why a library cannot be used here, or None; nothing is imported."""
    return None if find_spec(MODULES[flavour]) else f"{TITLES[flavour]} ({MODULES[flavour]}) is not installed"


def choose(name: str = AUTO) -> str:
    """Resolve `auto` to the library that is installed, TensorRT first, or check that the named one is.

    Raises:
        MissingDependency: it is absent, or neither is there; with what installs it.
        ConfigError: no such flavour.
    """
    if name == AUTO:
        for flavour in MODULES:
            if unavailable(flavour) is None:
                return flavour
        raise MissingDependency("no TensorRT is installed: " + "; ".join(f"{TITLES[f]}: {INSTALL[f]}" for f in MODULES))
    if name not in MODULES:
        raise ConfigError(f"no TensorRT called {name!r}; there are {', '.join(MODULES)}")
    why_not = unavailable(name)
    if why_not is not None:
        raise MissingDependency(f"{why_not}; {INSTALL[name]}")
    return name


def load(flavour: str) -> tuple[Any, Release]:
    """Import a library.

    Returns:
        The module and its release.

    Raises:
        MissingDependency: it is there but does not load, with the loader's words.
        BuildError: it is older than what is supported.
    """
    try:
        module = import_module(MODULES[flavour])
    except (ImportError, OSError) as error:
        raise MissingDependency(f"{TITLES[flavour]} does not load: {error}; {INSTALL[flavour]}") from error
    return module, Release(flavour, str(module.__version__))


def builder(trt: Any, release: Release, logger: Any) -> Any:
    """The library's builder.

    Raises:
        BuildError: it makes none, with what that means.
    """
    try:
        return trt.Builder(logger)
    except (TypeError, RuntimeError) as error:  # pybind11: "factory function returned nullptr"
        raise BuildError(f"{release.title} makes no builder; {_NO_CUDA}: {error}") from error


def runtime(trt: Any, release: Release, logger: Any) -> Any:
    """The library's runtime; keep it as long as its engines.

    Raises:
        EngineError: it makes none, with what that means.
    """
    try:
        return trt.Runtime(logger)
    except (TypeError, RuntimeError) as error:
        raise EngineError(f"{release.title} makes no runtime; {_NO_CUDA}: {error}") from error


def logger(trt: Any, take: Callable[[int, str], None]) -> Any:
    """A logger for a library.

    Args:
        take: called with TensorRT's severity (INTERNAL_ERROR 0, ERROR 1, WARNING 2, INFO 3) and the message.
    """

    class Logger(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            take(int(severity), msg)

    return Logger()


def profiler(trt: Any, take: Callable[[str, float], None]) -> Any:
    """A profiler for an execution context of a library.

    Args:
        take: called after each execution with every layer's name and milliseconds.
    """

    class Profiler(trt.IProfiler):
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            take(layer_name, float(ms))

    return Profiler()

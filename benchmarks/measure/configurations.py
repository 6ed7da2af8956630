"""What is compared: every backend, precision and hint that a bundle and this machine allow, and why not the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.settings import Settings
from dtvit_edge import backends
from dtvit_edge.backend import Backend
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError
from dtvit_edge.precisions import BY_NAME, FP32_OPSET_16
from dtvit_edge.scoring.api import Options, open_backend


@dataclass(frozen=True)
class Configuration:
    """One configuration of one bundle.

    Attributes:
        hint: inference precision of a backend that has such a setting; None is fp32.
    """

    bundle: Bundle
    backend: str
    precision: str
    hint: str | None = None

    @property
    def name(self) -> str:
        """What it is called everywhere; bundles are told apart by the records."""
        return f"{self.backend} {self.precision}" + (f", rest {self.hint}" if self.hint else "")

    @property
    def sha256(self) -> str | None:
        """Of its ONNX file; None where an engine runs, whose digest is in its build record."""
        record = self.bundle.manifest.models.get(self.precision)
        return record.sha256 if record and not self.runs_engine else None

    @property
    def runs_engine(self) -> bool:
        """An engine that `build` made for this device; else one of the bundle's models."""
        return backends.runs_engines(self.backend)

    def options(self, threads: int | None, **more: Any) -> Options:
        """What a run of `score` would be asked for; a backend on a device has no threads to set."""
        used_threads = None if self.runs_engine else threads
        return Options(backend=self.backend, precision=self.precision, hint=self.hint, threads=used_threads, **more)

    def create(self, threads: int | None) -> Backend:
        """The backend as `score` opens it, not yet entered; it loads bytes whose digest was checked.

        Raises:
            ConfigError: it has no such hint.
        """
        return open_backend(self.bundle, self.backend, self.options(threads))


def find_configurations(bundle: Bundle, settings: Settings) -> tuple[list[Configuration], dict[str, str]]:
    """Every configuration that may be opened, and why the others are left out, by name.

    Raises:
        ConfigError: a backend or hint that nothing here has.
    """
    unknown = sorted(set(settings.backends) - set(backends.NAMES))
    if unknown:
        raise ConfigError(f"no backend called {', '.join(unknown)}; there are {', '.join(backends.NAMES)}")
    configurations: list[Configuration] = []
    left_out: dict[str, str] = {}
    runs_none: dict[str, str] = {}  # of what was asked for; no row of a report
    for backend, why_not in backends.availability().items():
        if settings.backends and backend not in settings.backends:
            continue
        if why_not is not None:
            left_out[backend] = why_not
            continue
        run_here = _precisions(backend, settings.precisions)
        if settings.precisions and not run_here:
            runs_none[backend] = f"it runs {', '.join(_precisions(backend, ()))}"
        for precision in run_here:
            configuration = Configuration(bundle, backend, precision)
            why_not = None
            if not configuration.runs_engine:
                if precision not in bundle.manifest.models:
                    if BY_NAME[precision].trims and not settings.precisions:
                        continue  # few models have such a file, of others it is nothing that is missing
                    why_not = f"the bundle has no {precision}"
                elif precision == FP32_OPSET_16 and not settings.precisions:
                    why_not = f"fp32 in the spelling of TensorRT 8.5; --precision {FP32_OPSET_16} asks for it"
            if why_not is not None:
                left_out[configuration.name] = why_not
                continue
            configurations.append(configuration)
            configurations += _hinted(configuration, settings)
    if not configurations:
        raise ConfigError(
            "nothing to measure: " + "; ".join(f"{name}: {why}" for name, why in (left_out | runs_none).items())
        )
    return configurations, left_out


def _precisions(backend: str, asked: Sequence[str]) -> list[str]:
    return [precision for precision in backends.precisions(backend) if not asked or precision in asked]


def _hinted(plain: Configuration, settings: Settings) -> list[Configuration]:
    """The configuration with each hint that its backend knows; only asking tells."""
    known = []
    for hint in settings.hints:
        hinted = Configuration(plain.bundle, plain.backend, plain.precision, hint)
        try:
            hinted.create(settings.threads)
        except ConfigError:
            continue
        known.append(hinted)
    return known

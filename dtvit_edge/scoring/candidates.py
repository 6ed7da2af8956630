"""What `tune` may measure: what this machine runs of a bundle and the gate has passed; and why not the rest."""

from __future__ import annotations

from dataclasses import dataclass

from dtvit_edge import backends
from dtvit_edge.bundle import Bundle
from dtvit_edge.bundle.device_profile import Configuration
from dtvit_edge.bundle.verdicts import PASSED, configuration_name
from dtvit_edge.environment import physical_cores, usable_cores
from dtvit_edge.precisions import EXACT, FP32_OPSET_16, REFERENCE_PRECISION
from dtvit_edge.scoring.api import testable
from dtvit_edge.scoring.configuration import verdict
from dtvit_edge.scoring.options import Options


@dataclass(frozen=True)
class Setting:
    """A candidate before its batch: what one opened backend is. None stands for what the backend does by itself."""

    backend: str
    precision: str
    hint: str | None = None
    threads: int | None = None

    @property
    def words(self) -> str:
        """For people: `openvino int8+bf16, 2 threads`."""
        return self.at(1).words.removesuffix(", batch 1")

    @property
    def options(self) -> Options:
        """What opens it; golden slices are all shown to the model."""
        return Options(self.backend, self.precision, hint=self.hint, threads=self.threads, keep_all=True)

    def at(self, batch: int) -> Configuration:
        """The configuration with a batch."""
        return Configuration(self.backend, self.precision, self.hint, self.threads, batch)


def find_settings(bundle: Bundle) -> tuple[list[Setting], dict[str, str]]:
    """Every candidate, in the order in which they are looked at first, and why others are none, by name.

    fp32 with all threads comes first: it is there to fall back on. Of the rest, those that are likely to be fast.
    """
    settings: list[Setting] = []
    left_out: dict[str, str] = {}
    threads = sorted({1, physical_cores(), usable_cores()}, reverse=True)
    for backend, why_not in backends.availability().items():
        if why_not is not None:
            left_out[backend] = why_not
            continue
        engines = backends.runs_engines(backend)
        precisions = testable(bundle, backend)
        if not precisions:
            left_out[backend] = f"nothing that it runs is in this copy of the bundle: {backends.what_runs(backend)}"
        for precision in precisions:
            if precision == FP32_OPSET_16 and REFERENCE_PRECISION in precisions:
                continue  # the same arithmetic in another spelling
            for hint in (None, *backends.native_hints(backend)):
                said = verdict(bundle, backend, precision, hint)
                if said != PASSED:
                    left_out[f"{backend} {configuration_name(precision, hint)}"] = f"gate: {said}"
                    continue
                counts = [None] if engines else threads
                settings += [Setting(backend, precision, hint, count) for count in counts]
    return sorted(settings, key=_first_look), left_out


def _first_look(setting: Setting) -> tuple[int, int, tuple[int, bool]]:
    plain = setting.precision in EXACT and setting.hint is None
    (rank, hinted), threads = setting.at(1).exactness, setting.threads or usable_cores()
    if plain and threads == usable_cores():
        return 0, rank, (0, False)
    return 1, -threads, (-rank, not hinted)

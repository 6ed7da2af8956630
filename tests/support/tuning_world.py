"""A machine on which a backend is as fast and as right as a test says, on a clock that only its work moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtvit_edge import backends
from dtvit_edge.bundle import MODEL_FILES, Bundle, FileRecord, Golden, write_bundle
from dtvit_edge.bundle.device_profile import Configuration, DeviceProfile, Measured
from dtvit_edge.errors import BundleError
from dtvit_edge.scoring import candidates, opened, opening
from dtvit_edge.scoring.api import Options
from dtvit_edge.scoring.device_facts import library_versions, machine_facts
from dtvit_edge.scoring.executor import BatchResult
from dtvit_edge.spec import ICH_OUTPUT
from tests.support.tiny_bundle import write_tiny_bundle

BATCH = 4
Key = tuple[str, str | None]  # precision, hint


def write_tunable_bundle(path: Path, **verdicts: str) -> Bundle:
    """The tiny bundle with an int8 file, of the same bytes, and what the gate said of configurations.

    The tolerance of int8 engines is another, and tight.

    Args:
        verdicts: by precision, and `hinted` of int8 with the rest in bf16.
    """
    tiny = write_tiny_bundle(path)
    files = {record.file: tiny.model_bytes(name) for name, record in tiny.manifest.models.items()}
    files |= {record.file: tiny.file_bytes(record) for record in tiny.manifest.golden.values()}
    files[MODEL_FILES["int8"]] = tiny.model_bytes("fp32")
    hinted = verdicts.pop("hinted", None)
    calibration: dict[str, Any] = {"verdicts": [{"precision": p, "verdict": v} for p, v in verdicts.items()]}
    if hinted is not None:
        calibration["configurations"] = {"int8+bf16": {"precision": "int8+bf16", "verdict": hinted}}
    manifest = replace(
        tiny.manifest,
        models=tiny.manifest.models | {"int8": FileRecord(MODEL_FILES["int8"], "", 0, {"opset": 17})},
        tolerances=tiny.manifest.tolerances | {"int8": 50.0, "int8-fp16": 1e-3},
        calibration=calibration,
    )
    return write_bundle(path, manifest, files, overwrite=True)


def profile_of(bundle: Bundle, *chosen_first: Configuration, **changes: Any) -> DeviceProfile:
    """A profile that holds here: the first was chosen, each takes a millisecond more than the last."""
    measured = tuple(Measured(c, ms + 1.0, ms + 0.9, ms + 1.1, 9, 0.0) for ms, c in enumerate(chosen_first))
    profile = DeviceProfile(
        manifest=bundle.digest,
        thresholds=bundle.thresholds.values,
        machine=machine_facts(),
        versions=library_versions(),
        seconds=60.0,
        chosen=chosen_first[0],
        why="the fastest: 1 ms a slice (0.9 to 1.1)",
        measured=measured,
        left_out={},
    )
    return replace(profile, **changes)


@dataclass
class World:
    """What the machine does.

    Attributes:
        seconds: a slice takes, by precision and hint; jitter: what a call's time is multiplied by, by its number.
        off: what is added to the logit of a haemorrhage, by precision and hint.
        refuses: backends that raise when they are opened.
        opened: what was, in order; now: the clock, which opening moves by `opening`.
    """

    golden: Golden
    seconds: Mapping[Key, float]
    off: dict[Key, float] = field(default_factory=dict)
    jitter: Callable[[int], float] = lambda number: 1.0
    refuses: frozenset[str] = frozenset()
    per_thread: float = 1.5
    opening: float = 0.0
    opened: list[Options] = field(default_factory=list)
    now: float = 0.0
    calls: int = 0

    def clock(self) -> float:
        return self.now

    @contextmanager
    def open_backend(self, bundle: Bundle, name: str, options: Options) -> Iterator[Options]:
        if name in self.refuses:
            raise BundleError(f"{name} refuses the {options.precision} model")
        self.opened.append(options)
        self.now += self.opening
        yield options

    @contextmanager
    def open_executor(self, bundle: Bundle, backend: Options, options: Options) -> Iterator[Executor]:
        yield Executor(self, options)


class Executor:
    batch, depth, fixed, padded = BATCH, 1, True, False

    def __init__(self, world: World, options: Options) -> None:
        self.world, self.options = world, options
        self.waiting: list[int] = []

    def prepare(self, slice_: Any) -> int:
        return int(slice_.header.frame) - 1

    def submit(self, prepared: list[int]) -> None:
        self.waiting = prepared

    def collect(self) -> BatchResult:
        world, rows = self.world, self.waiting
        key = (self.options.precision, self.options.hint)
        factor = world.jitter(world.calls) * (world.per_thread if self.options.threads == 1 else 1.0)
        world.calls += 1
        world.now += world.seconds[key] * len(rows) * factor + 0.001 * world.seconds[key]  # a call costs something too
        logits = {name: values[rows].astype(np.float32) for name, values in world.golden.logits.items()}
        logits[ICH_OUTPUT] = logits[ICH_OUTPUT] + np.array([0, world.off.get(key, 0.0)], np.float32)
        return BatchResult(np.ones(len(rows), int), np.ones(len(rows)), np.ones(len(rows), bool), logits)


def make_world(monkeypatch: pytest.MonkeyPatch, bundle: Bundle, seconds: Mapping[Key, float], **more: Any) -> World:
    """Put a world in the place of this machine: OpenVINO, which knows bf16, on two cores."""
    world = World(bundle.golden(), seconds, **more)
    monkeypatch.setattr(backends, "availability", lambda: {"tensorrt": "no GPU is here", "openvino": None})
    monkeypatch.setattr(backends, "native_hints", lambda name: ("bf16",))
    monkeypatch.setattr(candidates, "usable_cores", lambda: 2)
    monkeypatch.setattr(candidates, "physical_cores", lambda: 2)
    monkeypatch.setattr(opening, "open_backend", world.open_backend)
    monkeypatch.setattr(opened, "open_executor", world.open_executor)
    return world

"""Stages of the kernel alone, against the CPU path bit for bit, and timed between CUDA events."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from unittest import mock

from benchmarks.gpu_check.inputs import enlarged, noise, repeated, study_slices
from benchmarks.gpu_check.settings import Settings
from benchmarks.gpu_check.stages import NotHere
from benchmarks.measure import gpu_times
from dtvit_edge.bundle import Bundle
from dtvit_edge.cuda.device import Device
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.errors import VerdictError
from dtvit_edge.preprocess import compiled, compilers
from dtvit_edge.preprocess import kernel as launches
from dtvit_edge.spec import PreprocessSpec
from evaluation.records import Record

WHAT_BYTES = "CUDA preprocessing against the CPU path"
WHAT_TIME = "CUDA preprocessing"
WAYS = {True: "spread over blocks", False: "a slice a block"}
_AT_ONCE = 64


def alone(settings: Settings) -> Iterator[Record]:
    """Every slice of the studies, then times at each count."""
    with Device() as device:
        yield from _checked(settings, device, study_slices(settings), settings.counts)


def capped(settings: Settings) -> Iterator[Record]:
    """As on a GPU whose shared memory holds neither masks nor most labels."""
    slices = study_slices(settings)
    with Device() as device:
        device.shared_bytes = 4 * launches.SMALL_WORDS + launches.ROOM_BYTES
        yield from _checked(settings, device, slices, settings.counts[:2])


def large(settings: Settings) -> Iterator[Record]:
    """Matrices of 1024 x 1024, the largest that the spec takes."""
    slices = enlarged(repeated(study_slices(settings), min(settings.counts[1:] or settings.counts)))
    with Device() as device:
        yield from _checked(settings, device, slices, settings.counts[:2])


def nvrtc(settings: Settings) -> Iterator[Record]:
    """Machine code that NVRTC has made; it is kept beside the records.

    Raises:
        NotHere: no NVRTC is here.
    """
    found = [compiler for compiler in compilers.find_compilers() if isinstance(compiler, compilers.Nvrtc)]
    if not found:
        raise NotHere("no NVRTC is on this machine")
    with Device() as device:
        binary = compiled.compiled(device.sm, cache=settings.folder / "nvrtc", compilers=found[:1])
        with mock.patch.object(compiled, "compiled", lambda sm: binary):
            yield from _checked(settings, device, study_slices(settings), settings.counts[:2], found[0].identity)


def strewn(settings: Settings) -> Iterator[Record]:
    """Slices with up to far more runs of pixels than the kernel labels: each is right, or said to be too much."""
    spec = Bundle.open(settings.bundle).manifest.spec
    slices = noise(study_slices(settings)[0])
    with Device() as device:
        output = gpu_times.run_kernel(device, spec, slices, settings.rounds)
    prepared = [i for i, counts in enumerate(output.counts) if counts["status"] == launches.PREPARED]
    refused = [i for i, counts in enumerate(output.counts) if counts["status"] == launches.TOO_MANY_RUNS]
    part = gpu_times.KernelOutput(output.pixels[prepared], output.counts[prepared], [], {})
    wrong = gpu_times.differences(part, spec, [slices[i] for i in prepared])
    wrong += len(slices) - len(prepared) - len(refused)
    summary = {"slices": len(slices), "too many runs": len(refused), "slices that differ": wrong}
    yield Record(
        WHAT_BYTES, "us", {"noise": output.microseconds}, {k: float(v) for k, v in summary.items()},
        {"spec": spec.digest}, {"runs": [int(counts["runs"]) for counts in output.counts]},
    )  # fmt: skip
    _judge(wrong, len(slices))


def _checked(
    settings: Settings, device: Device, slices: Sequence[Slice], counts: Sequence[int], compiler: str = ""
) -> Iterator[Record]:
    """The bytes of both ways, then the times of both at each count."""
    spec = Bundle.open(settings.bundle).manifest.spec
    about = {"sm": device.sm, "shared_bytes": device.shared_bytes, "compiler": compiler}
    about |= {"matrix": list(map(max, zip(*(s.stored.shape for s in slices), strict=True)))}
    all_wrong = 0
    for spread, way in WAYS.items():
        wrong, first_us = 0, []
        for start in range(0, len(slices), _AT_ONCE):
            part = slices[start : start + _AT_ONCE]
            output = gpu_times.run_kernel(device, spec, part, 1, spread)
            first_us += output.microseconds
            wrong += gpu_times.differences(output, spec, part)
        summary = {"slices": float(len(slices)), "slices that differ": float(wrong)}
        yield Record(WHAT_BYTES, "us", {"a slice": first_us}, summary, {"spec": spec.digest}, about | {"way": way})
        all_wrong += wrong
    for count in counts:
        for spread in (True, False):
            yield _timed(device, spec, repeated(slices, count), settings.rounds, spread, about)
    _judge(all_wrong, len(slices))


def _timed(
    device: Device, spec: PreprocessSpec, slices: Sequence[Slice], rounds: int, spread: bool, about: dict[str, object]
) -> Record:
    side = f"batch {len(slices)}"
    output = gpu_times.run_kernel(device, spec, slices, rounds, spread)
    median = statistics.median(output.microseconds)
    summary = {f"{side}: median": median, f"{side}: slices a second": 1e6 / max(median, 1e-9)}
    summary |= {f"{side}: {name}": statistics.median(us) for name, us in output.by_launch.items()}
    sides = {side: output.microseconds} | {f"{side}: {name}": us for name, us in output.by_launch.items()}
    return Record(WHAT_TIME, "us", sides, summary, {"spec": spec.digest}, about | {"way": WAYS[spread]})


def _judge(wrong: int, slices: int) -> None:
    if wrong:
        raise VerdictError(f"{wrong} of {slices} slices differ from the CPU path")

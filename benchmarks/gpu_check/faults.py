"""Stages in which the GPU has no memory left, and in which it is asked for an address that is nobody's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.gpu_check.engines import options_of, require_engine
from benchmarks.gpu_check.inputs import repeated, study_slices
from benchmarks.gpu_check.settings import ROOT, Settings
from benchmarks.gpu_check.stages import FAULTING_RUN, NotHere, stage_of
from dtvit_edge.bundle import Bundle
from dtvit_edge.cuda.device import Device
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.errors import DeviceFault, VerdictError
from dtvit_edge.preprocess import kernel
from dtvit_edge.preprocess.cuda import CONSTANT_BYTES, CudaPreprocessor
from dtvit_edge.scoring.api import open_backend, open_executor
from dtvit_edge.scoring.executor import Executor
from dtvit_edge.scoring.run import SLICES, STUDIES, RunReport, run
from dtvit_edge.spec import OUTPUT_NAMES, PreprocessSpec
from dtvit_edge.trt.backend import EngineBackend
from evaluation.records import Record

WHAT_MEMORY = "executor without device memory"
WHAT_FAULT = "run whose device fails, and its rerun"
_LARGEST, _SMALLEST = 1 << 30, 1 << 20
_NOBODYS_ADDRESS = 16
_BATCH = 4  # small, so that a few studies make several batches


def out_of_memory(settings: Settings, precision: str) -> Iterator[Record]:
    """Take the device's memory away but for a quarter of the largest batch: batches shrink and the answers stay.

    Raises:
        NotHere: an integrated GPU, whose memory is the machine's.
        VerdictError: other answers, or batches that did not shrink.
    """
    bundle, options = Bundle.open(settings.bundle), options_of(settings, precision)
    require_engine(settings, bundle, precision)
    with open_backend(bundle, settings.flavour, options) as backend:
        assert isinstance(backend, EngineBackend)
        if backend.device.integrated:
            raise NotHere("an integrated GPU shares the machine's memory: nothing is taken away from it")
        slices = repeated(study_slices(settings), backend.batch)
        with open_executor(bundle, backend, options) as executor:
            expected = _answers(executor, slices)
        spare = _enough_for(slices[: max(1, backend.batch // 4)], bundle.manifest.spec)
        with open_executor(bundle, backend, options) as executor:
            taken = backend.device.call(_take_all_but, backend.device, spare)
            try:
                answers, batch = _answers(executor, slices), executor.batch
            finally:
                if not backend.device.broken:
                    backend.device.call(lambda: [memory.free() for memory in taken])
            again = _answers(executor, slices)
        largest = backend.batch
    found = [(a, e) for one in (answers, again) for a, e in zip(one, expected, strict=True)]
    worst = float(np.max([np.abs(a - e).max() for a, e in found]))  # np.max keeps a NaN
    tolerance = bundle.manifest.tolerances[backend.precision]
    summary = {"batch before": float(largest), "batch after": float(batch), "largest difference": worst}
    yield Record(WHAT_MEMORY, "logit", {"difference": [worst]}, summary, {"bundle": bundle.digest}, {"spare": spare})
    if batch >= largest > 1:
        raise VerdictError(f"batches stay at {batch} although {spare} bytes alone were left")
    if not worst <= tolerance:
        raise VerdictError(f"the answers differ by {worst:.3g}, allowed {tolerance:.3g}")


def resumed(settings: Settings, precision: str) -> Iterator[Record]:
    """A run in a process of its own whose device fails ends with status 5; the rerun leaves a whole run's bytes.

    Raises:
        VerdictError: another status, or other bytes.
    """
    require_engine(settings, Bundle.open(settings.bundle), precision)
    whole = _scored(settings, precision, "without-a-fault")
    stage = stage_of(settings, FAULTING_RUN)
    command = [*settings.boot, str(settings.file), stage.name]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=stage.limit_s, check=False)
    print(ended.stdout, ended.stderr, sep="\n", flush=True)
    if ended.returncode != DeviceFault.exit_status:
        raise VerdictError(
            f"the run whose device failed ended with {ended.returncode}, expected {DeviceFault.exit_status}"
        )
    again = _scored(settings, precision, FAULTING_RUN, overwrite=False)
    rows = sum(whole.counts.values())
    summary = {"status": float(ended.returncode), "rows": float(rows), "from the journal": float(again.resumed)}
    yield Record(
        WHAT_FAULT, "rows", {"from the journal": [float(again.resumed)]}, summary, options={"precision": precision}
    )
    for name in (SLICES, STUDIES):
        one, other = ((_folder(settings, run_) / name).read_bytes() for run_ in ("without-a-fault", FAULTING_RUN))
        if one != other:
            raise VerdictError(f"{name} of the rerun is not the whole run's")


def faulting_run(settings: Settings, precision: str) -> Iterator[Record]:
    """The run itself: its third batch is read from an address that is nobody's. It leaves no record, it raises."""
    prepare, calls = CudaPreprocessor.prepare, iter(range(1 << 30))

    def misplaced(self: CudaPreprocessor, slices: Sequence[kernel.PlacedSlice], *more: Any) -> Any:
        if next(calls) == 2:
            slices = [slice_._replace(address=_NOBODYS_ADDRESS) for slice_ in slices]
        return prepare(self, slices, *more)

    with mock.patch.object(CudaPreprocessor, "prepare", misplaced):
        _scored(settings, precision, FAULTING_RUN)
    yield from ()


def _scored(settings: Settings, precision: str, name: str, *, overwrite: bool = True) -> RunReport:
    options = options_of(settings, precision, batch=min(_BATCH, settings.max_batch), deterministic=True)
    folders = [Path(folder) for folder in settings.studies]
    return run(Bundle.open(settings.bundle), folders, _folder(settings, name), options, overwrite=overwrite)


def _folder(settings: Settings, name: str) -> Path:
    return settings.folder / "scored" / name


def _answers(executor: Executor, slices: Sequence[Slice]) -> list[np.ndarray[Any, Any]]:
    executor.submit([executor.prepare(slice_) for slice_ in slices])
    logits = executor.collect().logits
    return [logits[name].copy() for name in OUTPUT_NAMES]


def _enough_for(slices: Sequence[Slice], spec: PreprocessSpec) -> int:
    """Bytes for batches of these slices under way: pixels of two and of one more for slack, scratch, tables."""
    shapes = [slice_.stored.shape for slice_ in slices]
    pixels = sum(map(kernel.stored_bytes, shapes))
    rows, columns = (max(shape[axis] for shape in shapes) for axis in (0, 1))
    scratch = kernel.scratch_bytes(rows, columns, spec.channels, kernel.RUN_CAPACITY)
    return 3 * pixels + len(slices) * scratch + CONSTANT_BYTES


def _take_all_but(device: Device, spare: int) -> list[Any]:
    """Allocate until nothing more fits, after so many bytes were put aside, and give these back."""
    aside = device.cuda.mem_alloc(spare)
    taken, size = [], _LARGEST
    while size >= _SMALLEST:
        try:
            taken.append(device.cuda.mem_alloc(size))
        except device.cuda.MemoryError:
            size //= 2
    aside.free()
    return taken

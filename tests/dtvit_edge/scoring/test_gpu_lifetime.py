"""What the GPU path holds, and that it goes where the context is current: after closing, a failed opening, a fault."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.cuda import device as cuda_device
from dtvit_edge.cuda.device import Device
from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.dicom.walk import walk
from dtvit_edge.errors import ConfigError, DeviceFault, DtvitError
from dtvit_edge.preprocess import kernel
from dtvit_edge.scoring.api import Options, headers_of, open_backend, open_executor
from dtvit_edge.scoring.pinned_slices import PinnedSlice, PinnedSlices
from tests.support.cuda.fixtures import install_engine

MakeGpu = Callable[..., Any]
GPU = Options(backend="tensorrt")


@pytest.fixture(scope="module")
def slices(phantom_folder: Path) -> list[Slice]:
    reader = SliceReader()
    return [reader.read(header) for header in headers_of(discover(walk([phantom_folder])))[8:12]]


def left(gpu: Any) -> dict[str, int]:
    gc.collect()  # in this thread, which has no context
    return dict(gpu.left())


def test_a_hundred_openings_leave_nothing(bundle: Bundle, slices: list[Slice], make_gpu: MakeGpu) -> None:
    gpu = make_gpu()
    install_engine(bundle, max_batch=2)
    for cycle in range(100):
        with open_backend(bundle, "tensorrt", GPU) as backend, open_executor(bundle, backend, GPU) as executor:
            if cycle % 20 == 0:
                for _ in range(5):
                    executor.submit(slices[:2])
                    executor.collect()
                executor.submit(slices[:2])  # and one that nobody collects
        assert gpu.left() == {}
    assert left(gpu) == {}
    assert gpu.launched.count("graph") > 0


@pytest.mark.parametrize("integrated", [False, True], ids=["discrete", "jetson"])
def test_an_opening_that_fails_at_any_step_leaves_nothing(bundle: Bundle, make_gpu: MakeGpu, integrated: bool) -> None:
    install_engine(bundle, max_batch=3)
    for step in range(1, 100):
        gpu = make_gpu(integrated=integrated, fails_at=step)
        try:
            with open_backend(bundle, "tensorrt", GPU) as backend, open_executor(bundle, backend, GPU):
                pass
        except DtvitError as error:
            assert left(gpu) == {} and gpu.threads == [], f"step {step}: {error}"
        else:
            break
    assert 25 < step < 99, "every step has failed once"


@pytest.mark.parametrize("after", [0, 3, 9])
def test_a_fault_leaves_nothing_in_another_thread(
    bundle: Bundle, slices: list[Slice], make_gpu: MakeGpu, after: int
) -> None:
    gpu = make_gpu()
    install_engine(bundle, max_batch=2)
    with (
        pytest.raises(DeviceFault, match="illegal"),
        open_backend(bundle, "tensorrt", GPU) as backend,
        open_executor(bundle, backend, GPU) as executor,
    ):
        for _ in range(after):
            executor.submit(slices[:2])
            executor.collect()
        executor.submit(slices[:2])
        gpu.sticky = "an illegal memory access was encountered"
        executor.collect()
    assert left(gpu) == {}


def test_a_reader_that_writes_while_the_executor_closes_writes_into_memory_that_is_there(
    bundle: Bundle, slices: list[Slice], make_gpu: MakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = make_gpu()
    install_engine(bundle, max_batch=2)
    writing, closing = threading.Event(), threading.Event()
    real_write, real_close = kernel.write_stored, PinnedSlices.close

    def write(stored: Any, host: Any) -> None:
        writing.set()
        closing.wait(0.5)
        gpu.view(host.ctypes.data, host.nbytes)
        real_write(stored, host)

    def close(self: PinnedSlices) -> None:
        closing.set()
        real_close(self)

    monkeypatch.setattr(kernel, "write_stored", write)
    monkeypatch.setattr(PinnedSlices, "close", close)
    with ThreadPoolExecutor(1) as reader:
        with open_backend(bundle, "tensorrt", GPU) as backend, open_executor(bundle, backend, GPU) as executor:
            put = reader.submit(executor.prepare, slices[0])
            assert writing.wait(5)
        assert isinstance(put.result(5), PinnedSlice)
    assert executor.prepare(slices[1]) is slices[1]
    assert left(gpu) == {}


def test_the_owner_thread_may_call_itself(make_gpu: MakeGpu) -> None:
    make_gpu()
    answers: list[int] = []

    def nested() -> None:
        with Device() as device:
            answers.append(device.call(lambda: device.call(lambda: 7)))

    worker = threading.Thread(target=nested, daemon=True)
    worker.start()
    worker.join(20)
    assert answers == [7], "it waits for itself"


def test_a_device_or_backend_that_is_not_open_is_the_callers_mistake(bundle: Bundle, make_gpu: MakeGpu) -> None:
    make_gpu()
    install_engine(bundle)
    with pytest.raises(ConfigError, match="the device is not open"):
        Device().call(lambda: None)
    backend = open_backend(bundle, "tensorrt", GPU)
    pixels = bundle.golden().pixels
    with pytest.raises(ConfigError, match="the tensorrt backend is not open"):
        backend.infer(pixels)
    with backend:
        for wrong in (pixels.astype("float32"), pixels[:, :, :-1], pixels[0], pixels[:0]):
            with pytest.raises(ConfigError, match="the model takes slices of"):
                backend.infer(wrong)
        with pytest.raises(ConfigError, match="batches up to 8, not 9"):
            backend.layers(pixels[[0] * 9])  # type: ignore[attr-defined]
        backend.infer(pixels[:1])


@pytest.mark.parametrize(("cores", "sleeps"), [(2, True), (6, True), (8, False), (64, False)])
def test_who_waits_for_a_batch_sleeps_where_cores_are_few(
    bundle: Bundle, make_gpu: MakeGpu, monkeypatch: pytest.MonkeyPatch, cores: int, sleeps: bool
) -> None:
    monkeypatch.setattr(cuda_device, "usable_cores", lambda: cores)
    make_gpu()
    with Device() as device:
        flags = device.call(lambda: device.event().flags)
        kinds = device.cuda.event_flags
    assert flags == kinds.DISABLE_TIMING | (kinds.BLOCKING_SYNC if sleeps else 0)


def test_a_run_on_the_second_gpu_says_so_and_an_absent_one_is_refused(
    bundle: Bundle, phantom_folder: Path, tmp_path: Path, make_gpu: MakeGpu, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu = make_gpu(names=("Orin", "Orin"))
    install_engine(bundle)
    study = str(sorted(phantom_folder.iterdir())[0])
    command = ["-q", "score", str(bundle.path), study, "--backend", "tensorrt", "--device"]
    assert main([*command, "1", "-o", str(tmp_path / "out")]) in (0, 3)
    assert gpu.opened == [1]
    said = json.loads((tmp_path / "out" / "run.json").read_text())["backend"]
    assert (said["device"], said["cuda_ordinal"]) == ("Orin", "1")
    assert main(["-q", "verify", str(bundle.path), "--backend", "tensorrt", "--device", "1"]) == 0
    assert gpu.opened == [1, 1]
    capsys.readouterr()
    assert main([*command, "2", "-o", str(tmp_path / "none")]) == 2
    assert "no CUDA device 2 here; there are: 0 (Orin, SM 8.7), 1 (Orin, SM 8.7)" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()

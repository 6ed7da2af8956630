"""The whole GPU executor on the stand-in GPU, against the CPU path on the same studies."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtvit_edge.bundle import GOLDEN_FILES, Bundle, Golden
from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.dicom.walk import walk
from dtvit_edge.errors import ConfigError, DeviceFault, VerdictError
from dtvit_edge.preprocess import cuda as cuda_preprocess
from dtvit_edge.preprocess import kernel
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.scoring.api import Options, headers_of, open_backend, open_executor, score
from dtvit_edge.scoring.run import run
from tests.support.cuda import harness, streams
from tests.support.cuda.fixtures import install_engine
from tests.support.scoring_runs import results, table

MakeGpu = Callable[..., Any]
GPU = Options(backend="tensorrt")


@pytest.fixture(scope="module")
def slices(phantom_folder: Path) -> list[Slice]:
    reader = SliceReader()
    return [reader.read(header) for header in headers_of(discover(walk([phantom_folder])))]


def with_the_cpu(bundle: Bundle, prepared: list[Slice]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    with open_backend(bundle, "onnxruntime", Options()) as backend:
        on_cpu = [CpuPreprocessor(bundle.manifest.spec)(s.stored, s.header.encoding) for s in prepared]
        logits = backend.infer(np.stack([p.pixels for p in on_cpu]))
    return np.array([p.head_pixels for p in on_cpu]), np.concatenate(list(logits.values()), axis=1)


@pytest.mark.parametrize("integrated", [False, True], ids=["discrete", "jetson"])
@pytest.mark.parametrize("deterministic", [False, True])
def test_a_run_gives_what_the_cpu_gives(
    bundle: Bundle, phantom_folder: Path, tmp_path: Path, make_gpu: MakeGpu, integrated: bool, deterministic: bool
) -> None:
    gpu = make_gpu(integrated=integrated)
    install_engine(bundle, max_batch=5)
    run(bundle, [phantom_folder], tmp_path / "cpu", Options(backend="onnxruntime"))
    options = replace(GPU, deterministic=deterministic, workers=3)
    report = run(bundle, [phantom_folder], tmp_path / "gpu", options)
    assert results(tmp_path / "gpu") == results(tmp_path / "cpu")
    assert report.exit_status == 0 and len(table(tmp_path / "gpu" / "slices.csv")) > 30
    uploads = gpu.launched.count("up")
    assert uploads == 1 if integrated else uploads > 20, "a Jetson copies tables and weights, once, and no pixels"
    if deterministic:
        assert gpu.launched.count("graph") >= 4, "equal batches are replayed"


def test_two_batches_are_under_way_and_answer_in_order(bundle: Bundle, slices: list[Slice], make_gpu: MakeGpu) -> None:
    make_gpu()
    install_engine(bundle, max_batch=8)
    heads, logits = with_the_cpu(bundle, slices[:30])
    with open_backend(bundle, "tensorrt", GPU) as backend, open_executor(bundle, backend, GPU) as executor:
        sizes, results = [8, 3, 8, 8, 3], []
        starts = np.cumsum([0, *sizes])
        for i, start in enumerate(starts[:-1]):
            executor.submit(slices[start : starts[i + 1]])
            if i:
                results.append(executor.collect())
        results.append(executor.collect())
    assert np.concatenate([a.head_pixels for a in results]).tolist() == heads.tolist()
    together = np.concatenate([np.concatenate(list(a.logits.values()), axis=1) for a in results])
    np.testing.assert_allclose(together, logits, atol=1e-5)


def test_equal_batches_become_a_graph_and_a_refused_capture_changes_nothing(
    bundle: Bundle, slices: list[Slice], make_gpu: MakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="dtvit_edge")
    _, logits = with_the_cpu(bundle, slices[:4])
    for refuses in (False, True):
        gpu = make_gpu()
        gpu.refuses_capture = refuses
        install_engine(bundle, max_batch=4)
        with open_backend(bundle, "tensorrt", GPU) as backend, open_executor(bundle, backend, GPU) as executor:
            for _ in range(9):
                executor.submit(slices[:4])
                answers = executor.collect()
                np.testing.assert_allclose(answers.logits["ich_logits"], logits[:, :2], atol=1e-5)
        # Two slots, each with its own addresses: two plain launches each, then the graph.
        assert gpu.launched.count("graph") == (0 if refuses else 5)
    assert caplog.text.count("no CUDA graph") == 1


@pytest.mark.parametrize("integrated", [False, True], ids=["discrete", "jetson"])
def test_a_slice_that_overflows_the_labels_goes_through_the_cpu(
    bundle: Bundle,
    slices: list[Slice],
    make_gpu: MakeGpu,
    kernel_library: ctypes.CDLL,
    monkeypatch: pytest.MonkeyPatch,
    integrated: bool,
) -> None:
    gpu = make_gpu(integrated=integrated)
    install_engine(bundle)
    batch = [(s.stored, s.header.encoding) for s in slices[:8]]
    runs = harness.launch(kernel_library, batch, bundle.manifest.spec).stats["runs"]
    monkeypatch.setattr(kernel, "RUN_CAPACITY", int(np.median(runs)))
    heads, logits = with_the_cpu(bundle, slices[:8])
    with open_backend(bundle, "tensorrt", GPU) as backend, open_executor(bundle, backend, GPU) as executor:
        executor.submit(slices[:8])
        executor.submit(slices[7::-1])  # under way while those of the first go one by one
        results = [executor.collect(), executor.collect()]
    assert gpu.launched.count("engine") == 2 * (1 + 4), "the batch, and four by themselves"
    for answers, order in zip(results, (slice(None), slice(None, None, -1)), strict=True):
        assert answers.head_pixels.tolist() == heads[order].tolist()
        np.testing.assert_allclose(answers.logits["ich_logits"], logits[order, :2], atol=1e-5)


@pytest.mark.parametrize("integrated", [False, True], ids=["discrete", "jetson"])
def test_the_bytes_of_a_slice_that_overflows_the_labels_are_the_cpus(
    bundle: Bundle, slices: list[Slice], make_gpu: MakeGpu, monkeypatch: pytest.MonkeyPatch, integrated: bool
) -> None:
    make_gpu(integrated=integrated)
    install_engine(bundle, max_batch=3)
    monkeypatch.setattr(kernel, "RUN_CAPACITY", 256)
    noise, patient = np.full((128, 128), 1064, np.uint16), np.full((128, 128), 24, np.uint16)
    noise[::11, ::11], patient[20:100, 20:100] = 24, 1059
    sound = with_encoding(slices[9], -1024.0)
    noisy, whole = replace(sound, stored=noise), replace(sound, stored=patient)
    with open_backend(bundle, "tensorrt", GPU) as backend, open_executor(bundle, backend, GPU) as executor:
        got = executor.prepared_bytes([noisy, whole, whole, executor.prepare(noisy), whole])
    prepare = CpuPreprocessor(bundle.manifest.spec)
    expected = [prepare(s.stored, s.header.encoding).pixels for s in (noisy, whole, whole, noisy, whole)]
    np.testing.assert_array_equal(got, np.stack(expected))
    assert not np.array_equal(expected[0], expected[1])


@pytest.mark.parametrize("integrated", [False, True], ids=["discrete", "jetson"])
def test_sizes_and_encodings_mixed_in_one_batch_wherever_their_pixels_lie(
    bundle: Bundle, slices: list[Slice], make_gpu: MakeGpu, integrated: bool
) -> None:
    make_gpu(integrated=integrated)
    install_engine(bundle)
    shifted = [with_encoding(s, intercept) for s, intercept in zip(slices[8:12], (0.0, -3.0, 5.0, 0.0), strict=True)]
    odd = [replace(s, stored=np.ascontiguousarray(s.stored[i:, 3 * i : -1 - i])) for i, s in enumerate(shifted)]
    heads, logits = with_the_cpu(bundle, odd)
    with open_backend(bundle, "tensorrt", GPU) as backend, open_executor(bundle, backend, GPU) as executor:
        pinned = {i: executor.prepare(odd[i]) for i in (2, 0, 3)}  # out of order, and one that is not prepared
        executor.submit([pinned.get(i, slice_) for i, slice_ in enumerate(odd)])
        executor.submit([pinned[0]])
        together, alone = executor.collect(), executor.collect()
        assert executor.prepared_bytes(odd[:1]).shape == (1, 1, 224, 224)
    assert together.head_pixels.tolist() == heads.tolist() and alone.head_pixels[0] == heads[0]
    np.testing.assert_allclose(together.logits["ich_logits"], logits[:, :2], atol=1e-5)
    np.testing.assert_allclose(alone.logits["ich_logits"], logits[:1, :2], atol=1e-5)


def with_encoding(slice_: Slice, intercept: float) -> Slice:
    encoding = replace(slice_.header.encoding, intercept=intercept)
    return replace(slice_, header=replace(slice_.header, encoding=encoding))


def test_more_encodings_than_there_is_room_for_are_sent_anew(
    bundle: Bundle, slices: list[Slice], make_gpu: MakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_preprocess, "CONSTANT_BYTES", 3 << 16)
    gpu = make_gpu()
    install_engine(bundle, max_batch=6)
    wanted = [with_encoding(slices[9], float(i % 7) - 3) for i in range(23)]
    heads, logits = with_the_cpu(bundle, wanted)
    with open_backend(bundle, "tensorrt", GPU) as backend, open_executor(bundle, backend, GPU) as executor:
        got = []
        for start in range(0, 23, 4):
            executor.submit(wanted[start : start + 4])
            got += [executor.collect()] if start else []
        got.append(executor.collect())
    assert np.concatenate([a.head_pixels for a in got]).tolist() == heads.tolist()
    np.testing.assert_allclose(np.concatenate([a.logits["ich_logits"] for a in got]), logits[:, :2], atol=1e-5)
    assert gpu.device_bytes == 0


def test_reader_threads_copy_the_pixels_and_the_owner_thread_none(
    bundle: Bundle, phantom_folder: Path, tmp_path: Path, make_gpu: MakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_gpu()
    install_engine(bundle, max_batch=4)
    real, threads = kernel.write_stored, []

    def write(*arguments: Any) -> None:
        threads.append(threading.current_thread().name)
        real(*arguments)

    monkeypatch.setattr(kernel, "write_stored", write)
    run(bundle, [phantom_folder], tmp_path / "out", replace(GPU, workers=2))
    assert len(threads) > 30 and {name.partition("_")[0] for name in threads} == {"prefetcher"}


@pytest.mark.parametrize("forgotten", ["wait", "event"])
def test_an_engine_that_does_not_wait_for_the_kernel_is_noticed(
    bundle: Bundle, slices: list[Slice], make_gpu: MakeGpu, monkeypatch: pytest.MonkeyPatch, forgotten: str
) -> None:
    make_gpu()
    install_engine(bundle, max_batch=4)
    _, logits = with_the_cpu(bundle, slices[8:12])
    if forgotten == "wait":
        monkeypatch.setattr(streams.Stream, "wait_for_event", lambda self, event: None)
    with open_backend(bundle, "tensorrt", GPU) as backend, open_executor(bundle, backend, GPU) as executor:
        if forgotten == "event":  # recorded in the other stream, where it says nothing
            record = streams.Event.record
            monkeypatch.setattr(streams.Event, "record", lambda self, stream: record(self, backend.engine.stream))
        executor.submit(slices[8:12])
        wrong = executor.collect().logits["ich_logits"]
    assert not np.allclose(wrong, logits[:, :2], atol=1e-5)


def test_matrices_of_many_sizes_and_masks_that_fit_no_shared_memory(
    bundle: Bundle, slices: list[Slice], make_gpu: MakeGpu
) -> None:
    make_gpu()
    install_engine(bundle)
    large = replace(slices[9], stored=np.ascontiguousarray(slices[9].stored.repeat(2, 0).repeat(2, 1)))
    odd = replace(slices[10], stored=np.ascontiguousarray(slices[10].stored[:, 40:-41]))
    batches = [[slices[8], odd], [slices[9], large, odd], [slices[8], odd]]
    with open_backend(bundle, "tensorrt", GPU) as backend, open_executor(bundle, backend, GPU) as executor:
        for batch in batches:
            heads, logits = with_the_cpu(bundle, batch)
            executor.submit(batch)
            answers = executor.collect()
            assert answers.head_pixels.tolist() == heads.tolist()
            np.testing.assert_allclose(answers.logits["ich_logits"], logits[:, :2], atol=1e-5)


def test_too_little_memory_halves_the_batch_and_says_so(
    bundle: Bundle, slices: list[Slice], make_gpu: MakeGpu, caplog: pytest.LogCaptureFixture
) -> None:
    heads, logits = with_the_cpu(bundle, slices[:24])
    gpu = make_gpu(limit=6 << 20)
    install_engine(bundle, max_batch=8)
    with open_backend(bundle, "tensorrt", GPU) as backend, open_executor(bundle, backend, GPU) as executor:
        executor.submit(slices[:2])
        executor.submit(slices[2:10])
        answers = [executor.collect(), executor.collect()]
        assert executor.batch in (1, 2, 4)
        executor.submit(slices[10:18])  # fixed batches stay as large as they were
        answers.append(executor.collect())
    assert "batches of 4 from here on" in caplog.text
    assert np.concatenate([a.head_pixels for a in answers]).tolist() == heads[:18].tolist()
    np.testing.assert_allclose(np.concatenate([a.logits["ich_logits"] for a in answers]), logits[:18, :2], atol=1e-5)
    assert gpu.device_bytes == 0


def test_too_little_memory_for_one_slice_is_a_fault(bundle: Bundle, slices: list[Slice], make_gpu: MakeGpu) -> None:
    make_gpu(limit=600_000)
    install_engine(bundle, max_batch=2)
    with (
        open_backend(bundle, "tensorrt", GPU) as backend,
        open_executor(bundle, backend, GPU) as executor,
        pytest.raises(DeviceFault, match="at batch 1"),
    ):
        executor.submit(slices[:1])


def test_a_sticky_error_stops_marks_what_was_under_way_and_a_rerun_finishes(
    bundle: Bundle, phantom_folder: Path, tmp_path: Path, make_gpu: MakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = make_gpu()
    install_engine(bundle, max_batch=4)
    options = replace(GPU, deterministic=True)
    real = gpu.run
    left = iter(range(20))

    def fails(name: str, work: Callable[[], None]) -> None:
        if next(left, None) is None:
            gpu.sticky = "an illegal memory access was encountered"
        real(name, work)

    monkeypatch.setattr(gpu, "run", fails)
    with pytest.raises(DeviceFault, match="illegal memory access") as caught:
        run(bundle, [phantom_folder], tmp_path / "out", options)
    assert caught.value.exit_status == 5
    journal = (tmp_path / "out" / "journal.jsonl").read_text()
    assert '"in_flight":["' in journal
    make_gpu()
    report = run(bundle, [phantom_folder], tmp_path / "out", options)
    assert report.resumed > 0
    run(bundle, [phantom_folder], tmp_path / "cpu", Options(backend="onnxruntime"))
    assert results(tmp_path / "out") == results(tmp_path / "cpu")


def test_an_engine_that_was_never_tested_is_tested_first(
    bundle: Bundle, phantom_folder: Path, make_gpu: MakeGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = make_gpu()
    install_engine(bundle, max_batch=3, proven=False)
    assert all(r.study.ich_probability is not None for r in score(bundle, [phantom_folder], GPU))
    assert gpu.launched.index("engine") < gpu.launched.index("preprocess_mask"), "golden slices come first"
    monkeypatch.setitem(bundle.manifest.tolerances, "fp32", 0.0)
    monkeypatch.setattr(type(bundle), "golden", lambda self: _off_by_one(tiny=self))
    with pytest.raises(VerdictError, match="differs from the golden logits"):
        next(score(bundle, [phantom_folder], GPU))


def _off_by_one(tiny: Bundle) -> Any:
    golden = Golden.from_files(
        {file: (tiny.path / file).read_bytes() for file in GOLDEN_FILES}, tiny.manifest.golden_slices, (1, 224, 224)
    )
    return replace(golden, logits={name: values + 1 for name, values in golden.logits.items()})


def test_a_batch_beyond_the_engines_profile_is_refused_before_the_first_file(
    bundle: Bundle, phantom_folder: Path, tmp_path: Path, make_gpu: MakeGpu
) -> None:
    make_gpu()
    install_engine(bundle, max_batch=4)
    with pytest.raises(ConfigError, match="batches up to 4, not 5"):
        run(bundle, [phantom_folder], tmp_path / "out", replace(GPU, batch=5))
    assert not (tmp_path / "out").exists()

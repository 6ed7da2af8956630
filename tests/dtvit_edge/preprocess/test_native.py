"""`native.c` against OpenCV's path, bit for bit: in this process, under sanitizers, and for aarch64 in an emulator."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dtvit_edge.environment import instruction_sets
from dtvit_edge.preprocess import native, opencv
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.preprocess.native import Library, NativePlan, native_plan
from dtvit_edge.spec import PixelEncoding, PreprocessSpec, digest_bytes
from tests.support.native.fuzz import comb, fuzz_case, spiral
from tests.support.native.harness import ZIG, Prepared, compile_driver, run_driver
from tests.support.preprocess_cases import PLAIN, SIGNED, THREE, Case, cases, store

CASES = tuple(c for c in cases() if c.spec.resize is not None or min(c.stored.shape) >= c.spec.crop)
FUZZED = 120
WHY_NOT = "" if isinstance(native.library(), Library) else native.description()

needs_library = pytest.mark.skipif(bool(WHY_NOT), reason=f"{WHY_NOT} (`make` builds it where a C compiler is)")


def same(case: Case, result: Prepared, *, crop: bool = True) -> bool:
    expected = opencv.prepare(case.stored, case.encoding, case.spec, crop)
    return np.array_equal(result[0], expected[0]) and result[1:] == expected[1:]


def equal(case: Case, *, crop: bool = True) -> bool:
    """Does the library, for this processor and for any, give what OpenCV's path gives?"""
    plan = native_plan(*case.stored.shape, case.encoding, case.spec, crop)
    assert plan is not None, case.name
    return all(same(case, plan.prepare(case.stored, anywhere=anywhere), crop=crop) for anywhere in (False, True))


@needs_library
@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in CASES])
def test_every_reference_case_is_bit_equal(case: Case) -> None:
    assert equal(case, crop=len(case.name) % 2 == 0)


@needs_library
@pytest.mark.parametrize("part", range(4))
def test_random_slices_encodings_and_specs_are_bit_equal(part: int) -> None:
    fuzzed = [fuzz_case(seed) for seed in range(part, FUZZED, 4)]
    for case in fuzzed:
        assert equal(case), case.name
    heads = sum(opencv.prepare(case.stored, case.encoding, case.spec, True)[1] > 0 for case in fuzzed)
    assert heads > len(fuzzed) // 5


@needs_library
@pytest.mark.parametrize(
    "image",
    [
        pytest.param(spiral(512, 512, 10, 2), id="a spiral whose way in is outside"),
        pytest.param(spiral(333, 1024, 9, 9), id="a spiral that erosion leaves as lines"),
        pytest.param(comb(512, 1024, 9, 1, upwards=True), id="a comb that is united in its first row"),
        pytest.param(comb(1024, 512, 9, 1, upwards=False), id="a comb that is united in its last row"),
        pytest.param(comb(1024, 1024, 9, 1, upwards=False).T, id="a comb of rows"),
        pytest.param(~np.kron(np.eye(40), np.ones((12, 12))).astype(bool), id="holes that touch at corners"),
        pytest.param(np.kron(np.indices((20, 20)).sum(0) % 2, np.ones((20, 20))).astype(bool), id="equal squares"),
    ],
)
def test_what_labels_are_worst_at_is_bit_equal(image: np.ndarray) -> None:
    case = Case("worst", store(np.where(image, 40.0, -1000.0), SIGNED), SIGNED)
    assert equal(case)
    dots = PreprocessSpec(disk_half_widths=(0,), edge_columns=0)  # nothing is eroded: every pixel may be a component
    assert equal(replace(case, spec=dots))
    rng = np.random.default_rng(1)
    speckle = store(np.where(image ^ (rng.random(image.shape) < 0.2), 40.0, -1000.0), SIGNED)
    assert equal(Case("speckle", speckle, SIGNED, dots))


@needs_library
def test_views_of_any_strides_byte_order_and_place_give_the_same_bytes() -> None:
    case = next(c for c in CASES if c.name == "phantom-nonsquare")
    rows, columns = case.stored.shape
    wide = np.zeros((2 * rows, 3 * columns), np.uint16)
    wide[::2, ::3] = case.stored
    odd = np.zeros(case.stored.nbytes + 1, np.uint8)
    odd[1:] = case.stored.reshape(-1).view(np.uint8)
    views = {
        "strides": wide[::2, ::3],
        "columns first": np.asfortranarray(case.stored),
        "backwards": np.ascontiguousarray(case.stored[::-1, ::-1])[::-1, ::-1],
        "big-endian": case.stored.astype(">u2"),
        "odd address": odd[1:].view(np.uint16).reshape(rows, columns),
        "read-only": np.frombuffer(case.stored.tobytes(), np.uint16).reshape(rows, columns),
    }
    prepare = CpuPreprocessor(PLAIN)
    expected = CpuPreprocessor(PLAIN, native=False)(case.stored, case.encoding)
    for name, view in views.items():
        before = view.copy()
        result = prepare(view, case.encoding)
        np.testing.assert_array_equal(result.pixels, expected.pixels, err_msg=name)
        assert (result.head_pixels, result.brain_share) == (expected.head_pixels, expected.brain_share), name
        np.testing.assert_array_equal(view, before, err_msg=name)


@needs_library
def test_threads_prepare_slices_of_many_sizes_side_by_side() -> None:
    chosen = CASES[::5]
    expected = [CpuPreprocessor(c.spec, native=False)(c.stored, c.encoding).pixels for c in chosen]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda c: CpuPreprocessor(c.spec)(c.stored, c.encoding).pixels, chosen * 8))
    for result, wanted in zip(results, expected * 8, strict=True):
        np.testing.assert_array_equal(result, wanted)


@needs_library
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_prepares_slices() -> None:
    case = CASES[0]
    expected = CpuPreprocessor(PLAIN)(case.stored, case.encoding)
    if not (child := os.fork()):
        result = CpuPreprocessor(PLAIN)(case.stored, case.encoding)
        os._exit(0 if np.array_equal(result.pixels, expected.pixels) else 1)
    assert os.waitpid(child, 0)[1] == 0


@needs_library
@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(PreprocessSpec(disk_half_widths=(1, 1)), id="a disk of two rows"),
        pytest.param(PreprocessSpec(disk_half_widths=(0,) * 33), id="a disk of 33 rows"),
        pytest.param(PreprocessSpec(mask_threshold=10.5), id="a threshold between two bytes"),  # type: ignore[arg-type]
    ],
)
def test_specs_that_the_library_does_not_take_are_prepared_with_opencv(spec: PreprocessSpec) -> None:
    case = CASES[2]
    assert native_plan(*case.stored.shape, case.encoding, spec) is None
    expected = opencv.prepare(case.stored, case.encoding, spec, True)
    np.testing.assert_array_equal(CpuPreprocessor(spec)(case.stored, case.encoding).pixels, expected[0])


@needs_library
def test_other_types_and_larger_matrices_than_the_library_takes_are_prepared_with_opencv() -> None:
    case = CASES[2]
    for other in (case.stored.astype(np.int64), np.pad(case.stored, ((0, 600), (0, 0)))):
        expected = opencv.prepare(other, case.encoding, PLAIN, True)
        np.testing.assert_array_equal(CpuPreprocessor(PLAIN)(other, case.encoding).pixels, expected[0])


@needs_library
def test_pixels_of_another_size_or_type_than_the_plans_are_refused_before_the_library_reads_them() -> None:
    plan = NativePlan(64, 64, SIGNED, PLAIN, True)
    for other in (np.zeros((64, 63), np.uint16), np.zeros((64, 64), np.uint8), np.zeros(64 * 64, np.uint16)):
        with pytest.raises(ValueError, match="the plan is for"):
            plan.prepare(other)


@needs_library
def test_weights_that_reach_outside_of_a_slice_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = native.resample_plan(64, 64, PLAIN, True)
    beyond = replace(whole, vertical=replace(whole.vertical, start=whole.vertical.start + 60))
    monkeypatch.setattr(native, "resample_plan", lambda *_: beyond)
    with pytest.raises(native.NotNative, match="outside of the slice"):
        NativePlan(64, 64, SIGNED, PLAIN, True)


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What is loaded is looked for again, in the test and after it."""
    for cached in (native._loaded, native.native_plan):
        cached.cache_clear()
    yield
    for cached in (native._loaded, native.native_plan):
        cached.cache_clear()


def test_a_library_that_is_missing_stale_or_none_leaves_the_bytes_to_opencv_and_is_named(
    forgotten: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    case, expected = CASES[0], opencv.prepare(CASES[0].stored, SIGNED, PLAIN, True)[0]
    text = tmp_path / "libdtvit_native.so"
    text.write_text("no library")
    sealed = tmp_path / "sealed.so"
    sealed.write_text("no library" + digest_bytes(b"no library"))
    edited = tmp_path / "native.c"
    edited.write_bytes(native.SOURCE.read_bytes() + b"\n")
    reasons = {
        "this installation has no": ("LIBRARY", tmp_path / "nowhere" / text.name),
        "is damaged": ("LIBRARY", text),
        "cannot be loaded": ("LIBRARY", sealed),
        **({} if WHY_NOT else {"was built from another native.c than the one beside it": ("SOURCE", edited)}),
    }
    for reason, (name, value) in reasons.items():
        with monkeypatch.context() as patch:
            patch.setattr(native, name, value)
            native._loaded.cache_clear()
            native.native_plan.cache_clear()
            assert reason in native.description() and native.description().startswith("OpenCV and NumPy: ")
            np.testing.assert_array_equal(CpuPreprocessor(PLAIN)(case.stored, case.encoding).pixels, expected)


@needs_library
def test_a_library_that_lost_or_changed_a_part_is_never_mapped(
    forgotten: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = native.LIBRARY.read_bytes()
    monkeypatch.setattr(native, "LIBRARY", tmp_path / "damaged.so")
    middle = len(whole) // 2
    for damaged in (whole[:4096], whole[:-1], whole[:middle] + bytes(4096) + whole[middle + 4096 :], b""):
        native.LIBRARY.write_bytes(damaged)
        native._loaded.cache_clear()
        assert native.description() == "OpenCV and NumPy: damaged.so is damaged"


def test_threads_that_ask_at_once_are_told_once_why_the_library_is_not_taken(
    forgotten: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def slow() -> None:
        time.sleep(0.02)
        raise native.NotNative("it is slow")

    monkeypatch.setattr(native, "Library", slow)
    caplog.set_level("INFO", native.log.name)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: native.library(), range(4))) == {"it is slow"}
    assert [record.getMessage() for record in caplog.records] == ["slices are prepared with OpenCV: it is slow"]


def test_the_switch_leaves_the_library_alone(forgotten: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.SWITCH, "0")
    assert native.description() == "OpenCV and NumPy: switched off by DTVIT_NATIVE=0"


@needs_library
@pytest.mark.skipif(platform.machine() != "x86_64" or not instruction_sets(), reason="x86-64 Linux says what it has")
def test_avx2_is_taken_where_the_processor_has_it() -> None:
    assert native.description().endswith("AVX2") == ("avx2" in instruction_sets())


@needs_library
def test_slices_are_prepared_without_loading_opencv() -> None:
    code = (
        "import sys, numpy as np; from dtvit_edge.preprocess.cpu import CpuPreprocessor; "
        "from dtvit_edge.spec import PixelEncoding, PreprocessSpec; "
        "CpuPreprocessor(PreprocessSpec())(np.zeros((64, 64), np.uint16), PixelEncoding()); "
        "sys.exit('cv2' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def judged_by_driver(driver: list[str], folder: Path) -> None:
    chosen = [*CASES, *(fuzz_case(seed) for seed in range(1000, 1200))]
    results = run_driver(driver, chosen, folder)
    assert [case.name for case, result in zip(chosen, results, strict=True) if not same(case, result)] == []


@needs_library
@pytest.mark.real
@pytest.mark.parametrize("flags", [(), ("-mavx2", "-mbmi", "-mpopcnt")], ids=["any processor", "AVX2"])
def test_sanitizers_find_nothing(flags: tuple[str, ...], tmp_path: Path) -> None:
    """AddressSanitizer and UndefinedBehaviorSanitizer; every part of the scratch is an allocation of its own."""
    if flags and "avx2" not in instruction_sets():
        pytest.skip("this processor has no AVX2")
    if (compiler := shutil.which("gcc")) is None:
        pytest.skip("no gcc here")
    sanitizers = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    own = "memory ? malloc(bytes) : (uint8_t *)part(&end, bytes)"
    driver = compile_driver([compiler], tmp_path, *sanitizers, *flags, part=own)
    environment = ["env", "ASAN_OPTIONS=detect_leaks=0"]  # nobody frees the parts
    judged_by_driver([*environment, str(driver)], tmp_path)


@needs_library
@pytest.mark.real
def test_aarch64_gives_the_same_bytes_in_an_emulator(tmp_path: Path) -> None:
    gcc = shutil.which("aarch64-linux-gnu-gcc")
    zig = [str(ZIG), "-m", "ziglang", "cc", "-target", "aarch64-linux-musl"] if ZIG.is_file() else None
    compiler = [gcc] if gcc else zig
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if compiler is None or emulator is None:
        pytest.skip("needs qemu-aarch64 (Debian: qemu-user), and gcc-aarch64-linux-gnu or the zig of `make dist`")
    driver = compile_driver(compiler, tmp_path, "-O3", "-static")
    judged_by_driver([emulator, str(driver)], tmp_path)


def test_the_longest_run_of_patterns_with_byte_0_may_pass_the_last_pattern() -> None:
    table = np.ones(1 << 16, np.uint8)
    table[65000:] = table[:100] = table[500:700] = 0
    assert native._zeros(table) == (65000, 636)
    assert native._zeros(np.zeros(1 << 16, np.uint8)) == (0, 1 << 16)
    assert native._zeros(np.ones(1 << 16, np.uint8))[1] == 0


def test_an_encoding_whose_air_lies_at_both_ends_of_the_patterns_is_bit_equal() -> None:
    hu = np.linspace(-1100, 3000, 96 * 96).reshape(96, 96)
    for encoding in (PixelEncoding(slope=-1.0), PixelEncoding(signed=False, intercept=-1024.0)):
        for spec in (PLAIN, THREE):
            case = Case("ramp", store(hu, encoding), encoding, spec)
            assert same(case, _prepared(case))


def _prepared(case: Case) -> Prepared:
    result = CpuPreprocessor(case.spec)(case.stored, case.encoding)
    return result.pixels, result.head_pixels, round(result.brain_share * result.head_pixels)

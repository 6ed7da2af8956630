"""The benchmarks run and record what they say; nothing here judges a time."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from benchmarks.measure.interleaving import alternate
from benchmarks.standalone import (
    least_start,
    outlier_smoothing,
    preprocessing,
    reading,
    startup,
    trimmed,
    tune_check,
)
from dtvit_edge import backends
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError, VerdictError
from dtvit_edge.preprocess import native, opencv
from evaluation.records import read


def test_a_sample_follows_a_pause_and_untimed_calls_of_its_own_side(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr("benchmarks.measure.interleaving.time.sleep", lambda seconds: order.append(f"rest {seconds:g}"))
    calls = {name: (lambda name=name: order.append(name)) for name in "ab"}
    samples = alternate(calls, rounds=2, runs=1, warm_up=0, lead=2, pause_s=0.5)
    assert order == ["rest 0.5", *"aaa", "rest 0.5", *"bbb", "rest 0.5", *"bbb", "rest 0.5", *"aaa"]
    assert {name: len(values) for name, values in samples.items()} == {"a": 2, "b": 2}


def test_contenders_alternate_and_nobody_is_always_first() -> None:
    called: list[str] = []
    calls = {contender: partial(called.append, contender) for contender in "abc"}
    samples = alternate(calls, rounds=4, runs=2)
    assert {contender: len(values) for contender, values in samples.items()} == {"a": 4, "b": 4, "c": 4}
    warm_up, timed = "".join(called[:9]), "".join(called[9:])
    assert warm_up == "aaabbbccc"
    assert timed == "aabbcc" + "bbccaa" + "ccaabb" + "aabbcc"


def test_reading_records_both_files_and_every_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "RUNS", 1)
    done = CliRunner().invoke(reading.main, ["--out", str(tmp_path / "r")])
    assert done.exit_code == 0, done.output
    (record,) = read(tmp_path / "r")
    readers = ("read", "parse and read", "plan and read", "pydicom")
    assert set(record.samples) == {f"{kind}: {reader}" for kind in ("uncompressed", "RLE") for reader in readers}
    assert all(len(values) == 10 for values in record.samples.values())
    monkeypatch.setattr(reading, "pydicoms", lambda file: np.zeros((512, 512), np.int16))
    done = CliRunner().invoke(reading.main, ["--out", str(tmp_path / "r")])
    assert isinstance(done.exception, VerdictError) and len(list(read(tmp_path / "r"))) == 1


def test_preprocessing_records_both_ways_and_times_nothing_that_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isinstance(native.library(), native.Library):
        pytest.skip(native.description())
    monkeypatch.setattr(preprocessing, "RUNS", 1)
    arguments = ["--rounds", "10", "--out", str(tmp_path / "r")]
    done = CliRunner().invoke(preprocessing.main, arguments)
    assert done.exit_code == 0, done.output
    (record,) = read(tmp_path / "r")
    ways = (preprocessing.LIBRARY, preprocessing.ANYWHERE, preprocessing.OPENCV)
    assert set(record.samples) == {f"{spec}: {way}" for spec in preprocessing.SPECS for way in ways}
    assert all(len(values) == 10 for values in record.samples.values())
    right = opencv.prepare
    monkeypatch.setattr(opencv, "prepare", lambda *slice_: (right(*slice_)[0] ^ 1, 1, 1))
    done = CliRunner().invoke(preprocessing.main, arguments)
    assert isinstance(done.exception, VerdictError) and len(list(read(tmp_path / "r"))) == 1


def test_outlier_smoothing_records_how_much_is_saved(
    outlier_graph: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs = {"test_vit": outlier_graph}  # as it makes it, in seconds
    monkeypatch.setattr(
        outlier_smoothing, "model_with_outliers", lambda name: onnx.load_model_from_string(graphs[name])
    )
    done = CliRunner().invoke(outlier_smoothing.main, ["--encoder", "test_vit", "--out", str(tmp_path / "r")])
    assert done.exit_code == 0, done.output
    (record,) = read(tmp_path / "r")
    assert record.summary["ratio"] > 10
    assert record.summary["ratio"] == pytest.approx(record.summary["plain_rms"] / record.summary["smoothed_rms"])


def test_startup_records_three_processes(tmp_path: Path) -> None:
    done = CliRunner().invoke(startup.main, ["--rounds", "5", "--out", str(tmp_path / "r")])
    assert done.exit_code == 0, done.output
    (record,) = read(tmp_path / "r")
    assert {k: len(v) for k, v in record.samples.items()} == {"import": 5, "help": 5, "bare": 5}


def test_the_choice_of_tune_is_compared_with_every_candidate(tiny_bundle: Bundle, tmp_path: Path) -> None:
    arguments = [str(tiny_bundle.path), "--seconds", "1", "--runs", "2", "--rounds", "2", "--out", str(tmp_path / "r")]
    done = CliRunner().invoke(tune_check.main, arguments)
    assert done.exit_code == 0, done.output
    (record,) = read(tmp_path / "r")
    assert len(record.options["chosen"]) == 2 and set(record.options["chosen"]) <= set(record.samples)
    assert record.options["fastest"] in record.samples
    for words in record.options["chosen"]:
        assert record.summary[f"{words}: ratio_median"] > 0


def test_trimmed_files_are_timed_beside_those_with_all_patches(
    trimmed_bundle: Bundle, tiny_bundle: Bundle, few_phantoms: Path, tmp_path: Path
) -> None:
    asked = ["--slices", str(few_phantoms), "--count", "3", "--rounds", "2", "--out", str(tmp_path / "r")]
    done = CliRunner().invoke(trimmed.main, [str(trimmed_bundle.path), *asked])
    assert done.exit_code == 0, done.output
    (record,) = read(tmp_path / "r")
    kinds = {name.partition(": ")[0] for name in record.samples}
    assert kinds <= {f"{name} fp32" for name in backends.NAMES} and "onnxruntime fp32" in kinds
    for kind in kinds:
        assert record.summary[f"{kind}: trimmed: ratio_median"] > 0
    refused = CliRunner().invoke(trimmed.main, [str(tiny_bundle.path), *asked])
    assert isinstance(refused.exception, ConfigError) and "holds no trimmed files" in str(refused.exception)


@pytest.mark.real
def test_a_start_is_measured_beside_the_least_that_its_library_needs(tiny_bundle: Bundle, tmp_path: Path) -> None:
    arguments = [str(tiny_bundle.path), "--precision", "fp32", "--rounds", "1", "--out", str(tmp_path / "r")]
    done = CliRunner().invoke(least_start.main, arguments)
    assert done.exit_code == 0, done.output
    (record,) = read(tmp_path / "r")
    here = [n for n, why_not in backends.availability().items() if why_not is None and not backends.runs_engines(n)]
    sides = {f"{name}: {side}: {of}" for name in here for side in ("score", "least") for of in ("s", "CPU s")}
    assert {name: len(values) for name, values in record.samples.items()} == dict.fromkeys(sides, 1)

"""What a run records: accuracy first, no latency for what fails, and why anything is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.measure.yardstick import ALL_SAMPLES, YARDSTICK_OPTION
from benchmarks.results import names
from benchmarks.run import bench, match_weights
from benchmarks.settings import Settings
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError, VerdictError
from evaluation.records import Record, read
from tests.support.bench_runs import FULL_FLOORS, with_int8

Ran = tuple[Path, dict[str, Record]]
FP32, INT8 = "onnxruntime fp32", "onnxruntime int8"


def test_the_records_are_what_was_returned_and_accuracy_is_first(ran: Ran) -> None:
    out, records = ran
    kept = list(read(out / names.RECORDS_FILE))
    assert [record.what for record in kept] == list(records)
    assert kept[0].what == names.ACCURACY
    assert set(records) == {names.ACCURACY, names.LATENCY, names.STAGES, names.THROUGHPUT, names.LAYERS,
                            names.END_TO_END, names.COLD_START, names.MEMORY}  # fmt: skip
    assert {record.options["command"] for record in kept} == {"the line"}


def test_what_fails_the_gate_is_judged_and_never_timed(ran: Ran) -> None:
    _, records = ran
    accuracy = records[names.ACCURACY]
    assert accuracy.options["verdicts"] == {FP32: "inconclusive", INT8: "failed"}
    assert accuracy.summary[f"{INT8}: agreement"] < 0.9 < accuracy.summary[f"{FP32}: agreement"] == 1.0
    for what, record in records.items():
        if what != names.ACCURACY:
            assert not [key for key in record.samples if key.startswith(INT8)], what
            assert any(key.startswith(FP32) for key in record.samples) or what == names.STAGES
    assert records[names.LATENCY].options["left_out"][INT8].startswith("failed: ich: ")


def test_raw_probabilities_labels_and_patients_are_kept(ran: Ran) -> None:
    samples = ran[1][names.ACCURACY].samples
    count = len(samples[names.ICH_LABELS])
    assert 6 <= count <= 12 and {len(values) for values in samples.values()} == {count}
    assert set(samples[names.ICH_LABELS]) == {0.0, 1.0} and set(samples[names.PATIENTS]) == {0.0, 1.0}
    assert all(0 <= p <= 1 for p in samples[FP32])


def test_warm_up_is_apart_and_the_harness_is_measured(ran: Ran) -> None:
    latency = ran[1][names.LATENCY]
    assert set(latency.samples) == {FP32, names.NULL_BACKEND} == set(latency.options["warm_up"])
    assert {len(values) for values in latency.samples.values()} <= {11, 12}
    assert f"{FP32}: p50" in latency.summary and f"{FP32}: p90" not in latency.summary
    assert 0 < latency.summary["harness: share of the fastest configuration"] < 1
    assert "before" in latency.options and "Backend.infer" in latency.options["inside"]


def test_the_yardstick_runs_beside_everything_that_is_timed(ran: Ran) -> None:
    latency, stages, throughput, whole, cold = (
        ran[1][what].options[YARDSTICK_OPTION]
        for what in (names.LATENCY, names.STAGES, names.THROUGHPUT, names.END_TO_END, names.COLD_START)
    )
    assert len(latency[ALL_SAMPLES]) == len(ran[1][names.LATENCY].samples[FP32]) and len(stages[ALL_SAMPLES]) >= 11
    assert {key: len(values) for key, values in throughput.items()} == {f"{FP32}: batch {n}": 2 for n in (1, 2)}
    assert len(whole[ALL_SAMPLES]) == 4 and len(cold[FP32]) == 1
    assert YARDSTICK_OPTION not in ran[1][names.MEMORY].options


def test_a_full_run_takes_samples_for_p90_at_least_and_p99_at_most() -> None:
    assert FULL_FLOORS == (64, 662)


def test_end_to_end_keeps_the_opening_apart(ran: Ran) -> None:
    record = ran[1][names.END_TO_END]
    for name in (FP32, names.with_workers(FP32, 1)):
        a_slice, opening = (record.samples[f"{name}: {key}"] for key in (names.PER_SLICE, names.MODEL_OPENING))
        counted = record.options["counted"][name]
        assert counted["studies"] == 2 and counted["slices"] > 30
        assert len(a_slice) == len(opening) == 2 and min(opening) > 0
        assert f"{name}: studies a minute" in record.summary
    assert {"discover", "read", "preprocess", "infer", "write"} <= {
        key.rsplit("stage ", 1)[1] for key in record.samples if key.startswith(f"{FP32}: stage ")
    }


def test_absent_sensors_clocks_and_profilers_are_named(ran: Ran) -> None:
    throughput, latency = ran[1][names.THROUGHPUT], ran[1][names.LATENCY]
    assert throughput.options["sensors_absent"]  # this project's CI has neither a GPU nor a Jetson
    before = latency.options["before"]
    assert "power mode" in before["absent"] or "power mode" in before["observed"]
    assert latency.options["nvtx"]


def test_a_process_of_its_own_is_smaller_than_this_one(ran: Ran) -> None:
    memory = ran[1][names.MEMORY]
    assert 20 * 2**20 < memory.samples[FP32][0] < 400 * 2**20
    assert memory.summary["file: int8"] > 0


def test_a_cold_start_counts_cpu_time_beside_the_clock(ran: Ran) -> None:
    cold = ran[1][names.COLD_START]
    (seconds,), (cpu,) = cold.samples[FP32], cold.options[names.CPU_SECONDS][FP32]
    assert 0.05 < cpu < 60 and 0.05 < seconds < 60


def test_layers_come_from_the_librarys_profiler(ran: Ran) -> None:
    assert f"{FP32}: ReduceMean" in ran[1][names.LAYERS].samples


def test_where_nothing_passes_the_accuracy_is_written_and_nothing_else(settings: Settings, tmp_path: Path) -> None:
    bundle = with_int8(tmp_path / "b.dtvit", tolerance=1e-6, middle=30.0)
    out = tmp_path / "out"
    with pytest.raises(VerdictError, match="nothing was timed"):
        bench([bundle], replace(settings, precisions=("int8",)), out)
    (record,) = read(out / names.RECORDS_FILE)
    assert "from PyTorch's logits on the golden slices" in record.options["left_out"][INT8]
    assert "Nothing was timed" in (out / "report.md").read_text()


def test_another_runs_records_are_never_mixed_in(ran: Ran, wrong_int8: Bundle, settings: Settings) -> None:
    with pytest.raises(ConfigError, match="exists already"):
        bench([wrong_int8], settings, ran[0])
    with pytest.raises(ConfigError, match="two bundles are called"):
        bench([wrong_int8, wrong_int8], settings, ran[0] / "new")


def test_weights_that_no_bundle_was_made_from_are_refused(wrong_int8: Bundle, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"other")
    with pytest.raises(ConfigError, match="none of these bundles was made from it"):
        match_weights([wrong_int8], [tmp_path / "w.safetensors"])

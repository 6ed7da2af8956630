"""The GPU's check, stage by stage on the stand-in GPU: every stage passes, and every one of them may die."""

from __future__ import annotations

import ctypes
import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.gpu_check import summary
from benchmarks.gpu_check.__main__ import main
from benchmarks.gpu_check.runner import FAILED, NOT_RUN, PASSED, WHAT_END, End, run_stages
from benchmarks.gpu_check.settings import BOOT, Settings
from benchmarks.gpu_check.stages import Stage, stages
from dtvit_edge.bundle import Bundle
from evaluation.records import Record, append, read

STAND_IN = (sys.executable, "-u", "-m", "tests.support.cuda.gpu_check_child")


@pytest.fixture(scope="module")
def one_study(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine slices of a study: two batches and a part of one."""
    folder = tmp_path_factory.mktemp("study")
    for file in sorted((phantom_folder / "study-0001").rglob("IM*"))[8:17]:
        shutil.copy(file, folder)
    return folder


@pytest.fixture
def settings(
    tiny_bundle: Bundle, one_study: Path, kernel_library: ctypes.CDLL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    bundle = shutil.copytree(tiny_bundle.path, tmp_path / "b.dtvit")
    monkeypatch.setenv("KERNEL_LIBRARY", kernel_library._name)
    return Settings(
        str(bundle), (str(one_study),), str(tmp_path / "out"), precisions=("fp32",), max_batch=4, counts=(1, 2),
        rounds=2, boot=STAND_IN,
    )  # fmt: skip


def made_by(settings: Settings, stage: str) -> list[Record]:
    """The records that a stage made itself."""
    return [r for r in read(settings.records) if r.what != WHAT_END and r.options["stage"] == stage]


def test_every_stage_passes_and_leaves_its_records_and_log(settings: Settings) -> None:
    chosen, said = stages(settings), []
    ends = run_stages(settings, chosen, said.append)
    assert {end.stage: end.why for end in ends if end.outcome != PASSED} == {}, said
    assert [end.outcome for end in summary.ends_of(settings.records, chosen)] == [PASSED] * len(chosen)
    for stage in chosen:
        assert made_by(settings, stage.name) and (settings.folder / "logs" / f"{stage.name}.log").is_file()
    assert json.loads((settings.folder / "inspector-fp32.json").read_text()) == {"Layers": []}
    assert (settings.folder / "layers-fp32-4.json").is_file() and (settings.folder / "engine-fp32.json").is_file()
    (memory,) = made_by(settings, "out-of-memory")
    assert memory.summary["batch after"] < memory.summary["batch before"] and memory.summary["largest difference"] == 0
    (fault,) = made_by(settings, "illegal-address")
    assert fault.summary["status"] == 5 and 0 < fault.summary["from the journal"] < fault.summary["rows"]
    kernel = made_by(settings, "kernel")
    assert kernel[0].summary["slices that differ"] == 0 and len(kernel) == 2 + 2 * 2
    (noise,) = made_by(settings, "kernel-noise")
    assert noise.summary["too many runs"] > 0 and noise.summary["slices that differ"] == 0


def test_every_stage_killed_leaves_its_records_and_the_next_one_runs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("END", "kill")
    chosen = stages(settings)
    run_stages(settings, chosen, lambda line: None)
    ends = summary.ends_of(settings.records, chosen)
    assert [(end.stage, end.outcome, end.status) for end in ends] == [(stage.name, FAILED, -9) for stage in chosen]
    assert all("killed by SIGKILL" in end.why for end in ends)
    for stage in chosen:
        assert len(made_by(settings, stage.name)) == 1, "the record before its end is there"


@pytest.mark.real  # it waits for a time limit
def test_a_stage_that_hangs_is_ended_with_what_it_started(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("END", "hang")
    monkeypatch.setenv("SLEEPER", str(tmp_path / "sleeper"))
    stage = replace(stages(settings)[0], limit_s=25)
    (end,) = run_stages(settings, [stage], lambda line: None)
    assert end.outcome == FAILED and end.why.startswith("timed out after 25 s") and end.status == -9
    assert not runs(int((tmp_path / "sleeper").read_text()))


def runs(pid: int) -> bool:
    """False also for a process that has ended and that nobody has waited for."""
    stat = Path(f"/proc/{pid}/stat")
    for _ in range(50):
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return False
        except OSError:
            return False
        time.sleep(0.1)
    return True


def test_what_is_not_there_is_not_run_and_what_does_not_start_fails(settings: Settings) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("PyTorch has a GPU here")
    elsewhere = replace(settings, pytorch_python=sys.executable, weights=__file__)
    pytorch = stages(elsewhere)[-1]
    (end,) = run_stages(elsewhere, [pytorch], lambda line: None)
    assert (end.outcome, end.status) == (NOT_RUN, 75) and "no CUDA device" in end.why
    (end,) = run_stages(replace(elsewhere, pytorch_python="/nowhere/python3"), [pytorch], lambda line: None)
    assert end.outcome == FAILED and end.status is None and "does not start" in end.why


def test_after_the_budget_nothing_begins(settings: Settings) -> None:
    ends = run_stages(settings, stages(settings), lambda line: None, budget_s=0)
    assert {end.outcome for end in ends} == {NOT_RUN} and "time for all stages" in ends[0].why


def test_the_command_lists_chooses_and_sums_up(settings: Settings) -> None:
    arguments = [settings.bundle, settings.studies[0], "-o", settings.out]

    def asked(*more: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, [*arguments, *more])
        return result.exit_code, result.output

    status, said = asked("--list", "--stage", "kernel", "--stage", "engine-int8")
    assert status == 0 and [line.split()[0] for line in said.splitlines()[:-1]] == ["kernel", "engine-int8"]
    said_of_int8 = asked("--list", "--stage", "*-int8")[1]
    assert [line.split()[0] for line in said_of_int8.splitlines()[:-1]] == [
        "engine-int8", "golden-int8", "layers-int8", "speed-int8", "studies-int8"
    ]  # fmt: skip
    assert "no clock64" in said and not settings.records.exists()
    assert asked("--stage", "nothing")[0] == 2 and asked("--weights", __file__)[0] == 2
    status, said = asked("--minutes", "0", "--precision", "fp32")
    assert status == 0 and "13 not run" in said
    append(settings.records, Record(WHAT_END, "s", {"seconds": [1.0]}, {"status": -11.0}, options={
        "stage": "kernel", "outcome": FAILED, "why": "killed by SIGSEGV", "log": "logs/kernel.log"}))  # fmt: skip
    status, said = asked("--summary", "--precision", "fp32")
    assert status == 1 and "killed by SIGSEGV" in said and "1 failed" in said
    append(settings.records, Record(WHAT_END, "s", {"seconds": [1.0]}, {"status": 0.0}, options={
        "stage": "kernel", "outcome": PASSED, "why": "", "log": "logs/kernel.log"}))  # fmt: skip
    status, said = asked("--missing", "--minutes", "0", "--stage", "kernel")
    assert status == 0 and "1 passed" in said


def test_a_stage_without_a_record_is_not_run() -> None:
    (end,) = summary.ends_of(Path("/nowhere"), [Stage("kernel", 1, "", "kernel", "alone")])
    assert end == End("kernel", NOT_RUN, None, 0.0, "no record of its end")
    assert BOOT[-1] == "benchmarks.gpu_check.child"

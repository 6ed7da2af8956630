from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.measure.conditions import OtherWork, observe


def test_what_the_kernel_shows_is_read(tmp_path: Path) -> None:
    for core, mhz in ((0, 1_200_000), (1, 3_400_000)):
        folder = tmp_path / f"cpu{core}"
        (folder / "cpufreq").mkdir(parents=True)
        (folder / "thermal_throttle").mkdir()
        (folder / "cpufreq" / "scaling_governor").write_text("powersave\n")
        (folder / "cpufreq" / "scaling_cur_freq").write_text(f"{mhz}\n")
        (folder / "cpufreq" / "scaling_max_freq").write_text("3400000\n")
        (folder / "thermal_throttle" / "core_throttle_count").write_text(f"{core * 3}\n")
    (tmp_path / "thermal_zone0").mkdir()
    (tmp_path / "thermal_zone0" / "temp").write_text("61500\n")
    facts = observe(tmp_path, tmp_path, {"OMP_NUM_THREADS": "1"}).observed
    assert facts["clock governor"] == "powersave" and facts["clock, MHz"] == "1200 to 3400"
    assert facts["clock limit, MHz"] == "3400" and facts["throttled so far, times"] == "0 to 3"
    assert facts["temperature, degrees C"] in ("61", "62") and facts["OMP_NUM_THREADS"] == "1"


def test_what_cannot_be_read_is_named_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    conditions = observe(tmp_path, tmp_path)
    assert conditions.absent["clock, MHz"] == "the kernel shows none here"
    assert conditions.absent["power mode"] == "no nvpmodel: not a Jetson"
    assert conditions.absent["gpu"] == "nvidia-ml-py is not installed"
    assert "cores of this process" in conditions.observed and "load average, one minute" in conditions.observed


def test_what_others_used_is_what_the_cores_did_less_our_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat, ticks = tmp_path / "stat", os.sysconf("SC_CLK_TCK")
    clock, used = iter([10.0, 20.0]), iter([1.0, 9.0])
    monkeypatch.setattr("benchmarks.measure.conditions.time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("benchmarks.measure.conditions.time.process_time", lambda: next(used))
    stat.write_text("cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0\n")
    with OtherWork(stat) as others:
        # Ten seconds of two cores: eight our own, three other programs', one another guest's, the rest idle.
        stat.write_text(f"cpu  {10 * ticks} 0 {1 * ticks} {8 * ticks} 0 0 0 {1 * ticks} 0 0\n")
    assert others.cores == pytest.approx(0.4)
    with OtherWork(tmp_path / "absent") as others:
        pass
    assert others.cores is None


def test_a_jetsons_power_mode_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvpmodel"
    tool.write_text("#!/bin/sh\necho 'NV Power Mode: 15W'\necho 0\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert observe(tmp_path, tmp_path).observed["power mode"] == "NV Power Mode: 15W; 0"

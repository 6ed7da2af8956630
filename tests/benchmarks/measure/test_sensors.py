"""Sensors that this machine does not have, from files and a library that stand in for theirs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.measure import sensors
from benchmarks.measure.sensors import InaSensor, NvmlSensor, Reading, Sampler, find


def jetson(folder: Path, rails: dict[int, tuple[str, str, str]]) -> Path:
    """A driver's folder as the kernel lists it: number -> label, millivolts, milliamperes."""
    monitor = folder / "ina3221" / "1-0040" / "hwmon" / "hwmon3"
    monitor.mkdir(parents=True)
    for number, (label, volts, amperes) in rails.items():
        (monitor / f"in{number}_label").write_text(label + "\n")
        (monitor / f"in{number}_input").write_text(volts + "\n")
        (monitor / f"curr{number}_input").write_text(amperes + "\n")
    return folder / "ina3221"


def test_rails_of_a_jetson_are_read_in_watts(tmp_path: Path) -> None:
    driver = jetson(tmp_path, {1: ("VDD_IN", "5000", "1500"), 2: ("VDD_CPU_GPU_CV", "4992", "800")})
    reading = InaSensor([tmp_path / "none", driver]).read()
    assert reading.watts == {"VDD_IN": 7.5, "VDD_CPU_GPU_CV": pytest.approx(3.9936)}
    assert (reading.energy_j, reading.memory_bytes) == (None, None)


def test_a_rail_that_is_off_is_left_out_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    driver = jetson(tmp_path, {1: ("VDD_IN", "5000", "1500"), 3: ("VDD_SOC", "", "0")})
    sensor = InaSensor([driver])
    assert set(sensor.read().watts) == {"VDD_IN"}
    for file in driver.rglob("curr*"):
        file.unlink()
    with pytest.raises(OSError, match="can be read any more"):
        sensor.read()
    with pytest.raises(OSError, match="no INA3221 monitor below"):
        InaSensor([tmp_path / "none"])


class Nvml:
    """nvidia-ml-py's names, of a GPU that may lack sensors."""

    class NVMLError(Exception):
        pass

    class NVMLError_NotSupported(NVMLError):
        pass

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def _answer(self, name: str) -> Any:
        value = self.answers.get(name)
        if value is None:
            raise self.NVMLError_NotSupported("Not Supported")
        if isinstance(value, Exception):
            raise value
        return value

    def nvmlInit(self) -> None:
        if "init" in self.answers:
            raise self.answers["init"]

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetPowerUsage(self, device: int) -> Any:
        return self._answer("power")

    def nvmlDeviceGetTotalEnergyConsumption(self, device: int) -> Any:
        return self._answer("energy")

    def nvmlDeviceGetMemoryInfo(self, device: int) -> Any:
        return self._answer("memory")


def test_a_gpu_says_what_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(power=71_500, memory=SimpleNamespace(used=3 << 30)))
    assert NvmlSensor().read() == Reading({"board": 71.5}, None, 3 << 30)
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(energy=5_000))
    assert NvmlSensor().read() == Reading({}, 5.0, None)


def test_a_gpu_that_does_not_answer_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(init=Nvml.NVMLError("Driver Not Loaded")))
    with pytest.raises(OSError, match="NVML: Driver Not Loaded"):
        NvmlSensor()
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(power=Nvml.NVMLError("GPU is lost")))
    with pytest.raises(OSError, match="GPU is lost"):
        NvmlSensor().read()


def test_absent_sensors_are_named_with_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(InaSensor.__init__, "__defaults__", ([tmp_path],))
    sensors, absent = find()
    assert sensors == []
    assert absent == {"nvml": "nvidia-ml-py is not installed", "ina3221": f"no INA3221 monitor below {tmp_path}"}


class Ramp:
    """2 W more at every look, a counter beside it; breaks off after some looks."""

    name = "ramp"

    def __init__(self, last: int = 1000) -> None:
        self.looks, self.last = 0, last

    def read(self) -> Reading:
        if self.looks == self.last:
            raise OSError("gone")
        self.looks += 1
        return Reading({"board": 2.0 * self.looks}, 10.0 * self.looks, self.looks << 20)


def test_energy_is_watts_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(sensors.time, "perf_counter", lambda: float(next(clock)))
    ramp = Ramp()
    with Sampler([ramp], interval_s=1000) as sampler:
        for _ in range(3):
            sampler._look()
    summary = sampler.summary()
    assert (summary["ramp: samples"], summary["ramp: seconds"]) == (5, 4)
    assert summary["ramp: board_joules"] == (2 + 4) / 2 + (4 + 6) / 2 + (6 + 8) / 2 + (8 + 10) / 2
    assert summary["ramp: board_watts_mean"] == 6 and summary["ramp: board_watts_max"] == 10
    assert summary["ramp: joules"] == 40 and summary["ramp: memory_bytes_max"] == 5 << 20


def test_it_samples_by_itself_and_stops() -> None:
    ramp = Ramp()
    with Sampler([ramp], {"nvml": "absent"}, interval_s=0.001) as sampler:
        deadline = time.monotonic() + 10
        while ramp.looks < 5 and time.monotonic() < deadline:
            time.sleep(0.001)
    looks = ramp.looks
    assert looks >= 5 and sampler.absent == {"nvml": "absent"}
    time.sleep(0.01)
    assert ramp.looks == looks and not sampler._thread.is_alive()


def test_a_sensor_that_breaks_off_says_nothing_but_that() -> None:
    with Sampler([Ramp(last=1)], interval_s=1000) as sampler:
        sampler._look()
    assert sampler.summary() == {}
    assert sampler.absent == {"ramp": "stopped answering: gone"}

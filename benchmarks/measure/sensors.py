"""Power, energy and device memory while something runs: NVML on discrete GPUs, the INA3221 monitors on Jetson.

A sensor that is not there is named with the reason; nothing is ever filled in for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

INTERVAL_S = 0.1
INA_DRIVERS = (Path("/sys/bus/i2c/drivers/ina3221"), Path("/sys/bus/i2c/drivers/ina3221x"))
NVML = "nvml"
INA = "ina3221"


@dataclass(frozen=True)
class Reading:
    """One look at a sensor; None or empty where it does not say.

    Attributes:
        watts: by rail; energy_j: a counter since some moment; memory_bytes: of the device, in use by everybody.
    """

    watts: dict[str, float] = field(default_factory=dict)
    energy_j: float | None = None
    memory_bytes: int | None = None


class Sensor(Protocol):
    """Something that can be read again and again."""

    name: str

    def read(self) -> Reading:
        """Look once.

        Raises:
            OSError: it does not answer any more.
        """
        ...


class NvmlSensor:
    """A GPU through NVIDIA's management library (package nvidia-ml-py).

    Args:
        index: of the GPU in NVML's order, which is that of the PCI bus.

    Raises:
        OSError: no library, no driver or no such GPU; the message says which.
    """

    name = NVML

    def __init__(self, index: int = 0) -> None:
        try:
            import pynvml
        except ImportError as error:
            raise OSError("nvidia-ml-py is not installed") from error
        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
            self._device = pynvml.nvmlDeviceGetHandleByIndex(index)
        except pynvml.NVMLError as error:
            raise OSError(f"NVML: {error}") from error

    def read(self) -> Reading:
        """Board power (averaged over a second from Ampere on), energy since the driver was loaded, memory in use."""
        nvml = self._nvml
        power = self._ask(nvml.nvmlDeviceGetPowerUsage)
        energy = self._ask(nvml.nvmlDeviceGetTotalEnergyConsumption)
        memory = self._ask(nvml.nvmlDeviceGetMemoryInfo)
        return Reading(
            {} if power is None else {"board": power / 1e3},
            None if energy is None else energy / 1e3,
            None if memory is None else int(memory.used),
        )

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        """None where this GPU has no such sensor.

        Raises:
            OSError: any other answer than a value or "not supported".
        """
        try:
            return question(self._device)
        except self._nvml.NVMLError_NotSupported:
            return None
        except self._nvml.NVMLError as error:
            raise OSError(f"NVML: {error}") from error


class InaSensor:
    """A Jetson's power rails (Linux kernel, hwmon/ina3221: `inN_label`, `inN_input` in mV, `currN_input` in mA).

    Args:
        drivers: where the kernel lists the monitors.

    Raises:
        OSError: there is none.
    """

    name = INA

    def __init__(self, drivers: Sequence[Path] = INA_DRIVERS) -> None:
        self._rails: dict[str, tuple[Path, Path]] = {}
        for driver in drivers:
            for label in sorted(driver.glob("*/hwmon/hwmon*/in[123]_label")):
                number = label.name[2]
                volts, amperes = label.with_name(f"in{number}_input"), label.with_name(f"curr{number}_input")
                if volts.is_file() and amperes.is_file():
                    self._rails[label.read_text(encoding="ascii").strip()] = (volts, amperes)
        if not self._rails:
            raise OSError("no INA3221 monitor below " + " or ".join(map(str, drivers)))

    def read(self) -> Reading:
        """Watts by rail; a rail that is switched off and cannot be read is left out."""
        watts = {}
        for rail, files in self._rails.items():
            try:
                millivolts, milliamperes = (int(file.read_text(encoding="ascii")) for file in files)
            except (OSError, ValueError):
                continue
            watts[rail] = millivolts * milliamperes / 1e6
        if not watts:
            raise OSError("no rail of the INA3221 monitors can be read any more")
        return Reading(watts)


def find(makers: Sequence[Callable[[], Sensor]] = (NvmlSensor, InaSensor)) -> tuple[list[Sensor], dict[str, str]]:
    """The sensors of this machine, and why the others are absent, by name."""
    sensors: list[Sensor] = []
    absent: dict[str, str] = {}
    for maker in makers:
        try:
            sensors.append(maker())
        except OSError as error:
            absent[getattr(maker, "name", repr(maker))] = str(error)
    return sensors, absent


class Sampler:
    """Reads sensors in a separate thread while a `with` block runs.

    Args:
        sensors: as `find` gives them; absent: why others are not among them.
        interval_s: between two looks; there is one at each end of the block as well.
    """

    def __init__(
        self, sensors: Sequence[Sensor], absent: dict[str, str] | None = None, interval_s: float = INTERVAL_S
    ) -> None:
        self._sensors = list(sensors)
        self.absent = dict(absent or {})
        self._interval_s = interval_s
        self._samples: dict[str, list[tuple[float, Reading]]] = {sensor.name: [] for sensor in sensors}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="sensors", daemon=True)

    def __enter__(self) -> Sampler:
        self._look()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()

    def summary(self) -> dict[str, float]:
        """Figures of what was sampled, by `SENSOR: FIGURE`; no key where there is nothing to say.

        `seconds`, `samples`, for every rail `RAIL_watts_mean`, `RAIL_watts_max` and `RAIL_joules` (trapezoids over
        time), `joules` by the sensor's counter, `memory_bytes_max`.
        """
        summary: dict[str, float] = {}
        for name, samples in self._samples.items():
            if len(samples) < 2:
                continue
            seconds = samples[-1][0] - samples[0][0]
            figures: dict[str, float] = {"seconds": seconds, "samples": float(len(samples))}
            for rail in sorted(set.intersection(*(set(reading.watts) for _, reading in samples))):
                points = [(when, reading.watts[rail]) for when, reading in samples]
                joules = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))
                figures |= {f"{rail}_joules": joules, f"{rail}_watts_max": max(watts for _, watts in points)}
                figures |= {f"{rail}_watts_mean": joules / seconds} if seconds else {}
            first, last = samples[0][1].energy_j, samples[-1][1].energy_j
            if first is not None and last is not None:
                figures["joules"] = last - first
            memory = [reading.memory_bytes for _, reading in samples if reading.memory_bytes is not None]
            if memory:
                figures["memory_bytes_max"] = float(max(memory))
            summary |= {f"{name}: {figure}": value for figure, value in figures.items()}
        return summary

    def _loop(self) -> None:
        while not self._stop.wait(self._interval_s):
            self._look()

    def _look(self) -> None:
        for sensor in list(self._sensors):
            try:
                self._samples[sensor.name].append((time.perf_counter(), sensor.read()))
            except OSError as error:
                self.absent[sensor.name] = f"stopped answering: {error}"
                self._samples.pop(sensor.name)
                self._sensors.remove(sensor)

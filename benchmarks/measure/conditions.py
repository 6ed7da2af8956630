"""What a time depends on besides the program: cores, clocks, power mode, throttling, temperature and load.

What cannot be read here is named with the reason; nothing is filled in for it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dtvit_edge.environment import usable_cores

CPU = Path("/sys/devices/system/cpu")
THERMAL = Path("/sys/class/thermal")
STAT = Path("/proc/stat")
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_AFFINITY", "CUDA_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Conditions:
    """One look.

    Attributes:
        observed: plain text by name; absent: why others are missing.
    """

    observed: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


class OtherWork:
    """A context: cores that others than this process kept busy meanwhile, a hypervisor's other guests among them.

    Attributes:
        cores: None before the end, and where the kernel does not say.
    """

    def __init__(self, stat: Path = STAT) -> None:
        self._stat = stat
        self.cores: float | None = None

    def __enter__(self) -> OtherWork:
        self._before = self._look()
        return self

    def __exit__(self, *error: object) -> None:
        after = self._look()
        if self._before is not None and after is not None:
            (busy, used, clock), (busy_before, used_before, clock_before) = after, self._before
            others = (busy - busy_before) - (used - used_before)
            self.cores = max(others / (clock - clock_before), 0.0)

    def _look(self) -> tuple[float, float, float] | None:
        """Seconds that all cores were busy, that this process used, and of the clock (proc(5), /proc/stat)."""
        try:
            ticks = [int(word) for word in self._stat.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
        except (OSError, ValueError):
            return None
        user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return busy, time.process_time(), time.perf_counter()


def observe(cpu: Path = CPU, thermal: Path = THERMAL, environ: Mapping[str, str] | None = None) -> Conditions:
    """Look once; takes well under a second, so it belongs before and after what is timed."""
    observed = {"cores of this process": f"{usable_cores()} of {os.cpu_count()}{_pinned()}"}
    observed |= {name: value for name in _THREAD_VARIABLES if (value := (environ or os.environ).get(name))}
    absent: dict[str, str] = {}
    questions: dict[str, Callable[[], str]] = {
        "load average, one minute": lambda: f"{os.getloadavg()[0]:.2f}",
        "clock governor": lambda: _same(cpu.glob("cpu[0-9]*/cpufreq/scaling_governor")),
        "clock, MHz": lambda: _range(cpu.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"), 1e-3),
        "clock limit, MHz": lambda: _range(cpu.glob("cpu[0-9]*/cpufreq/scaling_max_freq"), 1e-3),
        "throttled so far, times": lambda: _range(cpu.glob("cpu[0-9]*/thermal_throttle/core_throttle_count"), 1),
        "temperature, degrees C": lambda: _range(thermal.glob("thermal_zone*/temp"), 1e-3),
        "power mode": _power_mode,
        "gpu": _gpu,
    }
    for name, ask in questions.items():
        try:
            observed[name] = ask()
        except OSError as error:
            absent[name] = str(error)
    return Conditions(observed, absent)


def _pinned() -> str:
    if not hasattr(os, "sched_getaffinity"):
        return ""
    allowed = sorted(os.sched_getaffinity(0))
    return f", pinned to {', '.join(map(str, allowed))}" if len(allowed) < (os.cpu_count() or 0) else ""


def _texts(files: Any) -> list[str]:
    """What the files hold; a zone that is switched off and does not answer is left out.

    Raises:
        OSError: none can be read.
    """
    texts = []
    for file in sorted(files):
        try:
            texts.append(file.read_text(encoding="ascii").strip())
        except OSError:
            continue
    if not texts:
        raise OSError("the kernel shows none here")
    return texts


def _same(files: Any) -> str:
    return ", ".join(sorted(set(_texts(files))))


def _range(files: Any, factor: float) -> str:
    values = [float(text) * factor for text in _texts(files)]
    low, high = (f"{value:.0f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _power_mode() -> str:
    """Jetson's `nvpmodel -q`."""
    if shutil.which("nvpmodel") is None:
        raise OSError("no nvpmodel: not a Jetson")
    done = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, timeout=10, check=False)
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
    if done.returncode or not lines:
        raise OSError(f"nvpmodel -q ended with {done.returncode}")
    return "; ".join(lines)


def _gpu() -> str:
    """Clocks, their limits and reasons for slowing down, by NVML."""
    try:
        import pynvml as nvml
    except ImportError as error:
        raise OSError("nvidia-ml-py is not installed") from error
    try:
        nvml.nvmlInit()
        device = nvml.nvmlDeviceGetHandleByIndex(0)
        sm, memory = (nvml.nvmlDeviceGetClockInfo(device, k) for k in (nvml.NVML_CLOCK_SM, nvml.NVML_CLOCK_MEM))
        reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device)
        limit = nvml.nvmlDeviceGetEnforcedPowerLimit(device) / 1e3
        celsius = nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU)
        name = nvml.nvmlDeviceGetName(device)
    except nvml.NVMLError as error:
        raise OSError(f"NVML: {error}") from error
    return (
        f"{name}: SM {sm} MHz, memory {memory} MHz, limit {limit:.0f} W, {celsius} degrees C, throttling 0x{reasons:x}"
    )

"""Versions and device facts: what `doctor` prints and what every result records; and libraries' telemetry, off."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path

# Distribution names; absent ones are reported as absent.
RUNTIME_PACKAGES = (
    "dtvit-edge",
    "numpy",
    "opencv-python-headless",
    "pydicom",
    "python-gdcm",
    "pylibjpeg",
    "pylibjpeg-rle",
    "pylibjpeg-openjpeg",
    "onnxruntime",
    "openvino",
)
DEVICE_PACKAGES = ("tensorrt", "tensorrt-rtx-cu13", "pycuda")
_INSTRUCTION_SETS = frozenset(
    "sse4_2 avx f16c fma avx2 avx_vnni avx_vnni_int8 avx512f avx512cd avx512bw avx512dq avx512vl avx512_vnni "
    "avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16 amx_fp16 avx10 "
    "asimd asimdhp asimddp bf16 i8mm sve sve2 svebf16 svei8mm sme sme2".split()
)
# What switches a library's telemetry off: it is read when the library loads, in child processes as well.
TELEMETRY_OFF = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime; its disable_telemetry_events() leaves the device id and the queue
    "HF_HUB_DISABLE_TELEMETRY": "1",  # of which timm and transformers are users
    "RAY_USAGE_STATS_ENABLED": "0",
}
# OpenVINO imports it, and without it takes a stub of its own; it has no switch that needs no file in the home folder.
_OPENVINO_TELEMETRY = "openvino_telemetry"


def install_line(extra: str) -> str:
    """What installs an extra of this package, which no index has."""
    return f"pip install '.[{extra}]' (in a checkout; or the wheel's file instead of the dot)"


def switch_telemetry_off() -> None:
    """Let no library report to anybody or keep ids for it; has an effect on those that are not loaded yet.

    `import dtvit_edge` calls it, and every room imports that before anything else.
    """
    os.environ.update(TELEMETRY_OFF)
    # None makes an import of that name fail (importlib's documentation, `sys.modules`).
    sys.modules[_OPENVINO_TELEMETRY] = None  # type: ignore[assignment]


def package_versions(names: tuple[str, ...] = RUNTIME_PACKAGES) -> dict[str, str]:
    """Version by distribution, read from metadata: nothing is imported. Absent ones are left out.

    The name of a wheel's metadata folder says it (PyPA, "Recording installed projects"). importlib.metadata, which
    parses each one's text and takes 0.03 s of a start, is asked for what has no such folder.
    """
    known = _by_folder(names)
    versions = {}
    for name in names:
        version = known.get(name) or _by_metadata(name)
        if version is not None:
            versions[name] = version
    return versions


def _by_folder(names: tuple[str, ...]) -> dict[str, str]:
    """Versions of those whose metadata folder lies on the path; the first one counts, as in an import."""
    wanted = {re.sub(r"[-_.]+", "_", name).lower(): name for name in names}
    versions: dict[str, str] = {}
    for entry in sys.path:
        try:
            folders = os.listdir(entry or os.curdir)
        except OSError:
            continue
        for folder in folders:
            title, _, version = folder.removesuffix(".dist-info").partition("-")
            name = wanted.get(re.sub(r"[-_.]+", "_", title).lower())
            # A "-" of a version is written as "_" there: which of them it was, the text alone knows.
            sure = folder.endswith(".dist-info") and version and "_" not in version
            if name and sure and os.path.isfile(os.path.join(entry, folder, "METADATA")):
                versions.setdefault(name, version)
    return versions


def _by_metadata(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def machine() -> dict[str, str]:
    """Python, operating system, processor and the number of cores this process may use."""
    return {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "processor": processor(),
        "instruction_sets": " ".join(instruction_sets()) or "unknown",
        "cores": str(usable_cores()),
        "jetson": jetson_release() or "no",
    }


def usable_cores() -> int:
    """Cores that the scheduler lets this process use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def physical_cores() -> int:
    """Cores of which the scheduler lets this process use a thread: of two threads of a core one counts."""
    if not hasattr(os, "sched_getaffinity"):
        return usable_cores()
    siblings = set()
    for cpu in os.sched_getaffinity(0):
        try:
            topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
            siblings.add(topology.read_text(encoding="ascii").strip())
        except OSError:
            return usable_cores()
    return len(siblings)


def available_memory() -> int:
    """Bytes that new work may take without swapping (MemAvailable), else half of the machine's memory."""
    if (available := _bytes_in(Path("/proc/meminfo"), "MemAvailable:")) is not None:
        return available
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 if hasattr(os, "sysconf") else 2**31


def peak_memory() -> int | None:
    """The most bytes of this process that were resident at once; None where the system does not say (Windows)."""
    # Of this program alone; `ru_maxrss` begins with what the process that started it had.
    if (peak := _bytes_in(Path("/proc/self/status"), "VmHWM:")) is not None:
        return peak
    try:
        import resource
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _bytes_in(file: Path, name: str) -> int | None:
    """What a file of Linux's /proc has in KiB behind a name, in bytes; None where it does not say."""
    try:
        for line in file.read_text(encoding="ascii").splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def processor() -> str:
    """The processor's name from /proc/cpuinfo, else what Python knows."""
    return _cpuinfo("model name", "hardware") or platform.processor() or "unknown"


def instruction_sets() -> tuple[str, ...]:
    """What the processor has of the instructions that libraries choose their kernels by, as Linux names them; sorted.

    Empty where the system does not say.
    """
    return tuple(sorted(_INSTRUCTION_SETS.intersection(_cpuinfo("flags", "features").split())))  # x86, ARM


def _cpuinfo(*names: str) -> str:
    """The first value of one of these names in /proc/cpuinfo; empty where there is none."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip().lower() in names:
                return value.strip()
    except OSError:
        pass
    return ""


def jetson_release() -> str | None:
    """The first line of /etc/nv_tegra_release (L4T release), or None where this is no Jetson."""
    try:
        return Path("/etc/nv_tegra_release").read_text(encoding="utf-8").splitlines()[0].strip("# ")
    except (OSError, IndexError):
        return None

"""What the CUDA driver says of a GPU, through its C interface: no package is needed to ask.

`find` makes no context. `free_bytes` and `make_current` do, so that they belong into a process that ends soon.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

from dtvit_edge.environment import available_memory
from dtvit_edge.errors import ConfigError, DeviceFault

# CUdevice_attribute and CUresult, from cuda.h.
_INTEGRATED, _MAJOR, _MINOR = 18, 75, 76
_NO_DEVICE = 100

MIB = 2**20
_LEAST_WORKSPACE, _MOST_WORKSPACE = 64 * MIB, 4096 * MIB


@dataclass(frozen=True)
class Gpu:
    """One of the GPUs that CUDA shows this process.

    Attributes:
        name: as the driver writes it, "Orin" or "NVIDIA GeForce RTX 4070".
        sm: compute capability, "8.7".
        integrated: it shares the processor's memory, as on Jetson.
        driver: the highest CUDA version that the driver runs, "12.6".
        ordinal: CUDA's number of it in this process.
    """

    name: str
    sm: str
    integrated: bool = False
    driver: str = ""
    ordinal: int = 0


def find(ordinal: int = 0, *, driver: Any = None) -> Gpu | None:
    """The GPU of that number, or None where there is no GPU at all.

    Args:
        driver: the loaded driver library, for tests.

    Raises:
        ConfigError: there are GPUs, and none has that number; with those that there are.
        DeviceFault: a driver is there and fails.
    """
    driver = driver or load_driver()
    if driver is None:
        return None
    status = driver.cuInit(0)
    if status == _NO_DEVICE:
        return None
    _check(status, "cuInit")
    count = ctypes.c_int()
    _check(driver.cuDeviceGetCount(ctypes.byref(count)), "cuDeviceGetCount")
    if count.value == 0:
        return None
    if not 0 <= ordinal < count.value:
        gpus = [_describe(driver, i) for i in range(count.value)]
        raise ConfigError(
            f"no CUDA device {ordinal} here; there are: "
            + ", ".join(f"{gpu.ordinal} ({gpu.name}, SM {gpu.sm})" for gpu in gpus)
        )
    return _describe(driver, ordinal)


def make_current(ordinal: int, driver: Any = None) -> None:
    """Make a GPU's primary context this thread's, until the process ends: what TensorRT then builds is built on it.

    That is what `cudaSetDevice` does for the CUDA runtime, whose current device is that of the current context.
    CUDA_VISIBLE_DEVICES would need the numbers, UUIDs and MIG names that the caller's own variable may hold already.
    Nothing happens where there is no driver: the library says so itself.
    """
    driver = driver or load_driver()
    if driver is None or driver.cuInit(0) != 0:
        return
    device, context = _device(driver, ordinal), ctypes.c_void_p()
    _check(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), "cuDevicePrimaryCtxRetain")
    _check(driver.cuCtxPushCurrent_v2(context), "cuCtxPushCurrent")


def cuda_version(driver: Any = None) -> tuple[int, int] | None:
    """The highest CUDA release that the driver runs, (12, 6), or None without a driver; no GPU is needed to ask.

    Args:
        driver: the loaded driver library, for tests.
    """
    driver, version = driver or load_driver(), ctypes.c_int()
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(version)) != 0 or version.value < 1000:
        return None
    return version.value // 1000, version.value % 1000 // 10


def free_bytes(gpu: Gpu | None, driver: Any = None) -> int:
    """Memory that a build may use: the GPU's free memory, or the machine's without a GPU or with an integrated one.

    An integrated GPU's own figure leaves out what the kernel's page cache would give back.
    """
    if gpu is None or gpu.integrated:
        return available_memory()
    driver = driver or load_driver()
    device, context = _device(driver, gpu.ordinal), ctypes.c_void_p()
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    _check(driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device), "cuDevicePrimaryCtxRetain")
    try:
        _check(driver.cuCtxPushCurrent_v2(context), "cuCtxPushCurrent")
        _check(driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)), "cuMemGetInfo")
        _check(driver.cuCtxPopCurrent_v2(ctypes.byref(context)), "cuCtxPopCurrent")
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(device)
    return free.value


def workspace_bytes(free: int) -> int:
    """The builder's workspace limit: half of what is free, between 64 MiB and 4 GiB."""
    return min(max(free // 2, _LEAST_WORKSPACE), _MOST_WORKSPACE)


def load_driver() -> Any:
    """The CUDA driver library, or None where there is none."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def _describe(driver: Any, ordinal: int) -> Gpu:
    version, name, device = ctypes.c_int(), ctypes.create_string_buffer(256), _device(driver, ordinal)
    _check(driver.cuDriverGetVersion(ctypes.byref(version)), "cuDriverGetVersion")
    _check(driver.cuDeviceGetName(name, len(name), device), "cuDeviceGetName")
    return Gpu(
        name=name.value.decode("utf-8", "replace"),
        sm=f"{_attribute(driver, _MAJOR, device)}.{_attribute(driver, _MINOR, device)}",
        integrated=bool(_attribute(driver, _INTEGRATED, device)),
        driver=f"{version.value // 1000}.{version.value % 1000 // 10}",
        ordinal=ordinal,
    )


def _device(driver: Any, ordinal: int) -> ctypes.c_int:
    device = ctypes.c_int()
    _check(driver.cuDeviceGet(ctypes.byref(device), ordinal), "cuDeviceGet")
    return device


def _attribute(driver: Any, attribute: int, device: ctypes.c_int) -> int:
    value = ctypes.c_int()
    _check(driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device), "cuDeviceGetAttribute")
    return value.value


def _check(status: int, call: str) -> None:
    if status != 0:
        raise DeviceFault(f"the CUDA driver answers {status} to {call}")

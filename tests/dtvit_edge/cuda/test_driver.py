from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dtvit_edge.cuda import device, driver
from dtvit_edge.cuda.device import Device
from dtvit_edge.cuda.driver import Gpu
from dtvit_edge.errors import ConfigError, DeviceFault, MissingDependency


class Driver:
    """The CUDA driver's calls, answering through the pointers that they are given."""

    def __init__(self, *, init: int = 0, integrated: int = 0, names: tuple[str, ...] = ("Orin",)) -> None:
        self.names = names
        self.current: list[int] = []
        self.init, self.attributes = init, {75: 8, 76: 7, 18: integrated}
        self.contexts = 0

    def cuInit(self, flags: int) -> int:
        return self.init

    def cuDriverGetVersion(self, version: Any) -> int:
        version._obj.value = 12060
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = len(self.names)
        return 0

    def cuDeviceGet(self, device: Any, ordinal: int) -> int:
        device._obj.value = ordinal
        return 0

    def cuDeviceGetName(self, name: Any, size: int, device: Any) -> int:
        name.value = self.names[device.value].encode()
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:
        value._obj.value = self.attributes[attribute]
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:
        self.contexts += 1
        context._obj.value = 100 + device.value
        return 0

    def cuCtxPushCurrent_v2(self, context: Any) -> int:
        self.current.append(context.value - 100)
        return 0

    def cuMemGetInfo_v2(self, free: Any, total: Any) -> int:
        free._obj.value, total._obj.value = 3 << 30, 8 << 30
        return 0

    def cuCtxPopCurrent_v2(self, context: Any) -> int:
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, device: Any) -> int:
        self.contexts -= 1
        return 0


def test_the_gpu_is_described_without_a_context() -> None:
    fake = Driver(integrated=1)
    assert driver.find(driver=fake) == Gpu("Orin", "8.7", integrated=True, driver="12.6")
    assert fake.contexts == 0


def test_no_device_is_none_and_a_failing_driver_a_fault() -> None:
    assert driver.find(driver=Driver(init=100)) is None
    assert driver.find(driver=Driver(names=())) is None
    with pytest.raises(DeviceFault, match="answers 999 to cuInit"):
        driver.find(driver=Driver(init=999))


def test_a_gpu_is_asked_for_by_its_number_and_an_absent_one_is_refused_with_those_that_are_there() -> None:
    fake = Driver(names=("NVIDIA L4", "NVIDIA A2"))
    assert driver.find(1, driver=fake) == Gpu("NVIDIA A2", "8.7", driver="12.6", ordinal=1)
    with pytest.raises(ConfigError, match=r"no CUDA device 2 here; there are: 0 \(NVIDIA L4, SM 8\.7\), 1 \(NVIDIA A2"):
        driver.find(2, driver=fake)


def test_the_gpus_own_context_is_made_current_and_asked_for_its_memory() -> None:
    fake = Driver(names=("a", "b"))
    driver.make_current(1, fake)
    assert fake.current == [1]
    driver.free_bytes(Gpu("b", "8.9", ordinal=1), fake)
    assert fake.current == [1, 1]


def test_free_memory_is_the_gpus_or_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Driver()
    assert driver.free_bytes(Gpu("a", "8.9"), fake) == 3 << 30
    assert fake.contexts == 0
    monkeypatch.setattr(driver, "available_memory", lambda: 12345)
    assert driver.free_bytes(None) == driver.free_bytes(Gpu("a", "8.7", integrated=True), fake) == 12345


@pytest.mark.parametrize(("free", "workspace"), [(0, 64 << 20), (1 << 30, 1 << 29), (1 << 40, 4 << 30)])
def test_the_workspace_is_half_of_what_is_free_and_bounded(free: int, workspace: int) -> None:
    assert driver.workspace_bytes(free) == workspace


def test_the_release_that_the_driver_runs_is_asked_without_a_gpu() -> None:
    def version(status: int, number: int) -> Any:
        return SimpleNamespace(cuDriverGetVersion=lambda at: setattr(at._obj, "value", number) or status)

    assert driver.cuda_version(version(0, 12060)) == (12, 6)
    assert driver.cuda_version(version(0, 0)) is None  # a stub of the driver library
    assert driver.cuda_version(version(999, 12060)) is None


@pytest.mark.parametrize(
    ("symbol", "built"),
    [("cuEventElapsedTime_v2", r"CUDA 13\.0 or newer"), ("cuNew", r"a newer CUDA than 12\.6")],
    ids=["known", "unknown"],
)
def test_pycuda_of_a_newer_cuda_is_said_in_words(symbol: str, built: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ImportError(f"_driver.cpython-310-x86_64-linux-gnu.so: undefined symbol: {symbol}")

    monkeypatch.setattr(device, "import_module", refuse)
    monkeypatch.setattr(device, "cuda_version", lambda: (12, 6))
    words = rf"pycuda was built with {built}, and this machine's driver runs CUDA up to 12\.6: .*{symbol}.*"
    with pytest.raises(MissingDependency, match=words + r"nvcc 12 .*/usr/local/cuda-12\.6/bin.* pip install"), Device():
        pass

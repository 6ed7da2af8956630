"""What the time of a configuration depends on: the machine, and the versions of the packages that compute."""

from __future__ import annotations

from dtvit_edge.environment import DEVICE_PACKAGES, machine, package_versions, physical_cores
from dtvit_edge.errors import DeviceFault

# Of `environment.machine`: a new kernel of the system or another Python changes no time worth a new measurement.
_FACTS = ("architecture", "processor", "instruction_sets", "cores", "jetson")
_PACKAGES = ("dtvit-edge", "numpy", "opencv-python-headless", "onnxruntime", "openvino", *DEVICE_PACKAGES)


def machine_facts() -> dict[str, str]:
    """Processor, its instruction sets and cores, and the GPU with its driver."""
    here = machine()
    return {name: here[name] for name in _FACTS} | {"physical_cores": str(physical_cores()), "gpu": _gpu()}


def library_versions() -> dict[str, str]:
    """Versions by distribution; absent ones are left out."""
    return package_versions(_PACKAGES)


def _gpu() -> str:
    from dtvit_edge.cuda import device
    from dtvit_edge.cuda.driver import find

    if device.unavailable() is not None:
        return "none"
    try:
        gpu = find()
    except DeviceFault:
        return "none"
    return "none" if gpu is None else f"{gpu.name}, SM {gpu.sm}, driver {gpu.driver}"

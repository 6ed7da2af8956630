"""The first stage: what this machine is, and whether the rest can run on it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from benchmarks.gpu_check.settings import LOGS, Settings
from dtvit_edge.cuda import driver
from dtvit_edge.cuda.device import Device
from dtvit_edge.errors import DtvitError, MissingDependency
from dtvit_edge.files import write_atomically
from dtvit_edge.preprocess import compilers
from dtvit_edge.trt import library
from evaluation.records import Record

WHAT = "gpu-check: the machine"


def describe(settings: Settings) -> Iterator[Record]:
    """The GPU, the driver, the compilers and the libraries.

    Raises:
        MissingDependency: with everything that the rest lacks.
    """
    _keep_nvidia_smi(settings)
    lacks: list[str] = []
    gpu = driver.find()
    facts: dict[str, str] = {} if gpu is None else {"gpu": gpu.name, "sm": gpu.sm, "cuda_driver": gpu.driver}
    if gpu is None:
        lacks.append("no GPU that CUDA can use is here")
    found = compilers.find_compilers()
    facts["compilers"] = "; ".join(compiler.identity for compiler in found)
    if not found:
        lacks.append(f"neither nvcc nor NVRTC is here: {compilers.how_to_install(driver.cuda_version())}")
    try:
        _, release = library.load(settings.flavour)
        facts["library"] = release.title
    except DtvitError as error:
        lacks.append(str(error))
    facts["pycuda"] = _version("pycuda")
    if gpu is not None:
        try:
            with Device() as device:
                facts |= {"processors": str(device.processors), "shared_bytes": str(device.shared_bytes)}
        except DtvitError as error:
            lacks.append(str(error))
    free = float(driver.free_bytes(gpu))
    yield Record(WHAT, "bytes", {"free memory": [free]}, {"free memory": free}, options=facts | {"lacks": lacks})
    if lacks:
        raise MissingDependency("; ".join(lacks))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed as a package"


def _keep_nvidia_smi(settings: Settings) -> None:
    """Clocks, power limit and other work on the GPU, as far as NVIDIA's tool is here."""
    try:
        said = subprocess.run(["nvidia-smi", "-q"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return
    write_atomically(settings.folder / LOGS / "nvidia-smi.txt", said.stdout + said.stderr)

"""The stages in the order of the day: what each proves and how long it may take. Nothing heavy is imported here."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.gpu_check.settings import Settings

PYTORCH = "pytorch"
# What its records are about: here, since the stage's own module imports torch.
WHAT_PYTORCH = "PyTorch on the same GPU"
FAULTING_RUN = "faulting-run"
# What a run cannot answer today, for the summary.
NOT_MEASURED = "the time of phases inside one launch: preprocess.cu reads no clock64"
# The exit status of a stage that has nothing to do here (EX_TEMPFAIL of sysexits.h, which no error of ours has).
NOT_HERE_STATUS = 75


class NotHere(Exception):
    """This machine or bundle has nothing for a stage: it is not run, which is no failure."""


@dataclass(frozen=True)
class Stage:
    """One question to the GPU.

    Attributes:
        limit_s: its process is killed after so many seconds.
        proves: one sentence.
        module, function: in this package; a generator of records that takes the settings, and the precision if any.
    """

    name: str
    limit_s: float
    proves: str
    module: str
    function: str
    precision: str | None = None


def stages(settings: Settings) -> list[Stage]:
    """Every stage of a run, in order: the cheap and certain first, what may break the device last."""
    found = [
        Stage("machine", 60, "A GPU, a compiler, TensorRT and pycuda are here and load.", "machine", "describe"),
        Stage("kernel", 120, "The kernel's bytes are the CPU's, and what it takes.", "kernel", "alone"),
        Stage("kernel-capped", 90, "The same with its masks in global memory.", "kernel", "capped"),
        Stage("kernel-noise", 60, "Noise is prepared or refused, never wrong.", "kernel", "strewn"),
        Stage("kernel-1024", 90, "The same for matrices of 1024 x 1024.", "kernel", "large"),
        Stage("kernel-nvrtc", 90, "NVRTC's machine code loads and gives the same bytes.", "kernel", "nvrtc"),
    ]
    for precision in settings.precisions:
        about = (precision,)
        found += [
            Stage(f"engine-{precision}", 420, "The engine is built, proved and installed.", "engines", "build", *about),
            Stage(
                f"golden-{precision}",
                90,
                "Golden slices, from stored pixels on.",
                "engines",
                "golden",
                *about,
            ),
            Stage(f"layers-{precision}", 60, "Time by layer, and precisions read back.", "engines", "layers", *about),
            Stage(f"speed-{precision}", 120, "Engine alone and whole executor.", "engines", "speed", *about),
            Stage(f"studies-{precision}", 120, "Studies through GPU and CPU.", "studies", "decisions", *about),
        ]
    first = settings.precisions[0]
    found += [
        Stage("out-of-memory", 90, "Without memory batches shrink, answers stay.", "faults", "out_of_memory", first),
        Stage("illegal-address", 180, "A fault ends with status 5, a rerun ends the job.", "faults", "resumed", first),
    ]
    if settings.pytorch_python and settings.weights:
        found.append(Stage(PYTORCH, 300, "PyTorch's times on the same GPU.", "pytorch", "main"))
    return found


def stage_of(settings: Settings, name: str) -> Stage:
    """The stage of a name, the hidden one that breaks the device included."""
    if name == FAULTING_RUN:
        return Stage(FAULTING_RUN, 120, "Ends with status 5.", "faults", "faulting_run", settings.precisions[0])
    return next(stage for stage in stages(settings) if stage.name == name)

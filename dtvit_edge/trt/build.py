"""ONNX to an engine on this device, or ahead of time with TensorRT for RTX; proved, then installed.

Everything happens in a folder beside the engines and in child processes; only an engine whose layers were read back and
whose self-test passed is moved into place. The manifest is frozen: building changes neither it nor its digest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from dtvit_edge.backend import Backend
from dtvit_edge.bundle import Bundle
from dtvit_edge.cuda import device
from dtvit_edge.cuda.driver import MIB, Gpu
from dtvit_edge.environment import available_memory, machine
from dtvit_edge.errors import BuildError, ConfigError, DigestMismatch, MissingDependency, VerdictError
from dtvit_edge.precisions import TRIMMED, required_capability
from dtvit_edge.selftest import SelfTest, tolerance_key
from dtvit_edge.spec import digest_file
from dtvit_edge.trt import backend, layers, library, process
from dtvit_edge.trt.builder import BuildJob
from dtvit_edge.trt.device_key import make_key
from dtvit_edge.trt.releases import (
    COMPILED_ALONE,
    DEFAULT_CAPABILITIES,
    DEFAULT_MAX_BATCH,
    PRECISIONS,
    RTX,
    Release,
    dotted,
    multiplies,
)
from dtvit_edge.trt.staging import staging
from dtvit_edge.trt.store import (
    ENGINES,
    UNPROVEN,
    BuildRecord,
    Engine,
    device_name,
    find_cache,
    install,
    install_cache,
)
from dtvit_edge.trt.verdicts import batches_as_fp32

Proof = Callable[[Bundle, Backend, Sequence[int]], SelfTest]
EngineOpener = Callable[[str, Engine, str], Backend]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BuildOptions:
    """What to build.

    Attributes:
        backend: `tensorrt`, `tensorrt-rtx`, or `auto` for the one that is installed.
        max_batch: the profiles are for 1 alone and from 1 to it.
        ahead_of_time: with no GPU, for `capabilities` (none takes 8.6, 8.9 and 12.0; of those fp8 has the last two).
        workspace_mib: the builder's workspace; None takes half of the free memory.
        library_tactics: False leaves cuBLAS and cuDNN out of the search.
        builder_optimization_level: 0 to 5, how long the builder searches; None leaves it to the library.
        device: CUDA's number of the GPU to build and test on; None is 0.
    """

    precision: str
    backend: str = library.AUTO
    max_batch: int = DEFAULT_MAX_BATCH
    ahead_of_time: bool = False
    capabilities: tuple[str, ...] = ()
    workspace_mib: int | None = None
    library_tactics: bool = True
    builder_optimization_level: int | None = None
    device: int | None = None

    def __post_init__(self) -> None:
        if self.precision in TRIMMED.values():
            raise ConfigError(
                f"there are no engines of {self.precision}, whose patches differ in number from slice to slice; CPU "
                "backends run it as it is, and --backend openvino compiles it"
            )
        if self.precision not in PRECISIONS:
            raise ConfigError(f"precision is {self.precision!r}; there are {', '.join(PRECISIONS)}")
        if self.max_batch < 1 or (self.workspace_mib is not None and self.workspace_mib < 1):
            raise ConfigError("--max-batch and --workspace are at least 1")
        if self.builder_optimization_level not in (None, *range(6)):
            raise ConfigError("--builder-optimization-level is 0 to 5")
        if self.device is not None and (self.device < 0 or self.ahead_of_time):
            raise ConfigError("--device is the number of the GPU to build on, 0 or more; --ahead-of-time uses none")
        if self.capabilities and not self.ahead_of_time:
            raise ConfigError("--sm goes with --ahead-of-time; else an engine is built for the GPU that is there")
        if COMPILED_ALONE in self.capabilities and len(self.capabilities) > 1:
            raise ConfigError(f"SM {COMPILED_ALONE} is compiled alone; build it by itself")


def build_engine(bundle: Bundle, options: BuildOptions, prove: Proof) -> BuildRecord:
    """Build, check, test and install an engine.

    Args:
        prove: the self-test that decides whether it is installed, `scoring.proof.prove_chain`; given the bundle, the
            opened backend and the batch sizes to test. A VerdictError is its no.

    Returns:
        The record as it lies beside the plan.

    Raises:
        MissingDependency, ConfigError: no such library here, or options that it does not have.
        BuildError: no GPU, a graph that the bundle lacks or this release does not read, or what TensorRT refuses.
        BuildKilled: the building process died.
        VerdictError: the engine is not what was asked for, or fails its self-test.
    """
    flavour = library.choose(options.backend)
    if options.ahead_of_time and flavour != RTX:
        raise ConfigError("only TensorRT for RTX compiles ahead of time: --backend tensorrt-rtx")
    capabilities = (options.capabilities or _default_capabilities(options)) if options.ahead_of_time else ()
    make_key()  # what cannot be signed is not built for minutes
    with staging(bundle.path / ENGINES) as stage:
        question = {"find_gpu": not options.ahead_of_time, "device": options.device or 0}
        probe = process.run("probe", flavour, question, stage)
        release, gpu = Release(flavour, probe["version"]), Gpu(**probe["gpu"]) if probe["gpu"] else None
        graph = release.graph_for(options.precision)
        release.check_graph(graph, bundle.manifest.models)
        if not options.library_tactics and not release.has_library_tactics:
            raise ConfigError(f"{release.title} has no cuBLAS and cuDNN tactics that could be left out")
        if options.builder_optimization_level is not None and not release.has_optimization_level:
            raise ConfigError(f"{release.title} has no builder optimization level; 8.6 and newer have")
        _require_capability(options.precision, capabilities or ((gpu.sm,) if gpu else ()))
        opener = None
        if not options.ahead_of_time:
            _require_gpu(gpu, release)
            opener = _engine_opener(release, options.device or 0)
            tolerance_key(bundle.manifest, options.precision)
        record = _build(bundle, options, release, gpu if opener else None, capabilities, graph, stage)
        plan = stage / record.plan
        if opener is not None:
            record = _proved(bundle, record, plan, opener, prove)
        folder = bundle.path / ENGINES
        device = _device(release, record.gpu, record.capabilities)
        record = install(folder, record, plan)
        if (stage / "new.timing").is_file():
            install_cache(folder, device, stage / "new.timing")
    return record


def _build(
    bundle: Bundle,
    options: BuildOptions,
    release: Release,
    gpu: Gpu | None,
    capabilities: Sequence[str],
    graph: str,
    stage: Path,
) -> BuildRecord:
    """Run the builder in a child process, and check the precisions that it read back."""
    spec, model = bundle.manifest.spec, bundle.manifest.models[graph]
    cache = find_cache(bundle.path / ENGINES, _device(release, gpu.name if gpu else None, (gpu.sm,) if gpu else ()))
    job = BuildJob(
        precision=options.precision,
        onnx=str(bundle.model_path(graph)),
        onnx_sha256=model.sha256,
        channels=spec.channels,
        side=spec.crop,
        max_batch=options.max_batch,
        plan=str(stage / "engine.plan"),
        capabilities=tuple(capabilities),
        workspace=options.workspace_mib * MIB if options.workspace_mib else None,
        library_tactics=options.library_tactics,
        optimization_level=options.builder_optimization_level,
        device=options.device or 0,
        cache=str(cache[0]) if cache else None,
        cache_sha256=cache[1] if cache else "",
        new_cache=str(stage / "new.timing") if release.has_timing_cache else None,
    )
    where = f"on {gpu.name} (SM {gpu.sm})" if gpu else f"ahead of time for SM {', '.join(capabilities)}"
    _warn_of_memory(model.bytes)
    logger.info("building %s from %s with %s, %s", options.precision, model.file, release.title, where)
    built = process.run("build", release.flavour, asdict(job), stage)
    if digest_file(Path(job.plan)) != built["plan_sha256"]:
        raise DigestMismatch("the engine's bytes changed on their way to the disk; nothing is installed")
    built_layers = [layers.Layer(**layer) for layer in built["layers"]]
    warnings = layers.check_precision(options.precision, built_layers)
    for warning in warnings:
        logger.warning("%s", warning)
    return BuildRecord(
        plan="engine.plan",
        plan_sha256=built["plan_sha256"],
        plan_bytes=built["plan_bytes"],
        precision=options.precision,
        graph=graph,
        onnx_sha256=model.sha256,
        spec_digest=spec.digest,
        golden_digest=bundle.manifest.golden_digest,
        flavour=release.flavour,
        version=release.text,
        gpu=gpu.name if gpu else None,
        cuda_ordinal=gpu.ordinal if gpu else None,
        capabilities=(gpu.sm,) if gpu else tuple(capabilities),
        profiles=tuple(built["profiles"]),
        optimization_level=built["optimization_level"],
        flags=tuple(built["flags"]),
        fp32_layers=tuple(built["fp32_layers"]),
        workspace_bytes=built["workspace"],
        seconds=built["seconds"],
        peak_memory_bytes=built["peak_memory_bytes"],
        layer_precisions=layers.count(built_layers),
        layers_from=built["layers_from"],
        layers=tuple(built["layers"]),
        selftest=None,
        selftest_reason=UNPROVEN,
        warnings=tuple(warnings),
        log=tuple(built["log"]),
        machine=machine() | ({"cuda_driver": gpu.driver} if gpu else {}),
    )


def _proved(bundle: Bundle, record: BuildRecord, plan: Path, opener: EngineOpener, prove: Proof) -> BuildRecord:
    """The record with its self-test: golden slices at batch 1, at the largest batch, and between them."""
    engine = Engine(record, plan.read_bytes())
    try:
        with opener(record.flavour, engine, tolerance_key(bundle.manifest, record.precision)) as backend:
            result = prove(bundle, backend, sorted({1, engine.max_batch}))
        if batches := batches_as_fp32(bundle.manifest, record.precision, result.deviations):
            raise VerdictError(
                f"{record.precision} was asked for, and at batch {', '.join(map(str, batches))} the engine's answers "
                "are as exact as fp32's: it computes in fp32"
            )
    except VerdictError as error:
        raise VerdictError(f"{error}; it is not installed") from error
    return replace(record, selftest=result.to_dict(), selftest_reason="")


def _warn_of_memory(model_bytes: int) -> None:
    """Say beforehand that a build may be killed. ViT-B/16 in fp32 took 4 times its file (TensorRT for RTX, no GPU)."""
    free, needed = available_memory() // MIB, (4 * model_bytes + 256 * MIB) // MIB
    if free < needed:
        logger.warning("%d MiB of memory are free and about %d are needed: the build may be killed", free, needed)


def _engine_opener(release: Release, device_ordinal: int) -> EngineOpener:
    """What opens a serialised engine: without it none can be proved here, and what is not proved is not installed."""
    why_not = backend.unavailable(release.flavour)
    if why_not is not None:
        raise MissingDependency(f"{why_not}: an engine could be built here but not tested; {device.INSTALL}")
    return partial(backend.open_serialized, device=device_ordinal)


def _require_gpu(gpu: Gpu | None, release: Release) -> None:
    if gpu is None:
        more = "; --ahead-of-time compiles without one" if release.flavour == RTX else ""
        raise BuildError(
            f"no GPU that CUDA can use was found here, and {release.title} builds on the one it is for{more}"
        )


def _default_capabilities(options: BuildOptions) -> tuple[str, ...]:
    return tuple(sm for sm in DEFAULT_CAPABILITIES if multiplies(options.precision, sm))


def _require_capability(precision: str, capabilities: Sequence[str]) -> None:
    if older := [sm for sm in capabilities if not multiplies(precision, sm)]:
        least = dotted(required_capability(precision) or ())
        raise BuildError(
            f"SM {', '.join(older)} has no {precision.upper()}; SM {least} and newer have: build int8 or fp16 there"
        )


def _device(release: Release, gpu: str | None, capabilities: Sequence[str]) -> str:
    return device_name(release.flavour, release.text, gpu, capabilities)

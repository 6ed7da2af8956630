"""ONNX bytes to a serialised engine, inside the child process; the library comes in as an argument.

No plugin library is loaded, and the runtime that reads the engine back refuses engines with host code.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dtvit_edge.bundle.graph_scan import check_graph
from dtvit_edge.bundle.schema import MOST_FILE_BYTES
from dtvit_edge.cuda.driver import Gpu, free_bytes, workspace_bytes
from dtvit_edge.errors import BuildError, BundleError, DigestMismatch
from dtvit_edge.files import read_regular, replaced_file
from dtvit_edge.spec import INPUT_NAME, OUTPUT_NAMES, digest_bytes
from dtvit_edge.trt import layers, library
from dtvit_edge.trt.fp32_layers import hold_in_fp32
from dtvit_edge.trt.int8_weights import quantise_float_weights
from dtvit_edge.trt.releases import OBEYED, RTX, Release, batch_profiles

# TensorRT's severities up to warnings: INTERNAL_ERROR 0, ERROR 1, WARNING 2.
_ERROR, _WARNING = 1, 2
_KEPT_LINES = 40


@dataclass(frozen=True)
class BuildJob:
    """What the child process is to build; plain JSON types, since it goes there as a file.

    Attributes:
        onnx, onnx_sha256: the model's file and the digest that the manifest names.
        channels, side: of the input, (N, channels, side, side) uint8.
        max_batch: the profiles are for 1 alone and from 1 to it.
        capabilities: compute capabilities to compile ahead of time for; empty builds for the GPU that is there.
        workspace: limit in bytes; None takes half of what is free.
        library_tactics: False leaves cuBLAS and cuDNN out.
        optimization_level: of the builder, 0 to 5; None leaves it to the library.
        device: CUDA's number of the GPU to build on.
        plan: where the engine is written.
        cache, cache_sha256: a timing cache to begin with, and its digest; None begins anew.
        new_cache: where the timing cache is written.
    """

    precision: str
    onnx: str
    onnx_sha256: str
    channels: int
    side: int
    max_batch: int
    plan: str
    capabilities: tuple[str, ...] = ()
    workspace: int | None = None
    library_tactics: bool = True
    optimization_level: int | None = None
    device: int = 0
    cache: str | None = None
    cache_sha256: str = ""
    new_cache: str | None = None


@dataclass(frozen=True)
class BuildResult:
    """What the child process built; plain JSON types, since it comes back as a file.

    Attributes:
        plan_sha256: of the bytes before they were written.
        flags: names of the builder's and the network's flags.
        fp32_layers: names of the layers that were held in FP32.
        profiles: batch sizes `min`, `opt` and `max` of each optimization profile, in the engine's order.
        optimization_level: the builder's; None where the release has none.
        layers: as `dtvit_edge.trt.layers.Layer`; layers_from: where they were read.
        log: the library's warnings.
    """

    plan_sha256: str
    plan_bytes: int
    flags: list[str]
    fp32_layers: list[str]
    profiles: list[dict[str, int]]
    optimization_level: int | None
    workspace: int
    seconds: float
    layers: list[dict[str, Any]]
    layers_from: str
    log: list[str]


@dataclass
class Log:
    """What the library says: warnings and errors go to stderr as they come, so that a killed build leaves them."""

    lines: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    layers: str = ""

    def add(self, severity: int, message: str) -> None:
        """Take one message of TensorRT's logger."""
        if message.startswith(layers.LOG_TITLE):
            self.layers = message
        if severity > _WARNING:
            return
        words = " ".join(message.split())
        self.lines.append(words)
        if severity <= _ERROR:
            self.errors.append(words)
        print(words, flush=True)


def build(trt: Any, release: Release, job: BuildJob, gpu: Gpu | None, log: Log) -> BuildResult:
    """Parse, configure and build.

    Raises:
        DigestMismatch: the file's bytes are not the manifest's; no parser has seen them.
        BuildError: the parser or the builder refuses, with their words.
    """
    logger = library.logger(trt, log.add)
    builder = library.builder(trt, release, logger)
    flags = sum(1 << int(getattr(trt.NetworkDefinitionCreationFlag, name)) for name in release.creation_flags)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)  # kept until the engine is built: the weights are its
    _parse(parser, _verified(job), release, log)
    _check_names(network)
    # Kept until the engine is built, as the parser's are.
    float_weights = quantise_float_weights(trt, network) if release.wants_float_weights else []
    config = builder.create_builder_config()
    # TF32 is on by default and 1e-3 off: what is called fp32 here is fp32.
    config.clear_flag(trt.BuilderFlag.TF32)
    builder_flags = release.builder_flags(job.precision)
    for name in builder_flags:
        config.set_flag(getattr(trt.BuilderFlag, name))
    fp32_layers = hold_in_fp32(trt, network) if OBEYED in builder_flags else []
    workspace = job.workspace or workspace_bytes(free_bytes(gpu))
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # else layers are names without types
    if not job.library_tactics:
        sources = (trt.TacticSource.JIT_CONVOLUTIONS, trt.TacticSource.EDGE_MASK_CONVOLUTIONS)
        config.set_tactic_sources(sum(1 << int(source) for source in sources))
    if release.flavour == RTX:
        _target(trt, config, job.capabilities)
    for name in release.preview_features:
        config.set_preview_feature(getattr(trt.PreviewFeature, name), True)
    if job.optimization_level is not None:
        config.builder_optimization_level = job.optimization_level
    profiles = batch_profiles(release, job.max_batch)
    _add_profiles(builder, config, profiles, job)
    if release.has_timing_cache:
        _use_timing_cache(config, job, log)
    start = time.perf_counter()
    memory = builder.build_serialized_network(network, config)
    del float_weights
    seconds = time.perf_counter() - start
    if memory is None:
        raise BuildError(f"{release.title} builds no engine: {_words(log)}")
    with replaced_file(Path(job.plan)) as file:
        file.write(memoryview(memory))
    if release.has_timing_cache and job.new_cache:
        with replaced_file(Path(job.new_cache)) as file:
            file.write(memoryview(config.get_timing_cache().serialize()))
    built_layers, source = _read_back(trt, release, logger, memory, job, log)
    return BuildResult(
        plan_sha256=digest_bytes(memoryview(memory)),
        plan_bytes=int(memory.nbytes),
        flags=[*release.creation_flags, *builder_flags, *release.preview_features],
        fp32_layers=fp32_layers,
        profiles=profiles,
        optimization_level=int(config.builder_optimization_level) if release.has_optimization_level else None,
        workspace=workspace,
        seconds=round(seconds, 2),
        layers=[vars(layer) for layer in built_layers],
        layers_from=source,
        log=log.lines[-_KEPT_LINES:],
    )


def _verified(job: BuildJob) -> bytes:
    try:
        data = read_regular(Path(job.onnx), MOST_FILE_BYTES)
    except OSError as error:
        raise BundleError(f"{job.onnx}: {error.strerror}") from error
    if digest_bytes(data) != job.onnx_sha256:
        raise DigestMismatch(f"{job.onnx}: its sha256 is not the one that the manifest names")
    check_graph(data, job.onnx)
    return data


def _parse(parser: Any, data: bytes, release: Release, log: Log) -> None:
    if parser.parse(data):
        return
    said = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        node = f"node {error.node()}"
        if release.parser_names_nodes and error.node_name():
            node = f"{error.node_operator()} {error.node_name()!r}"
        said.append(f"{node}: {' '.join(str(error.desc()).split())} ({error.code()})")
    # Before 10 only the log names the node.
    if not release.parser_names_nodes:
        said += [line for line in log.errors if "While parsing node" in line]
    raise BuildError(f"{release.title} does not read this graph: {'; '.join(said) or _words(log)}")


def _check_names(network: Any) -> None:
    inputs = [network.get_input(i).name for i in range(network.num_inputs)]
    outputs = [network.get_output(i).name for i in range(network.num_outputs)]
    if inputs != [INPUT_NAME] or set(outputs) != set(OUTPUT_NAMES):
        raise BuildError(
            f"the graph has inputs {inputs}, outputs {outputs}; expected {[INPUT_NAME]}, {list(OUTPUT_NAMES)}"
        )


def _target(trt: Any, config: Any, capabilities: tuple[str, ...]) -> None:
    """Compile for these compute capabilities in one engine, or for the GPU that is there."""
    names = [f"SM{sm.replace('.', '')}" for sm in capabilities] or ["CURRENT"]
    known = [name for name in dir(trt.ComputeCapability) if name.startswith("SM")]
    missing = [name for name in names if not hasattr(trt.ComputeCapability, name)]
    if missing:
        raise BuildError(f"it compiles for {', '.join(known)}, not for {', '.join(missing)}")
    config.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        if not config.set_compute_capability(getattr(trt.ComputeCapability, name), index):
            raise BuildError(f"the builder refuses compute capability {name} among {', '.join(names)}")


def _add_profiles(builder: Any, config: Any, profiles: list[dict[str, int]], job: BuildJob) -> None:
    for batches in profiles:
        profile = builder.create_optimization_profile()
        profile.set_shape(INPUT_NAME, *((batch, job.channels, job.side, job.side) for batch in batches.values()))
        if config.add_optimization_profile(profile) < 0:
            raise BuildError(f"the builder refuses a profile of batches {batches}")


def _use_timing_cache(config: Any, job: BuildJob, log: Log) -> None:
    """Set the timing cache; one whose bytes changed or that the library refuses is begun anew, and said."""
    data = Path(job.cache).read_bytes() if job.cache else b""
    if data and digest_bytes(data) != job.cache_sha256:
        log.add(_WARNING, "the timing cache's digest is not its own; it is made anew")
        data = b""
    known = len(log.errors)
    cache = config.create_timing_cache(data)
    if cache is None or not config.set_timing_cache(cache, False):
        log.add(_WARNING, "the timing cache is refused; it is made anew")
        config.set_timing_cache(config.create_timing_cache(b""), False)
    del log.errors[known:]  # what is wrong with it is no reason for what comes later


def _read_back(
    trt: Any, release: Release, logger: Any, memory: Any, job: BuildJob, log: Log
) -> tuple[list[layers.Layer], str]:
    """The engine's layers: from the inspector where the engine can be loaded, else from the builder's log.

    An inspector whose JSON cannot be read makes no engine bad: there are no layers then, which is a warning.
    """
    if job.capabilities:
        return layers.from_log(log.layers), "builder's log"
    runtime = library.runtime(trt, release, logger)
    engine = runtime.deserialize_cuda_engine(memory)
    if engine is None:
        raise BuildError(f"the engine that was just built cannot be loaded: {_words(log)}")
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    try:
        return layers.from_inspector(text), "engine inspector"
    except ValueError as error:
        log.add(_WARNING, f"what the engine inspector says of the layers cannot be read: {error}")
        return [], "not readable"


def _words(log: Log) -> str:
    return "; ".join(log.errors[-6:]) or "no reason given"

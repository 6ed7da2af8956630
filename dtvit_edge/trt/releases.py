"""What differs between releases of TensorRT and TensorRT for RTX; no other module asks for a version.

Sources: NVIDIA's migration guides 8.x to 10.x and 10.x to 11.x, the ONNX-TensorRT changelog (highest opset, UINT8
inputs from 8.5, LayerNormalization from 8.6, node names in parser errors), and TensorRT for RTX 1.7 itself.

| release | reads | precision comes from | timing cache |
|---|---|---|---|
| 8.5 | fp32-op16 | builder flags, the parts of LayerNorm held in FP32 | yes |
| 8.6, 9.x | fp32, int8 | builder flags; LayerNorm computes in FP32 by itself | yes |
| 10.x | fp32, fp16, int8-fp16, fp8 | the graph: STRONGLY_TYPED | yes |
| 11.x | fp32, fp16, int8-fp16, fp8 | the graph; the flags are gone | yes |
| for RTX 1.x | fp32, fp16, int8-fp16, fp8 | the graph; the flags are gone | no: its calls do nothing |

Execution contexts on memory that the caller owns (read off the Python modules of 8.6.0 and of RTX 1.7, and the source
of the bindings of 10.x):

| release | a context without memory | it is given | contexts on one profile |
|---|---|---|---|
| 8.5 | create_execution_context_without_device_memory | device_memory = address | one |
| 8.6, 9.x | the same | the same | many, by PROFILE_SHARING_0806 when it is built |
| 10.0 | create_execution_context(USER_MANAGED) | the same | many |
| 10.1 to 11 | the same | set_device_memory(address, bytes) | many |
| for RTX | create_execution_context(runtime config) | the same | many; it captures graphs by itself |
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dtvit_edge.errors import BuildError
from dtvit_edge.precisions import BY_NAME, CALIBRATE, ENGINE_PRECISIONS, graphs_of, required_capability

TENSORRT, RTX = "tensorrt", "tensorrt-rtx"
TITLES = {TENSORRT: "TensorRT", RTX: "TensorRT for RTX"}
PRECISIONS = ENGINE_PRECISIONS
# What TensorRT for RTX compiles ahead of time where nothing else is asked for: Ampere, Ada and Blackwell boards.
DEFAULT_CAPABILITIES = ("8.6", "8.9", "12.0")
DEFAULT_MAX_BATCH = 8
# This compute capability is compiled alone or not at all (TensorRT for RTX's documentation).
COMPILED_ALONE = "7.5"

# The BuilderFlag by which layers keep the precision that is set on them.
OBEYED = "OBEY_PRECISION_CONSTRAINTS"

_OLDEST = (8, 5)
# The highest opset that releases from a version on read. A parser takes newer graphs without a word and misreads them.
_MAX_OPSETS = (((8, 5), 17), ((9, 0), 19), ((10, 0), 20), ((10, 15), 24))
_RTX_MAX_OPSET = 20  # its documents name none and its parser takes any number: held to TensorRT 10.0's


@dataclass(frozen=True)
class Release:
    """One release of one of the two libraries.

    Attributes:
        flavour: `tensorrt` or `tensorrt-rtx`.
        text: the version as the library writes it, `10.3.0` or `1.7.1.116`; never compared as text.
    """

    flavour: str
    text: str

    def __post_init__(self) -> None:
        if self.flavour == TENSORRT and self.version < _OLDEST:
            raise BuildError(f"{self.title} is too old: 8.5 or newer is needed (JetPack 6 brings 8.6 and 10.3)")

    @property
    def version(self) -> tuple[int, ...]:
        """The version's numbers: `8.6.1.post1` is (8, 6, 1)."""
        return parse_version(self.text)

    @property
    def title(self) -> str:
        """Name and version, for people."""
        return f"{TITLES[self.flavour]} {self.text}"

    @property
    def typed(self) -> bool:
        """Precision is a property of the graph; else it comes from builder flags."""
        return self.flavour == RTX or self.version >= (10,)

    @property
    def creation_flags(self) -> tuple[str, ...]:
        """Names of NetworkDefinitionCreationFlag; 11 and RTX are always strongly typed and take none."""
        if self.flavour == RTX or self.version >= (11,):
            return ()
        return ("STRONGLY_TYPED",) if self.version >= (10,) else ("EXPLICIT_BATCH",)

    @property
    def has_timing_cache(self) -> bool:
        """In TensorRT for RTX the calls are deprecated and do nothing."""
        return self.flavour == TENSORRT

    @property
    def has_library_tactics(self) -> bool:
        """It knows cuBLAS and cuDNN as sources of tactics, so that they can be left out."""
        return self.flavour == TENSORRT and self.version < (11,)

    @property
    def has_normalization_layer(self) -> bool:
        """LayerNormalization becomes one layer, INormalizationLayer."""
        return self.flavour == RTX or self.version >= (8, 6)

    @property
    def wants_float_weights(self) -> bool:
        """It builds no int8 constants: weights are to be floats behind a QuantizeLinear."""
        return not self.typed

    @property
    def has_optimization_level(self) -> bool:
        """`IBuilderConfig.builder_optimization_level` is there."""
        return self.flavour == RTX or self.version >= (8, 6)

    @property
    def preview_features(self) -> tuple[str, ...]:
        """Names of PreviewFeature that are switched on: many contexts on one profile, always so from 10 on."""
        return ("PROFILE_SHARING_0806",) if self.shares_profiles and not self.typed else ()

    @property
    def shares_profiles(self) -> bool:
        """Several execution contexts may run one optimization profile; in 8.5 it belongs to one of them."""
        return self.flavour == RTX or self.version >= (8, 6)

    @property
    def captures_by_itself(self) -> bool:
        """Its execution contexts make CUDA graphs of their own, and are not to be captured by others."""
        return self.flavour == RTX

    @property
    def memory_size_name(self) -> str:
        """The engine's attribute that says the activation memory of a context, for its largest profile."""
        return "device_memory_size_v2" if self._sized_memory else "device_memory_size"

    def create_context(self, trt: Any, engine: Any, address: int, nbytes: int, *, graphs: bool) -> tuple[Any, Any]:
        """An execution context on activation memory of the caller's.

        Args:
            address, nbytes: of the memory, aligned to 256 bytes, `memory_size_name` bytes at least.
            graphs: it is to make CUDA graphs, where it does so by itself.

        Returns:
            The context, None where the library makes none; and what must be kept as long as it.
        """
        config = None
        if not self.typed:
            context = engine.create_execution_context_without_device_memory()
        else:
            strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
            if self.flavour == RTX:
                config = engine.create_runtime_config()
                config.set_execution_context_allocation_strategy(strategy)
                if hasattr(config, "cuda_graph_strategy"):  # from 1.2 on
                    kinds = trt.CudaGraphStrategy
                    config.cuda_graph_strategy = kinds.WHOLE_GRAPH_CAPTURE if graphs else kinds.DISABLED
            context = engine.create_execution_context(strategy if config is None else config)
        if context is not None and self._sized_memory:
            context.set_device_memory(address, nbytes)
        elif context is not None:
            context.device_memory = address
        return context, config

    @property
    def _sized_memory(self) -> bool:
        return self.flavour == RTX or self.version >= (10, 1)

    @property
    def parser_names_nodes(self) -> bool:
        """A parser error has `node_name` and `node_operator`; before, the log alone names the node."""
        return self.flavour == RTX or self.version >= (10,)

    @property
    def max_opset(self) -> int:
        """The highest ONNX opset that it reads."""
        if self.flavour == RTX:
            return _RTX_MAX_OPSET
        return max(opset for since, opset in _MAX_OPSETS if self.version >= since)

    def builder_flags(self, precision: str) -> tuple[str, ...]:
        """Names of BuilderFlag that a precision needs; none where the graph is typed."""
        if self.typed or precision == "fp32":
            return ()
        pinned = () if self.has_normalization_layer else (OBEYED,)
        return (*(("INT8",) if precision == "int8" else ()), "FP16", *pinned)

    def graph_for(self, precision: str) -> str:
        """Which of the bundle's models (a key of `dtvit_edge.bundle.MODEL_FILES`) makes an engine of a precision.

        Raises:
            BuildError: this release cannot make one.
        """
        if precision not in PRECISIONS:
            raise BuildError(f"{self.title} makes no engine of {precision}, which is a model for CPUs alone")
        if self.typed:
            return graphs_of(precision)[0].name
        if precision != "fp16" and all(row.typed for row in graphs_of(precision)):  # FP16 is a flag here
            name = precision.upper()
            raise BuildError(f"{self.title} reads no {name} graph; TensorRT 10 and newer and TensorRT for RTX do")
        if self.version >= (8, 6):
            return "int8" if precision == "int8" else "fp32"
        if precision == "int8":
            raise BuildError(f"{self.title} has no LayerNormalization, which the int8 graphs hold; int8 needs 8.6")
        return "fp32-op16"

    def check_graph(self, graph: str, models: Mapping[str, Any]) -> None:
        """Refuse a graph that the bundle lacks or that this release does not read, before any parser sees it.

        Args:
            graph: as `graph_for` gives it.
            models: the manifest's FileRecords by precision.

        Raises:
            BuildError: with what makes the file, or both opsets.
        """
        if graph not in models:
            raise BuildError(
                f"{self.title} needs the bundle's {graph} model, which it does not have "
                f"(it has {', '.join(sorted(models))}); `{command_for(graph)}` makes it"
            )
        opset = models[graph].facts.get("opset")
        if not isinstance(opset, int):
            raise BuildError(f"the manifest does not say the opset of {models[graph].file}; export the bundle again")
        if opset > self.max_opset:
            raise BuildError(
                f"{models[graph].file} is ONNX opset {opset}; {self.title} reads up to {self.max_opset}: "
                "export the bundle for that release, or use a newer one"
            )


def batch_profiles(release: Release, max_batch: int) -> list[dict[str, int]]:
    """Batch sizes `min`, `opt` and `max` of an engine's optimization profiles: one slice alone, and up to the largest.

    Where a profile belongs to one context, the second comes twice: for the largest batch, and for those between.
    """
    alone = {"min": 1, "opt": 1, "max": 1}
    if max_batch == 1:
        return [alone]
    many = {"min": 1, "opt": max_batch, "max": max_batch}
    return [alone, many] if release.shares_profiles or max_batch == 2 else [alone, many, dict(many)]


def command_for(graph: str, bundle: str = "NAME.dtvit") -> str:
    """The command that puts a model (a key of `dtvit_edge.bundle.MODEL_FILES`) into a bundle, quoted already."""
    if BY_NAME[graph].made_by == CALIBRATE:
        return f"dtvit-edge calibrate {bundle} --slices DIR"
    return f"dtvit-edge export WEIGHTS -o {bundle}"


def multiplies(precision: str, capability: str) -> bool:
    """Whether a GPU of this compute capability, as `8.9`, multiplies what engines of a precision ask for.

    For one that does not the builder of TensorRT for RTX 1.7 says "Cannot compile for target(s) sm86, because the model
    contains HW-specific datatypes: fp8_e4m3".
    """
    least = required_capability(precision)
    return least is None or parse_version(capability) >= least


def dotted(version: Sequence[int]) -> str:
    """(8, 5, 2) as 8.5.2: what `parse_version` takes apart."""
    return ".".join(map(str, version))


def parse_version(text: str) -> tuple[int, ...]:
    """Leading numbers of a version, comparable; BuildError where there are none."""
    match = re.match(r"\d+(?:\.\d+)*", text)
    if match is None:
        raise BuildError(f"{text!r} is no version of TensorRT")
    return tuple(int(part) for part in match.group().split("."))

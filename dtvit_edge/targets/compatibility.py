"""`compat`: a bundle, a target, and what is to be said of the two."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import PurePath

from dtvit_edge.bundle import MODEL_FILES, Bundle
from dtvit_edge.errors import ConfigError
from dtvit_edge.precisions import DEVICE_PRECISIONS
from dtvit_edge.spec import INPUT_NAME
from dtvit_edge.targets.facts import Finding, GraphFacts, NotKnown
from dtvit_edge.targets.model_files import NOT_KNOWN, PASSED_OVER, USED, FileCompatibility, file_compatibilities
from dtvit_edge.targets.rules import findings
from dtvit_edge.targets.table import PYTHON_FLOOR, TARGETS, Stack
from dtvit_edge.trt.releases import DEFAULT_MAX_BATCH, RTX

# trtexec's profile, from batch 1 to what `build` takes as the largest where nothing else is asked for.
_BATCHES = {"min": 1, "opt": DEFAULT_MAX_BATCH, "max": DEFAULT_MAX_BATCH}
_WORKSPACE_MIB = 1024
# Names of the nodes that FP16 needs in FP32: the parts of LayerNorm, softmax, and what writes the two logits. They
# become the names of TensorRT's layers; trtexec 8.5 knows no wildcards, so that the device reads them off the file.
FP32_NODES = r"node_(layer_norm|softmax)\w*|_logits\x1a.\Knode_\w+"


@dataclass(frozen=True)
class StackCompatibility:
    """A bundle on one stack of a target.

    Attributes:
        title: the stack's versions in one line; `name` is its first part.
        files: the model files, in the order of `bundle.MODEL_FILES`.
        findings: worst first.
        commands: what builds the files that are used.
        sources: of the stack's row in the table of targets.
    """

    name: str
    title: str
    files: tuple[FileCompatibility, ...]
    findings: tuple[Finding, ...]
    commands: tuple[str, ...]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class Compatibility:
    """A bundle on a target.

    Attributes:
        runs: False where no stack of the target can run any file that this copy of the bundle has.
    """

    target: str
    bundle: str
    digest: str
    runs: bool
    stacks: tuple[StackCompatibility, ...]


def compat(bundle: Bundle, target: str) -> Compatibility:
    """Say what a target will refuse, decompose or not fuse of a bundle.

    Raises:
        ConfigError: no such target.
    """
    if target not in TARGETS:
        raise ConfigError(f"no target called {target!r}; there are {', '.join(TARGETS)}")
    facts = GraphFacts.of(bundle)
    stacks = tuple(_on(facts, stack) for stack in TARGETS[target].stacks)
    runs = any(
        facts.here(file.key) and file.state in (USED, NOT_KNOWN, PASSED_OVER)
        for stack in stacks
        for file in stack.files
    )
    return Compatibility(target, str(bundle.path), bundle.digest, runs, stacks)


def _on(facts: GraphFacts, stack: Stack) -> StackCompatibility:
    files = file_compatibilities(facts, stack)
    used = {precision: file.key for file in files if file.state == USED for precision in file.precisions}
    commands = tuple(
        _command(precision, used[precision], facts, stack) for precision in DEVICE_PRECISIONS if precision in used
    )
    return StackCompatibility(
        stack.name, stack.title, files, findings(facts, stack), tuple(dict.fromkeys(commands)), stack.sources
    )


def _command(precision: str, key: str, facts: GraphFacts, stack: Stack) -> str:
    bundle = shlex.quote(facts.path)
    if stack.tensorrt is None:
        return f"dtvit-edge score {bundle} FOLDER -o OUT --precision {precision}"
    if stack.python and stack.python < PYTHON_FLOOR:
        return _trtexec(precision, key, facts)
    backend = f" --backend {RTX}" if stack.tensorrt.flavour == RTX else ""
    return f"dtvit-edge build {bundle} --precision {precision}{backend}"


def _trtexec(precision: str, key: str, facts: GraphFacts) -> str:
    """TensorRT 8.5's syntax, to be run where the bundle's folder lies."""
    folder = PurePath(facts.path)
    file = shlex.quote(f"{folder.name}/{MODEL_FILES[key]}")
    try:
        sides = "x".join(map(str, facts.input_shape(INPUT_NAME)[1:]))
    except NotKnown:
        sides = "CHANNELSx224x224"
    parts = ["trtexec", f"--onnx={file}"]
    parts += [f"--{name}Shapes={INPUT_NAME}:{batch}x{sides}" for name, batch in _BATCHES.items()]
    parts += [f"--shapes={INPUT_NAME}:{_BATCHES['opt']}x{sides}", "--noTF32"]
    parts += [
        f"--memPoolSize=workspace:{_WORKSPACE_MIB}",
        f"--saveEngine={shlex.quote(f'{folder.stem}.{precision}.plan')}",
    ]
    if precision == "fp32":
        return " ".join(parts)
    names = f"FP32_NODES=$(LC_ALL=C grep -aoP '{FP32_NODES}' {file} | sort -u | sed 's/$/:fp32/' | paste -sd,)"
    parts += [
        "--fp16",
        "--precisionConstraints=obey",
        '--layerPrecisions="$FP32_NODES"',
        '--layerOutputTypes="$FP32_NODES"',
    ]
    return f"{names} && {' '.join(parts)}"

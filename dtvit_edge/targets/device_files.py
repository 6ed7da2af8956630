"""Which files of a bundle a device needs: what is copied there, and nothing else.

Its ONNX files are those that `compat` calls used and `build` takes. Engines are built on the device, except those that
TensorRT for RTX compiled ahead of time for its GPUs.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from dtvit_edge.bundle import MANIFEST, SIGNATURE, THRESHOLDS, Bundle
from dtvit_edge.errors import ConfigError
from dtvit_edge.precisions import BY_NAME, DEVICE_PRECISIONS
from dtvit_edge.targets.facts import GraphFacts
from dtvit_edge.targets.model_files import ABSENT, NOT_KNOWN, USED, file_compatibilities
from dtvit_edge.targets.table import TARGETS, Stack, Version
from dtvit_edge.trt.releases import PRECISIONS, RTX, dotted, parse_version
from dtvit_edge.trt.store import portable_engines

# A file of which the manifest does not know enough is the one that `build` would try.
_NEEDED = (USED, ABSENT, NOT_KNOWN)


@dataclass(frozen=True)
class DeviceFile:
    """One file to be copied.

    Attributes:
        path: from the folder in which the bundle lies, with `/`; the bundle's own name comes first.
        why: what needs it, in words.
    """

    path: str
    bytes: int
    why: str


@dataclass(frozen=True)
class DeviceFiles:
    """What a target needs of a bundle.

    Attributes:
        digest: the bundle's, and so the copy's.
        precisions: those that the device can have from these files.
    """

    target: str
    digest: str
    precisions: tuple[str, ...]
    files: tuple[DeviceFile, ...]

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(file.bytes for file in self.files)


def device_files(
    bundle: Bundle, target: str, precisions: Collection[str] = (), tensorrt: str | None = None
) -> DeviceFiles:
    """Manifest, thresholds, signature and golden slices, and what the target takes for the precisions.

    Args:
        target: a name of `dtvit_edge.targets.table.TARGETS`.
        precisions: of `dtvit_edge.precisions.DEVICE_PRECISIONS`; none takes all that bundle and target have.
        tensorrt: the device's version, `10.3` or longer: of the target's stacks only those that bring it.

    Raises:
        ConfigError: no such target, no such release there, or a precision that the target cannot have of this bundle.
        BundleError: a file that is needed is not in this copy of the bundle.
        EngineError, DigestMismatch: an engine that would be copied is damaged.
    """
    stacks = _stacks(target, tensorrt)
    facts = GraphFacts.of(bundle)
    # A model that only some bundles have is asked for by name, or because it is there.
    asked = tuple(p for p in DEVICE_PRECISIONS if p in (precisions or (*PRECISIONS, *facts.by_file)))
    needs = _needs(facts, stacks, asked)
    served = tuple(p for p in DEVICE_PRECISIONS if any(p in users for users in needs.values()))
    lacking = [p for p in asked if p not in served]
    if elsewhere := [p for p in lacking if BY_NAME[p].trims and p in precisions and p not in facts.by_file]:
        raise ConfigError(
            f"{bundle.path} holds no {' or '.join(elsewhere)}, which only a model that leaves out patches has"
        )
    if not served or (precisions and lacking):
        raise ConfigError(
            f"{bundle.path} has nothing from which {target} makes {' or '.join(lacking)}; "
            f"`dtvit-edge compat {bundle.path} --target {target}` says why"
        )
    files = [_file(bundle, bundle.path / MANIFEST, "manifest")]
    beside = {THRESHOLDS: "thresholds", SIGNATURE: "signature of manifest and thresholds"}
    files += [_file(bundle, bundle.path / f, why) for f, why in beside.items() if (bundle.path / f).is_file()]
    files += [_file(bundle, bundle.path / r.file, "golden slices") for r in bundle.manifest.golden.values()]
    for key, users in needs.items():
        why = "; ".join(f"{precision} on {' and '.join(names)}" for precision, names in users.items())
        files.append(_file(bundle, bundle.model_path(key), why))
    files += _engines(bundle, stacks, served)
    return DeviceFiles(target, bundle.digest, served, tuple(files))


def _stacks(target: str, tensorrt: str | None) -> tuple[Stack, ...]:
    if target not in TARGETS:
        raise ConfigError(f"no target called {target!r}; there are {', '.join(TARGETS)}")
    stacks = TARGETS[target].stacks
    if tensorrt is None:
        return stacks
    asked = parse_version(tensorrt)
    agreeing = tuple(s for s in stacks if s.tensorrt and _agree(s.tensorrt.version, asked))
    if not agreeing:
        have = ", ".join(dotted(s.tensorrt.version) for s in stacks if s.tensorrt) or "none"
        raise ConfigError(f"{target} has no TensorRT {tensorrt}; it has {have}")
    return agreeing


def _agree(one: Version, other: Version) -> bool:
    """As far as both are given: a device says 10.13.3.9 where the table has 10.13.3."""
    return all(a == b for a, b in zip(one, other, strict=False))


def _needs(facts: GraphFacts, stacks: tuple[Stack, ...], asked: tuple[str, ...]) -> dict[str, dict[str, list[str]]]:
    """Names of stacks by precision, by the file (a key of `bundle.MODEL_FILES`) that they take for it."""
    needs: dict[str, dict[str, list[str]]] = {}
    for stack in stacks:
        for file in file_compatibilities(facts, stack):
            if file.state not in _NEEDED or not facts.has(file.key):
                continue
            for precision in file.precisions:
                if precision in asked:
                    needs.setdefault(file.key, {}).setdefault(precision, []).append(stack.name)
    return needs


def _engines(bundle: Bundle, stacks: tuple[Stack, ...], precisions: tuple[str, ...]) -> Iterator[DeviceFile]:
    """Record and plan of every engine that was compiled ahead of time for one of the stacks."""
    capabilities = {dotted(sm) for s in stacks if s.tensorrt and s.tensorrt.flavour == RTX for sm in s.sm}
    for path, record in portable_engines(bundle, RTX, capabilities) if capabilities else ():
        if record.precision in precisions:
            why = f"{record.precision} engine for SM {', '.join(record.capabilities)}"
            yield _file(bundle, path, why)
            yield _file(bundle, path.with_name(record.plan), why)


def _file(bundle: Bundle, path: Path, why: str) -> DeviceFile:
    # The path as it was typed can be `.`, which has no name.
    name = Path(os.path.abspath(bundle.path)).name
    return DeviceFile(f"{name}/{path.relative_to(bundle.path).as_posix()}", path.stat().st_size, why)

"""`--model FILE.py:FACTORY`: the user's own module, exported as it is. This runs the code in that file.

Where a state dict cannot say what it computes, the code that made it can. The module is put behind the normalisation of
the spec, and what it returns becomes the graph's two outputs.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dtvit_edge.errors import CheckpointError, ConfigError
from dtvit_edge.spec import ICH_OUTPUT, LOCATION_OUTPUT
from export.findings import Findings
from export.heads.outputs import USUAL_LABELS, check_labels, section_of, two_heads
from export.import_file import HeadChoice
from export.model import DTViT

_KEYS = {"ich": (ICH_OUTPUT, "ich", "haemorrhage", "hemorrhage"), "location": (LOCATION_OUTPUT, "location")}

# A head, and where in the output of a module its logits are; None where there is nothing to choose.
Place = tuple[str | None, int | str | None]


class OwnModule(nn.Module):
    """The user's module as an encoder: its logits one beside the other are the features that the heads read.

    Attributes:
        outputs: index or key of each output that counts, None where the module returns one tensor.
    """

    def __init__(self, module: nn.Module, outputs: Sequence[int | str | None]) -> None:
        """Take a module and what of its result counts."""
        super().__init__()
        self.module, self.outputs = module, tuple(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, side, side) normalised floats to (N, K) logits."""
        result = self.module(x)
        parts = [pick(result, output) for output in self.outputs]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def file_and_factory(reference: str) -> tuple[Path, str]:
    """The file that `FILE.py:FACTORY` names, and the function in it.

    Raises:
        ConfigError: something else, or no such file.
    """
    file, colon, factory = reference.rpartition(":")
    path = Path(file)
    if not colon or not factory.isidentifier() or path.suffix != ".py":
        raise ConfigError(f"--model {reference}: expected FILE.py:FACTORY")
    if not path.is_file():
        raise ConfigError(f"--model {reference}: no such file")
    return path, factory


def load_own_module(
    reference: str, weights: Path, described: Mapping[str, HeadChoice], side: int, findings: Findings
) -> tuple[DTViT, int, tuple[str, ...]]:
    """Run a factory and put its module behind the two outputs.

    Args:
        reference: `FILE.py:FACTORY`.
        weights: handed to a factory that takes an argument; else the factory has loaded them by itself.
        described: what import.toml says of the outputs.
        side: of its input.

    Returns:
        The model, the channels that it takes, and the heads that the module does not have.

    Raises:
        ConfigError: no such file or factory, or outputs that are no heads.
        CheckpointError: what the factory makes is no module, or fails on an input of that size.
    """
    module = _make(reference, weights).eval().float()
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    channels = 3
    result: Any = None
    failure: Exception | None = None
    for channels in (3, 1, 2):
        try:
            with torch.no_grad():
                result = module(torch.zeros(2, channels, side, side))
            break
        except Exception as error:
            failure = failure or error
    else:
        raise CheckpointError(
            f"{reference}: its module fails on (2, 3, {side}, {side}) and on fewer channels: {failure}; the side "
            "is [preprocess] size in import.toml"
        ) from failure
    findings.read("encoder.channels", channels)
    heads = _heads(result, described, findings)
    first = 0
    parts = []
    for _, width, labels in heads:
        rows = _Columns(first, width)
        parts.append(([rows], labels))
        first += width
    pair = two_heads(parts)
    own = OwnModule(module, [output for output, _, _ in heads])
    name = f"own/{reference.rpartition(':')[2]}"
    return DTViT.assemble(name, own, pair.ich, pair.location), channels, pair.untrained


class _Columns(nn.Module):
    """Some columns of the logits."""

    def __init__(self, first: int, width: int) -> None:
        super().__init__()
        self.first, self.width = first, width

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.first : self.first + self.width]


def pick(result: Any, output: int | str | None) -> Tensor:
    """One tensor of what a module returned, (N, K); (N,) becomes (N, 1)."""
    if output is None:
        value = result
    elif isinstance(output, str) and not isinstance(result, Mapping):
        value = getattr(result, output)
    else:
        value = result[output]
    tensor: Tensor = value
    return tensor.unsqueeze(1) if tensor.ndim == 1 else tensor


def _make(reference: str, weights: Path) -> nn.Module:
    path, factory = file_and_factory(reference)
    spec = importlib.util.spec_from_file_location(f"_own_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = code  # dataclasses and pickles of the file look themselves up by this name
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(code)
        make = getattr(code, factory, None)
        if not callable(make):
            raise ConfigError(f"--model {reference}: the file has no function {factory}")
        takes = [p for p in inspect.signature(make).parameters.values() if p.default is inspect.Parameter.empty]
        module = make(weights) if takes else make()
    except ConfigError:
        raise
    except Exception as error:
        raise CheckpointError(f"--model {reference}: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.parent.resolve()))
    if not isinstance(module, nn.Module):
        raise CheckpointError(f"--model {reference}: gives a {type(module).__name__}, expected a torch.nn.Module")
    return module


def _heads(
    result: Any, described: Mapping[str, HeadChoice], findings: Findings
) -> list[tuple[int | str | None, int, tuple[str, ...]]]:
    """Which outputs count: where each is, its width and its labels."""
    heads = []
    for name, output in _places(result, described):
        try:
            value = pick(result, output)
        except (KeyError, IndexError, AttributeError, TypeError) as error:
            raise ConfigError(f"the module returns no output {output!r}: {_described_result(result)}") from error
        if not isinstance(value, Tensor) or value.ndim != 2 or value.shape[1] not in USUAL_LABELS:
            raise ConfigError(f"output {output!r} is no (N, 1 to 5) tensor of logits: {_described_result(result)}")
        said = described.get(name or "", HeadChoice())
        labels = said.outputs or USUAL_LABELS[value.shape[1]]
        kind = check_labels(labels, value.shape[1])
        (findings.given if said.outputs else findings.assumed)(f"heads.{section_of(kind)}.outputs", list(labels))
        heads.append((output, value.shape[1], tuple(labels)))
    return heads


def _places(result: Any, described: Mapping[str, HeadChoice]) -> list[Place]:
    said: list[Place] = [(name, head.output) for name, head in described.items() if head.output is not None]
    if said:
        return said
    if isinstance(result, Tensor):
        name = next(iter(described), None) if len(described) == 1 else None
        return [(name or ("classes" if result.ndim == 2 and result.shape[1] > 3 else "ich"), None)]
    if isinstance(result, Mapping):
        found: list[Place] = [(name, key) for name, keys in _KEYS.items() for key in keys if key in result]
        if found:
            return found
        raise ConfigError(f"say which outputs count in import.toml ([heads.ich] output): {_described_result(result)}")
    if isinstance(result, (tuple, list)) and len(result) == 2:
        return [("ich", 0), ("location", 1)]
    raise ConfigError(f"say which outputs count in import.toml ([heads.ich] output): {_described_result(result)}")


def _described_result(result: Any) -> str:
    if isinstance(result, Tensor):
        return f"it returns a tensor of shape {tuple(result.shape)}"
    if isinstance(result, Mapping):
        return f"it returns a mapping with {', '.join(map(str, result))}"
    if isinstance(result, (tuple, list)):
        return f"it returns {len(result)} values"
    return f"it returns a {type(result).__name__}"

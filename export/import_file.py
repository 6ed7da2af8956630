"""`import.toml`: what a state dict cannot say about the model that it belongs to. Every key is in the schema here.

It lies beside the weights, or is given by `--import FILE`. A key that is not known is refused with its line: a word
that is passed over would be a wrong model.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dtvit_edge.errors import ConfigError
from dtvit_edge.spec import TRAINING_STATES
from export.libraries import LIBRARIES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME = "import.toml"


@dataclass(frozen=True)
class HeadChoice:
    """One head as its owner describes it: [heads.ich], [heads.location] or [heads.classes].

    Attributes:
        layers: keys and activations in order; empty leaves it to the shapes.
        outputs: labels in the order of the outputs; empty leaves it to convention.
        activation: for the places where one has to be named.
        output: with --model, the index or the key of what the module returns.
    """

    layers: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    activation: str | None = None
    output: int | str | None = None


@dataclass(frozen=True)
class ImportChoices:
    """All of import.toml; None and empty where nothing is said. `export.libraries.EncoderChoice` takes `encoder`."""

    path: Path | None = None
    training: str | None = None
    untrained_heads: tuple[str, ...] = ()
    weights: Mapping[str, Any] = field(default_factory=dict)
    encoder: Mapping[str, Any] = field(default_factory=dict)
    activation: str | None = None
    batch_norm_eps: float | None = None
    layer_norm_eps: float | None = None
    heads: Mapping[str, HeadChoice] = field(default_factory=dict)
    preprocess: Mapping[str, Any] = field(default_factory=dict)


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_text(entry) for entry in value)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _channels(value: Any) -> bool:
    return isinstance(value, list) and 1 <= len(value) <= 3 and all(_number(entry) for entry in value)


def _windows(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= 3
        and all(
            isinstance(w, list) and len(w) == 3 and _number(w[0]) and _positive(w[1]) and _text(w[2]) for w in value
        )
    )


def _one_of(*words: str) -> Callable[[Any], bool]:
    return lambda value: value in words


Rule = tuple[Callable[[Any], bool], str]
_HEAD: dict[str, Rule] = {
    "layers": (_texts, "a list of keys and activations"),
    "outputs": (_texts, "a list of labels"),
    "activation": (_text, "the name of an activation"),
    "output": (lambda v: _text(v) or (isinstance(v, int) and not isinstance(v, bool) and v >= 0), "an index or a key"),
}
SCHEMA: dict[str, dict[str, Rule]] = {
    "": {
        "training": (_one_of(*TRAINING_STATES), f"one of {', '.join(TRAINING_STATES)}"),
        "untrained_heads": (_texts, "a list of heads"),
    },
    "weights": {
        "key": (_text, "the keys under which the state dict is, joined by dots"),
        "prefix": (lambda value: isinstance(value, str), "what the keys begin with"),
        "ema": (_flag, "true or false"),
    },
    "encoder": {
        "library": (_one_of(*LIBRARIES), f"one of {', '.join(LIBRARIES)}"),
        "name": (_text, "the library's name for it"),
        "prefix": (lambda value: isinstance(value, str), "what its keys begin with"),
        "size": (_whole, "the side of the input in pixels"),
        "pool": (_text, "how it pools"),
        "num_heads": (_whole, "a whole number"),
        "layer_norm_eps": (_positive, "a number above 0"),
        "hidden_act": (_text, "the name of an activation"),
        "options": (lambda value: isinstance(value, dict), "a table of options for timm.create_model"),
    },
    "heads": {
        "activation": (_text, "the name of an activation"),
        "batch_norm_eps": (_positive, "a number above 0"),
        "layer_norm_eps": (_positive, "a number above 0"),
    },
    "heads.ich": _HEAD,
    "heads.location": _HEAD,
    "heads.classes": _HEAD,
    "preprocess": {
        "windows": (_windows, 'a list of one to three [centre, width, "LINEAR" or "LINEAR_EXACT"]'),
        "mask": (_flag, "true or false"),
        "fit": (_one_of("shorter", "squash"), "shorter or squash"),
        "filter": (_one_of("bilinear", "bicubic"), "bilinear or bicubic"),
        "resize": (lambda v: v is False or _whole(v), "the length of the shorter side, or false for none"),
        "size": (_whole, "the side of the input in pixels"),
        "channels": (lambda v: _whole(v) and v <= 3, "1, 2 or 3"),
        "mean": (_channels, "one to three numbers"),
        "std": (lambda value: _channels(value) and all(entry > 0 for entry in value), "one to three numbers above 0"),
        "thickness": (_positive, "the thickness in mm of the slices that it learned from"),
        "top_places": (_whole, "how many of the highest places make a series' probability"),
    },
}


def read_import_file(path: Path) -> ImportChoices:
    """Read and check an import.toml.

    Raises:
        ConfigError: unreadable, no TOML, an unknown key or a wrong value; with line and key.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: no TOML: {error}") from error
    _check(path, text, data, "")
    heads = data.get("heads", {})
    return ImportChoices(
        path=path,
        training=data.get("training"),
        untrained_heads=tuple(data.get("untrained_heads", ())),
        weights=data.get("weights", {}),
        encoder=data.get("encoder", {}),
        activation=heads.get("activation"),
        batch_norm_eps=heads.get("batch_norm_eps"),
        layer_norm_eps=heads.get("layer_norm_eps"),
        heads={
            name: HeadChoice(
                tuple(head.get("layers", ())),
                tuple(head.get("outputs", ())),
                head.get("activation"),
                head.get("output"),
            )
            for name, head in heads.items()
            if isinstance(head, dict)
        },
        preprocess=data.get("preprocess", {}),
    )


def find_import_file(weights: Path, given: Path | None) -> ImportChoices:
    """The choices of `--import FILE`, else of an import.toml beside the weights, else none."""
    if given is not None:
        return read_import_file(given)
    beside = weights.parent / NAME
    return read_import_file(beside) if beside.is_file() else ImportChoices()


def _check(path: Path, text: str, data: Mapping[str, Any], table: str) -> None:
    rules = SCHEMA[table]
    for key, value in data.items():
        deeper = f"{table}.{key}".lstrip(".")
        if isinstance(value, dict) and deeper in SCHEMA:
            _check(path, text, value, deeper)
            continue
        where = f"{path}: line {_line(text, table, key)}: {f'[{table}] ' if table else ''}{key}"
        if key not in rules:
            tables = [name.removeprefix(f"{table}.") for name in SCHEMA if name.startswith(f"{table}.") or not table]
            known = [*rules, *(f"[{name}]" for name in tables if name)]
            raise ConfigError(f"{where} is no key of an import.toml; known here are {', '.join(known)}")
        is_right, expected = rules[key]
        if not is_right(value):
            raise ConfigError(f"{where} is {value!r}, expected {expected}")


def _line(text: str, table: str, key: str) -> int:
    """The line of a key in a table, counted from 1; of the table where the key is not found by itself."""
    current, table_line = "", 1
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[([^\[\]]+)\]", line)
        if header:
            current = re.sub(r"[\s\"']", "", header[1])
            if current == table or current == f"{table}.{key}".lstrip("."):
                table_line = number
                if current != table:
                    return number
            continue
        name = re.match(r"\s*([\w.\-\"']+)\s*=", line)
        if name:
            full = f"{current}.{name[1]}".strip(".").replace('"', "").replace("'", "")
            if full == f"{table}.{key}".strip(".") or full.startswith(f"{table}.{key}.".lstrip(".")):
                return number
    return table_line

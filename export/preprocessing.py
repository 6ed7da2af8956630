"""The preprocessing of a user's model as a spec: one table of what import.toml can say and the field it is said in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from dtvit_edge.errors import ConfigError
from dtvit_edge.spec import PreprocessSpec, Window, WindowKind
from export.findings import Findings

FIELDS = {field.name for field in fields(PreprocessSpec)}
# torchvision's evaluation of ImageNet: resize to 256, crop to 224.
RESIZE_TO_CROP = 256 / 224


def _windows(value: list[list[Any]]) -> tuple[Window, ...]:
    windows = []
    for center, width, kind in value:
        try:
            windows.append(Window(float(center), float(width), WindowKind(str(kind).upper())))
        except ValueError as error:
            kinds = " or ".join(map(str, WindowKind))
            raise ConfigError(f"[preprocess] windows: kind {kind!r}, expected {kinds}") from error
    # An encoder of two channels has a third whose weights are zero: what is in it changes nothing.
    return (*windows, windows[1]) if len(windows) == 2 else tuple(windows)


def _three(value: list[float]) -> tuple[float, ...]:
    """One to three numbers as three; channels that an encoder does not have count for nothing."""
    return tuple(float(entry) for entry in (*value, *[value[-1]] * (3 - len(value))))


@dataclass(frozen=True)
class Key:
    """A key of [preprocess]: the field of the spec, and how a value of TOML becomes the field's."""

    field: str
    convert: Callable[[Any], Any] = lambda value: value


# Every key of import.toml's [preprocess] but `channels`, which is checked alone.
KEYS: dict[str, Key] = {
    "windows": Key("windows", _windows),
    "mask": Key("device_mask"),
    "fit": Key("fit"),
    "filter": Key("filter"),
    "resize": Key("resize", lambda value: None if value is False else value),
    "size": Key("crop"),
    "mean": Key("mean", _three),
    "std": Key("std", _three),
}
# What a field that this version lacks does anyway.
_WITHOUT_FIELD = {"device_mask": True, "fit": "shorter", "filter": "bilinear"}
_SHOWN = {"windows": "preprocess.windows", "mean": "preprocess.mean", "std": "preprocess.std"}


def make_spec(
    preprocess: Mapping[str, Any],
    windows: tuple[Window, ...],
    size: int | None,
    channels: int | None,
    findings: Findings,
) -> PreprocessSpec:
    """The spec of a model that carries none.

    Args:
        preprocess: import.toml's [preprocess], checked by its schema.
        windows: of `--window`; they win over none in the file, and contradict others there.
        size: of the encoder's input, where its weights say it.
        channels: that the encoder takes; None where nobody knows (a user's own module takes the spec's).

    Raises:
        ConfigError: contradictions, and what this preprocessing cannot do, by name.
    """
    values: dict[str, Any] = {}
    for name, value in preprocess.items():
        if name == "channels":
            continue
        key = KEYS[name]
        converted = key.convert(value)
        if key.field not in FIELDS:
            if converted != _WITHOUT_FIELD[key.field]:
                raise ConfigError(f"[preprocess] {name} = {value!r}: this version's preprocessing cannot do it")
            continue
        values[key.field] = converted
    if windows:
        if "windows" in values and values["windows"] != windows:
            raise ConfigError("--window gives other windows than import.toml; leave one of them out")
        values["windows"] = windows
    crop = values.get("crop")
    if size is not None and crop is not None and crop != size:
        raise ConfigError(f"[preprocess] size is {crop}, the encoder's weights are for {size}")
    values["crop"] = crop or size or PreprocessSpec.crop
    values.setdefault("resize", round(values["crop"] * RESIZE_TO_CROP))
    spec = PreprocessSpec(**values)
    wanted = preprocess.get("channels", channels)
    if channels is not None and wanted != channels:
        raise ConfigError(f"[preprocess] channels is {wanted}, the encoder's weights take {channels}")
    _check_channels(wanted, len(preprocess.get("windows", ())) or spec.channels)
    for field in ("windows", "mean", "std", "crop", "resize", "fit", "filter", "device_mask"):
        if field not in FIELDS:
            continue
        value = spec.to_dict()[field]
        said = field in values and not (field == "crop" and crop is None) and not (field == "resize" and "resize" not in preprocess)
        name = f"preprocess.{'mask' if field == 'device_mask' else 'size' if field == 'crop' else field}"
        if field == "crop" and size is not None:
            findings.read(name, value)
        elif said:
            findings.given(name, value)
        else:
            findings.assumed(name, value)
    return spec


def _check_channels(wanted: int | None, windows: int) -> None:
    if wanted == 1 and windows != 1:
        raise ConfigError(f"the encoder takes one channel, but there are {windows} windows")
    if wanted == 2 and windows != 2:
        raise ConfigError(
            'the encoder takes two channels: give two windows in import.toml, [preprocess] windows = [[40, 80, "LINEAR"], '
            '[80, 200, "LINEAR"]]'
        )
    if wanted == 3 and windows == 2:
        raise ConfigError("the encoder takes three channels: give one window (repeated to three) or three")


def compare_normalisation(
    spec: PreprocessSpec, mean: tuple[float, ...] | None, std: tuple[float, ...] | None, name: str, findings: Findings
) -> None:
    """Warn where the library's own normalisation of an encoder is another than the one that is used."""
    if mean is None or std is None or len(mean) != 3 or len(std) != 3:
        return
    if any(abs(a - b) > 1e-6 for a, b in zip((*mean, *std), (*spec.mean, *spec.std), strict=True)):
        findings.warnings.append(
            f"{name}'s own normalisation is mean {list(mean)}, std {list(std)}; this export uses mean "
            f"{list(spec.mean)}, std {list(spec.std)}: say which one it was trained with under [preprocess] in import.toml"
        )

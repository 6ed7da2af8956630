"""The preprocessing of a user's model as a spec: one table of what import.toml can say and the field it is said in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from dtvit_edge.errors import ConfigError
from dtvit_edge.spec import PreprocessSpec, Window, WindowKind
from export.findings import Findings

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
    return tuple(windows)


def _numbers(value: list[float]) -> tuple[float, ...]:
    return tuple(float(entry) for entry in value)


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
    "mean": Key("mean", _numbers),
    "std": Key("std", _numbers),
    "thickness": Key("thickness_mm", float),
    "top_places": Key("top_places"),
}


def make_spec(
    preprocess: Mapping[str, Any],
    windows: tuple[Window, ...],
    size: int | None,
    channels: int,
    findings: Findings,
) -> PreprocessSpec:
    """The spec of a model that carries none.

    Args:
        preprocess: import.toml's [preprocess], checked by its schema.
        windows: of `--window`; they win over none in the file, and contradict others there.
        size: of the encoder's input, where its weights say it.
        channels: that the encoder takes.

    Raises:
        ConfigError: contradictions, and what this preprocessing cannot do, by name.
    """
    values: dict[str, Any] = {}
    for name, value in preprocess.items():
        if name != "channels":
            values[KEYS[name].field] = KEYS[name].convert(value)
    if windows:
        if "windows" in values and values["windows"] != windows:
            raise ConfigError("--window gives other windows than import.toml; leave one of them out")
        values["windows"] = windows
    if size is not None and values.get("crop", size) != size:
        raise ConfigError(f"[preprocess] size is {values['crop']}, the encoder's weights are for {size}")
    wanted = preprocess.get("channels", channels)
    if wanted != channels:
        raise ConfigError(f"[preprocess] channels is {wanted}, the encoder takes {channels}")
    given = set(values)
    values["crop"] = values.get("crop") or size or PreprocessSpec.crop
    squashed = values.get("fit") == "squash"
    values.setdefault("resize", values["crop"] if squashed else round(values["crop"] * RESIZE_TO_CROP))
    for field, default in (("mean", PreprocessSpec.mean), ("std", PreprocessSpec.std)):
        value = values.setdefault(field, default[:channels])
        if len(value) not in (1, channels):
            raise ConfigError(f"[preprocess] {field} has {len(value)} numbers for {channels} channels")
        values[field] = value * channels if len(value) == 1 else value
    if len(values.get("windows", PreprocessSpec.windows)) not in (1, channels):
        raise ConfigError(
            f"the encoder takes {channels} channels: give one window (repeated to them) or {channels}, found "
            f"{len(values['windows'])}"
        )
    spec = PreprocessSpec(**values)
    shown = spec.to_dict()
    for name, key in KEYS.items():
        if key.field == "crop" and size is not None:
            findings.read(f"preprocess.{name}", shown[key.field])
        else:
            (findings.given if key.field in given else findings.assumed)(f"preprocess.{name}", shown[key.field])
    return spec


def compare_normalisation(
    spec: PreprocessSpec, mean: tuple[float, ...] | None, std: tuple[float, ...] | None, name: str, findings: Findings
) -> None:
    """Warn where the library's own normalisation of an encoder is another than the one that is used."""
    channels = len(spec.mean)
    if mean is None or std is None or min(len(mean), len(std)) < channels:
        return
    mean, std = mean[:channels], std[:channels]
    if any(abs(a - b) > 1e-6 for a, b in zip((*mean, *std), (*spec.mean, *spec.std), strict=True)):
        findings.warnings.append(
            f"{name}'s own normalisation is mean {list(mean)}, std {list(std)}; this export uses mean "
            f"{list(spec.mean)}, std {list(spec.std)}: say which one it was trained with under "
            "[preprocess] in import.toml"
        )

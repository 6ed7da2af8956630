from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from dtvit_edge.errors import ConfigError
from dtvit_edge.spec import PreprocessSpec, Window, WindowKind, digest_bytes, digest_file

OTHER: dict[str, Any] = {
    "windows": (Window(35, 80),),
    "mask_threshold": 11,
    "disk_half_widths": (0, 1, 0),
    "edge_columns": 9,
    "resize": None,
    "crop": 192,
    "brain_range_hu": (0.0, 80.0),
    "min_brain_share": 0.2,
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "fit": "squash",
    "filter": "bicubic",
    "device_mask": False,
    "thickness_mm": 2.5,
    "top_places": 4,
}


@pytest.mark.parametrize("name", [f.name for f in fields(PreprocessSpec) if f.name != "algorithm"])
def test_every_field_changes_the_digest_and_survives_a_round_trip(name: str) -> None:
    changed = replace(PreprocessSpec(), **{name: OTHER[name]})
    assert changed.digest != PreprocessSpec().digest
    assert PreprocessSpec.from_dict(changed.to_dict()) == changed


def test_the_window_kind_is_part_of_the_digest() -> None:
    linear = PreprocessSpec(windows=(Window(kind=WindowKind.LINEAR),))
    assert linear.digest != PreprocessSpec().digest
    assert PreprocessSpec.from_dict(linear.to_dict()).windows[0].kind is WindowKind.LINEAR


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"crop": "224"},
        {"mean": 0.5},
        {"resize": [256]},
        {"crop": None},
        {"windows": [{"center_hu": 1}]},
        {"windows": [{"kind": "SIGMOID"}]},
        {"top_places": "3"},
        {"top_places": 3.0},
        {"thickness_mm": "5"},
        {"thickness_mm": None},
    ],
)
def test_a_spec_that_is_not_understood_is_refused(change: dict[str, Any]) -> None:
    data = PreprocessSpec().to_dict() | change
    if change.get("crop", 0) is None:
        del data["crop"]
    with pytest.raises(ConfigError):
        PreprocessSpec.from_dict(data)


@pytest.mark.parametrize(
    "make",
    [
        lambda: PreprocessSpec(windows=(Window(), Window())),
        lambda: PreprocessSpec(resize=223),
        lambda: PreprocessSpec(resize=1025),
        lambda: PreprocessSpec(crop=16, resize=16),
        lambda: PreprocessSpec(fit="stretch"),
        lambda: PreprocessSpec(filter="lanczos"),
        lambda: PreprocessSpec(fit="squash", resize=None),
        lambda: PreprocessSpec(algorithm=1),
        lambda: PreprocessSpec(mean=(0.5,)),
        lambda: PreprocessSpec(mean=(), std=()),
        lambda: PreprocessSpec(std=(0.2, 0.0, 0.2)),
        lambda: PreprocessSpec(mask_threshold=255),
        lambda: PreprocessSpec(thickness_mm=0.2),
        lambda: PreprocessSpec(thickness_mm=float("nan")),
        lambda: PreprocessSpec(top_places=0),
        lambda: PreprocessSpec(top_places=True),
        lambda: Window(40, 0),
        lambda: Window(40, 1, WindowKind.LINEAR),
    ],
    ids=[
        "two-windows",
        "resize-below-crop",
        "resize-above-any",
        "small-crop",
        "fit",
        "filter",
        "squash-alone",
        "algorithm",
        "mean-of-one",
        "no-mean",
        "std-0",
        "threshold",
        "thin",
        "no-thickness",
        "no-place",
        "place-of-no-number",
        "no-width",
        "linear-width-1",
    ],
)
def test_impossible_specs_are_refused(make: Any) -> None:
    with pytest.raises(ConfigError):
        make()


def test_file_and_bytes_have_the_same_digest(tmp_path: Any) -> None:
    data = bytes(range(256)) * 9000
    (tmp_path / "x").write_bytes(data)
    assert digest_file(tmp_path / "x") == digest_bytes(data)


def test_a_spec_from_before_the_version_means_the_defaults() -> None:
    data = PreprocessSpec().to_dict()
    for name in ("algorithm", "fit", "filter", "device_mask", "thickness_mm", "top_places"):
        del data[name]
    assert PreprocessSpec.from_dict(data) == PreprocessSpec()
    with pytest.raises(ConfigError, match="unknown or missing fields: fit"):
        PreprocessSpec.from_dict({key: value for key, value in PreprocessSpec().to_dict().items() if key != "fit"})


def test_a_spec_from_before_aggregation_means_its_defaults() -> None:
    spec = PreprocessSpec(crop=192, device_mask=False)
    data = {key: value for key, value in spec.to_dict().items() if key not in ("thickness_mm", "top_places")}
    assert PreprocessSpec.from_dict(data) == spec
    with pytest.raises(ConfigError, match="unknown or missing fields: top_places"):
        PreprocessSpec.from_dict(data | {"thickness_mm": 5.0})


def test_one_channel_of_an_encoder_takes_one_window() -> None:
    grey = PreprocessSpec(mean=(0.2,), std=(0.3,))
    assert (grey.channels, grey.encoder_channels) == (1, 1)


@pytest.mark.parametrize(
    "wrong",
    [{"disk_half_widths": (3, 3, 3)}, {"disk_half_widths": (4,)}, {"edge_columns": -8}, {"edge_columns": 1.5}],
    ids=["a disk wider than high", "a bar", "columns below 0", "half a column"],
)
def test_what_the_paths_would_each_take_in_their_own_way_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"wider than high|edge columns"):
        PreprocessSpec(**wrong)

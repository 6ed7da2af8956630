"""The file that `tune` leaves beside a manifest."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.bundle import MODEL_FILES, Bundle
from dtvit_edge.bundle.device_profile import (
    DEVICE_PROFILE,
    Configuration,
    DeviceProfile,
    read_profile,
    require_writable,
    write_profile,
)
from dtvit_edge.errors import BundleError, ConfigError
from dtvit_edge.precisions import EXACTNESS
from tests.support.tuning_world import profile_of

CHOSEN = Configuration("openvino", "int8", "bf16", 2, 8)
OTHER = Configuration("onnxruntime", "fp32", None, None, 1)


@pytest.fixture
def profile(tiny_bundle: Bundle) -> DeviceProfile:
    return profile_of(tiny_bundle, CHOSEN, OTHER)


def test_a_profile_comes_back_as_it_was_written(profile: DeviceProfile, tmp_path: Path) -> None:
    assert read_profile(tmp_path) is None
    assert write_profile(tmp_path, profile) == tmp_path / DEVICE_PROFILE
    assert read_profile(tmp_path) == profile and os.listdir(tmp_path) == [DEVICE_PROFILE]


def test_a_profile_changes_neither_the_digest_nor_what_is_checked(tiny_bundle: Bundle, profile: DeviceProfile) -> None:
    write_profile(tiny_bundle.path, profile)
    try:
        assert Bundle.open(tiny_bundle.path, expect_digest=tiny_bundle.digest).check_files()
    finally:
        (tiny_bundle.path / DEVICE_PROFILE).unlink()


def test_configurations_are_named_for_people_and_ordered_by_exactness() -> None:
    assert CHOSEN.words == "openvino int8+bf16, 2 threads, batch 8" and OTHER.words == "onnxruntime fp32, batch 1"
    ordered = [("fp32", None), ("fp32", "bf16"), ("fp16", None), ("int8-fp16", None), ("int8", "f32"), ("int8", "bf16")]
    exactness = [Configuration("openvino", p, h, 1, 1).exactness for p, h in ordered]
    assert exactness == sorted(set(exactness))
    assert set(MODEL_FILES) <= set(EXACTNESS), "a precision without a place could not be measured"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("format",), 2, "format"),
        (("manifest",), "abc", "manifest"),
        (("chosen", "precision"), "int4", "precision"),
        (("chosen", "threads"), 0, "threads and batch are 1 or more"),
        (("chosen", "threads"), 10**6, "threads"),
        (("chosen", "batch"), 1.5, "batch"),
        (("why",), "\x1b[2J", "why must match"),
        (("measured", 0, "ms"), 0, "ms"),
        (("measured", 0, "configuration", "batch"), 0, "threads and batch are 1 or more"),
        (("more",), 1, "must not contain"),
    ],
    ids=str,
)
def test_what_no_profile_says_is_refused(
    profile: DeviceProfile, tmp_path: Path, path: tuple[str | int, ...], value: Any, said: str
) -> None:
    data = json.loads(profile.to_json())
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (tmp_path / DEVICE_PROFILE).write_text(json.dumps(data))
    with pytest.raises(BundleError, match=said):
        read_profile(tmp_path)


@pytest.mark.parametrize("kind", ["fifo", "link", "folder"])
def test_what_is_no_file_of_the_bundle_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / DEVICE_PROFILE
    {"fifo": lambda: os.mkfifo(path), "link": lambda: path.symlink_to("/dev/zero"), "folder": path.mkdir}[kind]()
    with pytest.raises(BundleError, match="not readable"):
        read_profile(tmp_path)


def test_a_bundle_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_writable(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    with pytest.raises(ConfigError, match=r"cannot be written.*--dry-run shows"):
        require_writable(tmp_path)

"""The command `tune`, what `inspect` shows of its profile, and `score` that takes it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.bundle.device_profile import DEVICE_PROFILE, Configuration, read_profile, write_profile
from dtvit_edge.cli.commands import main
from tests.support.tuning_world import make_world, profile_of, write_tunable_bundle

TIMES = {("fp32", None): 0.009, ("int8", None): 0.003}


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_tunable_bundle(tmp_path / "b.dtvit", int8="passed")


@pytest.fixture
def world(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose clock moves with its work."""
    from dtvit_edge.scoring import tuning

    made = make_world(monkeypatch, bundle, TIMES)
    original = tuning.Tuner
    monkeypatch.setattr(tuning, "Tuner", lambda opened, seconds: original(opened, seconds, made.clock))


@pytest.mark.usefixtures("world")
def test_tune_writes_the_profile_and_prints_every_figure(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(bundle.path), "--seconds", "5"]) == 0
    printed = capsys.readouterr().out
    assert "openvino int8, 2 threads, batch 4" in printed and "openvino fp32, 1 thread, batch 1" in printed
    assert "left out: openvino int8+bf16: gate: not assessed" in printed
    assert f"{DEVICE_PROFILE}: new outputs of `score` take it" in printed and "research use only" in printed
    profile = read_profile(bundle.path)
    assert profile is not None and profile.chosen == Configuration("openvino", "int8", None, 2, 4)


@pytest.mark.usefixtures("world")
def test_a_dry_run_of_tune_writes_nothing_also_where_nothing_can_be_written(
    bundle: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    assert main(["tune", str(bundle.path), "--dry-run", "--seconds", "5"]) == 0
    assert "nothing was written" in capsys.readouterr().out and not (bundle.path / DEVICE_PROFILE).exists()
    assert main(["tune", str(bundle.path), "--seconds", "5"]) == 2
    assert "cannot be written, so that its device profile has no place" in capsys.readouterr().err


@pytest.mark.usefixtures("world")
def test_tunes_json_is_the_profile(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", str(bundle.path), "--json", "--seconds", "5"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((bundle.path / DEVICE_PROFILE).read_text())


def test_inspect_shows_the_profile_or_why_it_is_not_used(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    def said() -> str:
        assert main(["inspect", str(bundle.path), "--json"]) == 0
        return str(json.loads(capsys.readouterr().out)["device_profile"])

    assert said() == "no device profile (`dtvit-edge tune` makes one)"
    profile = profile_of(bundle, Configuration("onnxruntime", "int8", None, 1, 4))
    write_profile(bundle.path, profile)
    assert said() == f"onnxruntime int8, 1 thread, batch 4, {profile.why}"
    assert main(["inspect", str(bundle.path)]) == 0 and "device profile" in capsys.readouterr().out
    write_profile(bundle.path, profile_of(bundle, profile.chosen, versions={"numpy": "0"}))
    assert said().startswith("the device profile is not used: it was made with other versions: ")


def test_score_takes_the_profile_and_says_so_on_stderr(
    bundle: Bundle, phantom_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_profile(bundle.path, profile_of(bundle, Configuration("onnxruntime", "int8", None, 1, 4)))
    assert main(["score", str(bundle.path), str(phantom_folder), "-o", str(tmp_path / "out")]) == 0
    assert "precision int8: the device profile: onnxruntime int8, 1 thread, batch 4" in capsys.readouterr().err

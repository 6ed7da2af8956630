"""The last step of a deployment chooses what is fastest here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest

from calibration import deploy_tuning
from calibration.deploy_steps import TUNE
from calibration.deploy_tuning import tune_here
from dtvit_edge.bundle import Bundle
from dtvit_edge.bundle.device_profile import Configuration, DeviceProfile, read_profile
from dtvit_edge.errors import MissingDependency, VerdictError
from dtvit_edge.progress import silent
from tests.support.deploy_workshop import Workshop, steps, verdicts
from tests.support.tuning_world import make_world, profile_of, write_tunable_bundle

FP32 = Configuration("onnxruntime", "fp32", None, 1, 8)


class FakeTuner:
    """Measures nothing; the first thing that is asked for is chosen."""

    runs: ClassVar[list[float]] = []
    error: Exception | None = None

    def __init__(self, bundle: Bundle, seconds: float) -> None:
        self.bundle, self.seconds = bundle, seconds

    def run(self, progress: object) -> DeviceProfile:
        self.runs.append(self.seconds)
        if self.error is not None:
            raise self.error
        return profile_of(self.bundle, FP32, seconds=self.seconds)


@pytest.fixture
def tuner(monkeypatch: pytest.MonkeyPatch) -> type[FakeTuner]:
    class Tuner(FakeTuner):
        runs: ClassVar[list[float]] = []

    monkeypatch.setattr(deploy_tuning, "Tuner", Tuner)
    return Tuner


def test_a_deployment_ends_with_what_is_fastest_here_and_measures_it_once(
    workshop: Workshop, tuner: type[FakeTuner], capsys: pytest.CaptureFixture[str]
) -> None:
    assert workshop.deploy("--tune-seconds", "7", "--json", sliced=False) == 0 and tuner.runs == [7.0]
    said = steps(capsys.readouterr().out)
    assert list(said) == ["export", "calibrate", "build", "tune"] and not said["tune"]["before"]
    assert verdicts(said["tune"]) == {"fp32": "passed"}
    assert said["tune"]["outcomes"][0]["words"].startswith("device-profile.json: onnxruntime fp32, 1 thread, batch 8, ")
    profile = read_profile(workshop.output)
    assert profile is not None and profile.chosen == FP32
    assert workshop.deploy("--tune-seconds", "7", "--json", sliced=False) == 0 and tuner.runs == [7.0]
    assert steps(capsys.readouterr().out)["tune"]["before"] and workshop.runs == []
    # Calibrated later, the bundle is another one: it is measured anew.
    assert workshop.deploy("--tune-seconds", "7") == 0 and tuner.runs == [7.0, 7.0]


def test_without_seconds_tune_is_left_to_the_device(
    workshop: Workshop, tuner: type[FakeTuner], capsys: pytest.CaptureFixture[str]
) -> None:
    assert workshop.deploy("--json", sliced=False) == 0 and tuner.runs == []
    said = steps(capsys.readouterr().out)["tune"]
    assert verdicts(said) == {"": "not asked for"} and "dtvit-edge tune Doe Jane.dtvit" in said["outcomes"][0]["words"]
    assert read_profile(workshop.output) is None


@pytest.mark.parametrize(
    ("error", "status", "verdict"),
    [
        (VerdictError("nothing answers"), 1, "failed"),
        (MissingDependency("no backend is here"), 0, "left for the device"),
    ],
    ids=["a no", "no backend"],
)
def test_a_machine_that_runs_nothing_is_said_and_leaves_no_profile(
    error: Exception,
    status: int,
    verdict: str,
    workshop: Workshop,
    tuner: type[FakeTuner],
    capsys: pytest.CaptureFixture[str],
) -> None:
    tuner.error = error
    assert workshop.deploy("--tune-seconds", "7", "--json", sliced=False) == status
    said = json.loads(capsys.readouterr().out)
    assert verdicts(said["steps"][-1]) == {"": verdict} and said["passed"] is (status == 0)
    assert read_profile(workshop.output) is None


def test_the_step_measures_as_the_command_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_tunable_bundle(tmp_path / "b.dtvit", int8="passed")
    world = make_world(monkeypatch, bundle, {("fp32", None): 0.009, ("int8", None): 0.003})
    original = deploy_tuning.Tuner
    monkeypatch.setattr(deploy_tuning, "Tuner", lambda opened, seconds: original(opened, seconds, world.clock))
    step = tune_here(bundle, 5.0, silent)
    profile = read_profile(bundle.path)
    assert profile is not None and profile.chosen == Configuration("openvino", "int8", None, 2, 4)
    assert (step.name, step.before, step.refused) == (TUNE, False, ())
    assert tune_here(bundle, 5.0, silent).before

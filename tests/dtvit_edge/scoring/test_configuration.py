"""Which configuration a run takes: the options', the begun folder's, the device profile's, or fp32."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.bundle.device_profile import DEVICE_PROFILE, Configuration, write_profile
from dtvit_edge.environment import package_versions
from dtvit_edge.errors import ConfigError
from dtvit_edge.scoring import identity
from dtvit_edge.scoring.api import Options, score
from dtvit_edge.scoring.configuration import resolve, usable_profile
from dtvit_edge.scoring.journal import begun_configuration
from dtvit_edge.scoring.run import RUN, run
from tests.support.scoring_runs import results
from tests.support.tuning_world import profile_of, write_tunable_bundle

INT8 = Configuration("onnxruntime", "int8", None, 1, 4)
FP32 = Configuration("onnxruntime", "fp32", None, 2, 2)
ALONE = Configuration("onnxruntime", "fp32", None, 1, 1)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """int8 passed, and the profile chose it."""
    made = write_tunable_bundle(tmp_path / "b.dtvit", int8="passed")
    write_profile(made.path, profile_of(made, INT8, FP32, ALONE))
    return made


def taken(bundle: Bundle, **options: Any) -> tuple[str, str, str | None, int | None, int | None]:
    o = resolve(bundle, Options(**options)).options
    return o.backend, o.precision, o.hint, o.threads, o.batch


def run_options(out: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((out / RUN).read_text())
    return data["options"] | {"from": data["configuration_from"]}


def test_a_new_output_takes_the_profile_and_says_so(
    bundle: Bundle, phantom_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dtvit_edge")
    run(bundle, [phantom_folder], tmp_path / "out", Options())
    assert "backend onnxruntime, precision int8: the device profile: onnxruntime int8, 1 thread, batch 4" in caplog.text
    said = run_options(tmp_path / "out")
    assert (said["precision"], said["threads"], said["batch"]) == ("int8", 1, 4)
    assert said["from"].startswith("the device profile: ")


def test_the_python_api_takes_the_profile_as_well(
    bundle: Bundle, phantom_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dtvit_edge")
    next(score(bundle, [phantom_folder]))
    assert "precision int8: the device profile: " in caplog.text


def test_without_a_profile_it_is_fp32_as_before_and_said(
    bundle: Bundle, phantom_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dtvit_edge")
    (bundle.path / DEVICE_PROFILE).unlink()
    run(bundle, [phantom_folder], tmp_path / "auto", Options(backend="onnxruntime"))
    assert "precision fp32: no device profile (`dtvit-edge tune` makes one): what is used without one" in caplog.text
    run(bundle, [phantom_folder], tmp_path / "named", Options(backend="onnxruntime", precision="fp32"))
    assert results(tmp_path / "auto") == results(tmp_path / "named")
    run(bundle, [phantom_folder], tmp_path / "auto", Options(backend="onnxruntime", precision="fp32"))  # the same run


def test_a_named_precision_takes_nothing_of_the_profile(bundle: Bundle) -> None:
    assert taken(bundle, precision="fp32", backend="onnxruntime") == ("onnxruntime", "fp32", None, None, None)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"threads": 1}, INT8),
        ({"threads": 2}, FP32),
        ({"batch": 1}, ALONE),
        ({"batch": 2, "backend": "onnxruntime"}, FP32),
    ],
    ids=str,
)
def test_options_that_are_given_narrow_the_choice_to_what_was_measured_with_them(
    bundle: Bundle, options: dict[str, Any], expected: Configuration
) -> None:
    c = expected
    assert taken(bundle, **options) == (c.backend, c.precision, c.hint, c.threads, c.batch)


@pytest.mark.parametrize("options", [{"threads": 3}, {"batch": 5, "threads": 1}, {"hint": "f32", "batch": 9}], ids=str)
def test_options_that_nothing_was_measured_with_leave_the_rest_as_without_a_profile(
    bundle: Bundle, options: dict[str, Any]
) -> None:
    resolved = resolve(bundle, Options(backend="onnxruntime", **options))
    assert resolved.options == Options(backend="onnxruntime", precision="fp32", **options)
    assert "nothing that passed with these options" in resolved.why


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"manifest": "0" * 64}, "it was made for the manifest 000000000000…"),
        ({"machine": {"processor": "another"}}, "it was made with other machine: architecture was None"),
        ({"versions": {"numpy": "0.1"}}, "it was made with other versions: "),
        ({"thresholds": {"slice": 0.3, "study": 0.5}}, "it was made with other thresholds: slice was 0.3, is 0.5"),
    ],
    ids=["manifest", "machine", "versions", "thresholds"],
)
def test_a_profile_of_something_else_is_said_and_not_used(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, changes: dict[str, Any], said: str
) -> None:
    write_profile(bundle.path, replace(profile_of(bundle, INT8), **changes))
    assert taken(bundle, backend="onnxruntime")[1] == "fp32"
    assert next(r.message for r in caplog.records if r.levelno == logging.WARNING).startswith(
        f"the device profile is not used: {said}"
    )


def test_a_threshold_that_is_asked_for_is_not_the_profiles(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    assert taken(bundle, backend="onnxruntime", threshold=0.3)[1] == "fp32"
    assert "other thresholds: slice was 0.5, is 0.3" in caplog.text


@pytest.mark.parametrize("verdict", ["failed", "not gated", "inconclusive"])
def test_a_profile_that_names_what_did_not_pass_is_said_and_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, verdict: str
) -> None:
    bundle = write_tunable_bundle(tmp_path / "c.dtvit", int8=verdict)
    write_profile(bundle.path, profile_of(bundle, INT8))
    assert taken(bundle, backend="onnxruntime")[1] == "fp32" and f"the gate said: {verdict}" in caplog.text


@pytest.mark.parametrize("content", [b"{", b"{}", b'{"format": 1}', b"\0" * 99], ids=["cut", "empty", "few", "zeros"])
def test_a_damaged_profile_is_said_and_not_used(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    (bundle.path / DEVICE_PROFILE).write_bytes(content)
    assert taken(bundle, backend="onnxruntime")[1] == "fp32"
    assert "the device profile is not used" in caplog.text and "`dtvit-edge tune` makes it anew" in caplog.text


def test_a_profile_of_a_model_that_this_copy_lacks_is_not_used(bundle: Bundle) -> None:
    (bundle.path / "model.int8.onnx").unlink()
    profile, why = usable_profile(Bundle.open(bundle.path))
    assert profile is None and "its file is not in this copy of the bundle" in why


def test_an_output_that_was_begun_keeps_its_configuration_whatever_the_profile_says_now(
    bundle: Bundle, phantom_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    run(bundle, [phantom_folder], out, Options())
    before = results(out)
    assert begun_configuration(out / "journal.jsonl") == vars(INT8)
    for name in ("slices.csv", "studies.csv", "run.json"):
        (out / name).unlink()  # as if it had been killed
    write_profile(bundle.path, profile_of(bundle, FP32, INT8))
    caplog.set_level(logging.INFO, "dtvit_edge")
    assert run(bundle, [phantom_folder], out, Options()).resumed > 0
    assert results(out) == before and run_options(out)["precision"] == "int8"
    said = "the output folder began with it: onnxruntime int8, 1 thread, batch 4; the device profile's onnxruntime fp32"
    assert said in caplog.text and run_options(out)["from"].startswith("the output folder began with it")
    (bundle.path / DEVICE_PROFILE).unlink()
    assert run(bundle, [phantom_folder], out, Options()).resumed > 0
    run(bundle, [phantom_folder], out, Options(), overwrite=True)  # a new one
    assert run_options(out)["precision"] == "fp32"


def test_an_output_of_before_the_profile_keeps_fp32(bundle: Bundle, phantom_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (bundle.path / DEVICE_PROFILE).unlink()
    run(bundle, [phantom_folder], out, Options(backend="onnxruntime"))
    write_profile(bundle.path, profile_of(bundle, INT8, FP32))
    assert run(bundle, [phantom_folder], out, Options(backend="onnxruntime")).resumed > 0
    assert run_options(out)["precision"] == "fp32"


def test_a_version_that_results_depend_on_is_said_and_not_adopted(
    bundle: Bundle, phantom_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(bundle, [phantom_folder], out, Options())
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    versions = package_versions() | {"numpy": "99.1", "openvino": "99.2"}  # the second computes nothing here
    monkeypatch.setattr(identity, "package_versions", lambda: versions)
    said = rf"holds another run \(packages numpy: {package_versions()['numpy']} there, 99.1 here\); give another"
    with pytest.raises(ConfigError, match=said):
        run(bundle, [phantom_folder], out, Options())
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_options_other_than_the_begun_ones_are_another_run(
    bundle: Bundle, phantom_folder: Path, tmp_path: Path
) -> None:
    run(bundle, [phantom_folder], tmp_path / "out", Options())
    for other in ({"batch": 2}, {"precision": "fp32"}):
        with pytest.raises(ConfigError, match="holds another run"):
            run(bundle, [phantom_folder], tmp_path / "out", Options(backend="onnxruntime", **other))


@pytest.mark.parametrize(
    "said",
    [
        {"backend": "nothing"},
        {"precision": "int4"},
        {"threads": 0},
        {"threads": 10**9},
        {"batch": "4"},
        {"hint": "bf16"},
    ],
    ids=str,
)
def test_a_journal_that_names_what_cannot_be_taken_is_not_followed(bundle: Bundle, said: dict[str, Any]) -> None:
    resolved = resolve(bundle, Options(backend="onnxruntime"), vars(INT8) | said)
    assert resolved.options.precision == "fp32" and "as the output folder began" in resolved.why
    assert resolve(bundle, Options(backend="onnxruntime"), vars(INT8)).options.precision == "int8"

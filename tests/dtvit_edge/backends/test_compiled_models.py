"""Compiled models of OpenVINO: what is built, what is taken, what is passed over, and what is refused."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dtvit_edge import environment
from dtvit_edge.backend import Logits
from dtvit_edge.backends import openvino_build
from dtvit_edge.backends.compiled_models import build_command, install
from dtvit_edge.backends.compiled_record import CompiledRecord
from dtvit_edge.backends.openvino_build import build_compiled
from dtvit_edge.bundle import ENGINES, Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.errors import BundleError, ConfigError, DigestMismatch, VerdictError
from dtvit_edge.scoring.api import Options, open_backend, open_executor
from dtvit_edge.scoring.proof import prove_chain
from dtvit_edge.trt.store import engine_precisions, read_records

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def built(typed_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """With a compiled int8; read-only."""
    path = tmp_path_factory.mktemp("built") / "typed.dtvit"
    bundle = Bundle.open(shutil.copytree(typed_bundle.path, path))
    build_compiled(bundle, "int8", None, prove_chain)
    return bundle


@pytest.fixture
def bundle(built: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(built.path, tmp_path / "typed.dtvit"))


@pytest.fixture(scope="module")
def expected(typed_bundle: Bundle) -> list[Logits]:
    """What the model itself answers."""
    return answers(typed_bundle, compiled=False)


def blob_of(bundle: Bundle) -> Path:
    (blob,) = (bundle.path / ENGINES).glob("*.blob")
    return blob


def record_of(bundle: Bundle) -> Path:
    (record,) = (bundle.path / ENGINES).glob("*.record")
    return record


def answers(bundle: Bundle, *, compiled: bool, threads: int | None = None, hint: str | None = None) -> list[Logits]:
    """Of all golden slices in batches of 1, 3 and 8."""
    pixels = bundle.golden().pixels
    options = Options(precision="int8", threads=threads, hint=hint)
    with open_backend(bundle, "openvino", options) as backend:
        assert (backend._bytes is not None) == compiled  # type: ignore[attr-defined]
        return [backend.infer(pixels[i : i + n]) for n in (1, 3, 8) for i in range(0, len(pixels), n)]


def assert_same(some: list[Logits], others: list[Logits]) -> None:
    for one, other in zip(some, others, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def test_a_compiled_model_lies_beside_its_record_and_the_bundle_is_the_same(
    built: Bundle, typed_bundle: Bundle
) -> None:
    record = CompiledRecord.from_json(record_of(built).read_bytes())
    assert blob_of(built).name == f"{record.name}.{record.blob_sha256[:12]}.blob"
    assert record_of(built).stem == record.name
    assert record.name.startswith("openvino-20") and record.name.endswith("-int8-f32")
    assert record.selftest["deviations"].keys() == {"1", "3", "8"} and record.selftest["differing_bytes"] == 0
    assert record.instruction_sets == environment.instruction_sets()
    assert len(list((built.path / ENGINES).iterdir())) == 2, "nothing that was under way is left"
    assert Bundle.open(built.path).digest == typed_bundle.digest
    assert all(path.stat().st_mode & 0o027 == 0 for path in (blob_of(built), record_of(built)))


@pytest.mark.parametrize("threads", [None, 1, 2], ids=str)
def test_it_answers_as_the_model_itself_whatever_the_threads(
    built: Bundle, expected: list[Logits], threads: int | None
) -> None:
    assert_same(answers(built, compiled=True, threads=threads), expected)


def test_another_hint_is_another_compiled_model(bundle: Bundle) -> None:
    answers(bundle, compiled=False, hint="bf16")
    build_compiled(bundle, "int8", "bf16", prove_chain)
    answers(bundle, compiled=True, hint="bf16")
    answers(bundle, compiled=True)


def test_the_models_own_file_is_not_needed_any_more(bundle: Bundle) -> None:
    for model in bundle.path.glob("*.onnx"):
        model.unlink()
    answers(Bundle.open(bundle.path), compiled=True)
    blob_of(bundle).unlink()
    with pytest.raises(BundleError, match="neither a model nor an engine"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("place", [0, 60, -1], ids=["header", "within", "last byte"])
def test_one_changed_bit_is_refused_with_the_line_that_builds_it_anew(bundle: Bundle, place: int) -> None:
    data = bytearray(blob_of(bundle).read_bytes())
    data[place] ^= 1
    blob_of(bundle).write_bytes(data)
    again = f"build it on this device: dtvit-edge build {bundle.path} --backend openvino --precision int8"
    with pytest.raises(DigestMismatch, match=f"not the bytes that were built; {again}"):
        answers(bundle, compiled=True)


def changed(**changes: object) -> Callable[[Bundle], None]:
    """Signed by this device, but made for something else."""

    def change(bundle: Bundle) -> None:
        record = replace(CompiledRecord.from_json(record_of(bundle).read_bytes()), **changes)  # type: ignore[arg-type]
        record_of(bundle).unlink()
        install(bundle.path / ENGINES, record, blob_of(bundle))

    return change


def edited(bundle: Bundle) -> None:
    data = json.loads(record_of(bundle).read_text()) | {"seconds": 0.5}
    record_of(bundle).write_text(json.dumps(data))


PASSED_OVER: dict[str, tuple[Callable[[Bundle], object], str]] = {
    "version": (changed(version="2024.0"), r"compiled by OpenVINO 2024\.0, this is 20"),
    "processor": (changed(instruction_sets=("mmx",)), "compiled for a processor with other instruction sets"),
    "model": (changed(onnx_sha256="0" * 64), "compiled from another int8 model than the bundle's"),
    "spec": (changed(spec_digest="0" * 64), "compiled from another int8 model"),
    "golden": (changed(golden_digest="0" * 64), "compiled from another int8 model"),
    "edited record": (edited, "not built by this user on this device; --accept-engine [0-9a-f]{64} trusts it"),
    "no record": (lambda bundle: record_of(bundle).write_text("{}"), "no build record"),
    "other format": (lambda bundle: record_of(bundle).write_text('{"format": 9}'), "its format is 9"),
    "others' record": (lambda bundle: record_of(bundle).chmod(0o666), "others may write it"),
    "others' blob": (lambda bundle: blob_of(bundle).chmod(0o666), "others may write it"),
    "others' folder": (lambda bundle: (bundle.path / ENGINES).chmod(0o777), "others may write it"),
    "no blob": (lambda bundle: blob_of(bundle).unlink(), "No such file"),
    "longer blob": (lambda bundle: blob_of(bundle).open("ab").write(b"x"), "are expected"),
}


@pytest.mark.parametrize("case", PASSED_OVER)
def test_what_does_not_fit_is_passed_over_in_words_and_the_model_itself_answers(
    bundle: Bundle, expected: list[Logits], case: str, caplog: pytest.LogCaptureFixture
) -> None:
    damage, words = PASSED_OVER[case]
    damage(bundle)
    with caplog.at_level(logging.WARNING):
        got = answers(bundle, compiled=False)
    assert_same(got, expected)
    (said,) = [record.getMessage() for record in caplog.records]
    assert re.search(words, said), said
    assert said.endswith(build_command(bundle.path, "int8", "f32"))


def test_one_that_another_device_built_is_passed_over_or_accepted_and_then_tested_first(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another"))
    answers(bundle, compiled=False)
    assert "not built by this user on this device" in caplog.text
    digest = CompiledRecord.from_json(record_of(bundle).read_bytes()).blob_sha256
    accepting = Bundle.open(bundle.path, accept_engines=[digest])
    options = Options(precision="int8")
    with open_backend(accepting, "openvino", options) as backend, open_executor(accepting, backend, options):
        assert not backend.proven
    strict = replace(accepting, manifest=replace(accepting.manifest, tolerances={"int8": 1e-9}))
    with (
        open_backend(strict, "openvino", options) as backend,
        pytest.raises(VerdictError, match="differs from the golden logits"),
        open_executor(strict, backend, options),
    ):
        pass


def test_without_one_the_line_that_builds_it_is_said_where_more_is_asked_for(
    typed_bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="dtvit_edge"):
        answers(typed_bundle, compiled=False)
    assert [(r.levelname, r.getMessage()) for r in caplog.records if "compiles the model" in r.getMessage()] == [
        (
            "DEBUG",
            "OpenVINO compiles the model at each start; to keep it compiled: "
            + build_command(typed_bundle.path, "int8", "f32"),
        )
    ]


def test_what_fails_its_self_test_is_not_installed(typed_bundle: Bundle, tmp_path: Path) -> None:
    bundle = Bundle.open(shutil.copytree(typed_bundle.path, tmp_path / "typed.dtvit"))
    strict = replace(bundle, manifest=replace(bundle.manifest, tolerances={"int8": 1e-9}))
    with pytest.raises(VerdictError, match=r"differs from the golden logits .*; it is not installed"):
        build_compiled(strict, "int8", None, prove_chain)
    assert not (bundle.path / ENGINES).exists()


def test_what_answers_otherwise_than_the_model_is_not_installed(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = blob_of(bundle).read_bytes()
    given = iter([0.0, 1e-6])
    true_answers = openvino_build._answers

    def answers_apart(*arguments: object) -> list[Logits]:
        shift = next(given)
        return [
            {name: values + np.float32(shift) for name, values in logits.items()}
            for logits in true_answers(*arguments)  # type: ignore[arg-type]
        ]

    monkeypatch.setattr(openvino_build, "_answers", answers_apart)
    with pytest.raises(VerdictError, match="answers otherwise than the one that was compiled; it is not installed"):
        build_compiled(bundle, "int8", None, prove_chain)
    assert blob_of(bundle).read_bytes() == before


@pytest.mark.parametrize(("precision", "hint"), [("fp16", None), ("int8", "f16")])
def test_what_openvino_does_not_run_is_not_built(typed_bundle: Bundle, precision: str, hint: str | None) -> None:
    with pytest.raises(ConfigError, match=r"openvino runs fp32, fp32-op16, int8, .* with the hints f32, bf16"):
        build_compiled(typed_bundle, precision, hint, prove_chain)


def test_a_model_that_takes_one_slice_a_call_is_compiled_too(trimmed_bundle: Bundle, tmp_path: Path) -> None:
    bundle = Bundle.open(shutil.copytree(trimmed_bundle.path, tmp_path / "trimmed.dtvit"))
    build_compiled(bundle, "fp32-trimmed", None, prove_chain)
    pixels, options = bundle.golden().pixels[:5], Options(precision="fp32-trimmed")
    logits = []
    for one in (bundle, trimmed_bundle):
        with open_backend(one, "openvino", options) as backend:
            assert (backend._bytes is not None) == (one is bundle) and backend.batch == 1  # type: ignore[attr-defined]
            logits.append(backend.infer(pixels))
    assert_same(logits[:1], logits[1:])


def test_tensorrt_is_not_asked_for_an_engine_of_one(trimmed_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", str(trimmed_bundle.path), "--precision", "int8-trimmed"]) == 2
    assert "there are no engines of int8-trimmed" in capsys.readouterr().err


def test_engines_and_compiled_models_do_not_take_each_other_for_damage(built: Bundle) -> None:
    assert engine_precisions(built, "tensorrt") == []
    records = read_records(built.path / ENGINES, ".record", CompiledRecord.from_json)
    assert [path for path, _ in records] == [record_of(built)]


def test_the_command_builds_one_and_a_run_that_was_begun_without_it_goes_on(
    typed_bundle: Bundle, phantom_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shutil.copytree(typed_bundle.path, tmp_path / "typed.dtvit")
    slices, out = tmp_path / "slices", tmp_path / "out"
    slices.mkdir()
    for file in sorted((phantom_folder / "study-0001").iterdir())[:3]:
        shutil.copy(file, slices)
    score = ["-q", "score", str(path), str(slices), "-o", str(out), "--precision", "int8", "--backend", "openvino"]
    assert main(score) == 0
    before = (out / "slices.csv").read_bytes()
    assert main(["-q", "build", str(path), "--precision", "int8", "--backend", "openvino"]) == 0
    text = capsys.readouterr().out
    assert str(blob_of(Bundle.open(path))) in text and "passed" in text
    assert main(score) == 0, "it is the same run"
    assert json.loads((out / "run.json").read_text())["counts"]["slices_resumed"] == 3
    assert main([*score, "--overwrite"]) == 0
    assert (out / "slices.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--backend", "openvino", "--max-batch", "8"], "--max-batch is for TensorRT, not OpenVINO"),
        (["--backend", "openvino", "--no-library-tactics"], "--no-library-tactics is for TensorRT, not OpenVINO"),
        (["--hint", "bf16"], "--hint is for OpenVINO, not TensorRT"),
    ],
    ids=["batch", "tactics", "hint"],
)
def test_options_without_effect_are_refused(
    typed_bundle: Bundle, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", str(typed_bundle.path), "--precision", "int8", *arguments]) == 2
    assert words in capsys.readouterr().err

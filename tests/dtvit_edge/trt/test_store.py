"""The loader: what it hands out, and what it refuses with which words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cuda.driver import Gpu
from dtvit_edge.errors import DigestMismatch, EngineError
from dtvit_edge.spec import digest_bytes
from dtvit_edge.trt.store import (
    ENGINES,
    BuildRecord,
    build_command,
    find_cache,
    install_cache,
    load_engine,
    portable_engines,
)
from tests.support.engine_records import ORIN, PLAN, put, record


@pytest.fixture
def bundle(typed_bundle: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(typed_bundle.path, tmp_path / "my typed.dtvit"))


def load(bundle: Bundle, gpu: Gpu = ORIN, version: str = "10.3.0", **options: Any) -> Any:
    return load_engine(bundle, "tensorrt", version, gpu, "fp16", **options)


def test_an_engine_comes_back_as_it_was_put_and_the_bundle_is_the_same(bundle: Bundle) -> None:
    path = put(bundle, record(bundle))
    assert path.name == "tensorrt-10.3.0-orin-sm87-fp16.json"
    engine = load(bundle)
    assert engine.plan == PLAN
    assert BuildRecord.from_json(path.read_text()) == engine.record
    assert engine.record.plan == f"tensorrt-10.3.0-orin-sm87-fp16.{digest_bytes(PLAN)[:12]}.plan"
    assert Bundle.open(bundle.path).digest == bundle.digest


def test_putting_another_replaces_it(bundle: Bundle) -> None:
    put(bundle, record(bundle))
    put(bundle, record(bundle, plan_sha256=digest_bytes(b"newer")), b"newer")
    assert load(bundle).plan == b"newer"
    assert len(list((bundle.path / ENGINES).iterdir())) == 2


def test_one_changed_byte_is_refused(bundle: Bundle) -> None:
    put(bundle, record(bundle))
    (plan,) = (bundle.path / ENGINES).glob("*.plan")
    plan.write_bytes(PLAN[:-1] + b"\x00")
    with pytest.raises(
        DigestMismatch, match="not the bytes that were built; build it on this device: dtvit-edge build"
    ):
        load(bundle)


def test_a_plan_that_is_gone_is_refused(bundle: Bundle) -> None:
    put(bundle, record(bundle))
    next((bundle.path / ENGINES).glob("*.plan")).unlink()
    with pytest.raises(EngineError, match="No such file"):
        load(bundle)


@pytest.mark.parametrize(
    ("changes", "gpu", "version", "message"),
    [
        ({}, ORIN, "10.4.0", r"built with TensorRT 10\.3\.0, this is 10\.4\.0"),
        ({}, Gpu("NVIDIA L4", "8.9"), "10.3.0", "built on Orin, this is NVIDIA L4"),
        ({"gpu": None}, Gpu("NVIDIA L4", "8.9"), "10.3.0", r"built for SM 8\.7, this GPU is SM 8\.9"),
        ({"onnx_sha256": "0" * 64}, ORIN, "10.3.0", "built from another fp16 graph than the bundle's"),
        ({"graph": "fp64"}, ORIN, "10.3.0", "built from another fp64 graph"),
        ({"selftest": None, "selftest_reason": "no GPU"}, ORIN, "10.3.0", r"has had no self-test \(no GPU\)"),
        (
            {"precision": "int8"},
            ORIN,
            "10.3.0",
            r"no fp16 engine for TensorRT in .* \(engines there: tensorrt-10\.3\.0-orin",
        ),
        ({"flavour": "tensorrt-rtx"}, ORIN, "10.3.0", "no fp16 engine for TensorRT in"),
    ],
    ids=["version", "gpu", "sm", "graph", "unknown graph", "unproven", "precision", "flavour"],
)
def test_a_foreign_engine_is_refused_with_the_line_that_builds_one(
    bundle: Bundle, changes: dict[str, Any], gpu: Gpu, version: str, message: str
) -> None:
    put(bundle, record(bundle, **changes))
    with pytest.raises(EngineError, match=message) as error:
        load(bundle, gpu, version)
    batch = "" if {"precision", "flavour"} & set(changes) else " --max-batch 4"
    line = f"dtvit-edge build '{bundle.path}' --precision fp16 --backend tensorrt{batch}"
    assert str(error.value).endswith(f"build it on this device: {line}")
    assert error.value.exit_status == 2


def test_an_unproven_engine_is_given_to_who_asks_for_it_and_a_proved_one_is_preferred(bundle: Bundle) -> None:
    ahead = record(bundle, gpu=None, selftest=None, selftest_reason="no GPU", capabilities=("8.6", "8.7"))
    put(bundle, ahead)
    assert load(bundle, unproven=True).record.gpu is None
    put(bundle, record(bundle))
    assert load(bundle, unproven=True).record.gpu == "Orin"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 9}', '{"format": 4, "extra": 2}', "\x00"],
    ids=["empty", "list", "fields", "format", "unknown", "rubbish"],
)
def test_a_record_that_cannot_be_read_is_named_and_stops_no_other_engine(bundle: Bundle, text: str) -> None:
    path = put(bundle, record(bundle))
    path.with_name("broken.json").write_text(text)
    assert load(bundle).plan == PLAN
    path.unlink()
    with pytest.raises(EngineError, match=r"broken\.json"):
        load(bundle)


def test_a_record_of_an_older_format_is_refused_with_the_command_that_builds_it_anew(bundle: Bundle) -> None:
    path = put(bundle, record(bundle))
    older = json.loads(path.read_text()) | {"format": 2, "profile": {"min": 1, "opt": 2, "max": 4}}
    del older["profiles"], older["optimization_level"], older["cuda_ordinal"]
    path.write_text(json.dumps(older))
    with pytest.raises(EngineError, match=r"its format is 2, this code reads 4; .*dtvit-edge build .* fp16"):
        load(bundle)


def test_a_record_that_leads_outside_is_refused(bundle: Bundle) -> None:
    path = put(bundle, record(bundle))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"plan": "../../engine.plan"}))
    with pytest.raises(EngineError, match="outside its folder"):
        load(bundle)


def test_an_engine_needs_none_of_the_files_that_it_was_built_from(bundle: Bundle) -> None:
    put(bundle, record(bundle))
    for model in bundle.path.glob("*.onnx"):
        model.unlink()
    thin = Bundle.open(bundle.path)
    assert thin.present == ()
    assert load(thin).plan == PLAN


AHEAD: dict[str, Any] = {
    "flavour": "tensorrt-rtx",
    "gpu": None,
    "selftest": None,
    "selftest_reason": "no GPU",
    "capabilities": ("8.6", "8.9"),
}


@pytest.mark.parametrize(
    "changes",
    [{"gpu": "NVIDIA L4"}, {"flavour": "tensorrt"}, {"capabilities": ("7.5",)}, {"onnx_sha256": "0" * 64}],
    ids=["built on a GPU", "TensorRT", "SM", "graph"],
)
def test_what_was_compiled_ahead_of_time_for_a_gpu_may_be_copied_to_it(bundle: Bundle, changes: dict[str, Any]) -> None:
    path = put(bundle, record(bundle, **AHEAD | changes))
    assert portable_engines(bundle, "tensorrt-rtx", {"8.9", "12.0"}) == []
    path.unlink()
    path = put(bundle, record(bundle, **AHEAD))
    ((record_path, portable),) = portable_engines(bundle, "tensorrt-rtx", {"8.9", "12.0"})
    assert (record_path, portable.capabilities) == (path, ("8.6", "8.9"))


def test_a_damaged_engine_is_not_copied(bundle: Bundle) -> None:
    path = put(bundle, record(bundle, **AHEAD))
    (plan,) = path.parent.glob("*.plan")
    plan.write_bytes(b"")
    with pytest.raises(DigestMismatch, match="not the bytes that were built"):
        portable_engines(bundle, "tensorrt-rtx", {"8.9"})
    path.write_text("{}")
    with pytest.raises(EngineError, match=r"sm89-fp16\.json: no build record"):
        portable_engines(bundle, "tensorrt-rtx", {"8.9"})


def test_a_bundle_without_engines_says_how_to_build_one(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match=r"no fp16 engine for TensorRT in .*dtvit-edge build"):
        load(bundle)


def test_the_command_repeats_what_was_asked_for() -> None:
    line = build_command(Path("a b.dtvit"), "int8", "tensorrt-rtx", max_batch=2, capabilities=("8.6", "12.0"))
    assert line == (
        "dtvit-edge build 'a b.dtvit' --precision int8 --backend tensorrt-rtx --max-batch 2 "
        "--ahead-of-time --sm 8.6 --sm 12.0"
    )


def test_a_timing_cache_that_came_with_a_bundle_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"measured")
    install_cache(tmp_path, "device", tmp_path / "new")
    (own,) = tmp_path.iterdir()
    digest, forged = digest_bytes(b"forged"), tmp_path / "forged"
    for name in (f"device.{digest}.timing", f"device.{digest}.{own.name.split('.')[2]}.timing", "device..timing"):
        forged.write_bytes(b"forged")
        forged.rename(tmp_path / name)
    assert find_cache(tmp_path, "device") == (own, digest_bytes(b"measured"))


def test_the_timing_cache_is_kept_by_its_digest(tmp_path: Path) -> None:
    assert find_cache(tmp_path, "tensorrt-8.6.1-orin-sm87") is None
    for content in (b"one", b"two"):
        (tmp_path / "new").write_bytes(content)
        install_cache(tmp_path, "tensorrt-8.6.1-orin-sm87", tmp_path / "new")
    cache = find_cache(tmp_path, "tensorrt-8.6.1-orin-sm87")
    assert cache is not None
    assert (cache[0].read_bytes(), cache[1]) == (b"two", digest_bytes(b"two"))
    assert len(list(tmp_path.iterdir())) == 1

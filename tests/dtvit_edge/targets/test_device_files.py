"""Which files go to which device, from a bundle that has all six graphs."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.bundle import MODEL_FILES, Bundle
from dtvit_edge.cli import units
from dtvit_edge.cli.commands import main
from dtvit_edge.errors import BuildError, BundleError, ConfigError, DigestMismatch
from dtvit_edge.targets.device_files import device_files
from dtvit_edge.targets.table import TARGETS
from dtvit_edge.trt.releases import PRECISIONS, dotted, multiplies
from dtvit_edge.trt.store import ENGINES, install
from tests.dtvit_edge.trt.test_store import AHEAD, record

ALWAYS = ["manifest.json", "golden/pixels.npy", "golden/ich_logits.npy", "golden/location_logits.npy"]


@pytest.fixture
def bundle(typed_bundle: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(typed_bundle.path, tmp_path / "b.dtvit"))


def models(bundle: Bundle, target: str, *precisions: str, **options: Any) -> set[str]:
    """Keys of the graphs among the files; what every device needs is there as well."""
    paths = [file.path.removeprefix("b.dtvit/") for file in device_files(bundle, target, precisions, **options).files]
    assert set(ALWAYS) <= set(paths) and len(paths) == len(set(paths))
    return {key for key, file in MODEL_FILES.items() if file in paths}


def test_a_bundle_of_another_model_has_no_file_that_leaves_out_empty_patches(tiny_bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="holds no int8-trimmed, which only a model that leaves out patches has"):
        device_files(tiny_bundle, "cpu", ("int8-trimmed",))


@pytest.mark.parametrize(
    ("target", "precisions", "tensorrt", "expected"),
    [
        ("jetpack5", (), None, {"fp32-op16"}),
        ("jetpack6", (), None, {"fp32", "fp16", "int8", "int8-fp16"}),
        ("jetpack6", (), "8.6.2.3", {"fp32", "int8"}),
        ("jetpack6", (), "10.3", {"fp32", "fp16", "int8-fp16"}),
        ("jetpack6", ("fp16",), "10.3.0", {"fp16"}),
        ("jetpack6", ("fp16",), None, {"fp16", "fp32"}),
        ("jetpack6", ("fp16", "int8"), "8.6", {"fp32", "int8"}),
        ("jetpack7", ("int8",), "10.13.3.9", {"int8-fp16"}),
        ("jetpack7", ("fp8",), "10.13.3.9", {"fp8"}),
        ("rtx", ("fp16",), "1.7.1.116", {"fp16"}),
        ("trt11", ("fp32",), None, {"fp32"}),
        ("cpu", (), None, {"fp32", "int8"}),
        ("cpu", ("int8",), None, {"int8"}),
    ],
)
def test_a_target_gets_what_its_tensorrt_takes(
    bundle: Bundle, target: str, precisions: tuple[str, ...], tensorrt: str | None, expected: set[str]
) -> None:
    assert models(bundle, target, *precisions, tensorrt=tensorrt) == expected


def test_a_cpu_alone_gets_what_leaves_out_empty_patches(trimmed_bundle: Bundle, tmp_path: Path) -> None:
    bundle = Bundle.open(shutil.copytree(trimmed_bundle.path, tmp_path / "b.dtvit"))
    assert models(bundle, "cpu") == {"fp32", "fp32-trimmed"}
    assert models(bundle, "cpu", "fp32-trimmed") == {"fp32-trimmed"}
    assert models(bundle, "jetpack6") == {"fp32", "fp16"}
    with pytest.raises(ConfigError, match="nothing from which jetpack6 makes fp32-trimmed"):
        device_files(bundle, "jetpack6", ["fp32-trimmed"])


@pytest.mark.parametrize("target", [name for name, t in TARGETS.items() if t.stacks[0].tensorrt])
def test_the_choice_is_that_of_build(bundle: Bundle, target: str) -> None:
    for stack in TARGETS[target].stacks:
        assert stack.tensorrt
        for precision in PRECISIONS:
            try:
                taken = stack.tensorrt.graph_for(precision)
                stack.tensorrt.check_graph(taken, bundle.manifest.models)
                if precision == "fp8" and stack.sm and not any(multiplies("fp8", dotted(sm)) for sm in stack.sm):
                    raise BuildError("no GPU of this stack has FP8")
            except BuildError:
                with pytest.raises(ConfigError, match=precision):
                    device_files(bundle, target, [precision], stack.tensorrt.text)
                continue
            assert models(bundle, target, precision, tensorrt=stack.tensorrt.text) == {taken}


def test_a_copy_of_those_files_is_a_bundle_that_lacks_nothing_that_is_needed(bundle: Bundle, tmp_path: Path) -> None:
    needed = device_files(bundle, "jetpack6", ["fp16"], "10.3")
    for file in needed.files:
        source, target = bundle.path.parent / file.path, tmp_path / "device" / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
        assert source.stat().st_size == file.bytes
    copy = Bundle.open(tmp_path / "device" / "b.dtvit", expect_digest=needed.digest)
    assert copy.present == ("fp16",)
    assert sum(p.stat().st_size for p in copy.path.rglob("*") if p.is_file()) == needed.bytes
    assert device_files(copy, "jetpack6", ["fp16"], "10.3") == needed, "a thin copy can be copied on"
    with pytest.raises(BundleError, match=r"model\.fp32\.onnx: not in this copy of the bundle"):
        device_files(copy, "jetpack6", ["fp32"], "10.3")


def test_each_file_says_what_it_is_for(bundle: Bundle) -> None:
    why = {file.path: file.why for file in device_files(bundle, "jetpack6").files}
    assert why["b.dtvit/model.fp32.onnx"] == "fp32 on JetPack 6.0 and JetPack 6.1, 6.2; fp16 on JetPack 6.0"
    assert why["b.dtvit/model.int8-fp16.onnx"] == "int8 on JetPack 6.1, 6.2"


@pytest.mark.parametrize(
    ("target", "precisions", "tensorrt", "message"),
    [
        ("tpu", (), None, "no target called 'tpu'"),
        ("jetpack6", (), "10.7", r"jetpack6 has no TensorRT 10\.7; it has 8\.6\.2, 10\.3\.0"),
        ("cpu", (), "10.3", "cpu has no TensorRT 10.3; it has none"),
        ("cpu", ("fp16",), None, "nothing from which cpu makes fp16.*compat"),
        ("jetpack5", ("fp32", "int8"), None, "nothing from which jetpack5 makes int8"),
        ("jetpack6", ("fp8",), None, "nothing from which jetpack6 makes fp8"),
    ],
)
def test_what_is_not_to_be_had_is_said(
    bundle: Bundle, target: str, precisions: tuple[str, ...], tensorrt: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        device_files(bundle, target, precisions, tensorrt)


def test_a_bundle_that_a_target_cannot_run_has_no_files_for_it(bundle: Bundle) -> None:
    kept = {"int8-fp16": bundle.manifest.models["int8-fp16"]}
    with pytest.raises(ConfigError, match="nothing from which cpu makes fp32 or fp16 or int8"):
        device_files(replace(bundle, manifest=replace(bundle.manifest, models=kept)), "cpu")


def put(bundle: Bundle, **changes: Any) -> Path:
    folder = bundle.path / ENGINES
    folder.mkdir(exist_ok=True)
    (folder / "staged").write_bytes(b"machine code")
    return folder / f"{install(folder, record(bundle, **changes), folder / 'staged').name}.json"


def test_engines_stay_behind_except_those_compiled_ahead_of_time_for_the_targets_gpus(bundle: Bundle) -> None:
    built = put(bundle)
    ahead = put(bundle, **AHEAD)
    (plan,) = bundle.path.glob(f"{ENGINES}/{ahead.stem}.*.plan")

    def engines(target: str, *precisions: str) -> set[str]:
        return {Path(f.path).name for f in device_files(bundle, target, precisions).files if ENGINES in f.path}

    assert engines("rtx") == engines("rtx", "fp16") == {ahead.name, plan.name}
    assert engines("rtx", "fp32") == set()
    assert engines("jetpack6") == engines("trt11") == engines("cpu") == set()
    assert built.is_file()
    plan.write_bytes(b"")
    with pytest.raises(DigestMismatch):
        device_files(bundle, "rtx")


def test_the_list_is_what_tar_takes(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["inspect", str(bundle.path), "--device-files", "jetpack6", "--precision", "fp16", "--tensorrt", "10.3"]
    assert main(command) == 0
    said = capfd.readouterr()
    size = device_files(bundle, "jetpack6", ["fp16"], "10.3").bytes
    assert said.err == f"6 files, {units.size(size)}: fp16 on jetpack6\n"
    make = ["tar", "-C", str(tmp_path), "-cf", str(tmp_path / "model.tar"), "-T", "-"]
    subprocess.run(make, input=said.out, text=True, check=True)
    (tmp_path / "device").mkdir()
    subprocess.run(["tar", "-C", str(tmp_path / "device"), "-xf", str(tmp_path / "model.tar")], check=True)
    assert Bundle.open(tmp_path / "device" / "b.dtvit").present == ("fp16",)
    monkeypatch.chdir(bundle.path)
    assert main(["inspect", ".", *command[2:]]) == 0
    assert capfd.readouterr().out == said.out, "the bundle's own name comes first, however it was called"


def test_the_json_has_sizes(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(bundle.path), "--device-files", "cpu", "--json"]) == 0
    needed = json.loads(capsys.readouterr().out)
    assert needed["bytes"] == sum(file["bytes"] for file in needed["files"])
    assert (needed["target"], needed["precisions"], needed["digest"]) == ("cpu", ["fp32", "int8"], bundle.digest)
    assert needed["files"][0]["path"] == "b.dtvit/manifest.json"

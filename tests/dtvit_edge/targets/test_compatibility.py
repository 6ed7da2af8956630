"""`compat` on real bundles: a ViT as export writes it, and one whose manifest says little."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import onnx
import pytest

from dtvit_edge.bundle import MODEL_FILES, Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.errors import ConfigError
from dtvit_edge.targets.compatibility import FP32_NODES, compat
from dtvit_edge.targets.table import TARGETS
from tests.support.data import ROOT


@pytest.fixture(scope="module")
def vit_bundle(small_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """timm's own six-block test ViT, exported, under a name that a shell would take apart; read-only."""
    return Bundle.open(shutil.copytree(small_bundle.path, tmp_path_factory.mktemp("vit") / "a small one.dtvit"))


def edited(bundle: Bundle, **facts: object) -> Bundle:
    """The bundle with other facts in every file's record; nothing is written."""
    models = {key: replace(r, facts=r.facts | facts) for key, r in bundle.manifest.models.items()}
    return replace(bundle, manifest=replace(bundle.manifest, models=models))


@pytest.mark.parametrize("target", list(TARGETS))
def test_an_exported_vit_runs_everywhere_and_every_fact_is_known(vit_bundle: Bundle, target: str) -> None:
    result = compat(vit_bundle, target)
    assert result.runs
    for stack in result.stacks:
        states = {file.key: file.state for file in stack.files}
        assert "used" in states.values()
        assert not [f.sentence for f in stack.findings if f.code == "not_known"]
        assert all(states[key] in ("missing", "refused", "passed_over") for key in ("int8", "int8-fp16"))


@pytest.mark.parametrize("target", list(TARGETS))
def test_a_bundle_that_says_little_gets_an_answer(tiny_bundle: Bundle, target: str) -> None:
    result = compat(tiny_bundle, target)
    assert result.runs
    assert any(f.code == "not_known" for stack in result.stacks for f in stack.findings)


def test_a_graph_newer_than_every_release_of_a_target_runs_nowhere_there(vit_bundle: Bundle) -> None:
    newer = edited(vit_bundle, opset=21)
    assert {target: compat(newer, target).runs for target in TARGETS} == {
        "jetpack5": False,
        "jetpack6": False,
        "jetpack7": True,
        "rtx": False,
        "trt11": True,
        "cpu": True,
    }


def test_a_thin_copy_runs_where_a_file_that_it_has_is_taken(vit_bundle: Bundle) -> None:
    thin = replace(vit_bundle, absent=("fp32", "fp32-op16"))
    by_target = {target: compat(thin, target) for target in TARGETS}
    assert {target: result.runs for target, result in by_target.items()} == {
        "jetpack5": False,
        "jetpack6": True,
        "jetpack7": True,
        "rtx": True,
        "trt11": True,
        "cpu": False,
    }
    assert [len(stack.commands) for stack in by_target["jetpack6"].stacks] == [0, 1]
    assert by_target["cpu"].stacks[0].files[0].state == "absent"


def test_an_unknown_target_lists_those_that_there_are(vit_bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="no target called 'tpu'; there are jetpack5, jetpack6"):
        compat(vit_bundle, "tpu")


@pytest.mark.parametrize(
    ("target", "ends"),
    [
        ("jetpack6", ["--precision fp32", "--precision fp16"]),
        ("trt11", ["--precision fp32", "--precision fp16"]),
        ("rtx", ["--precision fp32 --backend tensorrt-rtx", "--precision fp16 --backend tensorrt-rtx"]),
    ],
)
def test_what_is_there_comes_with_its_build_line(vit_bundle: Bundle, target: str, ends: list[str]) -> None:
    expected = [f"dtvit-edge build '{vit_bundle.path}' {end}" for end in ends]
    for stack in compat(vit_bundle, target).stacks:
        assert list(stack.commands) == expected


def test_the_build_lines_are_ones_that_build_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", "--help"]) == 0
    text = capsys.readouterr().out
    assert "--precision" in text
    assert "tensorrt-rtx" in text


def test_jetpack_5_gets_complete_trtexec_lines(vit_bundle: Bundle) -> None:
    (stack,) = compat(vit_bundle, "jetpack5").stacks
    fp32, fp16 = stack.commands
    shapes = "--minShapes=pixels:1x1x224x224 --optShapes=pixels:8x1x224x224 --maxShapes=pixels:8x1x224x224"
    assert fp32 == (
        f"trtexec --onnx='a small one.dtvit/model.fp32-op16.onnx' {shapes} --shapes=pixels:8x1x224x224 --noTF32 "
        "--memPoolSize=workspace:1024 --saveEngine='a small one.fp32.plan'"
    )
    assert "--fp16 --precisionConstraints=obey" in fp16
    assert '--layerPrecisions="$FP32_NODES" --layerOutputTypes="$FP32_NODES"' in fp16


def test_the_line_holds_layer_norm_softmax_and_the_last_layers_to_fp32(vit_bundle: Bundle) -> None:
    """The shell's part of the line is run; what it names must be just those nodes of the file."""
    line = compat(vit_bundle, "jetpack5").stacks[0].commands[1]
    script = line.split(" && ")[0] + ' && echo "$FP32_NODES"'
    done = subprocess.run(
        ["bash", "-c", script], cwd=vit_bundle.path.parent, capture_output=True, text=True, check=True
    )
    names = [pin.removesuffix(":fp32") for pin in done.stdout.strip().split(",")]
    model = onnx.load(vit_bundle.path / MODEL_FILES["fp32-op16"])
    nodes = {node.name: node for node in model.graph.node}
    logits = {output.name for output in model.graph.output}
    parts = {"ReduceMean": 2, "Sub": 1, "Mul": 2, "Add": 2, "Sqrt": 1, "Div": 1}
    norms = vit_bundle.manifest.models["fp32"].facts["operators"]["LayerNormalization"]
    kinds = [nodes[name].op_type for name in names if name.startswith("node_layer_norm")]
    assert {op: kinds.count(op) for op in set(kinds)} == {op: count * norms for op, count in parts.items()}
    rest = {name for name in names if not name.startswith("node_layer_norm")}
    assert rest == {n.name for n in nodes.values() if n.op_type == "Softmax" or logits & set(n.output)}
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"\w+", name) for name in names), "a comma or colon would end trtexec's list"
    assert FP32_NODES in line


def test_the_rtx_parser_agrees(vit_bundle: Bundle) -> None:
    """What `compat` says is used there parses in the real parser, whose layers have the nodes' names."""
    trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")
    logger = trt.Logger(trt.Logger.ERROR)
    used = [file.key for file in compat(vit_bundle, "rtx").stacks[0].files if file.state == "used"]
    assert used == ["fp32", "fp16"]
    for key in (*used, "fp32-op16"):
        builder = trt.Builder(logger)
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, logger)
        data = vit_bundle.model_bytes(key)
        assert parser.parse(data), key
        layers = {network.get_layer(i).name for i in range(network.num_layers)}
        if key == "fp32-op16":
            assert {m.decode() for m in re.findall(rb"node_(?:layer_norm|softmax)\w*", data)} <= layers


def test_the_command_prints_tables_and_json(vit_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compat", str(vit_bundle.path), "--target", "jetpack6"]) == 0
    text = capsys.readouterr().out
    for words in ("JetPack 6.0: TensorRT 8.6.2", "model.int8-fp16.onnx", "not fused", "[JetPack 6.1, 6.2]", "#3355"):
        assert words in text
    assert main(["compat", str(vit_bundle.path), "--target", "jetpack6", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data == json.loads(json.dumps(asdict(compat(vit_bundle, "jetpack6"))))
    assert [stack["name"] for stack in data["stacks"]] == ["JetPack 6.0", "JetPack 6.1, 6.2"]


def test_the_command_ends_with_1_where_nothing_runs_and_with_2_for_an_unknown_target(
    vit_bundle: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["compat", str(vit_bundle.path), "--target", "tpu"]) == 2
    error = capsys.readouterr().err
    assert all(target in error for target in TARGETS)
    monkeypatch.setattr(Bundle, "open", lambda path, **_: edited(vit_bundle, opset=21))
    assert main(["compat", str(vit_bundle.path), "--target", "jetpack5"]) == 1
    streams = capsys.readouterr()
    assert "opset 21; TensorRT 8.5.2 reads up to 17" in streams.out
    assert "jetpack5 can run no file of this bundle" in streams.err


def test_explain_needs_neither_onnx_nor_tensorrt(vit_bundle: Bundle, tmp_path: Path) -> None:
    blocked = "onnx torch timm tensorrt tensorrt_rtx onnxruntime openvino"
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({blocked.split()!r}))\n"
        "from dtvit_edge.cli.commands import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["compat", str(vit_bundle.path), "--target", "jetpack7"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

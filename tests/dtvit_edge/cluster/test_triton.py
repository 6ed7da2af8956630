"""A repository for Triton: what is written, and what a real server makes of it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.cluster.triton_config import ModelConfig
from dtvit_edge.cluster.triton_repository import write_repository
from dtvit_edge.errors import BundleError, ConfigError
from dtvit_edge.scoring.api import Options, open_backend
from dtvit_edge.spec import OUTPUT_NAMES, PreprocessSpec, digest_bytes
from tests.support.engine_records import PLAN, put, record
from tests.support.tiny_bundle import write_tiny_bundle
from tests.support.triton_server import server_folder, serving
from tests.support.typed_graphs import write_typed_bundle


def test_without_an_engine_the_onnx_file_is_served_and_the_bundle_is_checked(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "repo" / "others").mkdir(parents=True)
    written = write_repository(tiny_bundle, tmp_path / "repo", instances=2)
    assert (written.backend, written.precision, written.max_batch) == ("onnxruntime", "fp32", 8)
    model = (tmp_path / "repo" / "dtvit" / "1" / "model.onnx").read_bytes()
    assert digest_bytes(model) == tiny_bundle.manifest.models["fp32"].sha256
    plain, checked = ((tmp_path / "repo" / name / "config.pbtxt").read_text() for name in written.models)
    assert 'backend: "onnxruntime"' in plain and 'backend: "python"' in checked
    for text in (plain, checked):
        assert tiny_bundle.digest in text and "count: 2" in text and "TYPE_UINT8" in text
    assert str(tiny_bundle.path) in checked and str(tiny_bundle.path) not in plain
    with pytest.raises(ConfigError, match="exists already; give another repository or --overwrite"):
        write_repository(tiny_bundle, tmp_path / "repo")
    write_repository(tiny_bundle, tmp_path / "repo", overwrite=True, bundle_at="/bundles/b.dtvit")
    assert '"/bundles/b.dtvit"' in (tmp_path / "repo" / "dtvit_checked" / "config.pbtxt").read_text()
    assert (tmp_path / "repo" / "others").is_dir()


def test_a_model_of_others_is_not_overwritten(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "dtvit").mkdir()
    (tmp_path / "dtvit" / "config.pbtxt").write_text('name: "dtvit"')
    with pytest.raises(ConfigError, match="is no model of dtvit-edge"):
        write_repository(tiny_bundle, tmp_path, overwrite=True)
    assert not (tmp_path / "dtvit_checked").exists()


def test_an_engine_is_served_as_it_was_built(tmp_path: Path) -> None:
    bundle = write_typed_bundle(tmp_path / "typed.dtvit")
    put(bundle, record(bundle))
    written = write_repository(bundle, tmp_path / "repo")
    assert (written.backend, written.precision, written.max_batch) == ("tensorrt", "fp16", 4)
    assert "TensorRT 10.3.0 on Orin of SM 8.7" in written.needs and written.engine == digest_bytes(PLAN)
    assert (tmp_path / "repo" / "dtvit" / "1" / "model.plan").read_bytes() == PLAN
    text = (tmp_path / "repo" / "dtvit" / "config.pbtxt").read_text()
    assert 'platform: "tensorrt_plan"' in text and "preferred_batch_size: [ 1, 4 ]" in text and "KIND_GPU" in text
    assert (
        f'key: "engine" value {{ string_value: "{written.engine}" }}'
        in (tmp_path / "repo" / "dtvit_checked" / "config.pbtxt").read_text()
    )
    write_repository(bundle, tmp_path / "repo", backend="onnxruntime", overwrite=True)
    assert [path.name for path in (tmp_path / "repo" / "dtvit" / "1").iterdir()] == ["model.onnx"]


def test_an_engine_of_another_device_is_served_where_it_is_accepted_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_typed_bundle(tmp_path / "typed.dtvit")
    put(bundle, record(bundle))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    assert write_repository(bundle, tmp_path / "a").backend == "onnxruntime"
    with pytest.raises(ConfigError, match="no engine of TensorRT that was built here or is accepted"):
        write_repository(bundle, tmp_path / "b", backend="tensorrt")
    accepted = Bundle.open(bundle.path, accept_engines=[digest_bytes(PLAN)])
    assert write_repository(accepted, tmp_path / "c").engine == digest_bytes(PLAN)


def test_of_several_engines_one_has_to_be_named(tmp_path: Path) -> None:
    bundle = write_typed_bundle(tmp_path / "typed.dtvit")
    put(bundle, record(bundle))
    put(bundle, record(bundle, "fp32"))
    with pytest.raises(ConfigError, match=r"several engines could be served: .*fp16.*fp32"):
        write_repository(bundle, tmp_path / "repo")
    assert write_repository(bundle, tmp_path / "repo", precision="fp32").precision == "fp32"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "fp16"}, "onnxruntime serves fp32, fp32-op16, int8, not fp16"),
        ({"precision": "fp32-trimmed"}, "fp32-trimmed takes one slice a call.*serve fp32"),
        ({"precision": "int8"}, "no int8 model in this bundle"),
        ({"backend": "openvino"}, "no backend called openvino in a Triton repository"),
    ],
    ids=["a typed graph", "one slice a call", "no such model", "no such backend"],
)
def test_what_cannot_be_served_is_refused_and_nothing_is_written(
    tiny_bundle: Bundle, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises((ConfigError, BundleError), match=message):
        write_repository(tiny_bundle, tmp_path / "repo", **options)
    assert not (tmp_path / "repo").exists()


def test_the_command(tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["triton", str(tiny_bundle.path), "-o", str(tmp_path / "repo")]
    assert main(arguments) == 0 and "fp32 with onnxruntime, batches up to 8" in capsys.readouterr().out
    assert main(arguments) == 2
    assert main([*arguments, "--overwrite", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"] == ["dtvit", "dtvit_checked"]


@pytest.mark.real
def test_every_configuration_is_one_to_tritons_own_protocol(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """The plan's is parsed here and loaded nowhere: the server that the tests have is without TensorRT."""
    text_format = pytest.importorskip("google.protobuf.text_format", reason="protobuf is not installed")
    pytest.importorskip("tritonclient", reason="tritonclient is not installed; `make test-real` installs it")
    from tritonclient.grpc.model_config_pb2 import ModelConfig as Proto

    bundle = write_typed_bundle(tmp_path / 'a "typed"\\näme.dtvit')
    put(bundle, record(bundle))
    write_repository(bundle, tmp_path / "plan")
    write_repository(tiny_bundle, tmp_path / "onnx")
    for path in sorted(tmp_path.glob("*/*/config.pbtxt")):
        config = text_format.Parse(path.read_text(), Proto())
        assert config.name == path.parent.name and config.max_batch_size in (4, 8)
        assert [list(output.dims) for output in config.output] == [[2], [3]] and list(config.input[0].dims) == [
            1,
            224,
            224,
        ]
    checked = text_format.Parse((tmp_path / "plan" / "dtvit_checked" / "config.pbtxt").read_text(), Proto())
    assert checked.parameters["bundle"].string_value == str(bundle.path)
    odd = ModelConfig("m", ("backend", "python"), 1, [1], "KIND_CPU", 1, {"x": '\x01"\\\t'}).text(PreprocessSpec())
    assert text_format.Parse(odd, Proto()).parameters["x"].string_value == '\x01"\\\t'


@pytest.mark.real
def test_a_real_server_answers_bit_for_bit_as_the_runtime_and_takes_requests_together(tmp_path: Path) -> None:
    server_folder()
    import tritonclient.http as http

    bundle = write_typed_bundle(tmp_path / "typed.dtvit")  # its answer takes longer than a request's way
    write_repository(bundle, tmp_path / "repo")
    pixels = np.concatenate([bundle.golden().pixels] * 2)

    def ask(given: np.ndarray) -> dict[str, np.ndarray]:
        tensor = http.InferInput("pixels", given.shape, "UINT8")
        tensor.set_data_from_numpy(np.ascontiguousarray(given))
        with http.InferenceServerClient(server.address) as own:  # its greenlets are their thread's
            answer = own.infer("dtvit_checked", [tensor])
        return {name: answer.as_numpy(name) for name in OUTPUT_NAMES}

    with serving(tmp_path / "repo", "dtvit_checked", tmp_path) as server:
        client = server.client
        assert client.is_model_ready("dtvit_checked"), server.log.read_text()
        with open_backend(bundle, "onnxruntime", Options(threads=1)) as backend:
            for count in (1, 3, 8):
                expected, answered = backend.infer(np.ascontiguousarray(pixels[:count])), ask(pixels[:count])
                assert all(np.array_equal(answered[name], expected[name]) for name in OUTPUT_NAMES)
            one = {name: backend.infer(np.ascontiguousarray(pixels[:1]))[name] for name in OUTPUT_NAMES}
        with pytest.raises(http.InferenceServerException, match="batch-size must be <= 8"):
            ask(pixels[:9])
        for wrong in (pixels[:1, :, :100], pixels[:1, :, :, :, None], pixels[:1].repeat(3, axis=1)):
            with pytest.raises(http.InferenceServerException, match="unexpected shape"):
                ask(wrong)
        before = client.get_inference_statistics("dtvit_checked")["model_stats"][0]
        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(ask, [pixels[:1]] * 200))
        assert all(np.array_equal(answer[name], one[name]) for answer in answers for name in OUTPUT_NAMES)
        after = client.get_inference_statistics("dtvit_checked")["model_stats"][0]
        asked, run = (after[name] - before[name] for name in ("inference_count", "execution_count"))
        assert asked == 200 and run < asked


@pytest.mark.real
@pytest.mark.parametrize("file", ["model.fp32.onnx", "manifest.json", "golden/pixels.npy"])
def test_a_real_server_is_not_ready_with_one_byte_flipped(file: str, tmp_path: Path) -> None:
    server_folder()
    bundle = write_tiny_bundle(tmp_path / "tiny.dtvit")
    write_repository(bundle, tmp_path / "repo")
    data = bytearray((bundle.path / file).read_bytes())
    data[-100] ^= 1
    (bundle.path / file).write_bytes(data)
    with serving(tmp_path / "repo", "dtvit_checked", tmp_path) as server:
        said = server.log.read_text()
        assert server.process.poll() is None, said
        assert not server.client.is_model_ready("dtvit_checked") and not server.client.is_server_ready()
        assert "sha256 is" in said or "digest is" in said

"""Checkpoints: what is read, and what is refused in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dtvit_edge.errors import CheckpointError, ConfigError
from export.checkpoint import load_checkpoint, save_checkpoint
from export.untrained import untrained_model
from export.weights.choosing import choose_tensors
from export.weights.reading import read_weights
from tests.support.encoders import THREE_WINDOWS
from tests.support.small_bundle import SMALL_VIT

State = dict[str, torch.Tensor]


@pytest.fixture
def state() -> State:
    return untrained_model(SMALL_VIT).state_dict()


def _same(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_saved_model_comes_back_with_what_it_carries(tmp_path: Path, state: State) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(untrained_model(SMALL_VIT), path, training="synthetic", spec=THREE_WINDOWS)
    checkpoint = load_checkpoint(path)
    assert _same(checkpoint.model.state_dict(), state) and not checkpoint.model.training
    assert (checkpoint.model.encoder_name, checkpoint.training, checkpoint.spec) == (
        SMALL_VIT,
        "synthetic",
        THREE_WINDOWS,
    )


def test_heads_that_were_never_trained_come_back_and_leave_no_trace_where_there_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    metadata = []
    for heads in ((), ["location"], {"location", "ich"}):
        save_checkpoint(untrained_model(SMALL_VIT), path, training="synthetic", untrained_heads=heads)
        assert load_checkpoint(path).untrained_heads == tuple(sorted(heads))
        with safe_open(path, framework="pt") as file:
            metadata.append(file.metadata())
    whole, marked, both = metadata
    assert set(whole) == {"encoder", "training"}
    assert marked == whole | {"untrained_heads": "location"}
    assert both == whole | {"untrained_heads": "ich,location"}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"state_dict": s, "epoch": 3},
        lambda s: {"model": s},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}},
    ],
    ids=["plain", "state_dict", "model", "DataParallel", "both"],
)
@pytest.mark.parametrize("ending", [".pt", ".pth"])
def test_pickled_state_dicts_are_read(tmp_path: Path, state: State, wrap: Callable[[State], Any], ending: str) -> None:
    path = tmp_path / f"a{ending}"
    torch.save(wrap(state), path)
    assert _same(load_checkpoint(path, SMALL_VIT).model.state_dict(), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(tmp_path: Path, state: State, dtype: torch.dtype) -> None:
    path = tmp_path / "a.safetensors"
    narrow = {k: v.to(dtype) for k, v in state.items()}
    save_file(narrow, path)
    loaded = load_checkpoint(path, SMALL_VIT).model.state_dict()
    assert _same(loaded, {k: v.float() for k, v in narrow.items()})


def test_float16_file_is_half_the_size(tmp_path: Path) -> None:
    sizes = []
    for dtype in (torch.float16, torch.float32):
        save_checkpoint(untrained_model(SMALL_VIT), tmp_path / "a.safetensors", training="untrained", dtype=dtype)
        sizes.append((tmp_path / "a.safetensors").stat().st_size)
    assert sizes[0] < 0.52 * sizes[1]


def test_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    """The library by itself writes metadata in a new order each time."""
    contents = set()
    for _ in range(8):
        path = tmp_path / "a.safetensors"
        save_checkpoint(untrained_model(SMALL_VIT), path, training="untrained", spec=THREE_WINDOWS)
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_keys_that_do_not_fit_are_listed_in_words(tmp_path: Path, state: State) -> None:
    del state["encoder.norm.bias"]
    for i in range(11):
        state[f"encoder.extra.{i:02}"] = torch.zeros(1)
    state["encoder.cls_token"] = torch.zeros(1, 1, 5)
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "a.safetensors", SMALL_VIT)
    text = str(caught.value)
    assert "1 missing: encoder.norm.bias" in text
    assert "11 unexpected: encoder.extra.00" in text and "encoder.extra.07 and 3 more" in text
    assert "1 of a wrong shape: encoder.cls_token (1, 1, 5) instead of (1, 1, 64)" in text
    assert SMALL_VIT in text and "a.safetensors" in text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, state: State, value: float) -> None:
    state["encoder.norm.bias"][3] = value
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"1 weights that are not finite: encoder\.norm\.bias"):
        load_checkpoint(tmp_path / "a.safetensors", SMALL_VIT)


def test_weights_too_large_for_float16_are_not_saved(tmp_path: Path) -> None:
    model = untrained_model(SMALL_VIT)
    with torch.no_grad():
        model.encoder.norm.bias[0] = 1e6
    with pytest.raises(CheckpointError, match=r"not finite: encoder\.norm\.bias"):
        save_checkpoint(model, tmp_path / "a.safetensors", training="untrained", dtype=torch.float16)
    assert not list(tmp_path.iterdir())


class NotWeights:
    """Something that `weights_only` will not load."""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pt", NotWeights(), "holds more than weights"),
        ("a.pt", [1, 2], "holds no weights by name, but a list"),
        ("a.pt", {}, "holds no weights by name, but nothing"),
        ("a.pt", {"epoch": 3}, "1 entries that are no tensors: epoch"),
        ("a.pt", b"", "not readable as a PyTorch checkpoint"),
        ("a.pt", b"nothing like it" * 50, "a.pt: "),
        ("a.safetensors", b"\0" * 3, "not readable as safetensors"),
        ("a.safetensors", b"nothing like it" * 50, "not readable as safetensors"),
        ("a.onnx", b"", "expected .safetensors, .pt, .pth, .ckpt, .bin or .pth.tar"),
        ("a.pt", None, "no such file"),
        (
            "a.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "a pointer of Git LFS",
        ),
        ("a-00002-of-00003.safetensors", b"\0", "shard 2 of 3, a part of the weights"),
        ("fold-00002-of-00005.pt", b"", "not readable as a PyTorch checkpoint"),
        ("a-00001-of-00001.safetensors", b"\0", "not readable as safetensors"),
    ],
    ids=[
        "object",
        "list",
        "empty dict",
        "no tensors",
        "empty",
        "text",
        "short",
        "text 2",
        "ending",
        "absent",
        "pointer",
        "shard",
        "a fold",
        "one shard",
    ],
)
def test_what_is_no_checkpoint_is_refused_in_words(tmp_path: Path, name: str, content: Any, message: str) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def test_a_folder_is_no_checkpoint_and_what_it_holds_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"a folder; .*, and holds no file of weights"):
        load_checkpoint(tmp_path)
    for name in ("b.safetensors", "a.ckpt", "config.json"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=r"a folder; give the file of weights itself; it holds a\.ckpt, b\.safetensors$"
    ):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("key", ["best_state", "polyak", "best_metric_model", "champion", "snapshots.last"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["same names", "other prefix"])
def test_a_second_set_of_the_same_model_is_asked_about_whatever_it_is_called(
    tmp_path: Path, state: State, key: str, wrapped: bool
) -> None:
    other = {f"module.{k}" if wrapped else k: v + 1 for k, v in state.items()}
    first, _, second = key.partition(".")
    torch.save({"model": state, first: {second: other} if second else other}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=rf"'model'.*'{key}'|'{key}'.*'model'"):
        load_checkpoint(tmp_path / "a.pt", SMALL_VIT)
    torch.save({"model": state, first: {second: state} if second else state}, tmp_path / "a.pt")
    assert load_checkpoint(tmp_path / "a.pt", SMALL_VIT).model is not None


def test_a_tensor_more_hides_no_second_set(tmp_path: Path, state: State) -> None:
    beside = {"criterion.weight": torch.ones(2)}
    other = {k: v + 1 for k, v in state.items()}
    whole = {f"model.{k}": v for k, v in state.items()} | beside
    for saved in ({"state_dict": whole, "best_state": other}, {"model": state, "best_state": other | beside}):
        with pytest.raises(CheckpointError, match="the same model with other weights"):
            choose_tensors(tmp_path, saved)


def test_the_same_values_in_half_are_no_second_set(tmp_path: Path, state: State) -> None:
    saved = {"model": state, "model_fp16": {k: v.half() for k, v in state.items()}}
    assert choose_tensors(tmp_path, saved).nested_in == "model"


def test_another_model_beside_the_one_is_no_second_set(tmp_path: Path, state: State) -> None:
    smaller = {k: v[..., :1].clone() for k, v in state.items()}
    torch.save({"model": state, "discriminator": smaller}, tmp_path / "a.pt")
    assert load_checkpoint(tmp_path / "a.pt", SMALL_VIT).model is not None


def test_an_average_without_names_is_asked_about(tmp_path: Path, state: State) -> None:
    """As torch_ema saves its state: the parameters in a list, their running number beside it."""
    average = {
        "decay": 0.99,
        "num_updates": 7,
        "shadow_params": [v + 1 for v in state.values()],
        "collected_params": None,
    }
    path = tmp_path / "a.pt"
    torch.save({"model": state, "average": average}, path)
    with pytest.raises(CheckpointError, match=r"tensors without names under 'average\.shadow_params'.*--no-ema"):
        choose_tensors(path, read_weights(path)[0])
    assert choose_tensors(path, read_weights(path)[0], ema=False).averaged is None
    torch.save(
        {"model": state, "prototypes": [torch.zeros_like(next(iter(state.values())))], "losses": [torch.zeros(())] * 3},
        path,
    )
    assert choose_tensors(path, read_weights(path)[0]).nested_in == "model"


def test_pickles_need_a_torch_that_reads_them_safely(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(state, tmp_path / "a.pt")
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(CheckpointError, match=r"needs torch 2\.10 or newer, this is 2\.9\.1.*safetensors"):
        load_checkpoint(tmp_path / "a.pt", SMALL_VIT)


def test_encoder_that_contradicts_the_file_is_refused(small_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="says encoder 'test_vit', --encoder says 'resnet18'"):
        load_checkpoint(small_checkpoint, "resnet18")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"training": "clinical"}, "says training 'clinical'"),
        ({"spec": "{"}, "spec in its metadata"),
        ({"spec": json.dumps({"windows": []})}, "unknown or missing fields"),
        ({"encoder": "resnet18"}, "weights do not fit resnet18"),
        ({"untrained_heads": "colour"}, "untrained heads in its metadata: no head is called 'colour'"),
        ({"untrained_heads": ""}, "no head is called ''; there are ich and location"),
    ],
    ids=["training", "no JSON", "no spec", "encoder", "head", "no head"],
)
def test_metadata_that_is_wrong_is_refused(
    tmp_path: Path, state: State, metadata: dict[str, str], message: str
) -> None:
    save_file(state, tmp_path / "a.safetensors", metadata={"encoder": SMALL_VIT, **metadata})
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.pt", {"training": "untrained"}, "written as .safetensors"),
        ("a.safetensors", {"training": "good"}, "training is 'good'"),
        ("a.safetensors", {"training": "untrained", "dtype": torch.int8}, "float16 or float32"),
        ("a.safetensors", {"training": "synthetic", "untrained_heads": ["colour"]}, "no head is called 'colour'"),
        ("a.safetensors", {"training": "synthetic", "untrained_heads": "ich"}, "no head is called 'c', 'h', 'i'"),
    ],
    ids=["ending", "training", "dtype", "head", "text for heads"],
)
def test_save_refuses_what_it_could_not_read_back(
    tmp_path: Path, name: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        save_checkpoint(untrained_model(SMALL_VIT), tmp_path / name, **options)

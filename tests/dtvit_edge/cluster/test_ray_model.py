"""What a run asks of a cluster: workers a GPU or a core, options that mean nothing there, and the bundle's copy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.cluster import ray_model
from dtvit_edge.cluster.bundle_copy import packed_bundle, write_copy
from dtvit_edge.cluster.ray_model import RayOptions
from dtvit_edge.cluster.worker import Opened, Order
from dtvit_edge.errors import BundleError, ConfigError
from dtvit_edge.scoring.api import Options

BUNDLES: list[Bundle] = []


@pytest.fixture(autouse=True, scope="module")
def a_bundle(tiny_bundle: Bundle) -> None:
    BUNDLES.append(tiny_bundle)


def asks(options: Options, asked: RayOptions, opens: str = "", **resources: float) -> dict[str, Any]:
    """What `open_on_ray` asks of a pool in a cluster of these resources, whose workers open a backend."""
    said: dict[str, Any] = {}

    class Noted:
        ready = (1,)

        def __init__(self, ray: Any, order: Order, wanted: Any, count: int, packed: Any, **more: Any) -> None:
            said.update(order=order, wanted=wanted, count=count, **more)

        def open(self) -> Opened:
            return Opened(
                replace(said["order"].options, backend=opens or options.backend), "asked for", 8, {}, {}, "host"
            )

        def close(self) -> None:
            pass

    class Ray:
        @staticmethod
        def cluster_resources() -> dict[str, float]:
            return resources

    @contextmanager
    def session(address: str) -> Iterator[Any]:
        yield Ray

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_model, "RayPool", Noted)
        patch.setattr(ray_model, "ray_session", session)
        with ray_model.open_on_ray(BUNDLES[0], options, asked):
            return said


def test_there_is_a_worker_for_each_gpu_or_for_each_core() -> None:
    gpus = asks(Options(backend="tensorrt"), RayOptions("auto"), CPU=32.0, GPU=4.0)
    assert (gpus["count"], gpus["wanted"]) == (4, {"num_gpus": 1, "num_cpus": 8})
    assert gpus["order"].options.threads is None and gpus["order"].options.workers == 8
    cores = asks(Options(backend="onnxruntime"), RayOptions("auto"), CPU=32.0, GPU=4.0)
    assert (cores["count"], cores["wanted"], cores["order"].options.threads) == (32, {"num_cpus": 1}, 1)
    wide = asks(Options(backend="onnxruntime", threads=8), RayOptions("auto"), CPU=32.0)
    assert (wide["count"], wide["wanted"]) == (4, {"num_cpus": 8})
    few = asks(Options(backend="onnxruntime"), RayOptions("auto", actors=3), CPU=32.0)
    assert few["count"] == 3


REFUSED: dict[str, tuple[Options, RayOptions, str]] = {
    "more than there are": (
        Options(backend="onnxruntime"),
        RayOptions("auto", actors=9),
        "9 workers of .* 8 cores",
    ),
    "no GPU": (Options(backend="tensorrt"), RayOptions("auto"), "and 0 GPUs"),
    "a GPU by number": (Options(backend="tensorrt", device=1), RayOptions("auto"), "--device names a GPU of this mach"),
}


@pytest.mark.parametrize(("options", "asked", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_a_cluster_has_not_is_refused(options: Options, asked: RayOptions, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        asks(options, asked, CPU=8.0)


def test_gpus_without_anything_that_runs_on_them_are_said() -> None:
    with pytest.raises(ConfigError, match=r"have GPUs and nothing that runs on them .*--backend onnxruntime"):
        asks(Options(), RayOptions("auto"), "onnxruntime", CPU=8.0, GPU=1.0)


def test_a_backend_that_nobody_has_is_no_backend_on_a_cluster_either() -> None:
    with pytest.raises(ConfigError, match="no backend called 'magic'"):
        asks(Options(backend="magic"), RayOptions("auto"), CPU=8.0)


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "golden/../../outside"])
def test_a_copy_lays_no_file_outside_itself(name: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="would lie outside it"):
        write_copy(tmp_path / "copy", {name: b""})


def test_a_copy_of_one_precision_opens_and_has_the_same_digest(tmp_path: Path, typed_bundle: Bundle) -> None:
    write_copy(tmp_path / "copy.dtvit", packed_bundle(typed_bundle, "fp32"))
    copy = Bundle.open(tmp_path / "copy.dtvit", expect_digest=typed_bundle.digest)
    assert copy.present == ("fp32",)
    write_copy(tmp_path / "whole.dtvit", packed_bundle(typed_bundle))
    assert Bundle.open(tmp_path / "whole.dtvit").present == typed_bundle.present


LINES: dict[str, tuple[list[str], str]] = {
    "--actors": (["--actors", "2"], "--actors goes with --ray"),
    "--mixed": (["--mixed"], "--mixed goes with --ray"),
    "--report": (["--ray", "local", "--report"], "asks the model on this machine"),
}


@pytest.mark.parametrize(("more", "message"), LINES.values(), ids=LINES.keys())
def test_options_that_mean_nothing_are_refused(
    more: list[str], message: str, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", str(tiny_bundle.path), str(tmp_path), "-o", str(tmp_path / "out"), *more]) == 2
    assert message in capsys.readouterr().err


def test_without_ray_the_line_that_installs_it_is_said(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["score", str(tiny_bundle.path), str(tmp_path), "-o", str(tmp_path / "out"), "--ray", "local"]) == 2
    assert "ray is not installed, and --ray runs on it; pip install '.[ray]'" in capsys.readouterr().err

"""Workers that are refused, sent a bundle, replaced or given up; with threads in the place of Ray's processes."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cluster import ray_pool
from dtvit_edge.cluster.bundle_copy import packed_bundle
from dtvit_edge.cluster.ray_model import RayModel, RayOptions
from dtvit_edge.cluster.ray_pool import Limits, RayPool
from dtvit_edge.cluster.worker import Failed, Opened, Order, Refused, Worker
from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.slice import SliceImage
from dtvit_edge.dicom.walk import walk
from dtvit_edge.errors import ConfigError, DeviceFault, DigestMismatch
from dtvit_edge.scoring.api import Options, images_of
from dtvit_edge.scoring.run import run
from tests.support.dicom_files import series
from tests.support.scoring_runs import results
from tests.support.thread_ray import ThreadRay
from tests.support.tiny_bundle import edit_manifest, write_tiny_bundle

OPTIONS = Options(backend="onnxruntime", batch=4, threads=1, workers=1)
QUICK = Limits(stalled_s=0.3, opening_s=30.0, joining_s=30.0, alone_s=0.5, poll_s=0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    series(tmp_path / "in" / "a", [5.0 * z for z in range(9)])
    series(tmp_path / "in" / "b", [5.0 * z for z in range(4)], uid="2.25.5", study="2.25.6")
    return tmp_path / "in"


def order(bundle: Bundle) -> Order:
    return Order(str(bundle.path), bundle.digest, (), bundle.thresholds, OPTIONS, None)


@contextmanager
def opened(
    bundle: Bundle, worker: type[Worker], monkeypatch: pytest.MonkeyPatch, *, count: int = 2, mixed: bool = False,
    limits: Limits = QUICK, ray: ThreadRay | None = None, asked: Order | None = None,
) -> Iterator[tuple[RayModel, RayPool, ThreadRay]]:  # fmt: skip
    monkeypatch.setattr(ray_pool, "Worker", worker)
    ray = ray or ThreadRay()
    pool = RayPool(
        ray, asked or order(bundle), {"num_cpus": 1}, count, partial(packed_bundle, bundle), mixed=mixed, limits=limits
    )
    try:
        first = pool.open()
        yield RayModel(pool, first, RayOptions("local", mixed=mixed, images=4)), pool, ray
    finally:
        pool.close()
        ray.close()


def score(bundle: Bundle, folder: Path, out: Path, worker: type[Worker], patch: pytest.MonkeyPatch, **more: Any) -> Any:
    with opened(bundle, worker, patch, **more) as (model, _, _):
        return run(bundle, [folder], out, Options(), model=model)


def images_below(folder: Path, bundle: Bundle) -> list[SliceImage]:
    return images_of(discover(walk([folder])), bundle.manifest.spec)


def test_workers_leave_the_bytes_of_one_process_and_one_process_goes_on_where_they_stopped(
    tiny_bundle: Bundle, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tiny_bundle, [folder], tmp_path / "one", OPTIONS)
    assert score(tiny_bundle, folder, tmp_path / "out", Worker, monkeypatch).processed == 13
    assert results(tmp_path / "out") == results(tmp_path / "one")
    assert run(tiny_bundle, [folder], tmp_path / "out", OPTIONS).processed == 0
    assert score(tiny_bundle, folder, tmp_path / "one", Worker, monkeypatch).processed == 0


class Numbered(Worker):
    """Workers that know which of them they are."""

    count = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).count += 1
        self.number = type(self).count


@pytest.fixture(autouse=True)
def from_one() -> None:
    Numbered.count = 0


class OfAnotherVersion(Numbered):
    count = 0

    def open(self, order: Order, sent: dict[str, bytes] | None = None) -> Opened | Refused:
        said = super().open(order, sent)
        if self.number == 2 and isinstance(said, Opened):
            return replace(
                said, identity=said.identity | {"packages": said.identity["packages"] | {"onnxruntime": "9.9"}}
            )
        return said


def test_a_worker_that_would_answer_otherwise_is_refused_before_the_first_file(
    tiny_bundle: Bundle, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    OfAnotherVersion.count = 0
    with pytest.raises(ConfigError, match=r"is refused: it would answer .*onnxruntime: .* there, 9.9 here.*--mixed"):
        score(tiny_bundle, folder, tmp_path / "out", OfAnotherVersion, monkeypatch)
    assert not (tmp_path / "out").exists()
    OfAnotherVersion.count = 0
    with opened(tiny_bundle, OfAnotherVersion, monkeypatch, mixed=True) as (model, pool, _):
        assert len(pool.ready) == 2
        identity = model.identity(tiny_bundle)
    assert identity["backend"] == {"backend": "onnxruntime", "workers": "mixed"} and identity["packages"] == {}


def test_a_worker_without_the_bundle_is_sent_it_once_and_keeps_it_from_others(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny.dtvit")
    elsewhere = replace(order(bundle), path=str(tmp_path / "nowhere" / "tiny.dtvit"))
    with opened(bundle, Worker, monkeypatch, asked=elsewhere) as (model, pool, ray):
        assert len(pool.ready) == 2 and len(ray.put_objects) == 1
        copies = [Path(handle._object._bundle_open.path) for handle in ray.begun]
        assert all(copy.parent.stat().st_mode & 0o077 == 0 for copy in copies) and len(set(copies)) == 2
        run(bundle, [folder], tmp_path / "out", Options(), model=model)
        for handle in ray.begun:
            handle._object.close()
    assert not any(copy.exists() for copy in copies)
    run(bundle, [folder], tmp_path / "one", OPTIONS)
    assert results(tmp_path / "out") == results(tmp_path / "one")


def test_a_bundle_that_was_changed_between_driver_and_worker_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny.dtvit")
    before = (bundle.path / "manifest.json").read_bytes()
    edit_manifest(bundle.path, name="another")
    with (
        pytest.raises(DigestMismatch, match="was changed while it was in use"),
        opened(bundle, Worker, monkeypatch),
    ):
        pass
    (bundle.path / "manifest.json").write_bytes(before)
    data = bytearray((bundle.path / "model.fp32.onnx").read_bytes())
    data[-1] ^= 1
    (bundle.path / "model.fp32.onnx").write_bytes(data)
    with pytest.raises(ConfigError, match=r"is refused: .*sha256 is"), opened(bundle, Worker, monkeypatch):
        pass


class Blind(Worker):
    def sees(self, files: Sequence[tuple[str, Any]]) -> int:
        return super().sees([(f"/elsewhere{file}", state) for file, state in files])


def test_folders_that_are_on_the_driver_alone_are_refused_before_the_first_slice(
    tiny_bundle: Bundle, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"does not see the files as they were planned here \(0 of the first 4\)"):
        score(tiny_bundle, folder, tmp_path / "out", Blind, monkeypatch)
    assert not (tmp_path / "out" / "run.json").exists()


def test_a_worker_sees_files_that_are_as_they_were_planned(tiny_bundle: Bundle, folder: Path) -> None:
    files = [(str(h.file), h.state) for image in images_below(folder, tiny_bundle) for h in image.headers]
    assert Worker().sees(files) == len(files)
    Path(files[0][0]).touch()
    Path(files[1][0]).unlink()
    assert Worker().sees(files) == len(files) - 2


class WithoutEngine(Worker):
    def open(self, order: Order, sent: dict[str, bytes] | None = None) -> Opened | Refused:
        return super().open(replace(order, options=Options(backend="tensorrt", precision="fp32")), sent)


def test_a_worker_that_cannot_open_the_bundle_is_refused_with_its_own_words(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        pytest.raises(ConfigError, match=r"the worker on .* is refused: .*(TensorRT|pycuda|tensorrt)"),
        opened(tiny_bundle, WithoutEngine, monkeypatch),
    ):
        pass


class Stalling(Numbered):
    count = 0

    def score(self, images: Sequence[SliceImage]) -> Any:
        if self.number == 1:
            time.sleep(1.5)
        return super().score(images)


class Dying(Numbered):
    count = 0

    def score(self, images: Sequence[SliceImage]) -> Any:
        if self.number in (1, 3):
            raise SystemExit
        return super().score(images)


class Failing(Numbered):
    count = 0

    def score(self, images: Sequence[SliceImage]) -> Any:
        return Failed("the GPU fell off") if self.number == 1 else super().score(images)


@pytest.mark.parametrize("worker", [Stalling, Dying, Failing])
def test_workers_that_stand_still_die_or_fail_are_replaced_and_cost_no_slice(
    worker: type[Numbered],
    tiny_bundle: Bundle,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker.count = 0
    with caplog.at_level(logging.WARNING):
        report = score(tiny_bundle, folder, tmp_path / "out", worker, monkeypatch)
    assert report.counts["scored"] == 13 and "is tried again" in caplog.text
    assert str(folder) not in caplog.text, "no path in a log"
    run(tiny_bundle, [folder], tmp_path / "one", OPTIONS)
    assert results(tmp_path / "out") == results(tmp_path / "one")


def test_no_room_for_any_worker_is_said(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(ConfigError, match="no worker could be begun: Ray has no room"),
        opened(tiny_bundle, Worker, monkeypatch, ray=ThreadRay(0), limits=replace(QUICK, opening_s=0.2)),
    ):
        pass


def test_room_for_fewer_than_were_asked_for_will_do(
    tiny_bundle: Bundle, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(QUICK, joining_s=0.1)
    done = score(tiny_bundle, folder, tmp_path / "out", Worker, monkeypatch, ray=ThreadRay(1), limits=few)
    assert done.processed == 13


def test_a_run_whose_workers_are_all_gone_ends_and_can_go_on(
    tiny_bundle: Bundle, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Once(Worker):
        calls = 0

        def score(self, images: Sequence[SliceImage]) -> Any:
            type(self).calls += 1
            if type(self).calls == 4:  # two are under way at a time
                ray.leave_place = lambda: None  # type: ignore[method-assign]  # its machine does not come back
                raise SystemExit
            return super().score(images)

    ray = ThreadRay(1)
    with pytest.raises(DeviceFault, match="no worker could be begun within"):
        score(tiny_bundle, folder, tmp_path / "out", Once, monkeypatch, ray=ray, count=1)
    done = run(tiny_bundle, [folder], tmp_path / "out", OPTIONS)
    assert 4 <= done.resumed < 13 and done.resumed + done.processed == 13


def test_a_file_that_changed_since_it_was_planned_is_a_row_and_no_fault_of_a_worker(
    tiny_bundle: Bundle, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = sorted(folder.rglob("*-0"))[0]
    opening = RayPool.check

    def check(pool: RayPool, images: Sequence[SliceImage]) -> None:
        changed.touch()
        opening(pool, images)

    monkeypatch.setattr(RayPool, "check", check)
    report = score(tiny_bundle, folder, tmp_path / "out", Worker, monkeypatch)
    assert report.reasons == {"not_the_planned": 1} and report.counts["scored"] == 12


def test_what_a_worker_meets_by_surprise_is_told_without_its_words(
    tiny_bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker()
    assert isinstance(worker.open(order(tiny_bundle)), Opened)

    def surprised(*arguments: Any, **more: Any) -> Any:
        raise KeyError(str(folder))

    monkeypatch.setattr("dtvit_edge.cluster.worker.make_pipeline", surprised)
    with pytest.raises(RuntimeError, match=r"^KeyError$") as found:
        worker.score(images_below(folder, tiny_bundle))
    assert found.value.__cause__ is None and found.value.__suppress_context__
    worker.close()

"""Runs on a real Ray: nodes, workers and drivers that end in the middle, and the bytes of one process all the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cluster import ray_pool
from dtvit_edge.cluster.ray_model import RayOptions, open_on_ray
from dtvit_edge.cluster.ray_pool import Limits
from dtvit_edge.scoring.api import Options
from dtvit_edge.scoring.journal import Journal
from dtvit_edge.scoring.run import RunReport, run
from tests.support.dicom_files import series
from tests.support.hooked_worker import HookedWorker
from tests.support.scoring_runs import results, table
from tests.support.tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.real
pytest.importorskip("ray", reason="ray is not installed; `make test-real` installs it")

OPTIONS = Options(backend="onnxruntime", batch=4, threads=1, workers=1)
PATIENT = "DOE-JOHN"
# Else a machine that vanished is noticed after half a minute.
SOON = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 300, "health_check_failure_threshold": 3,
        "health_check_timeout_ms": 300}  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head with a core, and a second node with one."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node | {"_system_config": SOON})
    made.add_node(**node)
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    for i in range(4):
        series(folder / f"{PATIENT}-{i}", [5.0 * z for z in range(12)], uid=f"2.25.30{i}", study=f"2.25.40{i}")
    (folder / f"{PATIENT}-1" / "IM0001").write_text("no DICOM")
    return folder


@pytest.fixture(scope="module")
def one(studies: Path, tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one") / "out"
    run(tiny_bundle, [studies], out, OPTIONS)
    return out


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle beside which a hook may lie."""
    monkeypatch.setattr(ray_pool, "Worker", HookedWorker)
    return write_tiny_bundle(tmp_path / "tiny.dtvit")


def hook(bundle: Bundle, text: str) -> None:
    bundle.path.with_name("hook").write_text(text)


def score(bundle: Bundle, studies: Path, out: Path, address: str, **limits: float) -> RunReport:
    asked = RayOptions(address, images=4, limits=Limits(**{"poll_s": 0.5, **limits}))
    with open_on_ray(bundle, OPTIONS, asked, out) as model:
        return run(bundle, [studies], out, Options(), model=model)


def images_in(out: Path) -> list[str]:
    lines = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    return [key for line in lines for key, _ in line.get("images", [])]


def test_two_nodes_leave_the_bytes_of_one_process_and_no_path_in_any_log(
    cluster: Any, bundle: Bundle, studies: Path, one: Path, tmp_path: Path
) -> None:
    report = score(bundle, studies, tmp_path / "out", cluster.address)
    assert results(tmp_path / "out") == results(one) and report.processed == 48
    keys = images_in(tmp_path / "out")
    assert len(keys) == len(set(keys)) == 48
    workers = json.loads((tmp_path / "out" / "run.json").read_text())["workers"]
    assert sum(machine["workers"] for machine in workers) == 2
    again = run(bundle, [studies], tmp_path / "out", OPTIONS)
    assert again.processed == 0, "one process goes on where a cluster stopped"
    session = Path(cluster.head_node.get_session_dir_path())
    texts = [path.read_bytes() for path in session.rglob("*") if path.is_file()]
    assert len(texts) > 5 and not any(PATIENT.encode() in text for text in texts)


def test_a_worker_that_is_killed_costs_no_slice_and_stdout_is_for_results(
    cluster: Any, bundle: Bundle, studies: Path, one: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hook(bundle, "kill-once 919-1")
    score(bundle, studies, tmp_path / "out", cluster.address)
    assert capsys.readouterr().out == "", "Ray's own words would stand amid what --json prints"
    assert bundle.path.with_name("done").exists(), "it was killed"
    keys = images_in(tmp_path / "out")
    assert results(tmp_path / "out") == results(one) and len(keys) == len(set(keys)) == 48


def test_a_file_that_kills_its_reader_ends_as_one_error_row(
    cluster: Any, bundle: Bundle, studies: Path, one: Path, tmp_path: Path
) -> None:
    killer = f"{PATIENT}-2/595-5"
    hook(bundle, f"kill {killer}")
    report = score(bundle, studies, tmp_path / "out", cluster.address)
    assert report.exit_status == 3 and report.reasons["decoder_lost"] == 1
    rows = {row["path"]: row for row in table(tmp_path / "out" / "slices.csv")}
    before = {row["path"]: row for row in table(one / "slices.csv")}
    assert rows[killer]["reason"] == "decoder_lost"
    assert {path for path in rows if rows[path] != before[path]} == {killer}
    hook(bundle, "")
    assert score(bundle, studies, tmp_path / "out", cluster.address).processed == 1, "a rerun tries it again"
    assert results(tmp_path / "out") == results(one)


def test_a_reader_that_stands_still_is_given_up(
    cluster: Any, bundle: Bundle, studies: Path, one: Path, tmp_path: Path
) -> None:
    hook(bundle, "stall-once 919-1")
    score(bundle, studies, tmp_path / "out", cluster.address, stalled_s=3.0)
    assert bundle.path.with_name("done").exists() and results(tmp_path / "out") == results(one)


def after_a_batch(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Do something, once, when the first answers are in the journal."""
    append, threads = Journal.append, []

    def appended(journal: Journal, images: Any) -> None:
        append(journal, images)
        if not threads:
            threads.append(threading.Thread(target=act))
            threads[0].start()

    monkeypatch.setattr(Journal, "append", appended)


def test_a_node_that_vanishes_costs_no_slice(
    cluster: Any, bundle: Bundle, studies: Path, one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = cluster.add_node(num_cpus=1, object_store_memory=100_000_000, include_dashboard=False)
    hook(bundle, "slow 0.2")
    after_a_batch(monkeypatch, lambda: cluster.remove_node(third, allow_graceful=False))
    score(bundle, studies, tmp_path / "out", cluster.address)
    keys = images_in(tmp_path / "out")
    assert results(tmp_path / "out") == results(one) and len(keys) == len(set(keys)) == 48


def test_a_driver_that_is_killed_goes_on_with_the_same_command(
    cluster: Any, tiny_bundle: Bundle, studies: Path, one: Path, tmp_path: Path
) -> None:
    """On this machine alone: `--ray local` ends with its driver, however that ends."""
    command = [sys.executable, "-m", "dtvit_edge", "score", str(tiny_bundle.path), str(studies), "-o",
               str(tmp_path / "out"), "--ray", "local", "--backend", "onnxruntime", "--batch", "1"]  # fmt: skip
    journal = tmp_path / "out" / "journal.jsonl"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (journal.exists() and len(journal.read_bytes().splitlines()) > 1):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    first = set(images_in(tmp_path / "out"))
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    keys = images_in(tmp_path / "out")
    assert 0 < len(first) < 48 and len(keys) == len(set(keys)) == 48
    assert results(tmp_path / "out") == results(one)
    counts = json.loads((tmp_path / "out" / "run.json").read_text())["counts"]
    assert counts["slices_resumed"] == len(first)

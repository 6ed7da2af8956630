"""Headers to rows through a scripted executor: order, batches, what is under way."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.slice import Slice
from dtvit_edge.dicom.walk import walk
from dtvit_edge.errors import DeviceFault
from dtvit_edge.reasons import Status
from dtvit_edge.scoring.api import images_of
from dtvit_edge.scoring.executor import BatchResult
from dtvit_edge.scoring.pipeline import Pipeline, probabilities
from tests.support.dicom_files import series


class Scripted:
    """An executor whose answer for a slice is its place in its series; it waits for nobody."""

    def __init__(self, batch: int, depth: int, fixed: bool, fail_at: int = -1) -> None:
        self.batch, self.depth, self.fixed, self.fail_at = batch, depth, fixed, fail_at
        self.sizes: list[int] = []
        self.most_under_way = 0
        self._waiting: deque[Sequence[Slice]] = deque()
        self.gate = threading.Event()
        self.gate.set()

    def prepare(self, slice_: Slice) -> Slice:
        self.gate.wait(10)
        return slice_

    def submit(self, prepared: Sequence[Slice]) -> None:
        if len(self.sizes) == self.fail_at:
            raise DeviceFault("gone")
        self.sizes.append(len(prepared))
        self._waiting.append(prepared)
        self.most_under_way = max(self.most_under_way, len(self._waiting))

    def collect(self) -> BatchResult:
        batch = self._waiting.popleft()
        places = [float((s.header.position_mm or (0, 0, 0))[2]) for s in batch]
        ich = np.array([[0.0, place] for place in places], np.float32)
        zeros = np.zeros((len(batch), 3), np.float32)
        logits = {"ich_logits": ich, "location_logits": zeros}
        return BatchResult(np.ones(len(batch), np.int64), np.ones(len(batch)), np.ones(len(batch), bool), logits)


@pytest.fixture
def images(tmp_path: Path, tiny_bundle: Bundle) -> list[Any]:
    series(tmp_path, [5.0 * i for i in range(23)], uid="2.25.3")
    return images_of(discover(walk([tmp_path])), tiny_bundle.manifest.spec)


@pytest.mark.parametrize(("depth", "fixed"), [(1, True), (2, True), (1, False), (2, False)])
@pytest.mark.parametrize("workers", [1, 4])
def test_rows_come_in_order_whatever_the_batches(
    tiny_bundle: Bundle, images: list[Any], depth: int, fixed: bool, workers: int
) -> None:
    executor = Scripted(4, depth, fixed)
    batches = list(Pipeline(tiny_bundle.manifest, executor, 0.5, workers=workers)(images))
    assert [i for batch in batches for i in batch.indices] == list(range(23))
    rows = [row for batch in batches for row in batch.rows]
    assert [row.sop_uid for row in rows] == [image.headers[0].identity.sop_uid for image in images]
    places = np.array([image.headers[0].position_mm[2] for image in images])
    assert [row.ich_probability for row in rows] == pytest.approx(1 / (1 + np.exp(-places)))
    assert sum(executor.sizes) == 23 and max(executor.sizes) <= 4
    assert executor.most_under_way <= depth
    if fixed:
        assert executor.sizes == [4, 4, 4, 4, 4, 3]


def test_fixed_batches_are_those_of_the_plan_after_a_resume_too(tiny_bundle: Bundle, images: list[Any]) -> None:
    executor = Scripted(4, 2, True)
    batches = list(
        Pipeline(tiny_bundle.manifest, executor, 0.5, workers=2)(images, done=set(range(4, 8)) | {20, 21, 22})
    )
    assert [batch.indices for batch in batches] == [(0, 1, 2, 3), *(tuple(range(i, i + 4)) for i in (8, 12, 16))]


def test_an_idle_device_takes_what_has_been_read(tiny_bundle: Bundle, images: list[Any]) -> None:
    executor = Scripted(16, 2, False)
    one_by_one = threading.Semaphore(0)
    executor.prepare = lambda slice_: one_by_one.acquire(timeout=10) and slice_  # type: ignore[method-assign,assignment]
    running = Pipeline(tiny_bundle.manifest, executor, 0.5, workers=1)(images)
    one_by_one.release(1)
    assert next(running).indices == (0,), "it waited for a whole batch"
    one_by_one.release(22)
    assert sum(len(scored.rows) for scored in running) == 22


def test_slices_are_read_while_the_chain_works(tiny_bundle: Bundle, images: list[Any]) -> None:
    executor = Scripted(4, 2, True)
    begun: list[Slice] = []
    executor.prepare = lambda slice_: (begun.append(slice_), slice_)[1]  # type: ignore[method-assign]
    running = Pipeline(tiny_bundle.manifest, executor, 0.5, workers=2)(images)
    assert next(running).indices == (0, 1, 2, 3)
    deadline = time.monotonic() + 10
    while len(begun) < 8 + 12 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert len(begun) == 8 + 12, "two batches were given away, three more may wait"


def test_a_fault_names_everything_that_was_under_way(tiny_bundle: Bundle, images: list[Any]) -> None:
    pipeline = Pipeline(tiny_bundle.manifest, Scripted(4, 2, True, fail_at=3), 0.5, workers=2)
    done = []
    with pytest.raises(DeviceFault):
        for scored in pipeline(images):
            done += scored.indices
    assert done == list(range(8))
    assert pipeline.in_flight == list(range(8, 16))


def test_a_file_that_cannot_be_read_is_a_row_in_its_place(tiny_bundle: Bundle, images: list[Any]) -> None:
    for i in (0, 7, 8, 9, 10, 11, 22):
        images[i].headers[0].file.write_bytes(images[i].headers[0].file.read_bytes()[:600])
    executor = Scripted(4, 2, True)
    rows = [row for scored in Pipeline(tiny_bundle.manifest, executor, 0.5, workers=3)(images) for row in scored.rows]
    assert [i for i, row in enumerate(rows) if row.status != Status.SCORED] == [0, 7, 8, 9, 10, 11, 22]
    assert executor.sizes == [3, 3, 4, 4, 2], "a batch without a readable slice is not submitted"


def test_softmax_by_hand_and_without_overflow() -> None:
    logits = {
        "ich_logits": np.array([[0.0, 0.0], [1000.0, -1000.0], [0.0, np.log(3)]], dtype=np.float32),
        "location_logits": np.zeros((3, 3), dtype=np.float32),
    }
    ich, location = zip(*probabilities(logits), strict=True)
    assert ich == pytest.approx((0.5, 0.0, 0.75))
    assert location[0] == pytest.approx((1 / 3, 1 / 3, 1 / 3))

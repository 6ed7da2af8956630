"""Images to rows through a scripted executor: order, batches, what is under way."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.slice import Slice, SliceImage
from dtvit_edge.dicom.walk import walk
from dtvit_edge.errors import DeviceFault
from dtvit_edge.reasons import Status
from dtvit_edge.scoring.api import images_of
from dtvit_edge.scoring.executor import BatchResult
from dtvit_edge.scoring.pipeline import Pipeline, probabilities
from tests.support.dicom_files import series


class Scripted:
    """An executor whose answer for a slice is its place in its series; it waits for nobody.

    Args:
        faults: by number of a slice from the feet, what its first logit is instead; headless: numbers without a head.
    """

    def __init__(
        self,
        batch: int,
        depth: int,
        fixed: bool,
        fail_at: int = -1,
        faults: Mapping[int, float] = {},
        headless: Container[int] = (),
        padded: bool = False,
    ) -> None:
        self.batch, self.depth, self.fixed, self.fail_at = batch, depth, fixed, fail_at
        self.faults, self.headless, self.padded = faults, headless, padded
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
        numbers = [round(place / 5) for place in places]
        ich = np.array([[0.0, place] for place in places], np.float32)
        location = np.array([[self.faults.get(number, 0.0), 0, 0] for number in numbers], np.float32)
        logits = {"ich_logits": ich, "location_logits": location}
        heads = np.array([0 if number in self.headless else 100 + number for number in numbers], np.int64)
        return BatchResult(heads, np.ones(len(batch)), np.ones(len(batch), bool), logits)


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


def test_padded_batches_have_one_size_and_answer_for_what_was_asked(tiny_bundle: Bundle, images: list[Any]) -> None:
    executor = Scripted(4, 2, True, padded=True)
    batches = list(Pipeline(tiny_bundle.manifest, executor, 0.5, workers=2)(images))
    assert executor.sizes == [4] * 6
    assert [image for batch in batches for image in batch.of] == images
    assert [row.path for batch in batches for row in batch.rows] == [image.headers[0].path for image in images]


def test_images_are_taken_as_there_is_room_for_them(tiny_bundle: Bundle, images: list[Any]) -> None:
    taken: list[Any] = []
    pipeline = Pipeline(tiny_bundle.manifest, Scripted(4, 1, True), 0.5)
    next(pipeline(taken.append(image) or image for image in images))  # type: ignore[func-returns-value]
    assert len(taken) == 12, "one batch was answered, two more may wait"


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
    assert pipeline.in_flight == images[8:16]


def test_a_file_that_cannot_be_read_is_a_row_in_its_place(tiny_bundle: Bundle, images: list[Any]) -> None:
    for i in (0, 7, 8, 9, 10, 11, 22):
        images[i].headers[0].file.write_bytes(images[i].headers[0].file.read_bytes()[:600])
    executor = Scripted(4, 2, True)
    rows = [row for scored in Pipeline(tiny_bundle.manifest, executor, 0.5, workers=3)(images) for row in scored.rows]
    assert [i for i, row in enumerate(rows) if row.status != Status.SCORED] == [0, 7, 8, 9, 10, 11, 22]
    assert executor.sizes == [3, 3, 4, 4, 2], "a batch without a readable slice is not submitted"


def test_rows_say_where_their_image_lies_and_what_its_pixels_say(tiny_bundle: Bundle, images: list[Any]) -> None:
    images[2].headers[0].file.write_bytes(b"")
    executor = Scripted(4, 1, True, headless={1})
    rows = [row for scored in Pipeline(tiny_bundle.manifest, executor, 0.5)(images[:4]) for row in scored.rows]
    assert [(row.place, row.reason, row.head_pixels) for row in rows] == [
        (1, "", 100),
        (2, "no_head", 0),
        (3, rows[2].reason, None),
        (4, "", 103),
    ]
    assert rows[2].status is Status.ERROR and rows[2].measures is None
    assert all(row.measures and row.measures.air_share > 0.3 for row in (rows[0], rows[1], rows[3]))


@pytest.mark.parametrize("workers", [1, 3])
def test_every_slice_of_an_averaged_image_carries_its_answer(
    tiny_bundle: Bundle, images: list[Any], workers: int
) -> None:
    headers = [image.headers[0] for image in images]
    groups = [SliceImage(tuple(headers[i : i + 4]), 1 + i // 4) for i in range(0, 23, 4)]
    headers[5].file.write_bytes(b"")
    for i in (8, 9, 10, 11):
        headers[i].file.write_bytes(b"")
    executor = Scripted(2, 2, True)
    batches = list(Pipeline(tiny_bundle.manifest, executor, 0.5, workers=workers)(groups))
    assert [batch.indices for batch in batches] == [(0, 1), (2, 3), (4, 5)]
    assert executor.sizes == [2, 1, 2], "an image without a readable slice is not submitted"
    rows = [row for batch in batches for row in batch.rows]
    assert [row.sop_uid for row in rows] == [header.identity.sop_uid for header in headers]
    assert [row.place for row in rows] == [1 + i // 4 for i in range(23)]
    assert [i for i, row in enumerate(rows) if row.status is Status.ERROR] == [5, 8, 9, 10, 11]
    middles = {0: 2, 1: 6, 3: 14, 4: 18, 5: 21}  # of the readable ones, whose header the image goes by
    for i, row in enumerate(rows):
        if row.status is Status.SCORED:
            assert row.ich_probability == pytest.approx(1 / (1 + np.exp(-5.0 * middles[i // 4])))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_answer_that_is_not_finite_is_an_error(tiny_bundle: Bundle, images: list[Any], value: float) -> None:
    executor = Scripted(4, 2, True, faults={3: value, 4: value, 9: value})
    told: list[str] = []
    pipeline = Pipeline(
        tiny_bundle.manifest, executor, 0.5, rejected=lambda header, error: told.append(error.reason.code)
    )
    rows = [row for scored in pipeline(images) for row in scored.rows]
    assert [i for i, row in enumerate(rows) if row.reason] == [3, 4, 9]
    assert {(row.status, row.reason, row.ich_probability, row.ich) for row in rows if row.reason} == {
        (Status.ERROR, "model_fault", None, None)
    }
    assert told == ["model_fault"] * 3 and rows[3].measures is not None


@pytest.mark.parametrize(
    ("faults", "headless", "ends_at"),
    [
        ((0, 1, 2), (), 0),
        ((6, 7, 8), (), 8),
        ((6, 7, 9), (), None),
        ((2, 3, 20), range(4, 20), 20),
        ((2, 3, 4, 5), (3, 4), None),
        ((1, 2, 4, 5, 7, 8), (), None),
    ],
    ids=["at-once", "across-batches", "one-between", "skipped-between", "skipped-do-not-count", "pairs"],
)
@pytest.mark.parametrize("depth", [1, 2])
def test_three_answers_in_a_row_that_are_not_finite_end_the_run(
    tiny_bundle: Bundle,
    images: list[Any],
    faults: Sequence[int],
    headless: Container[int],
    ends_at: int | None,
    depth: int,
) -> None:
    executor = Scripted(4, depth, True, faults=dict.fromkeys(faults, float("nan")), headless=headless)
    pipeline = Pipeline(tiny_bundle.manifest, executor, 0.5)
    done: list[int] = []
    if ends_at is None:
        assert sum(len(scored.rows) for scored in pipeline(images)) == 23
        return
    with pytest.raises(DeviceFault, match="3 images in a row with numbers that are not finite"):
        for scored in pipeline(images):
            done += scored.indices
    first = ends_at // 4 * 4
    assert done == list(range(first))
    assert pipeline.in_flight == images[first : first + 4 * depth]


def test_a_pipeline_counts_its_models_faults_anew_in_each_run(tiny_bundle: Bundle, images: list[Any]) -> None:
    pipeline = Pipeline(tiny_bundle.manifest, Scripted(4, 1, True, faults={0: float("nan"), 1: float("nan")}), 0.5)
    for _ in range(2):
        assert [row.reason for scored in pipeline(images[:2]) for row in scored.rows] == ["model_fault"] * 2


def test_softmax_by_hand_and_without_overflow() -> None:
    logits = {
        "ich_logits": np.array([[0.0, 0.0], [1000.0, -1000.0], [0.0, np.log(3)]], dtype=np.float32),
        "location_logits": np.zeros((3, 3), dtype=np.float32),
    }
    ich, location = zip(*probabilities(logits), strict=True)
    assert ich == pytest.approx((0.5, 0.0, 0.75))
    assert location[0] == pytest.approx((1 / 3, 1 / 3, 1 / 3))

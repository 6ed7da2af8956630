"""What goes to which worker, and what becomes of items whose worker is lost, lies or fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from dtvit_edge.cluster.dispatch import AT_ONCE, Answered, Dispatcher, Event, Faulted
from dtvit_edge.dicom.slice import SliceHeader, SliceImage
from dtvit_edge.errors import DeviceFault, SliceRejected
from dtvit_edge.reasons import Status
from dtvit_edge.results import SliceScore
from tests.support.scripted_pool import ScriptedPool, answer, answers, images, rows_of


def test_every_image_is_answered_once_and_taken_as_there_is_room() -> None:
    taken: list[int] = []

    def source() -> Any:
        for i, image in enumerate(images(40)):
            taken.append(i)
            yield image

    pool = ScriptedPool(2, answers)
    batches = []
    for batch in Dispatcher(pool, 4)(source()):
        batches.append(batch)
        assert len(taken) <= 4 * (2 * AT_ONCE + len(batches)), "no more is planned than the workers can take"
    assert len(rows_of(batches)) == 40 and len(batches) == 10 and pool.checked == 1
    assert sorted(i for batch in batches for i in batch.indices) == list(range(40))
    assert list(Dispatcher(pool, 4)([])) == [] and pool.checked == 1, "nothing to do asks nobody"


def killed_by(path: str) -> Callable[[int, int, Sequence[SliceImage]], Event | None]:
    def script(ticket: int, worker: int, given: Sequence[SliceImage]) -> Event | None:
        return None if any(h.path == path for i in given for h in i.headers) else answers(ticket, worker, given)

    return script


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("thin", [1, 4])
def test_a_file_that_ends_its_workers_becomes_an_error_alone(workers: int, thin: int) -> None:
    pool, rejected = ScriptedPool(workers, killed_by("21")), []

    def note(header: SliceHeader, error: SliceRejected) -> None:
        rejected.append((header.path, error.reason.code))

    rows = rows_of(list(Dispatcher(pool, 16, note)(images(40, thin=thin))))
    assert len(rows) == 40 * thin
    at_fault = {path for path, row in rows.items() if row.reason == "decoder_lost"}
    image = 21 // thin
    assert at_fault == {str(path) for path in range(image * thin, image * thin + thin)}
    assert sorted(rejected) == sorted((path, "decoder_lost") for path in at_fault)
    assert len(pool.together) <= 8, "few workers pay for it"
    assert all(len(tickets) == 1 for tickets in pool.together[1:]), "after the first loss what is suspect goes alone"


def test_two_such_files_beside_each_other_cost_nobody_else_anything() -> None:
    def script(ticket: int, worker: int, given: Sequence[SliceImage]) -> Event | None:
        return killed_by("5")(ticket, worker, given) and killed_by("6")(ticket, worker, given)

    rows = rows_of(list(Dispatcher(ScriptedPool(2, script), 8)(images(30))))
    assert len(rows) == 30 and {path for path, row in rows.items() if row.reason} == {"5", "6"}


def test_machines_that_vanish_now_and_then_lose_no_slice() -> None:
    calls = iter(range(10_000))

    def script(ticket: int, worker: int, given: Sequence[SliceImage]) -> Event | None:
        return None if next(calls) % 4 == 3 else answers(ticket, worker, given)

    rows = rows_of(list(Dispatcher(ScriptedPool(3, script), 4)(images(60))))
    assert len(rows) == 60 and all(row.status is Status.SCORED for row in rows.values())


def test_an_item_that_is_answered_twice_counts_once() -> None:
    class Twice(ScriptedPool):
        def wait(self) -> list[Event]:
            return super().wait() * 2

    assert len(rows_of(list(Dispatcher(Twice(2, answers), 4)(images(20))))) == 20


LIES: dict[str, Callable[[list[tuple[SliceScore, ...]]], Any]] = {
    "nothing": lambda rows: None,
    "an image less": lambda rows: rows[:-1],
    "an image more": lambda rows: [*rows, rows[0]],
    "a slice less": lambda rows: [rows[0][:-1], *rows[1:]],
    "images in another order": lambda rows: rows[::-1],
    "another slice": lambda rows: [(replace(rows[0][0], sop_uid="2.25.9"), *rows[0][1:]), *rows[1:]],
    "another path": lambda rows: [(replace(rows[0][0], path="elsewhere"), *rows[0][1:]), *rows[1:]],
    "no number": lambda rows: [(replace(rows[0][0], ich_probability=float("nan")), *rows[0][1:]), *rows[1:]],
    "more than certain": lambda rows: [(replace(rows[0][0], ich_probability=1.5), *rows[0][1:]), *rows[1:]],
    "an error without a reason": lambda rows: [
        (replace(rows[0][0], status=Status.ERROR, ich_probability=None), *rows[0][1:]), *rows[1:],
    ],
    "texts": lambda rows: "rows",
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_worker_that_answers_with_something_else_is_given_up_and_its_items_go_to_others(
    lie: Callable[[list[tuple[SliceScore, ...]]], Any], caplog: pytest.LogCaptureFixture
) -> None:
    def script(ticket: int, worker: int, given: Sequence[SliceImage]) -> Event | None:
        return Answered(ticket, lie(answer(given)) if worker == 0 else answer(given))

    pool = ScriptedPool(2, script)
    with caplog.at_level(logging.WARNING):
        rows = rows_of(list(Dispatcher(pool, 4)(images(20, thin=2))))
    assert len(rows) == 40 and all(row.status is Status.SCORED for row in rows.values())
    assert 0 not in pool.ready and "its answer is not one to what it was asked" in caplog.text


def test_where_every_worker_lies_each_slice_is_an_error_and_the_run_ends() -> None:
    rows = rows_of(list(Dispatcher(ScriptedPool(2, lambda t, w, g: Answered(t, [])), 4)(images(6))))
    assert {row.reason for row in rows.values()} == {"decoder_lost"} and len(rows) == 6


def test_a_device_that_fails_once_costs_a_worker_and_no_slice() -> None:
    failed: list[int] = []

    def script(ticket: int, worker: int, given: Sequence[SliceImage]) -> Event | None:
        if worker == 0:
            failed.append(ticket)
            pool.replace(worker, "")
            return Faulted(ticket, "out of its mind")
        return answers(ticket, worker, given)

    pool = ScriptedPool(2, script)
    assert len(rows_of(list(Dispatcher(pool, 4)(images(20))))) == 20 and len(failed) == 1


def test_a_device_that_fails_wherever_the_item_goes_ends_the_run_and_says_what_was_in_flight() -> None:
    def script(ticket: int, worker: int, given: Sequence[SliceImage]) -> Event | None:
        pool.replace(worker, "")
        return Faulted(ticket, "out of its mind")

    pool = ScriptedPool(2, script)
    dispatcher = Dispatcher(pool, 4)
    with pytest.raises(DeviceFault, match="out of its mind"):
        list(dispatcher(images(20)))
    assert len(dispatcher.in_flight) >= 4


def test_three_answers_in_a_row_that_are_not_finite_end_the_run_whoever_gave_them() -> None:
    def script(ticket: int, worker: int, given: Sequence[SliceImage]) -> Event | None:
        rows = [
            tuple(
                replace(r, status=Status.ERROR, reason="model_fault", ich_probability=None, ich=None) for r in of_image
            )
            for of_image in answer(given)
        ]
        return Answered(ticket, rows)

    with pytest.raises(DeviceFault, match="3 images in a row with numbers that are not finite"):
        list(Dispatcher(ScriptedPool(2, script), 1)(images(9)))

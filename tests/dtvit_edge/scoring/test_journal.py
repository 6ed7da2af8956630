from __future__ import annotations

from pathlib import Path

import pytest

from dtvit_edge.errors import ConfigError
from dtvit_edge.reasons import PASSING, Status
from dtvit_edge.results import PixelMeasures, SliceScore
from dtvit_edge.scoring.journal import Journal

MEASURES = PixelMeasures(1 / 3, 0.0, False, "00ff")
ROWS = (  # of three images, the second of two slices
    (SliceScore("S", "s", "1", 1, "a/ü=1", Status.SCORED, "", 1 / 3, (0.1, 0.2, 0.7), False, 4, MEASURES, 1234),),
    (
        SliceScore("S", "s", "2", 2, "b", Status.ERROR, "truncated", place=5),
        SliceScore("S", "s", "4", 1, "d", Status.SKIPPED, "no_head", place=5, measures=MEASURES, head_pixels=0),
    ),
    (SliceScore("S", "s", "3", 1, "c", Status.SCORED, "", 2 / 3, None, True),),
)
DONE = dict(zip((4, 5, 9), ROWS, strict=True))


def test_rows_come_back_to_the_last_bit(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", "run") as journal:
        journal.append([4, 5, 9], ROWS)
        assert journal.done == DONE
    with Journal(tmp_path / "j", "run") as journal:
        assert journal.done == DONE


@pytest.mark.parametrize("cut", [1, 7, 60])
def test_a_torn_last_line_is_a_batch_that_did_not_finish(tmp_path: Path, cut: int) -> None:
    with Journal(tmp_path / "j", "run") as journal:
        journal.append([4, 5, 9], ROWS)
        journal.append([0, 1, 2], ROWS)
    (tmp_path / "j").write_bytes((tmp_path / "j").read_bytes()[:-cut])
    with Journal(tmp_path / "j", "run") as journal:
        assert journal.done == DONE
        journal.append([0, 1, 2], ROWS)
    with Journal(tmp_path / "j", "run") as journal:
        assert journal.done == DONE | dict(enumerate(ROWS))


def test_a_torn_first_line_starts_afresh(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b'{"journal":3,"ru')
    with Journal(tmp_path / "j", "run") as journal:
        assert journal.done == {}
    with Journal(tmp_path / "j", "run"):
        pass


def test_another_run_is_refused(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", "run"):
        pass
    with (
        pytest.raises(ConfigError, match="another run; give another folder or --overwrite"),
        Journal(tmp_path / "j", "other"),
    ):
        pass


def test_the_same_run_over_other_files_is_told_from_another_run(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", "run", "files"):
        pass
    for run, inputs, said in (("run", "others", "a run of other or changed files"), ("other", "files", "another run")):
        with (
            pytest.raises(ConfigError, match=f"holds {said}; give another folder or --overwrite"),
            Journal(tmp_path / "j", run, inputs),
        ):
            pass


def test_two_processes_cannot_write_one_run(tmp_path: Path) -> None:
    with (
        Journal(tmp_path / "j", "run"),
        pytest.raises(ConfigError, match="another process"),
        Journal(tmp_path / "j", "run"),
    ):
        pass


def test_what_was_in_flight_is_marked_and_done_again(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", "run") as journal:
        journal.append([4, 5, 9], ROWS)
        journal.fault(["a", "b"], "sticky")
    assert b'"in_flight":["a","b"]' in (tmp_path / "j").read_bytes()
    with Journal(tmp_path / "j", "run") as journal:
        assert journal.done == DONE


@pytest.mark.parametrize("reason", sorted(PASSING))
def test_a_batch_with_a_reason_that_may_pass_is_done_again(tmp_path: Path, reason: str) -> None:
    fault = (SliceScore("S", "s", "5", 1, "e", Status.ERROR, reason, place=6, measures=MEASURES),)
    with Journal(tmp_path / "j", "run") as journal:
        journal.append([4, 5, 9], ROWS)
        journal.append([2, 3], [ROWS[0], fault])
        assert journal.done == DONE | {2: ROWS[0], 3: fault}
    with Journal(tmp_path / "j", "run") as journal:
        assert journal.done == DONE


def test_a_journal_of_an_earlier_format_is_another_run(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b'{"journal":2,"run":"run"}\n')
    with pytest.raises(ConfigError, match="another run"), Journal(tmp_path / "j", "run"):
        pass

from __future__ import annotations

import logging
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.dicom.planned_file import FileState
from dtvit_edge.dicom.slice import SliceImage
from dtvit_edge.errors import ConfigError, DiskFault
from dtvit_edge.reasons import PASSING, REASONS
from dtvit_edge.scoring import journal as journal_module
from dtvit_edge.scoring.journal_lines import ambiguous_images, batch, image_key, outcomes_of, sealed
from tests.support.journals import DONE, KEYS, PLANNED, ROWS, append, done, journal, written


def test_rows_come_back_to_the_last_bit(tmp_path: Path) -> None:
    written(tmp_path / "j")
    with journal(tmp_path / "j") as again:
        assert done(again) == DONE


@pytest.mark.parametrize("cut", [1, 7, 60])
def test_a_torn_last_line_is_a_batch_that_did_not_finish(
    tmp_path: Path, cut: int, caplog: pytest.LogCaptureFixture
) -> None:
    whole = written(tmp_path / "j")
    (tmp_path / "j").write_bytes(whole[:-cut])
    with journal(tmp_path / "j") as again:
        assert done(again) == {0: ROWS[0], 1: ROWS[1]}
        append(again, 2, 3)
    assert (tmp_path / "j").read_bytes() == whole and not caplog.records


@pytest.mark.parametrize("length", [0, 1, 20])
def test_a_torn_first_line_starts_afresh(tmp_path: Path, length: int) -> None:
    first = written(tmp_path / "j").splitlines(keepends=True)[0]
    (tmp_path / "j").write_bytes(first[:length])
    with journal(tmp_path / "j") as again:
        assert done(again) == {}
    assert (tmp_path / "j").read_bytes() == first


def test_another_run_is_refused_with_what_differs(tmp_path: Path) -> None:
    whole = written(tmp_path / "j")
    said = r"holds another run \(run: run there, other here\); give another folder or --overwrite"
    with pytest.raises(ConfigError, match=said), journal(tmp_path / "j", "other"):
        pass
    assert (tmp_path / "j").read_bytes() == whole


@pytest.mark.parametrize(
    "first",
    [
        {"journal": 5, "identity": {}, "configuration": {}},
        {"journal": 7, "identity": {}, "configuration": {}},
    ],
    ids=["older", "newer"],
)
def test_a_journal_of_another_version_is_refused_and_left_as_it_is(tmp_path: Path, first: dict[str, Any]) -> None:
    line = sealed(first, "")
    (tmp_path / "j").write_bytes(line)
    said = rf"another version of dtvit-edge \(journal of format {first['journal']}, this one reads 6\).* --overwrite to"
    with pytest.raises(ConfigError, match=said), journal(tmp_path / "j"):
        pass
    assert (tmp_path / "j").read_bytes() == line


@pytest.mark.parametrize("first", [b'{"journal":2,"run":"run"}\n', b"dear diary\n", b"dear diary", b"\0" * 200])
def test_a_first_line_that_does_not_verify_is_refused_and_left_as_it_is(tmp_path: Path, first: bytes) -> None:
    whole = first + written(tmp_path / "j").split(b"\n", 1)[1]
    (tmp_path / "j").write_bytes(whole)
    with pytest.raises(ConfigError, match=r"is damaged, so that nobody knows.* --overwrite"), journal(tmp_path / "j"):
        pass
    assert (tmp_path / "j").read_bytes() == whole


def test_no_changed_byte_changes_a_result_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = written(tmp_path / "j")
    first = whole.index(b"\n")
    draw = random.Random(17)
    for _ in range(400):
        at = draw.randrange(len(whole))
        other = bytes([draw.choice([byte for byte in range(256) if byte != whole[at]])])
        (tmp_path / "j").write_bytes(whole[:at] + other + whole[at + 1 :])
        caplog.clear()
        try:
            with journal(tmp_path / "j") as again:
                assert at > first
                assert done(again).items() < DONE.items()
                assert caplog.records or at == len(whole) - 1, "it reads as a torn line"
        except ConfigError:
            assert at <= first


def test_what_does_not_verify_is_said_once_and_scored_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = written(tmp_path / "j")
    (tmp_path / "j").write_bytes(whole.replace(b'"truncated"', b'"bad_header"'))
    with journal(tmp_path / "j") as again:
        assert done(again) == {0: ROWS[0], 1: ROWS[1]}
        append(again, 2, 3)
    (record,) = caplog.records
    assert "1 of its lines do not verify" in record.getMessage() and record.levelno == logging.WARNING
    assert (tmp_path / "j").read_bytes() == whole
    with journal(tmp_path / "j") as again:
        assert done(again) == DONE
    assert len(caplog.records) == 1


def test_a_line_of_another_run_does_not_count(tmp_path: Path) -> None:
    lines = written(tmp_path / "j").splitlines(keepends=True)
    with journal(tmp_path / "other", "other") as other:
        append(other, 2, 3)
    foreign = (tmp_path / "other").read_bytes().splitlines(keepends=True)[1]
    (tmp_path / "j").write_bytes(b"".join([*lines[:2], foreign]))
    with journal(tmp_path / "j") as again:
        assert done(again) == {0: ROWS[0], 1: ROWS[1]}


def test_two_lines_that_say_different_things_count_both_for_nothing(tmp_path: Path) -> None:
    changed = (replace(ROWS[1][0], ich_probability=0.75),)
    with journal(tmp_path / "j") as first:
        append(first, 0, 1)
        first.append({KEYS[1]: changed, KEYS[3]: ROWS[3]})
        append(first, 2)
        append(first, 2)  # twice the same is no contradiction
    with journal(tmp_path / "j") as again:
        assert done(again) == {2: ROWS[2]}
    assert (tmp_path / "j").read_bytes().count(b"\n") == 3


def _without(data: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in data.items() if k != key}


SOUND = batch([(KEYS[0], outcomes_of(ROWS[0]))])["images"][0][1][0]
WRONG: dict[str, dict[str, Any]] = {
    "status unknown": SOUND | {"status": "fine"},
    "status of a study": SOUND | {"status": "partial"},
    "scored with a reason": SOUND | {"reason": "no_head"},
    "reason of another status": SOUND | {"status": "refused", "reason": "no_head"},
    "reason unknown": SOUND | {"status": "error", "reason": "tired"},
    "skipped with a probability": SOUND | {"status": "skipped", "reason": "no_head"},
    "probability above 1": SOUND | {"ich_probability": 1.0000001},
    "probability below 0": SOUND | {"ich_probability": -0.1},
    "probability a text": SOUND | {"ich_probability": "0.5"},
    "probability true": SOUND | {"ich_probability": True},
    "no probability": SOUND | {"ich_probability": None},
    "two locations": SOUND | {"location_probabilities": [0.5, 0.5]},
    "flag a number": SOUND | {"ich": 1},
    "measures short": SOUND | {"measures": {"air_share": 0.5}},
    "air a text": SOUND | {"measures": SOUND["measures"] | {"air_hu": "-1000"}},
    "edge above 1": SOUND | {"measures": SOUND["measures"] | {"edge_share": 1.5}},
    "air a truth": SOUND | {"measures": SOUND["measures"] | {"air_hu": True}},
    "head negative": SOUND | {"head_pixels": -1},
    "brain above 1": SOUND | {"brain_share": 1.5},
    "field missing": _without(SOUND, "ich"),
    "field more": SOUND | {"comment": "edited"},
    "path": SOUND | {"path": "a"},
}


@pytest.mark.parametrize("row", WRONG.values(), ids=WRONG.keys())
def test_a_row_that_cannot_be_true_is_not_used_however_it_is_sealed(tmp_path: Path, row: dict[str, Any]) -> None:
    assert_not_used(tmp_path, {"images": [[KEYS[0], [row]]]})


@pytest.mark.parametrize(
    "data",
    [
        {"images": [["short", [SOUND]]]},
        {"images": [[0, [SOUND]]]},
        {"images": [[KEYS[0], [SOUND]], [KEYS[0], [SOUND]]]},
        {"images": [[KEYS[0], []]]},
        {"images": [[KEYS[0], SOUND]]},
        {"images": [[KEYS[0]]]},
        {"images": [KEYS[0]]},
        {"images": 0},
        {"images": [[KEYS[0], [SOUND]]], "rows": 0},
        {"comment": "edited"},
    ],
    ids=str,
)
def test_a_line_that_no_run_can_have_written_is_not_used(tmp_path: Path, data: dict[str, Any]) -> None:
    assert_not_used(tmp_path, data)


def assert_not_used(folder: Path, data: dict[str, Any]) -> None:
    first = written(folder / "j").splitlines(keepends=True)[0]
    (folder / "j").write_bytes(first + sealed(data, journal(folder / "j")._key))
    with journal(folder / "j") as again:
        assert done(again) == {}
    assert (folder / "j").read_bytes() == first


def test_an_image_of_another_number_of_slices_is_scored_again(tmp_path: Path) -> None:
    with journal(tmp_path / "j") as first:
        first.append({KEYS[0]: ROWS[0] * 2})
    with journal(tmp_path / "j") as again:
        assert done(again) == {}


def test_a_line_without_end_takes_no_memory_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_LONGEST_LINE", 4096)
    whole = written(tmp_path / "j")
    lines = whole.splitlines(keepends=True)
    (tmp_path / "j").write_bytes(b"".join([*lines[:2], b"[" * 9000, b"\n", lines[2]]))
    with journal(tmp_path / "j") as again:
        assert done(again) == DONE
    assert (tmp_path / "j").read_bytes() == whole


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(tmp_path / "j")
    elif kind == "link":
        (tmp_path / "j").symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "j").mkdir()
    with pytest.raises(ConfigError, match=r"is not a file|cannot be written: "), journal(tmp_path / "j"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_what_was_in_flight_is_marked_and_done_again(tmp_path: Path) -> None:
    with journal(tmp_path / "j") as first:
        append(first, 0, 1)
        first.fault(["a", "b"], "sticky")
    assert b'"in_flight":["a","b"]' in (tmp_path / "j").read_bytes()
    with journal(tmp_path / "j") as again:
        assert done(again) == {0: ROWS[0], 1: ROWS[1]}


@pytest.mark.parametrize("reason", sorted(PASSING))
def test_an_image_with_a_reason_that_may_pass_is_done_again_and_its_batch_is_not(tmp_path: Path, reason: str) -> None:
    failed = (replace(ROWS[2][0], status=REASONS[reason].status, reason=reason), ROWS[2][1])
    with journal(tmp_path / "j") as first:
        append(first, 0, 1)
        first.append({KEYS[2]: failed, KEYS[3]: ROWS[3]})
    with journal(tmp_path / "j") as again:
        assert done(again) == {0: ROWS[0], 1: ROWS[1], 3: ROWS[3]}


def test_a_journal_that_was_removed_ends_the_run(tmp_path: Path) -> None:
    with journal(tmp_path / "j") as first:
        append(first, 0, 1)
        (tmp_path / "j").unlink()
        with pytest.raises(DiskFault, match="j was removed, or its folder"):
            append(first, 2, 3)


def test_a_journal_is_for_its_owner_and_their_group(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        written(tmp_path / "j")
    finally:
        os.umask(before)
    assert (tmp_path / "j").stat().st_mode & 0o777 == 0o640


def test_an_image_is_known_by_its_files_and_uids_wherever_it_lies() -> None:
    (one,) = PLANNED[0].headers
    known = replace(one, state=FileState(10, 20, 30))
    moved = replace(known, path="elsewhere/x", file=Path("/elsewhere/x"), twin=True)
    assert image_key(SliceImage((moved,), 9)) == image_key(SliceImage((known,), 1))
    others = [
        replace(known, state=FileState(10, 20, 31)),  # as after `touch -r`: the times of another file
        replace(known, state=FileState(10, 19, 30)),  # of a clock that was set back
        replace(known, state=FileState(11, 20, 30)),
        replace(known, frame=2),
        replace(known, identity=replace(known.identity, sop_uid="other")),
    ]
    images = [(known,), *((other,) for other in others), (known, others[3]), (others[3], known)]
    assert len({image_key(SliceImage(headers, 1)) for headers in images}) == len(images)


def test_slices_that_cannot_be_told_apart_make_their_images_ambiguous_however_they_are_grouped() -> None:
    one, other, third = (replace(image.headers[0], state=FileState(1, 2, 3)) for image in (*PLANNED[:2], PLANNED[3]))
    again = replace(one, path="elsewhere", file=Path("elsewhere"))
    images = [SliceImage(headers, 1) for headers in ((one, other), (again, third), (third,), (other, other), (third,))]
    assert ambiguous_images(images[:2]) == [True, True]
    assert ambiguous_images([images[0], images[2]]) == [False, False]
    assert ambiguous_images(images[2:]) == [True, True, True]


def test_what_is_gone_is_forgotten_once_it_is_most_of_a_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = written(tmp_path / "j")
    monkeypatch.setattr(journal_module, "MOST_GONE", 2)
    with journal(tmp_path / "j") as again:
        again.forget_all_but(KEYS[:2])
    assert (tmp_path / "j").read_bytes() == whole, "it may be back tomorrow"
    with journal(tmp_path / "j") as again:
        again.forget_all_but(KEYS[:1])
        assert done(again) == {0: ROWS[0]}
        append(again, 3)  # it goes on in the file that is there now
    with journal(tmp_path / "j") as again:
        assert done(again) == {0: ROWS[0], 3: ROWS[3]}

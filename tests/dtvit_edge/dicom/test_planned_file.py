"""A file is read only while it is the one that was planned, however it was replaced and whoever reads it."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.uid import RLELossless

from dtvit_edge.dicom.decoder_pool import ParallelReader
from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.header import FileRejected, read_headers
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.dicom.planned_file import open_any_length, open_planned, present_state
from dtvit_edge.dicom.slice import SliceHeader
from dtvit_edge.dicom.walk import walk
from dtvit_edge.errors import SliceRejected
from tests.support.dicom_files import dataset, enhanced, save


def times_kept(change: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    """The same change, and the old times set again."""

    def changed(file: Path, other: Path) -> None:
        before = file.stat()
        change(file, other)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

    return changed


def renamed_over(file: Path, other: Path) -> None:
    shutil.copy(other, other.with_suffix(".tmp"))
    os.replace(other.with_suffix(".tmp"), file)


def written_over(file: Path, other: Path) -> None:
    file.write_bytes(other.read_bytes())


def made_anew(file: Path, other: Path) -> None:
    file.unlink()
    shutil.copy(other, file)


def linked(file: Path, other: Path) -> None:
    file.unlink()
    os.symlink(other, file)


CHANGES: dict[str, Callable[[Path, Path], None]] = {
    **{change.__name__: change for change in (renamed_over, written_over, made_anew, linked)},
    **{f"{change.__name__}, times kept": times_kept(change) for change in (renamed_over, written_over, made_anew)},
}


def make_pair(folder: Path) -> tuple[Path, Path]:
    """A slice, and one of another patient: of the same size, alike up to its UIDs and pixels."""
    uids = {f"{level}InstanceUID": "2.25.{}" for level in ("Study", "Series", "SOP")}
    file, other = (
        save(
            folder / name / "x",
            PixelData=np.full((512, 512), value, np.int16).tobytes(),
            **{keyword: uid.format(value) for keyword, uid in uids.items()},
        )
        for name, value in (("in", 10), ("other", 20))
    )
    assert file.stat().st_size == other.stat().st_size
    return file, other


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return make_pair(tmp_path)


def planned(folder: Path) -> list[SliceHeader]:
    (series,) = discover(walk([folder])).series
    return list(series.headers)


def refusal(reader: Any, header: SliceHeader) -> str:
    with pytest.raises(SliceRejected) as caught:
        reader.read(header)
    return caught.value.reason.code


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_replaced_after_planning_gives_nothing_to_any_reader(pair: tuple[Path, Path], change: str) -> None:
    (header,) = planned(pair[0].parent)
    CHANGES[change](*pair)
    for reader in (SliceReader(), SliceReader(fast=False), ParallelReader()):
        assert refusal(reader, header) == "not_the_planned"


def test_the_processes_that_decode_look_as_well(tmp_path: Path) -> None:
    with ParallelReader(fast=False) as reader:
        for name in ("written_over, times kept", "renamed_over, times kept", "made_anew"):
            pair = make_pair(tmp_path / name)
            (header,) = planned(pair[0].parent)
            CHANGES[name](*pair)
            assert refusal(reader, header) == "not_the_planned", name
            same_tick = replace(header, state=present_state(pair[0]))
            assert refusal(reader, same_tick) == "not_the_planned", name


@pytest.mark.parametrize("fast", [False, True], ids=["pydicom", "fast"])
def test_a_file_replaced_between_the_walk_and_its_header_is_a_row(pair: tuple[Path, Path], fast: bool) -> None:
    walked = walk([pair[0].parent])
    times_kept(written_over)(*pair)
    plan = discover(walked, fast=fast)
    assert not plan.series
    assert [(r.reason.code, r.identity.study_uid) for r in plan.rejected] == [("not_the_planned", "")]


@pytest.mark.parametrize("fast", [False, True], ids=["pydicom", "fast"])
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "RLE"])
def test_a_replacement_within_one_tick_of_the_clock_is_told_by_its_header(
    pair: tuple[Path, Path], fast: bool, compressed: bool
) -> None:
    file, other = pair
    if compressed:
        for path in pair:
            slice_ = pydicom.dcmread(path)
            slice_.compress(RLELossless)
            slice_.save_as(path)
    (header,) = planned(file.parent)
    assert header.pixel_location is not None
    written_over(file, other)
    same_tick = replace(header, state=present_state(file))
    assert refusal(SliceReader(fast=fast), same_tick) == "not_the_planned"


def test_an_unchanged_file_is_read_whoever_has_looked_at_it(pair: tuple[Path, Path]) -> None:
    (header,) = planned(pair[0].parent)
    os.utime(pair[0], ns=(0, pair[0].stat().st_mtime_ns))  # an access is no change, but sets the ctime
    header = replace(header, state=present_state(pair[0]))
    pair[0].read_bytes()
    for fast in (True, False):
        assert (SliceReader(fast=fast).read(header).stored == 10).all()


def test_a_change_while_a_file_is_read_is_noticed_at_its_end(pair: tuple[Path, Path]) -> None:
    file, other = pair
    with pytest.raises(SliceRejected, match="not_the_planned"), open_planned(file, present_state(file)) as stream:
        stream.read(100)
        file.write_bytes(other.read_bytes()[:-1])


def test_frames_of_a_file_replaced_between_them_are_the_planned_ones_or_none(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 4096, (3, 64, 80), dtype=np.uint16)
    file = save(tmp_path / "in" / "x", enhanced(frames, shared_rescale=True, intercepts=[-1024.0] * 3))
    other = save(tmp_path / "other", enhanced(frames[::-1], shared_rescale=True, intercepts=[-1024.0] * 3))
    headers = read_headers(file, "x")
    reader = SliceReader()
    np.testing.assert_array_equal(reader.read(headers[0]).stored, frames[0])
    times_kept(written_over)(file, other)
    assert refusal(reader, headers[1]) == "not_the_planned"
    assert refusal(SliceReader(), headers[1]) == "not_the_planned"
    (_, second, _) = read_headers(file, "x")  # planned anew: the same reader must not answer with the old frames
    if second.state != headers[1].state:
        np.testing.assert_array_equal(reader.read(second).stored, frames[::-1][1])


@pytest.mark.parametrize("place", ["before", "behind"])
def test_a_pipe_in_the_place_of_a_file_hangs_nobody(pair: tuple[Path, Path], place: str) -> None:
    """Before its header is read, or between header and pixels."""
    walked = walk([pair[0].parent])
    headers = planned(pair[0].parent) if place == "behind" else []
    pair[0].unlink()
    os.mkfifo(pair[0])
    answers: list[str] = []

    def read() -> None:
        if headers:
            answers.append(refusal(SliceReader(), headers[0]))
        else:
            answers.extend(r.reason.code for r in discover(walked).rejected)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(10)
    assert answers == ["not_the_planned"]


def test_only_regular_files_are_opened_without_a_plan_too(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for odd in (tmp_path / "pipe", tmp_path, Path(os.devnull)):
        with pytest.raises(FileRejected, match="unreadable"):
            read_headers(odd, "odd")


def test_no_descriptor_is_left_open(pair: tuple[Path, Path]) -> None:
    open_before = len(os.listdir("/dev/fd"))
    state = present_state(pair[1])
    for _ in range(5):
        for file in (pair[0], pair[0].parent):
            with pytest.raises(SliceRejected), open_planned(file, state):
                pass
            with pytest.raises(SliceRejected), open_planned(file.parent):
                pass
        with pytest.raises(OSError):
            open_any_length("/" + "x" * 5000, os.O_RDONLY)
        with pytest.raises(OSError):
            open_any_length("/none" * 1000, os.O_RDONLY)
    assert len(os.listdir("/dev/fd")) == open_before


def test_a_dataset_without_its_uids_is_not_the_planned_one(tmp_path: Path) -> None:
    file = save(tmp_path / "x")
    (header,) = read_headers(file, "x")
    without = dataset(StudyInstanceUID=None)
    save(file, without)
    assert refusal(SliceReader(fast=False), replace(header, state=present_state(file))) == "not_the_planned"

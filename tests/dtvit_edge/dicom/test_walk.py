"""What is found below folders: every file once, and a row for all that cannot be looked at."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from dtvit_edge.dicom.discover import discover
from dtvit_edge.dicom.header import read_headers
from dtvit_edge.dicom.pixels import SliceReader
from dtvit_edge.dicom.planned_file import file_state
from dtvit_edge.dicom.walk import Walk, walk
from dtvit_edge.errors import ConfigError
from tests.support.dicom_files import save
from tests.support.permissions import forbid


def rows(walked: Walk) -> dict[str, str]:
    return {rejection.path: rejection.reason.code for rejection in walked.rejected}


def paths(walked: Walk) -> list[str]:
    return [entry.path for entry in walked.files]


def test_files_are_found_whatever_they_are_called(tmp_path: Path) -> None:
    for name in ("a/IM0001", "a/b/c/x.dcm", "weird näme", ".hidden", "z.txt"):
        save(tmp_path / name, SOPInstanceUID=f"2.25.{abs(hash(name)) % 10**9}")
    files = walk([tmp_path]).files
    assert [f.path for f in files] == sorted(["a/IM0001", "a/b/c/x.dcm", "weird näme", ".hidden", "z.txt"])


def test_a_name_that_is_no_text_can_still_be_written(tmp_path: Path) -> None:
    name = os.fsdecode(b"bad\xff\xfename")
    save(tmp_path / name)
    (file,) = walk([tmp_path]).files
    assert file.path == "bad\\xff\\xfename"
    assert file.path.encode("utf-8")
    assert file.file.exists()


def test_one_file_through_two_folders_is_read_once(tmp_path: Path) -> None:
    save(tmp_path / "a" / "x")
    os.symlink(tmp_path / "a" / "x", tmp_path / "a" / "link")
    assert len(walk([tmp_path, tmp_path / "a"]).files) == 1


def test_the_output_folder_is_left_out(tmp_path: Path) -> None:
    save(tmp_path / "in" / "x")
    save(tmp_path / "out" / "y")
    assert [f.path for f in walk([tmp_path], exclude=tmp_path / "out").files] == ["in/x"]


def test_a_folder_that_is_not_there_stops_before_the_first_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such folder"):
        walk([tmp_path, tmp_path / "absent"])


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_what_is_neither_file_nor_folder_stops_before_the_first_file(tmp_path: Path, kind: str) -> None:
    odd = tmp_path / "odd"
    if kind == "pipe":
        os.mkfifo(odd)
    elif kind == "device":
        odd = Path(os.devnull)
    else:
        odd = unix_socket(odd)
    with pytest.raises(ConfigError, match="is neither a folder nor a file that could be read"):
        walk([odd])


def test_a_folder_given_that_cannot_be_listed_stops_before_the_first_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    forbid(tmp_path / "closed", monkeypatch)
    with pytest.raises(ConfigError, match="cannot be listed: Permission denied"):
        walk([tmp_path / "closed"])


def test_a_folder_that_cannot_be_listed_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "a" / "closed" / "x")
    save(tmp_path / "a" / "y")
    forbid(tmp_path / "a" / "closed", monkeypatch)
    walked = walk([tmp_path])
    assert paths(walked) == ["a/y"]
    assert rows(walked) == {"a/closed": "unreadable"}
    assert walked.rejected[0].file == tmp_path / "a" / "closed"
    assert walked.rejected[0].detail == "Permission denied"


def test_a_listing_that_breaks_off_keeps_what_came_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("x", "y"):
        save(tmp_path / "a" / name)
    true_scandir = os.scandir

    class BreaksOff:
        def __init__(self, *arguments: int) -> None:
            self.entries = true_scandir(*arguments)
            self.left = 1

        def __enter__(self) -> BreaksOff:
            return self

        def __exit__(self, *details: object) -> None:
            self.entries.close()

        def __iter__(self) -> BreaksOff:
            return self

        def __next__(self) -> os.DirEntry[str]:
            if not self.left:
                raise OSError(5, "Input/output error")
            self.left -= 1
            return next(self.entries)

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", BreaksOff)
        patched.setattr(os, "supports_fd", {*os.supports_fd, BreaksOff})
        walked = walk([tmp_path])
    assert len(walked.files) == 1
    assert rows(walked) == {"a": "unreadable", ".": "unreadable"}


def test_a_file_that_cannot_be_opened_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid(save(tmp_path / "x"), monkeypatch)
    plan = discover(walk([tmp_path]))
    assert [(r.path, r.reason.code, r.detail) for r in plan.rejected] == [("x", "unreadable", "Permission denied")]


def test_pipes_sockets_and_devices_are_rows_and_are_never_opened(tmp_path: Path) -> None:
    save(tmp_path / "x")
    os.mkfifo(tmp_path / "pipe")
    unix_socket(tmp_path / "socket")
    os.symlink(os.devnull, tmp_path / "device")
    walked = walk([tmp_path])
    assert paths(walked) == ["x"]
    assert rows(walked) == dict.fromkeys(("device", "pipe", "socket"), "not_dicom")


def test_a_linked_folder_is_read_once_where_it_lies(tmp_path: Path) -> None:
    save(tmp_path / "store" / "upper" / "x")
    save(tmp_path / "study" / "y")
    os.symlink("../store/upper", tmp_path / "study" / "upper")
    os.symlink("../store/upper/x", tmp_path / "study" / "x")
    walked = walk([tmp_path])
    assert paths(walked) == ["store/upper/x", "study/y"]
    assert rows(walked) == {}
    store, study = tmp_path / "store" / "upper", tmp_path / "study"
    assert walked.links == {store: (study / "upper",), store / "x": (study / "x",)}


def test_a_linked_folder_in_another_folder_given_is_inside(tmp_path: Path) -> None:
    save(tmp_path / "store" / "x")
    (tmp_path / "study").mkdir()
    os.symlink("../store", tmp_path / "study" / "all")
    assert rows(walk([tmp_path / "study"])) == {"all": "linked_outside"}
    together = walk([tmp_path / "study", tmp_path / "store"])
    assert (paths(together), rows(together)) == (["x"], {})


def test_links_in_circles_end(tmp_path: Path) -> None:
    save(tmp_path / "a" / "x")
    os.symlink("..", tmp_path / "a" / "up")
    os.symlink(".", tmp_path / "a" / "here")
    os.symlink("itself", tmp_path / "a" / "itself")
    walked = walk([tmp_path])
    assert paths(walked) == ["a/x"]
    assert rows(walked) == {"a/itself": "unreadable"}


def test_a_link_to_a_folder_above_those_given_leads_outside(tmp_path: Path) -> None:
    save(tmp_path / "a" / "x")
    os.symlink(tmp_path, tmp_path / "a" / "up")
    walked = walk([tmp_path / "a"])
    assert (paths(walked), rows(walked)) == (["x"], {"up": "linked_outside"})


def test_a_linked_file_is_read_wherever_it_lies_and_once(tmp_path: Path) -> None:
    away = save(tmp_path / "away" / "x")
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        os.symlink(away, tmp_path / "in" / name)
    walked = walk([tmp_path / "in"])
    assert [(entry.path, entry.file) for entry in walked.files] == [("a", tmp_path / "in" / "a")]
    assert walked.links == {tmp_path / "in" / "a": (tmp_path / "in" / "b",)}
    assert len(discover(walked).series) == 1


def test_a_link_into_the_output_folder_is_left_out_with_it(tmp_path: Path) -> None:
    save(tmp_path / "out" / "y")
    os.symlink("out/y", tmp_path / "y")
    os.symlink("out", tmp_path / "o")
    walked = walk([tmp_path], exclude=tmp_path / "out")
    assert (walked.files, walked.rejected, walked.links) == ((), (), {})


@pytest.mark.parametrize("out", ["", "st"])
def test_a_link_below_an_output_folder_above_the_folder_given_is_read(tmp_path: Path, out: str) -> None:
    save(tmp_path / "archive" / "x")
    save(tmp_path / "st" / "a" / "y")
    os.symlink(tmp_path / "archive" / "x", tmp_path / "st" / "x")
    os.symlink("a/y", tmp_path / "st" / "z")
    walked = walk([tmp_path / "st"], exclude=tmp_path / out)
    assert paths(walked) == ["a/y", "x"]
    assert walked.links == {tmp_path / "st" / "a" / "y": (tmp_path / "st" / "z",)}


def test_a_link_to_a_folder_given_inside_the_output_folder_adds_a_name(tmp_path: Path) -> None:
    save(tmp_path / "out" / "st" / "x")
    save(tmp_path / "out" / "y")
    os.symlink("out/st/x", tmp_path / "x")
    os.symlink("out/y", tmp_path / "y")
    walked = walk([tmp_path, tmp_path / "out" / "st"], exclude=tmp_path / "out")
    assert paths(walked) == ["x"]
    assert walked.links == {tmp_path / "out" / "st" / "x": (tmp_path / "x",)}


def test_a_link_to_nowhere_is_a_row(tmp_path: Path) -> None:
    os.symlink(tmp_path / "gone", tmp_path / "x")
    assert rows(walk([tmp_path])) == {"x": "unreadable"}


def test_a_file_deeper_than_any_path_can_say_is_read(tmp_path: Path) -> None:
    original = save(tmp_path / "x")
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(24):  # of 200 bytes: 4,800 in all
        os.mkdir("d" * 200, dir_fd=folder)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = below
    with os.fdopen(os.open("deep", os.O_WRONLY | os.O_CREAT, dir_fd=folder), "wb") as file:
        file.write(original.read_bytes())
    os.symlink("deep", "link", dir_fd=folder)
    os.close(folder)
    original.unlink()
    walked = walk([tmp_path])
    (entry,) = walked.files
    assert entry.path.endswith("d/deep") and len(entry.path) > 4800
    assert [(path[-6:], reason) for path, reason in rows(walked).items()] == [("d/link", "unreadable")]
    for fast in (True, False):
        (header,) = read_headers(entry.file, entry.path, fast=fast, state=entry.state)
        assert SliceReader(fast=fast).read(header).stored.shape == (512, 512)


def test_a_files_state_is_that_of_its_finding(tmp_path: Path) -> None:
    file = save(tmp_path / "x")
    (entry,) = walk([tmp_path]).files
    assert entry.state == file_state(file.stat())
    os.symlink("x", tmp_path / "y")
    (given,) = walk([tmp_path / "y"]).files
    assert (given.path, given.state) == ("y", entry.state)


def unix_socket(path: Path) -> Path:
    """A socket, whose name is bound from within its folder: a socket's path may have 107 bytes."""
    folder = os.getcwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
    finally:
        os.chdir(folder)
    return path

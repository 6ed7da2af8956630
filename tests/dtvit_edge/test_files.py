from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dtvit_edge.errors import ConfigError, DiskFault
from dtvit_edge.files import make_folder, remove_parts, write_all, write_atomically


@contextmanager
def umask(value: int) -> Iterator[None]:
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("content", ["é\r\n", b"\xff\0"], ids=["text", "bytes"])
def test_what_is_written_is_there_to_the_last_byte(tmp_path: Path, content: str | bytes) -> None:
    write_atomically(tmp_path / "x", content)
    assert (tmp_path / "x").read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS, errno.ENOENT], ids=errno.errorcode.get)
def test_a_disk_that_fails_is_said_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    (tmp_path / "x").write_text("before")

    def fail(*arguments: Any, **more: Any) -> Any:
        raise OSError(number, os.strerror(number), "/data/Smith^John/x")

    with monkeypatch.context() as patched:
        patched.setattr(os, step, fail)
        with pytest.raises(DiskFault, match=f"^the disk failed at x: {os.strerror(number)}$") as caught:
            write_atomically(tmp_path / "x", "after")
    assert caught.value.exit_status == 5
    assert os.listdir(tmp_path) == ["x"] and (tmp_path / "x").read_text() == "before"


def test_a_disk_that_takes_a_part_is_given_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true_write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: true_write(descriptor, data[:3]))
    write_atomically(tmp_path / "x", "0123456789")
    assert (tmp_path / "x").read_text() == "0123456789"


def test_a_file_system_that_flushes_no_folder_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_fsync = os.fsync

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        true_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "x", "whole")
    assert (tmp_path / "x").read_text() == "whole"


@pytest.mark.parametrize(
    ("mask", "file_mode", "folder_mode"), [(0, 0o640, 0o750), (0o022, 0o640, 0o750), (0o077, 0o600, 0o700)]
)
def test_modes_are_for_the_owners_group_at_most(tmp_path: Path, mask: int, file_mode: int, folder_mode: int) -> None:
    (tmp_path / "old").write_text("")
    (tmp_path / "old").chmod(0o666)
    with umask(mask):
        make_folder(tmp_path / "a" / "b")
        for path in (tmp_path / "a" / "b" / "x", tmp_path / "old"):
            write_atomically(path, "")
            assert path.stat().st_mode & 0o777 == file_mode
    for folder in (tmp_path / "a", tmp_path / "a" / "b"):
        assert folder.stat().st_mode & 0o777 == folder_mode


def test_a_link_in_the_place_of_a_file_leads_nothing_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("before")
    (tmp_path / "x").symlink_to("elsewhere")
    write_atomically(tmp_path / "x", "after")
    assert (tmp_path / "elsewhere").read_text() == "before" and not (tmp_path / "x").is_symlink()


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300], ids=["a file", "below a file", "too long"])
def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"is not a folder|cannot be written: "):
        make_folder(tmp_path / name)


def test_what_a_killed_process_left_half_written_is_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".x.csv.0a1b2c3d.part", ".y.csv.0a1b2c3d.part", "x.csv", ".x.csv.part.keep"):
        (tmp_path / name).write_text("")
    remove_parts(tmp_path / "x.csv")
    assert sorted(os.listdir(tmp_path)) == [".x.csv.part.keep", ".y.csv.0a1b2c3d.part", "x.csv"]


def test_nothing_to_write_is_written(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        write_all(file.fileno(), b"")
    assert (tmp_path / "x").read_bytes() == b""

"""A merge on a disk that is full, a real one: a sentence, no half of anything, and a rerun that finishes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import main
from dtvit_edge.scoring.api import Options
from dtvit_edge.scoring.output_folder import RUN
from dtvit_edge.scoring.run import run
from dtvit_edge.scoring.shards import Shard
from tests.support.scoring_runs import results

OPTIONS = Options(backend="onnxruntime", batch=4, threads=1, workers=1)
PAGE = 4096  # what a file of a tmpfs grows by


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root alone")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def leave(disk: Path, count: int) -> None:
    """Fill a disk, but for so many bytes."""
    filler = disk / "filler"
    filler.unlink(missing_ok=True)
    free = os.statvfs(disk)
    filler.write_bytes(bytes(free.f_bavail * free.f_frsize - count))


def test_a_merge_on_a_full_disk_ends_with_a_sentence_and_the_same_command_finishes_later(
    tiny_bundle: Bundle, phantom_folder: Path, small_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in (1, 2):
        run(tiny_bundle, [phantom_folder], tmp_path / str(i), OPTIONS, shard=Shard(i, 2))
    out = small_disk / "out"
    command = ["merge", str(tmp_path / "1"), str(tmp_path / "2"), "-o", str(out)]
    assert main(["merge", *command[1:3], "-o", str(tmp_path / "whole")]) == 0
    whole = results(tmp_path / "whole")
    seen, statuses = set(), list[int]()
    for pages in range(40):
        leave(small_disk, pages * PAGE)
        capsys.readouterr()
        status = main(command)
        if status == 0:
            break
        said = capsys.readouterr().err
        assert status in (2, 5) and "No space left on device" in said and "Traceback" not in said, (pages, said)
        statuses.append(status)
        there = {path.name for path in out.iterdir() if not path.name.startswith(".")} if out.exists() else set()
        assert RUN not in there and there <= whole.keys()
        assert all((out / name).read_bytes() == whole[name] for name in there), "what has its name is whole"
        assert not [path for path in small_disk.rglob("*") if ".tmp" in path.name or ".part" in path.name]
        seen.add(len(there))
    assert statuses == sorted(statuses) and set(statuses) == {2, 5}, "2 before anything was written, 5 afterwards"
    assert seen >= {0, 1}, "it was full before a table and between two"
    assert status == 0 and results(out) == whole and (out / RUN).exists()


def test_a_table_that_no_merge_of_these_shards_left_is_nobodys_to_replace(
    tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tiny_bundle, [phantom_folder], tmp_path / "1", OPTIONS, shard=Shard(1, 1))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "slices.csv").write_bytes((tmp_path / "1" / "slices.csv").read_bytes() + b"x")
    assert main(["merge", str(tmp_path / "1"), "-o", str(tmp_path / "out")]) == 2
    assert "is not empty and holds no run" in capsys.readouterr().err

"""What a test run shares is made by one worker, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.made_once import made_once


def test_the_second_who_asks_gets_what_the_first_made(tmp_path_factory: pytest.TempPathFactory) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "a.txt").write_text("whole")

    first, second = (made_once(tmp_path_factory, "asked-twice", make) for _ in range(2))
    assert first == second and len(made) == 1
    assert [path.name for path in first.iterdir()] == ["a.txt"]


def test_what_fails_half_way_leaves_nothing_and_is_made_anew(tmp_path_factory: pytest.TempPathFactory) -> None:
    def fail(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        made_once(tmp_path_factory, "failed-once", fail)
    folder = made_once(tmp_path_factory, "failed-once", lambda folder: (folder / "a.txt").write_text("whole"))
    assert [path.name for path in folder.iterdir()] == ["a.txt"]

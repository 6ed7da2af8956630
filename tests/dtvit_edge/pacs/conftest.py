"""Studies of every kind with their runs, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from dtvit_edge.bundle import Bundle
from tests.support.made_once import made_once
from tests.support.pacs_objects import studies_of_every_kind


@pytest.fixture(scope="session")
def kinds(
    tiny_bundle: Bundle, phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[Path, Path]]:
    """By kind of result: the folder of its files, and the output of its run; read-only."""
    names = ("flagged", "not_flagged", "partial", "not_scored")
    folder = made_once(
        tmp_path_factory, "pacs-kinds", lambda made: studies_of_every_kind(tiny_bundle, phantom_folder, made)
    )
    return {name: (folder / name / "in", folder / name / "out") for name in names}

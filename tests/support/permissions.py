"""Files and folders that may not be opened, for root as well, whom no permission stops."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest


def forbid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take all permissions away; where the tests run as root, opening it or what lies in it fails by a stand-in."""
    path.chmod(0)
    if os.geteuid() != 0:
        return
    true_open = os.open

    def refusing_open(name: Any, *arguments: Any, **more: Any) -> int:
        if os.path.join(os.fspath(name), "").startswith(os.path.join(path, "")):
            raise PermissionError(13, "Permission denied")
        return true_open(name, *arguments, **more)

    monkeypatch.setattr(os, "open", refusing_open)

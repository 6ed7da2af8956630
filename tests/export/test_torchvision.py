"""torchvision imports beside any torch, and a healthy install is left alone."""

from __future__ import annotations

import importlib
import subprocess
import sys
import types

import pytest
import torch

from export import _torchvision


def test_timm_and_torchvision_import() -> None:
    assert _torchvision.torchvision.models.alexnet
    assert _torchvision.timm.is_model("vit_base_patch16_224")


def test_importing_again_declares_nothing_more() -> None:
    before = list(_torchvision.declared)
    assert _torchvision.import_torchvision() is sys.modules["torchvision"]
    assert _torchvision.declared == before


def test_healthy_install_gets_no_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = types.ModuleType("torchvision")
    monkeypatch.setattr(importlib, "import_module", lambda name: healthy)
    monkeypatch.setattr(torch.library, "Library", lambda *args: pytest.fail("declared a library"))
    assert _torchvision.import_torchvision() is healthy


def test_any_other_failure_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> types.ModuleType:
        raise RuntimeError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(RuntimeError, match="libcudart"):
        _torchvision.import_torchvision()


def test_operators_declared_beforehand_are_not_declared_twice() -> None:
    """What a healthy install looks like to a fresh process: the operators are there before torchvision is."""
    code = (
        "import torch; library = torch.library.Library('torchvision', 'DEF')\n"
        f"for schema in {_torchvision.SCHEMAS!r}: library.define(schema)\n"
        "from export import _torchvision; print(_torchvision.declared)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

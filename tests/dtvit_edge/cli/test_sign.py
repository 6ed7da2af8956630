"""`sign`, and `--trust` of every command that takes a bundle."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dtvit_edge.bundle import SIGNATURE, Bundle
from dtvit_edge.cli.commands import main
from tests.support.data import ROOT
from tests.support.ssh_keys import Keys, write_keys

# A command and what it needs to come as far as opening its bundle.
COMMANDS = {
    "score": "{bundle} {slices} -o out",
    "verify": "{bundle}",
    "build": "{bundle} --precision fp32",
    "compat": "{bundle} --target cpu",
    "inspect": "{bundle}",
    "sign": "{bundle} --key {key}",
    "bench": "{bundle} -o out",
    "calibrate": "{bundle} --slices {slices}",
    "threshold": "{bundle} --reset",
    "tune": "{bundle}",
}


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return write_keys(tmp_path)


@pytest.fixture
def bundle(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "b.dtvit"))


def test_a_bundle_is_signed_and_taken_by_those_who_trust_the_key(
    bundle: Path, keys: Keys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sign", str(bundle), "--key", str(keys.private), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["key"].startswith("SHA256:") and (bundle / SIGNATURE).stat().st_mode & 0o777 == 0o640
    assert main(["verify", str(bundle), "--backend", "onnxruntime", "--trust", str(keys.public)]) == 0
    assert f"trusted key {said['key']}" in capsys.readouterr().out
    assert main(["inspect", str(bundle), "--json", "--trust", str(keys.public)]) == 0
    assert json.loads(capsys.readouterr().out)["signature"]["trusted"] is True
    assert main(["sign", str(bundle), "--key", str(write_keys(tmp_path, "other").private)]) == 0
    assert main(["inspect", str(bundle), "--trust", str(keys.public)]) == 2
    assert "which is not trusted here" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_refuses_a_bundle_that_no_trusted_key_signed(
    command: str, bundle: Path, keys: Keys, phantom_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    line = COMMANDS[command].format(bundle=bundle, slices=phantom_folder / "study-0001", key=keys.private)
    before = sorted(tmp_path.rglob("*"))
    assert main([command, *line.split(), "--trust", str(keys.public)]) == 2
    assert "it is not signed" in capsys.readouterr().err and sorted(tmp_path.rglob("*")) == before


def test_a_bundle_with_a_damaged_file_is_not_signed(
    bundle: Path, keys: Keys, capsys: pytest.CaptureFixture[str]
) -> None:
    (bundle / "model.fp32.onnx").write_bytes(b"x" * (bundle / "model.fp32.onnx").stat().st_size)
    assert main(["sign", str(bundle), "--key", str(keys.private)]) == 2
    assert "the manifest names" in capsys.readouterr().err and not (bundle / SIGNATURE).exists()


def test_the_signature_goes_to_a_device_with_the_thresholds_that_it_covers(
    bundle: Path, keys: Keys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from dtvit_edge.bundle import Threshold, Thresholds, write_thresholds

    write_thresholds(bundle, Bundle.open(bundle).digest, Thresholds(Threshold(0.3), Threshold(0.3)))
    assert main(["sign", str(bundle), "--key", str(keys.private)]) == 0
    capsys.readouterr()
    assert main(["inspect", str(bundle), "--device-files", "cpu"]) == 0
    for name in capsys.readouterr().out.split():
        (tmp_path / "device" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(bundle.parent / name, tmp_path / "device" / name)
    assert Bundle.open(tmp_path / "device" / bundle.name, trust=keys.public).thresholds.slice.value == 0.3


@pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal is POSIX's")
def test_a_passphrase_is_typed_on_the_terminal_unseen(bundle: Path, tmp_path: Path) -> None:
    keys = write_keys(tmp_path, passphrase=b"pass word")
    command = [sys.executable, "-m", "dtvit_edge", "sign", str(bundle), "--key", str(keys.private)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    none = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment)
    assert none.returncode == 2 and "only be typed on a terminal" in none.stderr
    pid, terminal = pty.fork()
    if not pid:
        os.execve(sys.executable, command, environment)
    shown = b""
    while b"Passphrase of the key" not in shown:
        shown += os.read(terminal, 1000)
    os.write(terminal, b"pass word\n")
    try:
        while more := os.read(terminal, 1000):
            shown += more
    except OSError:  # the end, as Linux says it
        pass
    assert os.waitpid(pid, 0)[1] == 0, shown
    assert b"signed by SHA256:" in shown and b"pass word" not in shown
    assert Bundle.open(bundle, trust=keys.public).signer

"""`dtvit-edge view`: what it listens on, what it asks for, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from dtvit_edge.cli.commands import main
from tests.support.viewed_runs import study_line, write_tables

pytest.importorskip("jinja2")
pytest.importorskip("starlette", reason="starlette, of the extra `view`, is not installed")
pytest.importorskip("uvicorn", reason="uvicorn, of the extra `view`, is not installed")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return write_tables(tmp_path / "out", [study_line("1.1", flagged="1", probability="0.9")])


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Serving is left out."""
    from dtvit_edge.report import page_server

    seen: list[str] = []
    monkeypatch.setattr(page_server, "serve", lambda app, listening: seen.append(str(listening.getsockname()[0])))
    return seen


def test_it_listens_on_this_machine_alone_and_asks_for_no_token(
    out: Path, served: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["view", str(out), "--port", "0"]) == 0
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\n", capsys.readouterr().out) and served == ["127.0.0.1"]


def test_elsewhere_it_makes_a_token_and_prints_it_once(
    out: Path, served: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["view", str(out), "--port", "0", "--host", "0.0.0.0"]) == 0
    first = capsys.readouterr().out
    assert main(["view", str(out), "--port", "0", "--host", "0.0.0.0"]) == 0
    tokens = re.findall(r"http://0\.0\.0\.0:\d+/\?token=([\w-]{43})\n", first + capsys.readouterr().out)
    assert len(set(tokens)) == 2


def test_a_token_of_a_file_is_not_printed(
    out: Path, tmp_path: Path, served: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    file.write_text("s" * 20 + "\n")
    file.chmod(0o600)
    assert main(["view", str(out), "--port", "0", "--host", "0.0.0.0", "--token-file", str(file)]) == 0
    assert "sss" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [("short\n", 0o600, "needs 16 signs"), ("s" * 20, 0o644, "others may read it"), ("s s" * 20, 0o600, "needs 16"),
     ("\xe4" * 20, 0o600, "plain ASCII"), ("s" * 5000, 0o600, "at most 1024")],
)  # fmt: skip
def test_what_is_no_token_is_refused(
    out: Path, tmp_path: Path, text: str, mode: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    file.chmod(mode)
    assert main(["view", str(out), "--token-file", str(file)]) == 2
    assert said in capsys.readouterr().err


def test_a_port_that_is_taken_and_a_folder_that_is_not_there_are_sentences(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert main(["view", str(out), "--port", str(other.getsockname()[1])]) == 2
    assert "cannot be used: Address already in use; --port gives another" in capsys.readouterr().err
    assert main(["view", str(tmp_path / "nowhere")]) == 2
    assert "No such file or directory" in capsys.readouterr().err
    assert main(["view", str(out), "--host", "192.0.2.1", "--port", "0"]) == 2
    (out / "studies.csv").write_text("study_uid\n")
    assert main(["view", str(out)]) == 2
    assert "studies.csv has no column" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "jinja2"])
def test_a_package_that_is_missing_is_named(
    out: Path, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from dtvit_edge.report import templates

    for name in (package, f"{package}.applications"):
        monkeypatch.setitem(sys.modules, name, None)
    templates._environment.cache_clear()
    assert main(["view", str(out), "--port", "0"]) == 2
    assert f"{package} is not installed" in capsys.readouterr().err


@pytest.mark.real
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_signal_ends_it_in_order_and_a_slow_client_holds_nobody_up(out: Path) -> None:
    command = [sys.executable, "-m", "dtvit_edge", "view", str(out), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            address = process.stdout.readline().strip()
            port = int(address.rstrip("/").rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port)) as slow:
                slow.sendall(b"GET / HTTP/1.1\r\nHost: ")
                with urllib.request.urlopen(address, timeout=10) as answer:
                    assert b"study-1.1.html" in answer.read()
                begun = time.monotonic()
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=20) == 130
            assert time.monotonic() - begun < 15
            assert process.stderr.read().split() == ["interrupted"]
        finally:
            process.kill()

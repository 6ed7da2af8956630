"""Attacks by text: what a DICOM file, a bundle or a folder may be called, at every command that prints it."""

from __future__ import annotations

import ast
import json
import logging
import re
from pathlib import Path

import pytest

from dtvit_edge.bundle import Bundle
from dtvit_edge.cli import terminal
from dtvit_edge.cli.commands import main
from tests.support.data import ROOT
from tests.support.dicom_files import series
from tests.support.tiny_bundle import edit_manifest, write_tiny_bundle

MARKUP = "1.2[/x]"
ESCAPES = "\x1b]0;owned\x07\x9b31m\u202egnp"
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
MAY_PRINT = {
    "dtvit_edge/cli/terminal.py",  # the one place
    "dtvit_edge/__main__.py",  # a constant, before anything is loaded
    "dtvit_edge/trt/builder.py",  # a child process; its parent escapes
}


def test_uids_with_markup_are_printed_as_they_are(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    series(tmp_path / "in", [0, 5, 10], uid=MARKUP, study="1.2[/y]")
    arguments = ["score", str(tiny_bundle.path), str(tmp_path / "in")]
    for more in (["--dry-run"], ["-o", str(tmp_path / "out"), "--backend", "onnxruntime"]):
        assert main([*arguments, *more]) in (0, 3, 4)
        assert "1.2[/y]" in capsys.readouterr().out


def test_names_of_files_reach_terminal_log_and_csv_spelled(
    tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / f"in{ESCAPES}"
    series(folder, [0, 5, 10])
    (folder / f"=x{ESCAPES}\nINFO forged.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    out = tmp_path / f"out{ESCAPES}"
    main(["-v", "score", str(tiny_bundle.path), str(folder), "-o", str(out), "--backend", "onnxruntime"])
    streams = capsys.readouterr()
    text = (out / "slices.csv").read_text(encoding="utf-8")
    for sink in (streams.out, streams.err, text):
        assert not _OBEYED.search(sink)
    assert not any(line.startswith("INFO forged") for line in (streams.err + text).splitlines())
    assert "\\x1b]0;owned\\x07\\x9b31m\\u202egnp" in text and "\\x1b" in streams.out


def test_a_bundles_texts_and_an_unusable_path_are_spelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = write_tiny_bundle(tmp_path / "b.dtvit")
    edit_manifest(bundle.path, name=f"[/x]{ESCAPES}", encoder=f"[bold]{ESCAPES}")
    moved = bundle.path.rename(tmp_path / f"b{ESCAPES}.dtvit")
    for arguments in (["inspect"], ["compat", "--target", "cpu"], ["inspect", "--device-files", "cpu"]):
        main([arguments[0], str(moved), *arguments[1:]])
    main(["inspect", str(tmp_path / f"absent{ESCAPES}\nerror: forged")])
    main(["score", str(moved), f"--{ESCAPES}"])
    streams = capsys.readouterr()
    assert not _OBEYED.search(streams.out + streams.err)
    assert "\nerror: forged" not in streams.err
    assert main(["inspect", str(moved), "--json"]) in (0, 2)
    assert not _OBEYED.search(capsys.readouterr().out)


def test_a_record_of_the_log_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.setup_logging(verbose=False, quiet=False)
    logging.getLogger("dtvit_edge.x").warning("%s", f"a\nINFO forged{ESCAPES}")
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "WARNING a\\nINFO forged\\x1b]0;owned\\x07\\x9b31m\\u202egnp"


def test_json_keeps_the_text_and_spells_it(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.echo_lines(json.dumps({"a": ESCAPES, "b": "\n"}, indent=1))
    text = capsys.readouterr().out
    assert json.loads(text) == {"a": ESCAPES, "b": "\n"} and not _OBEYED.search(text)


def test_one_place_writes_to_the_terminal() -> None:
    rooms = ("dtvit_edge", "export", "evaluation", "calibration", "training")
    paths = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    for path in [*paths, *(ROOT / "benchmarks").glob("*.py"), *(ROOT / "benchmarks" / "report").glob("*.py")]:
        if path.relative_to(ROOT).as_posix() in MAY_PRINT:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name):
                assert node.id != "print", path.relative_to(ROOT)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "click":
                assert node.attr not in ("echo", "secho"), path.relative_to(ROOT)

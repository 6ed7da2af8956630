"""Nothing phones home: no command speaks to another machine, or writes where nobody asked it to."""

from __future__ import annotations

import ast
import importlib.util
import os
import shutil
from pathlib import Path

import pytest

from dtvit_edge.bundle import Bundle
from tests.support.data import ROOT
from tests.support.watched import STRACE, watch

# What one process runs, one command after the other: `verify` takes every backend that is here.
COMMANDS = {
    "no model": ["doctor", "inspect {bundle}", "compat {bundle} --target cpu", "score {bundle} {slices} --dry-run"],
    "phantom": ["phantom phantoms --studies 1"],
    "score": ["score {bundle} {slices} -o out"],
    "verify": ["verify {bundle}"],
}
_RUN = (
    "import sys\nfrom dtvit_edge.cli.commands import main\nsys.exit(max(main(line.split()) for line in sys.argv[1:]))"
)


@pytest.mark.parametrize("commands", COMMANDS)
def test_a_command_speaks_to_nobody_and_writes_where_it_was_told(
    commands: str, tiny_bundle: Bundle, phantom_folder: Path, tmp_path: Path
) -> None:
    places = {"bundle": tiny_bundle.path, "slices": phantom_folder / "study-0001"}
    seen = watch([line.format(**places) for line in COMMANDS[commands]], tmp_path, program=("-c", _RUN))
    assert seen.status == 0, seen.output
    assert not seen.addresses and not seen.written and not seen.open_to_others


def test_signing_and_trusting_are_quiet(tiny_bundle: Bundle, tmp_path: Path) -> None:
    from tests.support.ssh_keys import write_keys

    keys = write_keys(tmp_path)
    shutil.copytree(tiny_bundle.path, tmp_path / "work" / "copy.dtvit")
    lines = [f"sign copy.dtvit --key {keys.private}", f"inspect copy.dtvit --trust {keys.public}"]
    seen = watch(lines, tmp_path, program=("-c", _RUN))
    assert seen.status == 0, seen.output
    assert not seen.addresses and not seen.written and not seen.open_to_others


# The smallest run of each to its end; `few` are thirty labelled slices of ten patients.
WORKSTATION = {
    "threshold": ["threshold copy.dtvit --labels {few}", "threshold copy.dtvit --reset"],
    "export": ["export {checkpoint} -o small.dtvit --training untrained"],
    "calibrate": [
        "calibrate copy.dtvit --slices {few} --count 8 --least-slices 2 --agreement 0 --delta-auc 1 --shift-agreement 0"
    ],
    "deploy": [
        "deploy {checkpoint} -o small.dtvit --training untrained --slices {few} "
        "--count 8 --least-slices 2 --agreement 0 --delta-auc 1 --shift-agreement 0"
    ],
    "build": ["build copy.dtvit --backend openvino --precision fp32"],
    "bench": [
        "bench copy.dtvit -o bench --quick --rounds 1 --precision fp32 --backend onnxruntime --slices {few} "
        "--studies {study} --agreement 0 --delta-auc 1 --least-slices 2 --record records.jsonl",
        "bench report bench/bench.jsonl -o again",
    ],
    "train": [
        "train {few} -o run --encoder test_vit --training synthetic --epochs 1 --workers 1 --batch 4",
        "evaluate {few} run -o figures",
    ],
}


@pytest.mark.real
@pytest.mark.parametrize("commands", WORKSTATION)
def test_a_command_of_the_workstation_is_quiet_to_its_end(
    commands: str, two_block_bundle: Bundle, small_checkpoint: Path, few_phantoms: Path, phantom_folder: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    shutil.copytree(two_block_bundle.path, tmp_path / "work" / "copy.dtvit")
    few = _half_positive(few_phantoms)
    places = {"checkpoint": small_checkpoint, "few": few, "study": phantom_folder / "study-0001"}
    seen = watch([line.format(**places) for line in WORKSTATION[commands]], tmp_path, program=("-c", _RUN))
    assert seen.status == 0, seen.output
    # This device's key, by which it knows what it compiled, is made where something is first compiled.
    state = tmp_path / "home" / ".local"
    elsewhere = {path for path in seen.written if not (commands == "build" and Path(path).is_relative_to(state))}
    assert not seen.addresses and not elsewhere and not seen.open_to_others


def _half_positive(csv_file: Path) -> Path:
    """The same slices, every second of which is called positive: there is something to tune and to calibrate on."""
    lines = [line.split(",") for line in csv_file.read_text().splitlines()]
    for number, line in enumerate(lines[1:]):
        line[2:] = ("1", "lobar") if (number // 10 + number) % 2 else ("0", "")
    csv_file.write_text("\n".join(",".join(line) for line in lines) + "\n")
    return csv_file


@pytest.mark.skipif(STRACE is None, reason="strace is not installed, and an audit hook sees no C library")
def test_the_watch_sees_sockets_and_files(tmp_path: Path) -> None:
    code = (
        "import os, socket; socket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.1', 9)); "
        "os.mkdir(os.path.expanduser('~/intel')); open(os.path.expanduser('~/intel/stats'), 'w')"
    )
    seen = watch([], tmp_path, program=("-c", code))
    assert seen.addresses == {"192.0.2.1"}
    assert {str(tmp_path / "home" / name) for name in ("intel", "intel/stats")} == seen.written


@pytest.mark.parametrize("room", ["export", "evaluation", "calibration", "training", "benchmarks"])
def test_a_room_has_telemetry_off_before_its_modules_load_anything(room: str) -> None:
    body = ast.parse((ROOT / room / "__init__.py").read_text(encoding="utf-8")).body
    first = next(node for node in body if isinstance(node, (ast.Import, ast.ImportFrom)))
    assert isinstance(first, ast.Import) and first.names[0].name == "dtvit_edge"


def test_openvino_takes_its_own_stub_and_child_processes_inherit_the_rest() -> None:
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    from openvino.tools.ovc import telemetry_utils

    assert telemetry_utils.tm.__name__ == "openvino.tools.ovc.telemetry_stub"

"""INT8 by other tools: who sees which slices, who is left out, and what the page says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.peers import Peer
from benchmarks.report.int8_peers_table import int8_peers_table
from benchmarks.standalone import int8_peers
from dtvit_edge.bundle import Bundle
from evaluation.records import read

STATIC, BROKEN, ABSENT = "ONNX Runtime static", "breaks", "is not here"
SEEN: list[int] = []


def static(fp32: bytes, pixels: np.ndarray) -> bytes:
    SEEN.append(len(pixels))
    return int8_peers.int8_of(fp32, pixels[:2])  # ranges of fewer


def breaks(fp32: bytes, pixels: object) -> bytes:
    raise ValueError("no such node\nand more")


TOOLS = (
    Peer(STATIC, "none", (), __name__, "static"),
    Peer(BROKEN, "none", (), __name__, "breaks"),
    Peer(ABSENT, "none", ("no_such_module",), __name__, "breaks"),
)


def test_every_tool_sees_the_same_slices_and_is_judged_on_the_same_others(
    two_block_bundle: Bundle, phantom_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_peers, "QUANTISERS", TOOLS)
    monkeypatch.setattr(int8_peers, "shifts_of", lambda slices, *given: slices.pixels[:2] // 2)
    monkeypatch.setattr(int8_peers, "split_into_sets", lambda pool, test, seed: {"calibration": pool, "test": test})
    truth, out = str(phantom_folder / "truth.csv"), tmp_path / "r"
    asked = [str(two_block_bundle.path), "--ranges", truth, "--slices", truth, "--other", str(phantom_folder)]
    sizes = ["--seen", "4", "--home", "3", "--shifted", "1", "--rounds", "10"]
    done = CliRunner().invoke(int8_peers.main, [*asked, *sizes, "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0 and SEEN == [4]
    errors, times = read(out)
    assert errors.options["left_out"][BROKEN] == "ValueError: no such node"
    assert "no_such_module" in errors.options["left_out"][ABSENT]
    tools = (int8_peers.OURS, int8_peers.NO_SHIFTS, int8_peers.ATTENTION, STATIC)
    ways = int8_peers.ways_to_run()
    assert set(errors.options["ops"]) == set(tools)
    assert set(times.samples) == {f"{way}: {tool}" for way in ways for tool in tools}
    for hint in (hint for _, hint in ways.values() if hint):
        figures = [errors.summary[f"{tool}{words}: home, rms"] for tool in tools for words in ("", f", {hint}")]
        assert len(set(figures)) == len(figures), "an answer of its own to each tool and hint"
    quantised = {tool: errors.options["ops"][tool]["quantised"] for tool in tools}
    assert quantised[int8_peers.ATTENTION] == quantised[int8_peers.OURS] + 2 * 2, "two products in each of two blocks"
    counts = {name: errors.summary[f"{STATIC}: {name}, slices"] for name in ("home", "shifts")}
    assert counts == {"home": 3, "shifts": 2} and len(errors.samples[f"{STATIC}: home"]) == 3
    assert errors.summary[f"{int8_peers.OURS}: home, rms"] > 0

    assert "Not measured yet" in int8_peers_table(tmp_path / "nowhere")
    table = int8_peers_table(out)
    assert f"| {STATIC} | " in table and "--other SLICES" in table and str(phantom_folder) not in table
    assert "home, 3 | shifts, 2 | another site, " in table and "times as fast as dtvit-edge" in table

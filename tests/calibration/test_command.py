"""The command shows what the gate found, and keeps it as a record."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from benchmarks.report.figures_page import gate_part
from calibration.command import what_would_tell
from calibration.record import WHAT
from calibration.slices import too_few
from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.commands import main
from evaluation.agreement import Agreement
from evaluation.gate import INCONCLUSIVE, OTHER, PASSED, SetVerdict, Verdict
from evaluation.limits import Limits
from evaluation.records import read
from evaluation.scanner_shifts import SHIFTS

pytestmark = pytest.mark.usefixtures("coarse_entropy")


def test_the_command_calibrates_prints_the_gates_table_and_keeps_a_record_of_it(
    two_block_bundle: Bundle, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = Bundle.open(shutil.copytree(two_block_bundle.path, tmp_path / two_block_bundle.path.name))
    elsewhere = tmp_path / "elsewhere"
    for place, picture in enumerate(sorted(pictures.parent.glob("*.png"))[:6]):
        image = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE)
        (elsewhere / str(place // 3)).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(elsewhere / str(place // 3) / picture.name), cv2.flip(image, 0))
    arguments = ["-q", "calibrate", str(bundle.path), "--slices", str(pictures), "--agreement", "0.5"]
    arguments += ["--shift-agreement", "0.5", "--difference", "0.9", "--shift-slices", "4"]
    lenient = ["--delta-auc", "0.99", "--least-slices", "10", "--other", str(elsewhere)]
    records = tmp_path / "records.jsonl"
    assert main([*arguments, *lenient, "--record", str(records)]) == 0
    said = capsys.readouterr().out
    assert "ranges by" in said and "int8-fp16" in said and "passed" in said and "costliest: blocks." in said
    rows = {line.split("  ")[0].strip(): line for line in said.splitlines() if "%, 0." in line}
    assert set(rows) == {"home", *(shift.name for shift in SHIFTS), "another site"}
    assert " 6 " in rows["another site"] and " 4 " in rows["tilt"]
    assert main([*arguments, "--delta-auc", "1", "--record", str(records)]) == 1
    digest = Bundle.open(bundle.path).digest
    captured = capsys.readouterr()
    assert "slices, 500 are asked" in captured.out
    last = captured.err.splitlines()[-1]
    assert last.startswith("error: inconclusive, not installed: int8, int8-fp16; inconclusive, kept: fp16; ")
    assert "--least-slices asks for 500" in last and "did not pass" not in last
    assert main(["calibrate", str(bundle.path), *arguments[3:], "--agreement", "1.01", "--least-slices", "10"]) == 1
    captured = capsys.readouterr()
    last = captured.err.splitlines()[-1]
    assert last == "error: did not pass the gate, not installed: fp16, int8, int8-fp16"
    # The log is no terminal: every stage says that it begins.
    for stage in ("reading the calibration set", "histograms", "ranges", "comparing int8 with fp32"):
        assert f"{stage}: " in captured.err and f"{stage}: " not in captured.out

    passed, inconclusive = read(records)
    assert (set(passed.options["verdicts"].values()), set(inconclusive.options["verdicts"].values())) == (
        {"passed"}, {"inconclusive"}
    )  # fmt: skip
    assert passed.what == WHAT and set(passed.samples) == {"fp16", "int8", "int8-fp16", "fp8"}
    s = passed.summary
    assert s["seconds"] > 0 and s["cpu_seconds"] > 0 and 2**27 < s["peak_bytes"] < 2**34
    assert s["int8: ich_slices"] == passed.options["slices"]["test"] and s["int8: rms"] > s["fp16: rms"] > 0
    assert s["int8: noise, slices"] == 4 == passed.options["limits"]["shift_slices"] and 0 < s["int8: size"] < 1
    assert inconclusive.digests == {"bundle": digest} != passed.digests
    # No folder of patients is in it, and what it has is all that docs/figures.md asks of a record.
    assert inconclusive.options["command"] == (
        f"dtvit-edge calibrate {bundle.path.name} --slices SLICES --agreement 0.5 --delta-auc 1.0 "
        "--shift-agreement 0.5 --difference 0.9 --shift-slices 4"
    )
    assert str(tmp_path) not in records.read_text() and "--other SLICES" in passed.options["command"]
    manifest = bundle.manifest
    title = f"{manifest.name} ({manifest.encoder}, {manifest.training})"
    assert f"| {title} | int8 | inconclusive |" in gate_part(records)


def verdict_with(name: str, slices: int, flips: int = 0, studies: int = 200, of_studies: int = 0) -> Verdict:
    """An inconclusive verdict with one set away from home."""

    def agreement(count: int, flips: int) -> Agreement:
        return Agreement(count, flips, 1 - flips / count, 0.1, 0.01, 0.02)

    home = agreement(600, 0)
    away = SetVerdict(name, INCONCLUSIVE, ("why",), agreement(slices, flips), None, agreement(studies, of_studies), 0.1)
    return Verdict("int8", INCONCLUSIVE, (), home, None, None, None, None, None, 0.1, (), home, (away,))


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        (verdict_with(OTHER, 29), "--other has 29 slices, 100 are the fewest that can tell: give more of that site"),
        (verdict_with("tilt", 60), "tilt: 60 slices, 100 are the fewest that can tell: give more test slices"),
        (verdict_with("half dose", 256, studies=23, of_studies=1), "one of 23 studies is decided otherwise"),
        (verdict_with("zoom", 150, flips=1), "some sets hold too few slices to tell"),
        (replace(verdict_with("zoom", 256), elsewhere=()), "the test set holds too few slices"),
    ],
    ids=["another site", "few under a shift", "few studies", "few for the difference", "few at home"],
)
def test_an_inconclusive_verdict_says_what_would_tell(verdict: Verdict, said: str) -> None:
    assert what_would_tell([verdict], Limits()).startswith(said)


def test_a_verdict_that_is_clear_asks_for_nothing() -> None:
    clear = verdict_with("tilt", 256)
    away = tuple(replace(one, verdict=PASSED) for one in clear.elsewhere)
    assert what_would_tell([replace(clear, verdict=PASSED, elsewhere=away)], Limits()) == ""


def test_no_calibration_data_are_refused_with_what_to_give(
    two_block_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-q", "calibrate", str(two_block_bundle.path)]) == 2
    assert "nothing to calibrate on; give --slices" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("counts", "limits", "said"),
    [
        ({"test": 500}, Limits(), ()),
        ({"test": 500, OTHER: 100}, Limits(), ()),
        ({"test": 499}, Limits(), ("the test set has 499 slices, --least-slices asks for 500",)),
        ({"test": 500, OTHER: 29}, Limits(), ("--other has 29 slices, 100 are asked away from home",)),
        ({"test": 90}, Limits(slices=1), ("each shift has 90 slices, 100 are asked away from home",)),
        ({"test": 500}, Limits(shift_slices=8), ("each shift has 8 slices, 100 are asked away from home",)),
        ({"test": 500}, Limits(shift_slices=0), ()),
    ],
)
def test_sets_that_are_too_small_for_a_verdict_are_named_before_anything_is_computed(
    counts: dict[str, int], limits: Limits, said: tuple[str, ...]
) -> None:
    outcome = ": a verdict can be failed or inconclusive, never passed"
    assert too_few(counts, limits) == tuple(words + outcome for words in said)

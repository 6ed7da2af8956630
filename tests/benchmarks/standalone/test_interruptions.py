"""A part of the attacks that `python -m benchmarks.standalone.interruptions` does whole."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.standalone import interruption_attacks, interruptions
from benchmarks.standalone.interruption_attacks import JOURNAL, Outcome, Scored, kill, mutate, results
from dtvit_edge.bundle import Bundle
from dtvit_edge.scoring import journal
from evaluation.records import read
from tests.support.dicom_files import series
from tests.support.scoring_runs import score


@pytest.fixture(scope="module")
def scored(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """Five slices, scored in this process."""
    folder = tmp_path_factory.mktemp("attacked")
    series(folder / "in", [0, 5, 10, 15, 20])
    out = folder / "undisturbed"
    status = score(tiny_bundle, folder / "in", out).exit_status
    return Scored(tiny_bundle.path, folder / "in", folder, results(out), (out / JOURNAL).read_bytes(), status, 0.5)


@pytest.mark.parametrize("part", range(16))
def test_no_changed_byte_of_a_journal_has_an_effect(scored: Scored, part: int) -> None:
    attacks = [mutate(scored, 17, number) for number in range(10 * part, 10 * (part + 1))]
    assert not [attack for attack in attacks if not attack.outcome.is_good]
    assert {attack.outcome for attack in attacks} <= {Outcome.SAID, Outcome.REFUSED, Outcome.SAME}


@pytest.mark.parametrize("number", [0, 1], ids=["SIGKILL", "SIGTERM"])
def test_a_killed_run_ends_with_the_same_bytes(scored: Scored, number: int) -> None:
    attack = kill(scored, 3, number)
    assert attack.outcome.is_good, attack
    assert attack.kind == f"kill: {interruption_attacks.WAYS[number]}"


def test_a_run_of_attacks_is_recorded_and_goes_on_where_it_stopped(
    scored: Scored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scored, "undisturbed", lambda *arguments: scored)
    command = [str(scored.bundle), str(scored.studies), "--kills", "0", "--full-disks", "0", "--work", str(tmp_path)]
    for mutations in ("3", "5"):
        done = CliRunner().invoke(interruptions.main, [*command, "--mutations", mutations, "--record", f"{tmp_path}/r"])
        assert done.exit_code == 0, done.output
    assert len((tmp_path / "attacks.jsonl").read_text().splitlines()) == 1 + 5
    assert "mutation 0" not in done.output and "mutation 4" in done.output
    *_, record = read(tmp_path / "r")
    assert record.summary["bad"] == 0 and sum(record.summary.values()) == 5
    assert record.options["command"].endswith("BUNDLE STUDIES --kills 0 --mutations 5 --full-disks 0 --seed 1")
    assert str(tmp_path) not in json.dumps(record.options)
    done = CliRunner().invoke(interruptions.main, [*command, "--mutations", "5", "--seed", "2"])
    assert "is of another seed, bundle or studies" in str(done.exception)


def test_a_journal_that_believes_what_it_reads_is_found(scored: Scored, monkeypatch: pytest.MonkeyPatch) -> None:
    def believing(line: bytes, run: str) -> object:
        data = json.loads(line)
        return {key: value for key, value in data.items() if key != "check"}

    monkeypatch.setattr(journal, "opened", believing)
    outcomes = Counter(mutate(scored, 17, number).outcome for number in range(100))
    assert outcomes[Outcome.TRACEBACK] > 5 and outcomes[Outcome.SILENT] > 0

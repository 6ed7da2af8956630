"""What is said of a GPU without one: the owner thread's cost of a batch, and the estimate by phase."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.report.figures_page import figures_page
from benchmarks.results import CPU_RECORDS
from benchmarks.standalone import gpu_estimate, host_packing
from dtvit_edge.preprocess import kernel
from evaluation.records import latest, read


def test_host_packing_records_both_ways_and_counts_the_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_packing, "BATCHES", (3,))
    result = CliRunner().invoke(host_packing.main, ["--rounds", "5", "--out", str(tmp_path / "r.jsonl")])
    assert result.exit_code == 0, result.output
    (record,) = read(tmp_path / "r.jsonl")
    assert {side: len(us) for side, us in record.samples.items()} == {"prepared, batch 3": 5, "as they are, batch 3": 5}
    assert all(5 <= record.summary[f"{side}: driver calls"] <= 20 for side in record.samples)


@pytest.mark.parametrize("card", gpu_estimate.CARDS, ids=lambda card: card.name)
def test_an_estimate_has_all_phases_and_no_batch_costs_less_than_a_smaller_one(card: gpu_estimate.Card) -> None:
    totals = []
    for batch in (1, 2, 8, 64, 132, 264, 1000):
        phases = gpu_estimate.estimate(card, batch)
        assert len(phases) == len(gpu_estimate.PHASES) and all(us > 0 for us in phases)
        totals.append(sum(phases))
    assert [t / n for t, n in zip(totals, (1, 2, 8, 64, 132, 264, 1000), strict=True)][-1] < totals[0]
    assert totals[-1] > totals[0]


def test_the_page_says_that_the_estimate_is_none_of_its_measurements_and_names_all_registers() -> None:
    page = figures_page()
    assert "## CUDA preprocessing: an estimate, unmeasured" in page and "these are no measurements" in page
    record = latest(CPU_RECORDS, gpu_estimate.WHAT)
    assert record is not None and record.summary["bytes spilled"] == 0
    for architecture in gpu_estimate.ARCHITECTURES:
        assert all(f"SM {int(architecture) / 10:.1f}: {name}" in record.summary for name in kernel.ENTRIES)
    for card in gpu_estimate.CARDS:
        for batch, aim in card.aims:
            assert sum(gpu_estimate.estimate(card, batch)) / batch <= aim
    assert page.count("met, by this estimate") == 3

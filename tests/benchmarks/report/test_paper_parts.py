"""Comparisons of encoders as docs/paper.md shows them, of records of this version and of earlier ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.report import paper_parts
from evaluation.records import Record, append
from training.encoder_comparison import WHAT, Row

LATER = ("wall_minutes", "rate", "pretrained", "patch_weight")
FIGURES = {"accuracy": 0.9, "precision": 0.9, "recall": 0.9, "f1": 0.9, "specificity": 0.9}
BEST = Row("resnet18", True, 2, FIGURES, 0.95, 0.94, 0.96, 0.94, 0.96, 0.0, 0.0, 0.0, (30.0, 34.0), (1.0, 2.0),
           pretrained=True, rate=0.0003)  # fmt: skip
OTHER = Row("alexnet", True, 1, FIGURES, 0.92, 0.91, 0.93, 0.92, 0.92, -0.03, -0.04, -0.02, (5.0,), (0.2,),
            rate=0.01)  # fmt: skip


def shown(path: Path, rows: Sequence[dict[str, Any]], **options: Any) -> str:
    """The part of the page, of one record with these rows."""
    options |= {
        "command": "the command",
        "data": "phantoms:9",
        "budget": "2 epochs",
        "leaks": [],
        "rows": {"ich": rows},
    }
    append(path, Record(WHAT, "minutes", {"resnet18": [30.0]}, {"slices": 9.0, "patients": 3.0}, {}, options))
    return paper_parts.encoders(path)


def rows_in(text: str) -> list[list[str]]:
    """The cells of the table's head and rows."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ") and "--" not in line]
    assert len({len(line) for line in lines}) == 1
    return lines


def test_a_comparison_shows_the_rate_the_start_and_the_minutes_on_the_wall(tmp_path: Path) -> None:
    text = shown(tmp_path / "records.jsonl", [asdict(BEST), asdict(OTHER)], devices=["a GPU"])
    head, *rows = rows_in(text)
    first, second = (dict(zip(head, row, strict=True)) for row in rows)
    assert (first["learning rate"], second["learning rate"]) == ("0.0003", "0.01")
    assert (first["began with"], second["began with"]) == ("given weights", "random weights")
    assert (first["minutes on the wall each"], second["minutes on the wall each"]) == ("1.5", "0.2")
    assert (first["CPU minutes each"], second["CPU minutes each"]) == ("32", "5") and "trained on a GPU" in text


def test_a_record_of_an_earlier_version_is_shown_without_what_it_does_not_hold(tmp_path: Path) -> None:
    old = [{key: value for key, value in asdict(row).items() if key not in LATER} for row in (BEST, OTHER)]
    text = shown(tmp_path / "records.jsonl", old)
    head, first, _ = rows_in(text)
    assert not {"learning rate", "began with", "minutes on the wall each"} & set(head) and "trained on" not in text
    assert first[0] == "resnet18" and first[-1] == "32"


def test_a_training_on_a_cpu_shows_its_rate_and_no_minutes_on_the_wall(tmp_path: Path) -> None:
    rows = [asdict(BEST) | {"wall_minutes": (0.0, 0.0)}, asdict(OTHER) | {"wall_minutes": (0.0,)}]
    head, *_ = rows_in(shown(tmp_path / "records.jsonl", rows))
    assert "learning rate" in head and "minutes on the wall each" not in head and "loss on patches" not in head


def test_a_loss_on_patches_is_said_of_the_encoder_that_has_one(tmp_path: Path) -> None:
    rows = [asdict(replace(BEST, encoder="test_vit", patch_weight=20.0)), asdict(OTHER)]
    head, *shown_rows = rows_in(shown(tmp_path / "records.jsonl", rows))
    assert [row[head.index("loss on patches")] for row in shown_rows] == ["20", "none"]

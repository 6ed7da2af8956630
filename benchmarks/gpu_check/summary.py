"""What the records say of each stage: passed, failed or not run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu_check.runner import FAILED, NOT_RUN, WHAT_END, End
from benchmarks.gpu_check.stages import NOT_MEASURED, Stage
from evaluation.records import read


def ends_of(records: Path, chosen: Sequence[Stage]) -> list[End]:
    """How each stage ended the last time, read from the records; one without a record has not been run."""
    last: dict[str, End] = {}
    for record in read(records) if records.is_file() else ():
        if record.what == WHAT_END:
            told = record.options
            status = record.summary.get("status")
            last[told["stage"]] = End(
                told["stage"], told["outcome"], None if status is None else int(status),
                record.samples["seconds"][0], told["why"], told["log"],
            )  # fmt: skip
    return [last.get(stage.name) or End(stage.name, NOT_RUN, None, 0.0, "no record of its end") for stage in chosen]


def lines(ends: Sequence[End]) -> list[str]:
    """The summary for people."""
    width = max(len(end.stage) for end in ends)
    told = [f"{end.stage:{width}}  {end.outcome:7}  {end.seconds:6.1f} s  {end.why}".rstrip() for end in ends]
    counts = {
        outcome: sum(end.outcome == outcome for end in ends) for outcome in dict.fromkeys(e.outcome for e in ends)
    }
    return [
        *told,
        ", ".join(f"{count} {outcome}" for outcome, count in counts.items()),
        f"not measured: {NOT_MEASURED}",
    ]


def failed(ends: Sequence[End]) -> bool:
    """True where a stage failed."""
    return any(end.outcome == FAILED for end in ends)

"""The field cases: small studies with the faults of public issue threads, what is expected and what is found."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure.faults.running import Outcome, run_folder
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError

Row = dict[str, str]
# PEP 706: Pythons of before 3.10.12 and 3.11.4 know no filter.
_SAFE: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}


@dataclass(frozen=True)
class FieldCase:
    """One case: the archive's name, what is expected in words, and whether an outcome is that."""

    name: str
    expected: str
    holds: Callable[[Outcome], bool]


@dataclass(frozen=True)
class FieldResult:
    """What was found: the studies' rows in short."""

    case: FieldCase
    found: str
    holds: bool


def _study(outcome: Outcome) -> Row:
    """The only study's row; an empty one where there are none or several."""
    return outcome.studies[0] if len(outcome.studies) == 1 else dict.fromkeys(("status", "reason", "flagged"), "")


def _is(status: str, flagged: str) -> Callable[[Outcome], bool]:
    return lambda outcome: (_study(outcome)["status"], _study(outcome)["flagged"]) == (status, flagged)


def _partial(*reasons: str) -> Callable[[Outcome], bool]:
    def holds(outcome: Outcome) -> bool:
        study = _study(outcome)
        given = set(study["reason"].split(";"))
        return (study["status"], study["flagged"]) == ("partial", "") and given >= set(reasons)

    return holds


def _refused(*codes: str) -> Callable[[Outcome], bool]:
    return lambda outcome: (
        _study(outcome)["status"] == "not_scored" and {row["reason"] for row in outcome.slices} <= set(codes)
    )


def _never_a_silent_0(outcome: Outcome) -> bool:
    return bool(outcome.studies) and not any(
        (study["status"], study["flagged"]) == ("scored", "0") for study in outcome.studies
    )


def _either(*ways: Callable[[Outcome], bool]) -> Callable[[Outcome], bool]:
    return lambda outcome: any(way(outcome) for way in ways)


def _all_scored(outcome: Outcome) -> bool:
    return _study(outcome)["scored"] == _study(outcome)["slices"]


def _not_refused_for_contrast(outcome: Outcome) -> bool:
    return bool(outcome.slices) and not any(row["reason"] == "contrast" for row in outcome.slices)


def _two_patients(outcome: Outcome) -> bool:
    return bool(outcome.studies) and all(
        s["status"] != "scored" and "two_patients" in s["reason"].split(";") for s in outcome.studies
    )


CASES = (
    FieldCase("00_control", "scored, 1", _is("scored", "1")),
    FieldCase("00b_control_negative", "scored, 0", _is("scored", "0")),
    FieldCase("01_same_sop_uid", "scored, 1, all slices; or partial", _either(
        lambda o: _is("scored", "1")(o) and _all_scored(o), lambda o: _study(o)["status"] == "partial")),
    FieldCase("02_zero_pixels", "partial, slice_error, empty", _partial("slice_error")),
    FieldCase("04_iop_jitter", "scored, 1", _is("scored", "1")),
    FieldCase("06_retake_inflates", "scored, 0", _is("scored", "0")),
    FieldCase("07_one_no_position", "partial, gap, empty", _partial("gap")),
    FieldCase("08_rsna_wrapped12", "scored, 1; or refused implausible_hu",
              _either(_is("scored", "1"), _refused("implausible_hu"))),
    FieldCase("10_monochrome1_hu", "scored, 0", _is("scored", "0")),
    FieldCase("11_windowed8", "refused implausible_hu", _refused("implausible_hu", "not_hu")),
    FieldCase("12_truncated_then_good", "scored, 1: the complete copies", _either(
        _is("scored", "1"), _is("partial", "1"))),
    FieldCase("15_two_patients_one_study", "two_patients, never scored", _two_patients),
    FieldCase("17_contrast_spelled_no", "not refused for contrast", _not_refused_for_contrast),
    FieldCase("18_cta_no_agent", "refused contrast", _refused("contrast")),
    FieldCase("20_highbit15", "refused pixel_format, or right; not no_head", _either(
        _refused("pixel_format"), lambda o: _never_a_silent_0(o) and all(r["reason"] != "no_head" for r in o.slices))),
)  # fmt: skip


def run_field(bundle: Bundle, folder: Path) -> list[FieldResult]:
    """Unpack and score every case of the folder.

    Raises:
        ConfigError: an archive is missing.
    """
    results = []
    for case in CASES:
        archive = folder / f"{case.name}.tar.xz"
        if not archive.is_file():
            raise ConfigError(f"{archive.name} is not in the folder given with --field")
        with tempfile.TemporaryDirectory() as scratch:
            with tarfile.open(archive) as packed:
                packed.extractall(Path(scratch) / "given", **_SAFE)
            outcome = run_folder(bundle, Path(scratch) / "given", Path(scratch) / "out")
        results.append(FieldResult(case, found(outcome), not outcome.error and case.holds(outcome)))
    return results


def found(outcome: Outcome) -> str:
    """An outcome in short: the studies, and the slices' reasons with their counts."""
    if outcome.error:
        return outcome.error
    studies = [
        f"{s['status']}|{s['reason']}|{s['flagged']}|{s['ich_probability']}|{s['scored']}/{s['slices']}"
        for s in outcome.studies
    ]
    reasons = sorted({row["reason"] for row in outcome.slices if row["reason"]})
    counts = [f"{reason} {sum(row['reason'] == reason for row in outcome.slices)}" for reason in reasons]
    return f"exit {outcome.exit_status}; {'; '.join(studies)}" + (f"; rows: {', '.join(counts)}" if counts else "")


def table(results: list[FieldResult]) -> list[str]:
    """Markdown: expected and found."""
    lines = ["| case | expected | found | |", "|---|---|---|---|"]
    for result in results:
        words = result.found.replace("|", "\\|")
        lines.append(f"| {result.case.name} | {result.case.expected} | {words} | {'' if result.holds else 'MISSED'} |")
    return lines

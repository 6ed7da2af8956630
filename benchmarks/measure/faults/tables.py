"""The tables of a mutation run, and its record."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from benchmarks.measure.faults.cases import HARMFUL, SHARE_SCORED, SHRUGS, Case
from benchmarks.measure.faults.judging import FLAGGED, OUTCOMES, SCORED


def table(cases: Sequence[Case], *, harmful: bool) -> list[str]:
    """Markdown: outcomes by kind of fault; a case with two faults counts in both rows, and once in the last."""
    mine = [case for case in cases if case.harmful == harmful]
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    for case in mine:
        for kind in case.kinds:
            by_kind[kind][case.verdict.outcome] += 1
    total = Counter(case.verdict.outcome for case in mine)
    used = [outcome for outcome in OUTCOMES if total[outcome]]
    lines = [f"| {'fault' if harmful else 'oddity'} | cases | {' | '.join(used)} |", "|---" * (len(used) + 2) + "|"]
    for kind in HARMFUL if harmful else SHRUGS:
        if kind in by_kind:
            lines.append(_row(kind, by_kind[kind], used))
    return [*lines, _row("**all cases**", total, used)]


def listing(cases: Iterable[Case]) -> list[str]:
    """One line a case: what repeats it, what was done and what came of it."""
    return [
        f"- `{c.name}` study {c.scan}, {c.words}: **{c.verdict.outcome}** ({c.verdict.words}, exit {c.exit_status})"
        for c in cases
    ]


def missed(cases: Sequence[Case]) -> list[str]:
    """The requirements that these cases miss, in words."""
    harmful = [case for case in cases if case.harmful]
    shrugged = [case for case in cases if not case.harmful]
    misses = []
    if bad := sum(case.failed for case in harmful):
        misses.append(f"{bad} of {len(harmful)} positive studies with a fault end silently or badly; none may")
    if bad := sum(case.verdict.failed for case in shrugged):
        misses.append(f"{bad} of {len(shrugged)} negative studies end badly; none may")
    scored = sum(case.verdict.outcome in (SCORED, FLAGGED) for case in shrugged)
    if shrugged and scored < SHARE_SCORED * len(shrugged):
        misses.append(f"{scored} of {len(shrugged)} negative studies stay scored, {SHARE_SCORED:.0%} have to")
    return misses


def samples(cases: Sequence[Case]) -> dict[str, list[float]]:
    """For a record: the number of cases by outcome, `positive: OUTCOME` and `negative: OUTCOME`."""
    counts = Counter(f"{'positive' if case.harmful else 'negative'}: {case.verdict.outcome}" for case in cases)
    return {name: [float(count)] for name, count in sorted(counts.items())}


def _row(name: str, counts: Counter[str], used: Sequence[str]) -> str:
    return f"| {name} | {counts.total()} | {' | '.join(str(counts[o] or '') for o in used)} |"

"""The command: draws the cases, runs them, writes the tables.

Exit status 0 where every requirement holds, 1 where one is missed, 2 for wrong usage.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path

import click

from benchmarks.measure.faults import field, tables
from benchmarks.measure.faults.cases import HARMFUL, LOCKING, SHRUGS, Case, find_scans, plan, run_cases
from benchmarks.measure.faults.judging import END_DROPPED, END_SET_ASIDE
from benchmarks.measure.faults.permissions import permissions_bind
from dtvit_edge.bundle import Bundle
from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.cli.terminal import progress
from dtvit_edge.files import make_folder, write_atomically
from evaluation.records import Record, append

WHAT = "studies with everyday faults"


@click.command()
@click.argument("bundle", type=FilePath(exists=True, file_okay=False))
@click.option("-o", "--out", required=True, type=FilePath(), help="Write the tables and cases here.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Draw the faults from this seed.")
@click.option("--count", default=300, show_default=True, type=click.IntRange(0), help="Try so many cases of each sort.")
@click.option("--only", multiple=True, help="Run only cases with this kind of fault, or of this name (h17, s3).")
@click.option("--studies", default=6, show_default=True, type=click.IntRange(1), help="Take so many phantoms a sort.")
@click.option(
    "--field",
    "field_folder",
    type=FilePath(exists=True, file_okay=False),
    help="Score the packed field cases of this folder as well.",
)
@click.option("--record", type=FilePath(dir_okay=False), help="Append a record to this file.")
def main(
    bundle: Path, out: Path, seed: int, count: int, only: tuple[str, ...], studies: int, field_folder: Path | None,
    record: Path | None,
) -> None:  # fmt: skip
    """Do everyday faults to phantom studies, score them with BUNDLE, and look whether any 0 was not earned."""
    logging.getLogger("dtvit_edge").setLevel(logging.ERROR)  # every refused file would have its line
    opened = Bundle.open(bundle)
    without = () if permissions_bind() else LOCKING
    cases: list[Case] = []
    for harmful in (True, False):
        drawn = plan(seed, count, harmful=harmful, without=without)
        unknown = [o for o in only if o not in HARMFUL and o not in SHRUGS and not o[1:].isdigit()]
        if unknown:
            raise click.UsageError(f"no kind of fault {', '.join(unknown)}; there are {', '.join([*HARMFUL, *SHRUGS])}")
        asked = [(name, kinds) for name, kinds in drawn if not only or {name, *kinds} & set(only)]
        if asked:
            scans = find_scans(opened, studies, positive=harmful, progress=progress)
            cases.extend(run_cases(opened, scans, seed, asked, progress))
    if not cases and field_folder is None:
        raise click.UsageError("no case is left to try: --count, --only and --field ask for none")
    lines = report(cases)
    misses = tables.missed(cases)
    if without:
        lines.append("Left out, since permissions do not bind here: " + ", ".join(without))
    if field_folder is not None:
        results = field.run_field(opened, field_folder)
        lines += ["", "## Field cases", "", *field.table(results)]
        if bad := sum(not result.holds for result in results):
            misses.append(f"{bad} of {len(results)} field cases are not as expected")
    lines += ["", *(f"MISSED: {miss}" for miss in misses or [])] if misses else ["", "Every requirement holds."]
    make_folder(out)
    write_atomically(out / "faults.md", "\n".join(lines) + "\n")
    write_atomically(out / "faults.json", json.dumps(_data(opened, seed, cases), indent=1) + "\n")
    if record is not None and cases:
        command = f"python -m benchmarks.measure.faults BUNDLE -o OUT --seed {seed} --count {count}"
        summary = {"cases": float(len(cases)), "failed": float(sum(c.failed for c in cases))}
        options = {"command": command, "studies": studies, "left out": list(without)}
        append(record, Record(WHAT, "studies", tables.samples(cases), summary, {"bundle": opened.digest}, options))
    render.echo_lines("\n".join(lines))
    raise SystemExit(int(bool(misses)))


def report(cases: list[Case]) -> list[str]:
    """Both tables, and every case that failed or was excepted."""
    lines: list[str] = []
    for harmful, title in ((True, "Positive studies with faults"), (False, "Negative studies, nothing to mind")):
        mine = [case for case in cases if case.harmful == harmful]
        if not mine:
            continue
        lines += [f"## {title}", "", *tables.table(cases, harmful=harmful), ""]
        for name, some in (
            ("Failed", [c for c in mine if c.failed]),
            ("Excepted: an end that is gone or set aside", [
                c for c in mine if c.verdict.outcome in (END_DROPPED, END_SET_ASIDE)
            ]),
        ):  # fmt: skip
            if some:
                lines += [f"### {name}", "", *tables.listing(some), ""]
    return lines


def _data(bundle: Bundle, seed: int, cases: list[Case]) -> dict[str, object]:
    return {"bundle": bundle.digest, "seed": seed, "cases": [asdict(case) for case in cases]}


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.measure.faults")

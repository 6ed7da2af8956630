"""Killed runs, journals with a changed byte, full disks: does the same command end with the same bytes?

    python -m benchmarks.standalone.interruptions BUNDLE STUDIES --kills 100 --mutations 160 --full-disks 10 --seed 1

Every attack is followed by the same command, which has to end with the bytes of an undisturbed run, or to refuse in
words and change nothing. Attacks are numbered and made from the seed. What each one did stands in `attacks.jsonl` of
--work, and a run with the same --work goes on after the last.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import click

from benchmarks.measure.inputs import discover_slices
from benchmarks.results import CPU_RECORDS
from benchmarks.standalone.interruption_attacks import Attack, Outcome, Scored, fill_disk, kill, mutate
from benchmarks.standalone.program import start
from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.errors import ConfigError, VerdictError
from evaluation.records import Record, append

WHAT = "the same command after kills, changed journals and full disks"
PROGRESS = "attacks.jsonl"
KINDS: dict[str, Callable[[Scored, int, int], Attack]] = {"kill": kill, "mutation": mutate, "full disk": fill_disk}


@click.command()
@click.argument("bundle", type=FilePath())
@click.argument("studies", type=FilePath(exists=True))
@click.option("--kills", default=100, show_default=True, type=click.IntRange(0), help="Kill this many runs.")
@click.option("--mutations", default=160, show_default=True, type=click.IntRange(0),
              help="Change a byte of this many journals.")  # fmt: skip
@click.option("--full-disks", default=10, show_default=True, type=click.IntRange(0), help="Fill this many disks.")
@click.option("--seed", default=1, show_default=True, help="Make the attacks from this seed.")
@click.option("--work", type=FilePath(file_okay=False),
              help="Work in this folder, and go on with what it holds.  [default: a temporary one]")  # fmt: skip
@click.option("--record", type=FilePath(dir_okay=False), is_flag=False, flag_value=CPU_RECORDS,
              help="Append the record to this file; the bare option takes the records of CPUs.")  # fmt: skip
def main(
    bundle: Path, studies: Path, kills: int, mutations: int, full_disks: int, seed: int, work: Path | None,
    record: Path | None,
) -> None:  # fmt: skip
    """Attack runs of BUNDLE over STUDIES; exit status 1 where one ended with other bytes, a traceback or in silence."""
    discover_slices([studies], any_series=False)
    counts = dict(zip(KINDS, (kills, mutations, full_disks), strict=True))
    with tempfile.TemporaryDirectory() as temporary:
        folder = work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        scored = Scored.undisturbed(bundle, studies, folder)
        attacks = list(attacked(scored, folder / PROGRESS, counts, seed))
    table = Counter((attack.kind, str(attack.outcome)) for attack in attacks)
    for (kind, outcome), count in sorted(table.items()):
        click.echo(f"{count:5}  {kind:28} {outcome}")
    bad = [attack for attack in attacks if not attack.outcome.is_good]
    for attack in bad:
        click.echo(f"{attack.name}: {attack.outcome}: {attack.detail}")
    if record is not None:
        summary = {f"{kind}: {outcome}": float(count) for (kind, outcome), count in sorted(table.items())}
        command = "python -m benchmarks.standalone.interruptions BUNDLE STUDIES " + " ".join(
            f"--{name} {count}" for name, count in (("kills", kills), ("mutations", mutations))
        )
        options = {"seed": seed, "command": f"{command} --full-disks {full_disks} --seed {seed}"}
        seconds = {"an undisturbed run": [scored.seconds]}
        digests = {"bundle": Bundle.open(bundle).digest}
        append(record, Record(WHAT, "s", seconds, summary | {"bad": float(len(bad))}, digests, options))
    if bad:
        raise SystemExit(VerdictError.exit_status)


def attacked(scored: Scored, progress: Path, counts: dict[str, int], seed: int) -> Iterator[Attack]:
    """Every attack that is asked for; those that `progress` holds are not done again.

    Raises:
        ConfigError: `progress` is of another seed, bundle or studies.
    """
    about = {"seed": seed, "reference": scored.digest}
    done: dict[str, Attack] = {}
    if progress.exists():
        first, *lines = [json.loads(line) for line in progress.read_text().splitlines()]
        if first != about:
            raise ConfigError(f"{progress} is of another seed, bundle or studies; give another --work")
        done = {line["name"]: Attack(**line | {"outcome": Outcome(line["outcome"])}) for line in lines}
    else:
        progress.write_text(json.dumps(about) + "\n")
    for kind, count in counts.items():
        for number in range(count):
            name = f"{kind} {number}"
            if name not in done:
                done[name] = KINDS[kind](scored, seed, number)
                with progress.open("a") as file:
                    file.write(json.dumps(asdict(done[name])) + "\n")
                click.echo(f"{name}: {done[name].kind}: {done[name].outcome}", err=True)
            yield done[name]


if __name__ == "__main__":
    start(main)

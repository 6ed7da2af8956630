"""Numbered inputs in chunks: what came of them is added up, and kept so that a run goes on where it stopped."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from benchmarks.standalone.program import record_option
from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import Decorator, FilePath, option_set
from dtvit_edge.errors import ConfigError


@dataclass
class Tally:
    """What came of inputs.

    Attributes:
        counts: of kinds of outcomes, which add up; largest: of each measure, of all inputs.
        findings: a sentence each; there should be none.
    """

    counts: Counter[str] = field(default_factory=Counter)
    largest: dict[str, float] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    def measure(self, name: str, value: float) -> None:
        """Keep a measure's largest value."""
        self.largest[name] = max(value, self.largest.get(name, value))

    def add(self, other: Tally) -> None:
        """Take another's in."""
        self.counts += other.counts
        for name, value in other.largest.items():
            self.measure(name, value)
        self.findings += other.findings


def in_chunks(
    inputs: range, every: int, work: Path | None, about: dict[str, Any], run: Callable[[range], Tally]
) -> Tally:
    """Run chunk after chunk, and print each finding.

    Args:
        work: a file that keeps what each chunk came to; chunks that it holds are not run again.
        about: what makes the inputs, for `work`.

    Raises:
        ConfigError: `work` is of other inputs.
    """
    total, done = Tally(), _kept(work, about)
    for begin in range(inputs.start, inputs.stop, every):
        chunk = range(begin, min(begin + every, inputs.stop))
        key = chunk.start, chunk.stop
        if key in done:
            total.add(done[key])
            continue
        tally = run(chunk)
        for finding in tally.findings:
            render.echo(finding)
        if work is not None:
            with work.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"chunk": key, **vars(tally)}) + "\n")
        render.echo(f"{chunk.stop}: go on with --first {chunk.stop}", err=True)
        total.add(tally)
    return total


def _kept(work: Path | None, about: dict[str, Any]) -> dict[tuple[int, int], Tally]:
    if work is None:
        return {}
    if not work.exists():
        work.write_text(json.dumps(about) + "\n", encoding="utf-8")
        return {}
    first, *lines = [json.loads(line) for line in work.read_text(encoding="utf-8").splitlines()]
    if first != about:
        raise ConfigError(f"{work} is of other inputs; give another --work")
    return {tuple(line["chunk"]): Tally(Counter(line["counts"]), line["largest"], line["findings"]) for line in lines}


def fuzzing_options(seed: int, inputs: int) -> Decorator:
    """The options that every fuzzer has: `seed`, `first`, `inputs`, `work` and `out`.

    Args:
        seed, inputs: what they are by default.
    """
    return option_set(
        click.option("--seed", default=seed, show_default=True, help="Make the inputs from this seed."),
        click.option("--first", default=0, show_default=True, type=click.IntRange(0), help="Begin with this input."),
        click.option(
            "--inputs", default=inputs, show_default=True, type=click.IntRange(1), help="Try this many inputs."
        ),
        click.option(
            "--work",
            type=FilePath(dir_okay=False),
            help="Keep what came of the inputs in this file, and go on with what it holds.",
        ),
        record_option(),
    )

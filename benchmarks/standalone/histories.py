"""Folders that change at random between runs of one command: are its bytes a fresh run's, and its work the least?

    python -m benchmarks.standalone.histories BUNDLE --histories 50 --steps 6 --seed 1 [--record]

A history begins with two small studies. Each step changes the folder a few times (`growing_folder`: files added,
removed, replaced under the same times, renamed, copied, broken, the clock set back), sometimes lets the command be
killed (SIGKILL, at a random line of its journal), and scores the folder into the history's output folder. Then both
CSV files have to be those of a run into a fresh folder, and the slices that were scored those of images of which a file
is new or changed, as this program counts them from inodes and times; after a kill at most these. What a killed run left
may look finished only where it is: where its files are those of the step before, or of the fresh run.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.results import CPU_RECORDS
from benchmarks.standalone.growing_folder import GrowingFolder
from benchmarks.standalone.interruption_attacks import BACKEND, BATCH, JOURNAL, LONGEST_S, command, results
from benchmarks.standalone.program import start
from dtvit_edge.bundle import Bundle
from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.dicom.slice import SliceImage
from dtvit_edge.errors import VerdictError
from dtvit_edge.scoring.api import Options, images_of, open_backend, open_executor
from dtvit_edge.scoring.opened import OpenModel
from dtvit_edge.scoring.result_files import is_finished
from dtvit_edge.scoring.run import make_plan, run
from evaluation.records import Record, append

WHAT = "the same command over folders that change"
MOST_CHANGES = 4  # a step
KILLED = 0.3  # of the steps


@dataclass(frozen=True)
class Step:
    """What a step of a history led to.

    Attributes:
        changes: to the folder; killed: whether a run was killed before.
        same: both CSV files are those of a fresh run; honest: what a killed run left looks finished only where it is.
        scored: slices that were scored; needed: those that had to be, at most, where a run was killed.
    """

    changes: tuple[str, ...]
    killed: bool
    same: bool
    honest: bool
    scored: int
    needed: int
    rows: int

    @property
    def is_good(self) -> bool:
        """Whether the promise was kept."""
        least = self.scored <= self.needed if self.killed else self.scored == self.needed
        return self.same and self.honest and least


@contextmanager
def open_model(bundle: Bundle) -> Iterator[OpenModel]:
    """The model as the command that is killed opens it."""
    options = Options(backend=BACKEND, precision="fp32", batch=BATCH, threads=1, workers=2)
    with open_backend(bundle, BACKEND, options) as backend, open_executor(bundle, backend, options) as executor:
        yield OpenModel(options, "asked for", backend, executor)


def history(bundle: Bundle, model: OpenModel, work: Path, draw: random.Random, steps: int, killed: float) -> list[Step]:
    """One history, in a folder of its own.

    Args:
        killed: the share of steps in which a run is killed.
    """
    folder, out, fresh = GrowingFolder(work / "in", draw), work / "out", work / "fresh"
    known: set[tuple[tuple[int, int, int], ...]] = set()
    done = []
    for _ in range(steps):
        folder.done.clear()
        for _ in range(draw.randint(0, MOST_CHANGES)):
            folder.change()
        before, is_killed = results(out), draw.random() < killed
        if is_killed:
            kill(bundle, folder.root, out, draw)
        left = results(out) if is_finished(out) else before
        _, plan = make_plan([folder.root], out, model.options)
        images = {_state(image): len(image.headers) for image in images_of(plan, bundle.manifest.spec)}
        needed = sum(size for state, size in images.items() if state not in known)
        report = run(bundle, [folder.root], out, model.options, model=model)
        known |= images.keys()
        shutil.rmtree(fresh, ignore_errors=True)
        run(bundle, [folder.root], fresh, model.options, model=model)
        same = results(out) == results(fresh) and is_finished(out)
        honest = left in (before, results(fresh))
        rows = sum(report.counts.values())
        done.append(Step(tuple(folder.done), is_killed, same, honest, report.processed, needed, rows))
    return done


def kill(bundle: Bundle, studies: Path, out: Path, draw: random.Random) -> None:
    """Begin a run, and end it with SIGKILL once its journal has grown by some lines, or a little later."""
    journal = out / JOURNAL
    lines = journal.read_bytes().count(b"\n") if journal.exists() else 0
    wanted, until = lines + draw.randint(0, 2), time.monotonic() + LONGEST_S
    process = subprocess.Popen(command(bundle.path, studies, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and time.monotonic() < until:
        if out.exists() and journal.exists() and journal.read_bytes().count(b"\n") > wanted:
            break
        time.sleep(0.002)
    time.sleep(draw.uniform(0, 0.02))
    process.kill()
    process.wait()


def _state(image: SliceImage) -> tuple[tuple[int, int, int], ...]:
    """Of an image its files, by what this program knows of them: the inode, and when it was last changed."""
    members = []
    for header in image.headers:
        status = header.file.stat()
        members.append((status.st_ino, status.st_ctime_ns, header.frame))
    return tuple(members)


@click.command()
@click.argument("bundle", type=FilePath())
@click.option("--histories", default=50, show_default=True, type=click.IntRange(1), help="Live through so many.")
@click.option("--steps", default=6, show_default=True, type=click.IntRange(1), help="Change a folder so many times.")
@click.option("--seed", default=1, show_default=True, help="Make the histories from this seed.")
@click.option("--record", type=FilePath(dir_okay=False), is_flag=False, flag_value=CPU_RECORDS,
              help="Append the record to this file; the bare option takes the records of CPUs.")  # fmt: skip
def main(bundle: Path, histories: int, steps: int, seed: int, record: Path | None) -> None:
    """Let folders change under runs of BUNDLE; exit status 1 where bytes or work were others than they should be."""
    opened = Bundle.open(bundle)
    all_steps: list[Step] = []
    times: list[float] = []
    with tempfile.TemporaryDirectory() as temporary, open_model(opened) as model:
        for number in range(histories):
            begun = time.process_time()
            work = Path(temporary, str(number))
            lived = history(opened, model, work, random.Random(f"{seed} history {number}"), steps, KILLED)
            shutil.rmtree(work)
            times.append(time.process_time() - begun)
            all_steps += lived
            bad = [step for step in lived if not step.is_good]
            click.echo(f"history {number}: {len(lived) - len(bad)} of {len(lived)} steps as they should be", err=True)
            for step in bad:
                click.echo(str(step), err=True)
    changes = Counter(change for step in all_steps for change in step.changes)
    summary = {
        "steps": len(all_steps),
        "steps with a killed run": sum(step.killed for step in all_steps),
        "bad": sum(not step.is_good for step in all_steps),
        "changes": sum(changes.values()),
        "rows": sum(step.rows for step in all_steps),
        "slices scored": sum(step.scored for step in all_steps),
        "slices that had to be": sum(step.needed for step in all_steps),
    }
    for name, value in {**summary, **{f"change: {name}": count for name, count in sorted(changes.items())}}.items():
        click.echo(f"{value:6}  {name}")
    if record is not None:
        said = f"python -m benchmarks.standalone.histories BUNDLE --histories {histories} --steps {steps} --seed {seed}"
        counts = {name: float(value) for name, value in summary.items()}
        digests = {"bundle": opened.digest}
        append(
            record, Record(WHAT, "s", {"a history's CPU time": times}, counts, digests, {"seed": seed, "command": said})
        )
    if summary["bad"]:
        raise SystemExit(VerdictError.exit_status)


if __name__ == "__main__":
    start(main)

"""The service at the bedside, measured and ill-treated: time to the stored SR, kill -9 at many moments, memory.

    python -m benchmarks.standalone.bedside model.dtvit studies/study-0001 --kills 30 --associations 1000

The PACS is one of our own in this process, and the service a process as a user starts it. A study is the same files
under new UIDs each time. The time is from the answer to the last image to the SR's arrival in the PACS, without the
quiet time that was asked for.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import click
import pydicom
from pydicom.dataset import Dataset

from benchmarks.measure.bedside import QUIET_SECONDS, seconds_to_report, study_of
from benchmarks.measure.inputs import discover_slices
from benchmarks.standalone.bedside_peers import HOST, OwnPacs, ServedProcess, free_port, send_datasets, wait_for
from benchmarks.standalone.program import start
from dtvit_edge.cli import render
from dtvit_edge.cli.option_set import FilePath
from dtvit_edge.pacs.reading import evidence_uids, statement_of_object
from dtvit_edge.scoring.api import headers_of

# After this time from the first image a result has been made and sent, on a loaded machine as well.
LAST_MOMENT_SECONDS = 2.5


def killed(service: ServedProcess, pacs: OwnPacs, slices: Sequence[Dataset], moment: float) -> str:
    """Kill the service so long after the first image, start it again, and send what was not acknowledged.

    Returns what is wrong in the end; empty where nothing is: every acknowledged image is in the last SR, and every SR
    is there once.
    """
    study = study_of(slices)
    uid = str(study[0].StudyInstanceUID)
    answers: list[int | None] = []

    def send() -> None:
        with suppress(OSError):
            send_datasets(study, service.port, each=answers)

    sending = threading.Thread(target=send)
    begun = time.monotonic()
    sending.start()
    time.sleep(max(begun + moment - time.monotonic(), 0))
    service.kill()
    sending.join()
    acknowledged = [ds for ds, status in zip(study, answers, strict=False) if status == 0]
    service.begin()
    rest = [ds for ds in study if ds not in acknowledged]
    if rest and set(send_datasets(rest, service.port)) != {0}:
        return "an image was refused"
    with suppress(AssertionError):
        wait_for(lambda: _is_whole(pacs, uid, study), 30)
    wait_for(lambda: (said := service.health()) is not None and not said["studies_waiting"] + said["objects_waiting"])
    time.sleep(2 * QUIET_SECONDS)
    reports = pacs.reports(uid)
    if not _is_whole(pacs, uid, study):
        return f"{len(reports)} results, the last one not of all images"
    said = [statement_of_object(report).fingerprint for report in reports]
    if any(a == b for a, b in pairwise(said)):
        return "the same result twice"
    return f"{len(pacs.changed)} instances changed under their UID" if pacs.changed else ""


def _is_whole(pacs: OwnPacs, uid: str, study: Sequence[Dataset]) -> bool:
    reports = pacs.reports(uid)
    return bool(reports) and {str(ds.SOPInstanceUID) for ds in study} <= evidence_uids(reports[-1])


@click.command()
@click.argument("bundle", type=FilePath(exists=True))
@click.argument("study", type=FilePath(exists=True))
@click.option("--rounds", default=10, show_default=True, help="Measure the time to the SR so often.")
@click.option("--kills", default=0, show_default=True, help="Kill the service at so many moments.")
@click.option("--associations", default=0, show_default=True, help="Look at its memory over so many associations.")
@click.option("--backend", default="auto", show_default=True, help="Choose the backend.")
def main(bundle: Path, study: Path, rounds: int, kills: int, associations: int, backend: str) -> None:
    """Measure the service with BUNDLE on the images in STUDY."""
    files = {header.file for header in headers_of(discover_slices([study], any_series=False))}
    slices = [pydicom.dcmread(file) for file in sorted(files)]
    with tempfile.TemporaryDirectory(prefix="dtvit-bedside-") as made, OwnPacs() as pacs:
        service = ServedProcess(
            bundle, Path(made, "service"), f"PACS@{HOST}:{pacs.port}", free_port(), free_port(),
            "--after", str(QUIET_SECONDS), "--backend", backend,
        )  # fmt: skip
        with service:
            times = [seconds_to_report(service, pacs, slices) for _ in range(rounds + 1)][1:] if rounds else []
            if times:
                render.echo(
                    f"from the last of {len(slices)} images to the SR in the PACS, without {QUIET_SECONDS} s of quiet: "
                    f"median {statistics.median(times):.3f} s, longest {max(times):.3f} s, of {rounds}"
                )
            wrong = []
            for number in range(kills):
                moment = LAST_MOMENT_SECONDS * number / max(kills - 1, 1)
                if said := killed(service, pacs, slices, moment):
                    wrong.append(f"killed after {moment:.2f} s: {said}")
            if kills:
                again = len(pacs.sent) - len(set(pacs.sent))
                render.echo(
                    f"killed {kills} times: {len(wrong)} studies are not as they should be; {again} objects came twice"
                )
            if associations:
                render.echo(memory(service, slices[0], associations))
            for line in wrong:
                render.echo(line)
        if service.status != 0 or wrong:
            raise click.ClickException(f"the service ended with {service.status}\n{service.log[-2000:]}")


def memory(service: ServedProcess, image: Dataset, associations: int) -> str:
    """What the service holds behind a tenth, a half and all of so many associations with an image each."""
    held = []
    for number in range(1, associations + 1):
        if send_datasets([image], service.port) != [0]:
            raise click.ClickException("an association was refused")
        if number in (associations // 10, associations // 2, associations):
            held.append(f"{service.resident_kib / 1024:.0f} MiB behind {number}")
    return f"resident: {', '.join(held)} associations"


if __name__ == "__main__":
    start(main)

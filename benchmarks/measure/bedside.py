"""From the last image of a study to its SR in the PACS: `dtvit-edge serve` in a process of its own, warm.

The PACS is one of ours in this process, and a study is the same files under new UIDs each time.
"""

from __future__ import annotations

import copy
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from benchmarks.measure.configurations import Configuration
from benchmarks.measure.measurements import OpenedBundle
from benchmarks.results import names
from benchmarks.results.names import key_of
from benchmarks.results.recorder import Measured
from benchmarks.standalone.bedside_peers import HOST, OwnPacs, ServedProcess, free_port, send_datasets, wait_for
from dtvit_edge.errors import VerdictError

QUIET_SECONDS = 0.5
INSIDE_TIMER = (
    "from the answer to a study's last image to its SR in a PACS on this machine, without the quiet time that `serve` "
    "was asked for; the first study is not counted"
)
# A service costs seconds to start, a study about one.
STUDIES_A_ROUND = 4


def last_image_to_report(opened: OpenedBundle, chosen: Sequence[Configuration]) -> Measured:
    """Seconds from the last image to the SR of every configuration.

    Args:
        chosen: one with a hint is left out, since `serve` takes none.
    """
    files, count = opened.inputs.files_of_a_study, STUDIES_A_ROUND * opened.settings.effort.rounds
    threads, mark = opened.settings.threads, opened.yardstick.take
    samples = {one.name: measure(one, files, count, threads, mark) for one in chosen if one.hint is None}
    summary = {key_of(name, "median"): statistics.median(values) for name, values in samples.items()}
    return Measured(names.BEDSIDE, names.SECONDS, samples, summary, {"inside": INSIDE_TIMER, "images": len(files)})


def measure(
    configuration: Configuration,
    files: Sequence[Path],
    count: int,
    threads: int | None,
    mark: Callable[[], None] = lambda: None,
) -> list[float]:
    """Seconds of that many studies, one after the other.

    Args:
        files: of one study; mark: called before each that counts.

    Raises:
        VerdictError: an image was refused, no SR came, or the service did not end in order.
    """
    slices = [pydicom.dcmread(file) for file in files]
    used_threads = configuration.options(threads).threads
    options = [
        "--after", str(QUIET_SECONDS), "--backend", configuration.backend, "--precision", configuration.precision,
        "--expect-digest", configuration.bundle.digest, *(["--threads", str(used_threads)] if used_threads else []),
    ]  # fmt: skip
    options += [word for plan in sorted(configuration.bundle.accepted_engines) for word in ("--accept-engine", plan)]
    seconds = []
    with tempfile.TemporaryDirectory(prefix="dtvit-bedside-") as made, OwnPacs() as pacs:
        service = ServedProcess(
            configuration.bundle.path, Path(made, "service"), f"PACS@{HOST}:{pacs.port}", free_port(), free_port(),
            *options,
        )  # fmt: skip
        with service:
            for number in range(count + 1):
                if number:
                    mark()
                try:
                    seconds.append(seconds_to_report(service, pacs, slices))
                except AssertionError as error:
                    raise VerdictError(f"{configuration.name}: no SR came of a study that `serve` took") from error
        if service.status != 0:
            raise VerdictError(f"{configuration.name}: `dtvit-edge serve` ended with {service.status}")
    return seconds[1:]


def study_of(slices: Sequence[Dataset]) -> list[Dataset]:
    """The same images as another study."""
    study, made = f"2.25.{uuid.uuid4().int}", []
    for number, original in enumerate(slices):
        ds = copy.deepcopy(original)
        ds.StudyInstanceUID, ds.SeriesInstanceUID = study, f"{study}.1"
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{study}.1.{number}"
        made.append(ds)
    return made


def seconds_to_report(service: ServedProcess, pacs: OwnPacs, slices: Sequence[Dataset]) -> float:
    """From the answer to the last image to the SR in the PACS, without the quiet time.

    Raises:
        VerdictError: an image was refused.
        AssertionError: no SR came.
    """
    study = study_of(slices)
    statuses = send_datasets(study, service.port)
    sent = time.monotonic()
    if set(statuses) != {0}:
        raise VerdictError(f"`dtvit-edge serve` did not take every image: {statuses}")
    wait_for(lambda: bool(pacs.reports(study[0].StudyInstanceUID)))
    (report,) = pacs.reports(study[0].StudyInstanceUID)
    return pacs.times[str(report.SOPInstanceUID)] - sent - QUIET_SECONDS

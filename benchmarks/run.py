"""A run of `dtvit-edge bench`: bundles in, records and the report out."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.measure.bundle_run import measure_bundle
from benchmarks.measure.inputs import Inputs, discover_slices, evaluation_slices, study_folders
from benchmarks.report.report import write_report
from benchmarks.results import names
from benchmarks.settings import Settings
from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError
from dtvit_edge.progress import Progress, silent
from dtvit_edge.spec import digest_file
from evaluation.records import Record, append


def bench(
    bundles: Sequence[Bundle],
    settings: Settings,
    out: Path,
    *,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda line: None,
) -> list[Record]:
    """Measure the bundles one after the other and write `out/bench.jsonl`, `report.md`, `report.html` and pictures.

    Args:
        say: is given one line for each record.

    Raises:
        ConfigError: weights that no bundle was made from, two bundles of one name, or an output that exists.
        VerdictError: not one configuration of a bundle passed; what was measured by then is written.
    """
    weights = match_weights(bundles, settings.weights)
    twice = {
        bundle.manifest.name for bundle in bundles if sum(bundle.manifest.name == b.manifest.name for b in bundles) > 1
    }
    if twice:
        raise ConfigError(f"two bundles are called {', '.join(sorted(twice))}; a report tells them apart by name")
    file = out / names.RECORDS_FILE
    if file.exists():
        raise ConfigError(f"{file} exists already; give another folder")
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as scratch:
        folders, studies = study_folders(settings, Path(scratch), progress)
        plan = discover_slices(folders)
        try:
            for bundle in bundles:
                slices_judged, data = evaluation_slices(bundle.manifest.spec, settings, progress)
                inputs = Inputs(slices_judged, data, folders, plan, studies)
                for record in measure_bundle(bundle, weights.get(bundle.digest), inputs, settings, progress, say):
                    append(file, record)
                    records.append(record)
                    say(f"{bundle.manifest.name}: {record.what.removeprefix(names.PREFIX)}")
        finally:
            if records:
                write_report(out, records)
    return records


def match_weights(bundles: Sequence[Bundle], weights: Sequence[Path]) -> dict[str, Path]:
    """Each checkpoint with the bundle that was made from it, by the bundle's digest.

    Raises:
        ConfigError: a checkpoint that is missing, or that no bundle was made from.
    """
    matched: dict[str, Path] = {}
    for path in weights:
        if not path.is_file():
            raise ConfigError(f"{path}: no such file")
        digest = digest_file(path)
        made_from_it = [bundle for bundle in bundles if bundle.manifest.weights_sha256 == digest]
        if not made_from_it:
            raise ConfigError(f"{path}: none of these bundles was made from it (sha256 {digest[:12]}…)")
        matched |= {bundle.digest: path for bundle in made_from_it}
    return matched

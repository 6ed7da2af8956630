"""What a deployment was made from and how far it came: `NAME.deploy.json` beside the bundle.

A step is written down before it begins and once more when it has ended, with the digest of the bundle that it left. So
an interrupted deployment goes on, and one of other weights or options is told apart; whether a file exists decides
nothing. Files are known by their bytes alone: no path is written down, since a patient's name may be in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from calibration.calibrate import Config
from dtvit_edge.bundle.strict_json import strict_json
from dtvit_edge.dicom.walk import walk
from dtvit_edge.errors import ConfigError
from dtvit_edge.files import make_folder, write_atomically
from dtvit_edge.progress import Progress, silent
from dtvit_edge.spec import digest_file, digest_json
from evaluation.labels import read_labels
from export.importing import ImportOptions, files_of
from export.own_module import file_and_factory

FORMAT = 1
ENDING = ".deploy.json"


@dataclass(frozen=True)
class StepRecord:
    """One step of a deployment.

    Attributes:
        inputs: what it is made from, by name: options as plain JSON types, files by the sha256 of their bytes.
        bundle: digest of the bundle that it left; None while it has not ended.
        seconds: that it took.
    """

    inputs: dict[str, Any]
    bundle: str | None = None
    seconds: float | None = None


def record_path(bundle: Path) -> Path:
    """Where the record of a bundle lies."""
    return bundle.with_suffix(ENDING)


def read_record(bundle: Path) -> dict[str, StepRecord] | None:
    """The steps of a bundle's deployment by name, in their order; None where there is no record.

    Raises:
        ConfigError: it is damaged, or of another format.
    """
    path = record_path(bundle)
    try:
        data = strict_json(path.read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise ValueError(f"its format is {data['format']!r}, this code reads {FORMAT}")
        return {name: StepRecord(**step) for name, step in data["steps"].items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: no record of a deployment: {error}") from error


def write_record(bundle: Path, steps: Mapping[str, StepRecord]) -> None:
    """Replace the record of a bundle in one step."""
    data = {"format": FORMAT, "steps": {name: asdict(step) for name, step in steps.items()}}
    path = record_path(bundle)
    make_folder(path.parent)
    write_atomically(path, json.dumps(data, indent=1) + "\n")  # the steps stay in their order


def export_inputs(weights: Path, options: ImportOptions, expect: Path | None) -> dict[str, Any]:
    """Everything that an export is made from.

    Of a `--model` that is its one file: what that imports is not seen.

    Raises:
        CheckpointError, ConfigError: a file that is named and not there.
    """
    files = files_of(weights, options) | {"expect": expect}
    return {
        **json.loads(json.dumps(asdict(options), default=str)),
        **{name: None if file is None else _digest(file) for name, file in files.items()},
        "factory": None if options.model is None else file_and_factory(options.model)[1],
    }


def calibration_inputs(
    slices: Sequence[Path],
    test_slices: Sequence[Path],
    config: Config,
    *,
    other: Sequence[Path] = (),
    progress: Progress = silent,
) -> dict[str, Any]:
    """Everything that a calibration is made from, besides the bundle; every file of the slices is read.

    Raises:
        ConfigError: a folder or file that is not there, or a CSV that cannot be read.
    """
    sources = {"slices": slices, "test_slices": test_slices, "other": other}
    files = {name: [_files(source) for source in given] for name, given in sources.items()}
    with progress("digests of the slices", sum(len(f) for given in files.values() for f in given)) as step:
        digests = {name: [_digest_all(found, step) for found in sources] for name, sources in files.items()}
    return json.loads(json.dumps(asdict(config))) | digests


def _digest(path: Path) -> str:
    """Of a file's bytes, or of every file below a folder."""
    if path.is_dir():
        return _digest_all(_files(path))
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    return digest_file(path)


def _files(source: Path) -> dict[str, Path]:
    """The files that a study folder or a labelled CSV brings, by their names in it."""
    if source.suffix.lower() == ".csv":
        return {"": source} | {row.path: row.file for row in read_labels(source)}
    return {file.path: file.file for file in walk([source]).files}


def _digest_all(files: Mapping[str, Path], step: Callable[[int], None] = lambda files: None) -> str:
    digests = {}
    for name, file in files.items():
        try:
            digests[name] = digest_file(file)
        except OSError as error:  # what nobody can read is no slice either, as long as it stays so
            digests[name] = str(error.strerror)
        step(1)
    return digest_json(digests)

"""What an output folder says of its run: its tables and `run.json`, read as a stranger would."""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

from dtvit_edge.errors import ConfigError
from dtvit_edge.files import open_regular, read_regular
from dtvit_edge.reasons import Status
from dtvit_edge.scoring.csv_columns import LAST_COLUMNS
from dtvit_edge.scoring.csv_files import SLICE_COLUMNS, STUDY_COLUMNS
from dtvit_edge.scoring.options import Options
from dtvit_edge.scoring.output_folder import RUN, SERIES, SLICES, STUDIES
from dtvit_edge.scoring.series_file import SERIES_COLUMNS, STATION, SeriesOutcome
from dtvit_edge.spec import LOCATION_LABELS, PreprocessSpec

# 100,000 studies have 25 MB, their slices 1 GB; a hundred times that is no run.
_LONGEST_JSON, _LONGEST_CSV = 2**26, 2**36
_LONGEST_STUDIES = 2**30


@dataclass(frozen=True)
class StudyRow:
    """A row of `studies.csv`; `more` are columns that this module does not know, such as those of `--identify`."""

    uid: str
    status: Status
    reasons: tuple[str, ...]
    flagged: bool | None
    probability: float | None
    location: str
    slices: int
    scored: int
    top_sop_uid: str
    span_mm: float | None
    covered_share: float | None
    model_status: str
    more: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class SliceRow:
    """A row of `slices.csv`."""

    study_uid: str
    series_uid: str
    sop_uid: str
    frame: int
    path: str
    status: Status
    reason: str
    probability: float | None
    location: str
    locations: tuple[float, ...]
    place: int | None


@dataclass(frozen=True)
class RunResults:
    """A finished run.

    Attributes:
        run: of `run.json`; studies: in the order of the file.
    """

    folder: Path
    run: dict[str, Any]
    studies: tuple[StudyRow, ...]

    @cached_property
    def repeated(self) -> frozenset[str]:
        """UIDs that more than one row of `studies.csv` has."""
        return frozenset(uid for uid, rows in Counter(study.uid for study in self.studies).items() if rows > 1)

    @property
    def spec(self) -> PreprocessSpec:
        """What the slices were prepared by."""
        return PreprocessSpec.from_dict(self.run["spec"])

    @property
    def options(self) -> Options:
        """The configuration that answered."""
        known = {f.name for f in fields(Options)}
        return Options(**{name: value for name, value in self.run["options"].items() if name in known})

    @property
    def threshold(self) -> tuple[float, str]:
        """The studies' threshold, and where it comes from."""
        study = self.run["thresholds"]["study"]
        return float(study["value"]), str(study["source"])

    @property
    def slice_threshold(self) -> float:
        """The slices' threshold."""
        return float(self.run["thresholds"]["slice"]["value"])

    def slices_by_study(self) -> Iterator[tuple[str, list[SliceRow]]]:
        """The rows of each study, one study after the other; those that belong to none have the UID "".

        Raises:
            ConfigError: a row that `score` does not write.
        """
        with _rows(self.folder / SLICES, SLICE_COLUMNS) as rows:
            for uid, group in groupby(map(_slice_row, rows), lambda row: row.study_uid):
                yield uid, list(group)


def read_run(out: Path) -> RunResults:
    """Read a finished run.

    Raises:
        ConfigError: there is none, or its files are not as `score` writes them.
    """
    try:
        run = json.loads(read_regular(out / RUN, _LONGEST_JSON))
        results = RunResults(out, run, read_studies(out))
        _ = results.spec, results.options, results.threshold, results.slice_threshold
        _ = run["bundle"]["digest"], run["bundle"]["training"]
        _ = [run[name].items() for name in ("machine", "seconds", "backend", "packages")]
    except FileNotFoundError as error:
        raise ConfigError(f"{out} holds no finished run: it has no {Path(error.filename).name}") from error
    except OSError as error:
        raise ConfigError(f"{out} cannot be read: {error.strerror or type(error).__name__}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise ConfigError(f"{out / RUN} is not as `score` writes it: {type(error).__name__}") from error
    return results


def read_studies(out: Path) -> tuple[StudyRow, ...]:
    """The rows of `studies.csv`, of a run that need not have ended.

    Raises:
        ConfigError: a row that `score` does not write.
        OSError: the table cannot be read.
    """
    with _rows(out / STUDIES, STUDY_COLUMNS, _LONGEST_STUDIES) as rows:
        return tuple(map(_study_row, rows))


def read_series(out: Path) -> tuple[SeriesOutcome, ...]:
    """The rows of `series.csv`, as `read_studies`."""
    with _rows(out / SERIES, SERIES_COLUMNS, _LONGEST_STUDIES) as rows:
        return tuple(map(_series_row, rows))


def parse_slices(lines: Iterable[bytes]) -> list[SliceRow]:
    """Lines of `slices.csv`, its head among them, as `read_studies`."""
    return [_slice_row(row) for row in csv.DictReader((line.decode("utf-8") for line in lines), strict=True)]


@contextmanager
def _rows(file: Path, columns: Iterable[str], longest: int = _LONGEST_CSV) -> Iterator[Iterator[dict[str, str]]]:
    """The rows of a table that has these columns.

    Raises:
        ConfigError: it lacks one of them, or a row is not as `score` writes it.
    """
    with open_regular(file, longest) as (stream, _):
        reader = csv.DictReader((line.decode("utf-8") for line in stream), strict=True)
        try:
            missing = {*columns, *LAST_COLUMNS} - set(reader.fieldnames or ())
            if missing:
                raise ConfigError(f"{file.name} has no column {sorted(missing)[0]}; `score` of this version writes it")
            yield iter(reader)
        except (ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
            raise ConfigError(f"{file.name}, row {reader.line_num}: not as `score` writes it") from error


def _study_row(row: dict[str, str]) -> StudyRow:
    known = {*STUDY_COLUMNS, *LAST_COLUMNS}
    location = row["location"]
    if location and location not in LOCATION_LABELS:
        raise ValueError(location)
    return StudyRow(
        row["study_uid"],
        Status(row["status"]),
        tuple(code for code in row["reason"].split(";") if code),
        {"1": True, "0": False, "": None}[row["flagged"]],
        _share(row["ich_probability"]),
        location,
        int(row["slices"]),
        int(row["scored"]),
        row["top_sop_uid"],
        _number(row["span_mm"]),
        _share(row["covered_share"]),
        row["model_status"],
        tuple((name, value) for name, value in row.items() if name not in known and value),
    )


def _series_row(row: dict[str, str]) -> SeriesOutcome:
    return SeriesOutcome(
        row["study_uid"],
        row["series_uid"],
        row["scanner"],
        row.get(STATION, ""),
        row["protocol"],
        row["kernel"],
        Status(row["status"]),
        row["reason"],
        int(row["slices"]),
        _share(row["ich_probability"]),
        _share(row["brain_share"]),
    )


def _slice_row(row: dict[str, str]) -> SliceRow:
    shares = [_share(row[f"p_{label}"]) for label in LOCATION_LABELS]
    return SliceRow(
        row["study_uid"],
        row["series_uid"],
        row["sop_uid"],
        int(row["frame"]),
        row["path"],
        Status(row["status"]),
        row["reason"],
        _share(row["ich_probability"]),
        row["location"],
        tuple(share for share in shares if share is not None),
        int(row["place"]) if row["place"] else None,
    )


def _number(text: str) -> float | None:
    if not text:
        return None
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _share(text: str) -> float | None:
    value = _number(text)
    if value is not None and not 0 <= value <= 1:
        raise ValueError(text)
    return value

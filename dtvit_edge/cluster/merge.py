"""Shards of a run, put together to the very bytes that one run over the same folders would have written.

Nothing is computed: a shard's tables are cut into the lines of its studies, whose numbers its `run.json` has, and laid
out in the order of one run. So all shards have to be there once, finished, of one identity and of the same files.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from dtvit_edge.errors import ConfigError
from dtvit_edge.files import read_regular
from dtvit_edge.reasons import Status
from dtvit_edge.scoring.csv_files import slice_head, study_head
from dtvit_edge.scoring.identity import differences
from dtvit_edge.scoring.output_folder import RUN, SERIES, SLICES, STUDIES, held_folder
from dtvit_edge.scoring.result_files import ResultFiles, is_finished, report_text
from dtvit_edge.scoring.run import NOTHING_SCORED
from dtvit_edge.scoring.series_file import series_head
from dtvit_edge.scoring.shards import FIELD, Shard, is_sealed
from dtvit_edge.spec import digest_bytes

MERGED = "shards"  # of run.json: what it was merged from
_LONGEST_REPORT = 1 << 30
_LONGEST_TABLE = 1 << 34


@dataclass(frozen=True)
class Merged:
    """How a merge ended: counts as of `scoring.run.RunReport`, how many studies and shards, and whose model it was.

    Attributes:
        training, untrained_heads: as the bundle's manifest says them.
    """

    studies: int
    shards: int
    training: str
    untrained_heads: list[str]
    counts: dict[str, int]
    reasons: dict[str, int]
    files: tuple[Path, ...]

    @property
    def exit_status(self) -> int:
        """As of the run that it stands for."""
        if not self.counts.get(Status.SCORED):
            return NOTHING_SCORED
        return 3 if self.counts.get(Status.REFUSED) or self.counts.get(Status.ERROR) else 0


def merge(shards: Sequence[Path], out: Path, *, overwrite: bool = False) -> Merged:
    """Put the output folders of all shards of a run together into `out`, which becomes a finished run.

    Args:
        overwrite: replace what an earlier run, or a merge of other shards, left in `out`.

    Raises:
        ConfigError: a shard is missing, doubled, unfinished, damaged, of another run or of other files; nothing is
            written then. Or `out` cannot be written.
        DiskFault: the output cannot be written any more; later the same call finishes.
    """
    if any(shard.resolve() == out.resolve() for shard in shards):
        raise ConfigError(f"{out} is one of the shards; give another folder for what they make together")
    parts = sorted((_Part(folder) for folder in shards), key=lambda part: part.shard.number)
    _check_together(parts)
    report, model = _report(parts)  # before anything is written
    counts = report["counts"]
    files = ResultFiles(out, "", identify=parts[0].identify)
    for part in parts:
        for lines in part.studies():
            files.take(*lines)
    begun = files.contents()["sha256"] | {RUN: digest_bytes(report_text(report).encode())}
    with held_folder(out, overwrite=overwrite, begun=begun):
        files.begin()
        files.finish(report)
    studies = sum(counts["studies"].values())
    return Merged(studies, len(parts), *model, counts["slices"], counts["reasons"], files.paths)


class _Part:
    """A shard's folder: what its `run.json` says, and its tables, whose digests were checked.

    Raises:
        ConfigError: it is no finished shard.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not is_finished(folder):
            raise ConfigError(f"{folder} holds no finished shard: it has no {RUN}; run its shard to the end first")
        try:
            self.report = json.loads(read_regular(folder / RUN, _LONGEST_REPORT))
            if FIELD not in self.report:
                raise ConfigError(f"{folder} holds no shard, but a run of all studies")
            if not is_sealed(self.report):
                raise ConfigError(f"{folder / RUN} was changed since its shard wrote it; run the shard again")
            mark = self.report[FIELD]
            self.shard = Shard(mark["number"], mark["count"])
            self.identity, self.seen = dict(mark["identity"]), str(mark["seen"])
            self._studies = [(str(uid), int(slices), int(series)) for uid, slices, series in mark["studies"]]
            digests = dict(mark["sha256"])
            tables = {name: read_regular(folder / name, _LONGEST_TABLE) for name in (SLICES, STUDIES, SERIES)}
            for name, data in tables.items():
                if digest_bytes(data) != digests.get(name):
                    raise ConfigError(f"{folder / name} is not the table that its shard wrote; run the shard again")
            # No cell has a line end (`escaping.one_line`): a row is a line.
            self._lines = [[f"{line}\n" for line in data.decode().split("\n")[:-1]] for data in tables.values()]
        except OSError as error:
            raise ConfigError(f"{folder} cannot be read: {error.strerror}") from error
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise ConfigError(f"{folder / RUN} is not as `score --shard` writes it: {type(error).__name__}") from error
        heads = {
            (slice_head(), study_head(identify=identify), series_head(identify=identify)): identify
            for identify in (False, True)
        }
        head = tuple("".join(lines[:1]) for lines in self._lines)
        if head not in heads:
            raise ConfigError(f"{folder} was written by another version of dtvit-edge: its tables have other columns")
        self.identify = heads[head]
        for lines in self._lines:
            del lines[0]
        counts = [
            sum(slices for _, slices, _ in self._studies),
            sum(uid != "" for uid, _, _ in self._studies),
            sum(series for _, _, series in self._studies),
        ]
        if [len(lines) for lines in self._lines] != counts:
            raise ConfigError(f"{folder / RUN} is not as `score --shard` writes it: it counts other lines")
        if not all(self.shard.has(uid) for uid, _, _ in self._studies):
            raise ConfigError(f"{folder / RUN} is not as `score --shard` writes it: a study of another shard")

    def studies(self) -> list[tuple[str, str, str, str]]:
        """Of each study its UID and its lines in the tables: of its slices, of itself, of its series."""
        slices, studies, series = map(iter, self._lines)
        return [
            (uid, "".join(islice(slices, of_slices)), next(studies) if uid else "", "".join(islice(series, of_series)))
            for uid, of_slices, of_series in self._studies
        ]


def _check_together(parts: Sequence[_Part]) -> None:
    """Each shard is there once, and all are of one run over the same files.

    Raises:
        ConfigError: they are not.
    """
    first = parts[0]
    seen: dict[int, _Part] = {}
    for part in parts:
        if part.shard.count != first.shard.count:
            raise ConfigError(
                f"{part.folder} holds shard {part.shard} and {first.folder} shard {first.shard}: "
                "they are parts of different divisions"
            )
        if other := seen.get(part.shard.number):
            raise ConfigError(f"{other.folder} and {part.folder} both hold shard {part.shard}; give each shard once")
        seen[part.shard.number] = part
    if missing := sorted(set(range(1, first.shard.count + 1)) - seen.keys()):
        named = ", ".join(f"{number}/{first.shard.count}" for number in missing[:8])
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise ConfigError(f"shard {named}{more} is missing; a result of fewer than all shards would lack studies")
    for part in parts:
        if part.identity != first.identity:
            said = differences(first.identity, part.identity)
            raise ConfigError(f"{part.folder} holds a shard of another run than {first.folder} ({said})")
        if part.seen != first.seen:
            raise ConfigError(
                f"{part.folder} saw other files below its folders than {first.folder}; "
                "run both again over the same files"
            )
        if part.identify != first.identify:
            raise ConfigError(f"{part.folder} and {first.folder}: one of both was run with --identify; run both alike")


def _report(parts: Sequence[_Part]) -> tuple[dict[str, Any], tuple[str, list[str]]]:
    """`run.json`: as the first shard's, with all counts and seconds added up, and where each came from.

    Beside it how its model was trained, and the heads that were not.
    """
    reports = [part.report for part in parts]
    first = {name: value for name, value in reports[0].items() if name != FIELD}
    try:
        counts: dict[str, Any] = {}
        for name, value in first["counts"].items():
            if isinstance(value, dict):
                total: Counter[str] = Counter()
                for report in reports:
                    total.update(report["counts"][name])
                counts[name] = dict(sorted(total.items()))
            else:
                counts[name] = sum(report["counts"][name] for report in reports)
        seconds: Counter[str] = Counter()
        for report in reports:
            seconds.update(report["seconds"])
        model = str(first["bundle"]["training"]), [str(head) for head in first["bundle"]["untrained_heads"]]
        return first | {
            "counts": counts,
            "seconds": {stage: round(value, 4) for stage, value in seconds.items()},
            "started": min(report["started"] for report in reports),
            "finished": max(report["finished"] for report in reports),
            MERGED: [
                {"shard": str(part.shard), "machine": part.report["machine"], "seconds": part.report["seconds"]}
                for part in parts
            ],
        }, model
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{RUN} of a shard is not as `score --shard` writes it: {type(error).__name__}") from error

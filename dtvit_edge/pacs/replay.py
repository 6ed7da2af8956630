"""An SR asked again: the model that it names scores the study's files anew, and the results are compared."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dtvit_edge.bundle import Bundle
from dtvit_edge.errors import ConfigError
from dtvit_edge.escaping import csv_cell
from dtvit_edge.pacs.reading import read_statement
from dtvit_edge.pacs.statement import Statement, statement_of
from dtvit_edge.progress import Progress, silent
from dtvit_edge.report.run_results import read_run
from dtvit_edge.scoring.run import run


@dataclass(frozen=True)
class Replay:
    """What was compared.

    Attributes:
        said: by the object; now: found of the same study.
        differences: in words; none where they are equal.
    """

    said: Statement
    now: Statement
    differences: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether status, reasons, flag, probability (four decimals), location and top slice are the same."""
        return not self.differences


def replay(
    file: Path, bundle: Bundle, folders: Sequence[Path], *, backend: str | None = None, progress: Progress = silent
) -> Replay:
    """Score the study of an SR again, as the object says that it was scored.

    Args:
        backend: another one than the object names, where that is not here.

    Raises:
        ConfigError: no SR of this program, another bundle than it names, a backend that is not here, or folders
            without the study.
        DeviceFault: the device failed.
    """
    said = read_statement(file)
    if said.bundle_sha256 != bundle.digest:
        raise ConfigError(f"the object names the bundle {said.bundle_sha256[:64]}, and this one is {bundle.digest}")
    options = said.asked
    if backend is not None:
        options = replace(options, backend=backend, batch=None, threads=None, hint=None)
    with tempfile.TemporaryDirectory(prefix="dtvit-replay-") as folder:
        out = Path(folder, "out")
        run(bundle, folders, out, options, progress=progress)
        results = read_run(out)
        studies = [study for study in results.studies if study.uid == csv_cell(said.study_uid)]
        if not studies:
            raise ConfigError("the folders hold no file of the object's study")
        rows = next((rows for uid, rows in results.slices_by_study() if uid == studies[0].uid), [])
    now = statement_of(results, studies[0], said.study_uid, rows)
    return Replay(said, now, tuple(said.differences(now)))

"""What an object says of a study: the result, and by which model and settings it came about.

It is written into an SR as text that a person can read and `replay` can read back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from dtvit_edge.bundle import Threshold
from dtvit_edge.errors import ConfigError
from dtvit_edge.reasons import Status
from dtvit_edge.report.run_results import RunResults, SliceRow, StudyRow
from dtvit_edge.scoring.options import Options

_RESULT = ("status", "reasons", "flagged", "probability", "location", "top_sop_uid", "top_frame")
# Of the options what changes a result; JSON keeps their types.
_TEXTS = ("bundle_sha256", "spec_sha256", "model_status", "threshold_source", "backend")


@dataclass(frozen=True)
class Statement:
    """A study's result with its origin; numbers as `studies.csv` has them, four decimals.

    Attributes:
        bundle_sha256, spec_sha256: digests of bundle and preprocessing; model_status: the manifest's `training`.
        threshold, threshold_source: of studies, and where it comes from.
        backend: with its version and device, in words.
        options: the configuration that answered, as `run.json` has it.
        top_frame: of the top slice's file, counted from 1.
    """

    study_uid: str
    status: Status
    reasons: tuple[str, ...]
    flagged: bool | None
    probability: float | None
    location: str
    top_sop_uid: str
    bundle_sha256: str
    spec_sha256: str
    model_status: str
    threshold: float
    threshold_source: str
    backend: str
    options: dict[str, Any]
    # Not in the representation, which UIDs of objects that were sent come from; the rows beside it tell the frame.
    top_frame: int = field(default=1, repr=False)

    @property
    def parameters(self) -> tuple[str, ...]:
        """The origin as parameters of an algorithm (TID 4019), `name=value` in ASCII."""
        named = {name: getattr(self, name) for name in _TEXTS}
        named |= {"threshold": repr(self.threshold), "options": json.dumps(self.options, sort_keys=True)}
        return tuple(f"{name}={ascii_text(value)}" for name, value in named.items())

    @property
    def asked(self) -> Options:
        """What a run has to be asked for to come to the same."""
        known = {f.name for f in fields(Options)}
        chosen = {name: value for name, value in self.options.items() if name in known}
        return Options(**chosen | {"threshold": self.threshold})

    @property
    def fingerprint(self) -> str:
        """Of what makes a new result of a study: flag, status, reason or top slice."""
        said = [str(self.status), *self.reasons, str(self.flagged), self.top_sop_uid]
        if self.top_frame > 1:  # most files have one, and what was sent of them keeps its fingerprint
            said.append(str(self.top_frame))
        return hashlib.sha256("\n".join(said).encode()).hexdigest()

    def differences(self, other: Statement) -> list[str]:
        """In words, in which parts of the result another statement differs."""
        pairs = ((name, getattr(self, name), getattr(other, name)) for name in _RESULT)
        return [f"{name}: {_said(a)} in the object, {_said(b)} now" for name, a, b in pairs if a != b]


def statement_of(results: RunResults, study: StudyRow, study_uid: str, rows: Sequence[SliceRow]) -> Statement:
    """What a finished run says of one of its studies.

    Args:
        study_uid: as the images spell it; a table may have had to change that.
        rows: of its slices.
    """
    run = results.run
    threshold, source = results.threshold
    backend = run["backend"]
    said = (backend.get("backend"), backend.get("version"), backend.get("device"))
    return Statement(
        study_uid,
        study.status,
        study.reasons,
        study.flagged,
        study.probability,
        study.location,
        study.top_sop_uid,
        str(run["bundle"]["digest"]),
        str(run["spec_digest"]),
        study.model_status,
        threshold,
        ascii_text(source),
        ascii_text(" ".join(str(part) for part in said if part)),
        dict(run["options"]),
        1 if (top := top_row(rows, study.top_sop_uid)) is None else top.frame,
    )


def top_row(rows: Sequence[SliceRow], top_sop_uid: str) -> SliceRow | None:
    """Which row the top slice is: a file may have many frames, and an instance may have come twice."""
    scored = [row for row in rows if row.sop_uid == top_sop_uid and row.probability is not None]
    return max(scored, key=lambda row: row.probability or 0.0, default=None)


def read_parameters(parameters: list[str]) -> dict[str, Any]:
    """The origin's fields, from what `Statement.parameters` wrote.

    Raises:
        ConfigError: one is missing or is not as it was written.
    """
    named = dict(text.partition("=")[::2] for text in parameters)
    try:
        found: dict[str, Any] = {name: named[name] for name in _TEXTS}
        # Anybody may have written the object: the value passes the checks that an asked one does.
        found["threshold"] = Threshold(float(named["threshold"])).value
        found["options"] = json.loads(named["options"])
        if not isinstance(found["options"], dict):
            raise TypeError
        return found
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"the object does not say how it came about: {type(error).__name__}") from error


def ascii_text(text: object) -> str:
    """Text that every character set of a patient's name leaves as it is."""
    return str(text).encode("ascii", "backslashreplace").decode("ascii")


def _said(value: object) -> str:
    if isinstance(value, tuple):
        return ";".join(map(str, value)) or "none"
    return ascii_text("none" if value in (None, "") else value)

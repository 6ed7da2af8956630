"""A part of a run: the studies that fall to one of N processes which know nothing of each other.

Every shard walks the folders and reads every header, so that it sees of copies, of patients and of what lies beside a
study all that one run would see; what is divided is the work. A study belongs to the shard that a digest of its UID
names, and is whole there. What belongs to no study (files that are no slices, archives, folders that cannot be listed)
is the first shard's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from dtvit_edge.dicom.plan import PackedParts, Plan
from dtvit_edge.dicom.walk import Walk
from dtvit_edge.errors import ConfigError
from dtvit_edge.spec import digest_json

FIELD = "shard"  # of run.json, and of a shard's identity
_CHECK = "check"
MOST_SHARDS = 100_000


@dataclass(frozen=True)
class Shard:
    """One of `count` shards; `number` counts from 1."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count <= MOST_SHARDS:
            raise ConfigError(f"shard {self} is none: a shard is I/N, with I from 1 to N and N up to {MOST_SHARDS}")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A shard as it is typed, `I/N`.

        Raises:
            ConfigError: it is none.
        """
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if match is None:
            raise ConfigError(f"shard {text!r} is none: a shard is I/N, as 3/8")
        return cls(int(match[1]), int(match[2]))

    def has(self, uid: str) -> bool:
        """Whether a study is this shard's; the empty UID stands for what belongs to no study."""
        if not uid:
            return self.number == 1
        digest = blake2b(_bytes(uid), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count + 1 == self.number

    def part(self, plan: Plan) -> Plan:
        """What this shard scores of a plan."""
        return plan.only(self.has)

    def mark(self, identity: dict[str, Any], seen: str, contents: dict[str, Any]) -> dict[str, Any]:
        """What a shard's `run.json` says, so that a merge knows what it has before it.

        Args:
            identity: of the run whose part it is; seen: `plan_digest` of the whole plan.
            contents: of its tables, by `ResultFiles.contents`.
        """
        return {"number": self.number, "count": self.count, "identity": identity, "seen": seen, **contents}


def seal(report: dict[str, Any]) -> None:
    """Write a checksum of a shard's whole `run.json` into its mark: a merge adds up counts that no table can prove."""
    report[FIELD][_CHECK] = digest_json(report)


def is_sealed(report: dict[str, Any]) -> bool:
    """Whether a shard's `run.json` is as it was sealed."""
    mark = report[FIELD]
    rest = {name: value for name, value in mark.items() if name != _CHECK}
    return bool(mark[_CHECK] == digest_json({**report, FIELD: rest}))


def plan_digest(walked: Walk, plan: Plan) -> str:
    """A digest of what lies below the folders: paths and sizes, and study by study all that was found in the headers.

    Neither times nor places are in it, so that machines may have the folders in copies, and under other mount points.
    """
    digest = blake2b(digest_size=16)
    _add(digest, (f"{file.path}\0{'' if file.state is None else file.state.size}" for file in walked.files))
    parts = plan.parts
    assert isinstance(parts, PackedParts), "only a plan of headers is divided"
    for uid, study in parts.studies.items():
        rejected = sorted(f"{r.path}\0{r.frame}\0{r.reason.code}" for r in study.rejected)
        touched = sorted(reason.code for reason in study.touched)
        _add(digest, [uid, *touched, "", *rejected])
        for header in sorted(study.records.contents()):
            digest.update(header)
    return digest.hexdigest()


def _add(digest: Any, texts: Iterable[str] | Sequence[str]) -> None:
    for text in texts:
        data = _bytes(text)
        digest.update(len(data).to_bytes(8, "big") + data)
    digest.update(b"\xff" * 8)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # a UID may hold whatever its writer liked

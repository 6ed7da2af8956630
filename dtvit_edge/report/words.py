"""What a report says of a study, in words: its verdict, why, and what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

from dtvit_edge.reasons import REASONS, STUDY_REASONS, Status
from dtvit_edge.report.run_results import SliceRow, StudyRow

# In the order in which studies are listed.
TITLES = {"flagged": "Flagged", "no-answer": "No answer", "not-flagged": "Not flagged"}
TRAINED = {
    "untrained": "The model was not trained: its answers mean nothing.",
    "synthetic": "The model was trained on synthetic heads alone: on slices of people its answers mean nothing.",
    "clinical-unvalidated": "The model was trained on slices of people and has not been validated.",
}


@dataclass(frozen=True)
class Verdict:
    """A study's answer.

    Attributes:
        kind: `flagged`, `not-flagged` or `no-answer`; the style's name for it, too.
        title: in two words; why: the sentence that explains it.
    """

    kind: str
    title: str
    why: str


def answer_kind(study: StudyRow) -> str:
    """`flagged`, `no-answer` or `not-flagged`."""
    if study.flagged is None or study.probability is None:
        return "no-answer"
    return "flagged" if study.flagged else "not-flagged"


def verdict(study: StudyRow, threshold: float | None, top_places: int | None) -> Verdict:
    """The answer, and the sentence behind it.

    Args:
        threshold, top_places: None where nothing says, as of a run that has not ended.
    """
    kind = answer_kind(study)
    if study.probability is None:
        return Verdict(kind, TITLES[kind], "Nothing of this study could be scored.")
    over = "The mean of the highest places" if top_places is None else f"The mean of the {top_places} highest places"
    why = f"{'The highest place' if top_places == 1 else over} is {study.probability:.4f}"
    if threshold is not None:
        why += f", {'at or above' if study.probability >= threshold else 'below'} the threshold of {threshold:g}"
    return Verdict(kind, TITLES[kind], f"{why}.{' But what was seen is not a whole study.' * (study.flagged is None)}")


def study_sentences(study: StudyRow) -> list[str]:
    """Why a study is not whole."""
    return [STUDY_REASONS.get(code, code) for code in study.reasons]


@dataclass(frozen=True)
class LeftOut:
    """Rows without a score for the same reason."""

    status: Status
    code: str
    sentence: str
    rows: tuple[SliceRow, ...]

    @property
    def count(self) -> int:
        """How many images."""
        return len(self.rows)

    @property
    def series_uids(self) -> list[str]:
        """The series that they come from; files that name none are not counted."""
        return sorted({row.series_uid for row in self.rows} - {""})


def left_out(rows: Iterable[SliceRow]) -> list[LeftOut]:
    """What was not scored, by reason; errors first, then what was refused, then what was skipped."""
    order = (Status.ERROR, Status.REFUSED, Status.SKIPPED)
    groups: dict[tuple[Status, str], list[SliceRow]] = {}
    for row in rows:
        if row.status in order:
            groups.setdefault((row.status, row.reason), []).append(row)
    found = [
        LeftOut(status, code, left_out_sentence(code), tuple(members)) for (status, code), members in groups.items()
    ]
    return sorted(found, key=lambda entry: (order.index(entry.status), -entry.count, entry.code))


def left_out_sentence(code: str) -> str:
    """What a slice's reason means; the code itself where this version does not know it."""
    return REASONS[code].sentence if code in REASONS else code


def left_out_line(rows: Iterable[SliceRow]) -> str:
    """What was left out, in one sentence."""
    rows = list(rows)
    counts = Counter(row.status for row in rows)
    words = {Status.ERROR: "could not be read", Status.REFUSED: "refused", Status.SKIPPED: "skipped"}
    parts = [f"{counts[status]} {word}" for status, word in words.items() if counts[status]]
    if not parts:
        return f"Nothing: all {len(rows)} images were scored."
    return f"{', '.join(parts)}, of {len(rows)} images."


def moment(text: object) -> str:
    """A time of `run.json` for people; what is none stays as it is."""
    try:
        return datetime.fromisoformat(str(text)).astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError):
        return str(text)

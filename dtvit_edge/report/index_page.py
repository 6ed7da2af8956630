"""The first page of a report: every study, those that are flagged first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dtvit_edge.report.run_results import RunResults, SliceRow, StudyRow
from dtvit_edge.report.templates import page
from dtvit_edge.report.words import TRAINED, Verdict, left_out, moment, study_sentences, verdict

STUDIES_A_PAGE = 500
NO_PAGE = "It has no page: studies.csv has more than one row of this UID, so that its images cannot be told apart."
ORDER = ("flagged", "no-answer", "not-flagged")


@dataclass(frozen=True)
class IndexRow:
    """A study's line; `page` is empty where it has none."""

    study: StudyRow
    verdict: Verdict
    page: str
    sentences: tuple[str, ...]

    @property
    def more(self) -> dict[str, str]:
        """The columns that identify the study, where the results have them."""
        return dict(self.study.more)


def index_pages(
    results: RunResults, digest: str, pages: Mapping[str, str], of_none: Sequence[SliceRow]
) -> dict[str, str]:
    """`index.html`, and `index-2.html` and so on where there are many studies.

    Args:
        digest: of the tables.
        pages: the file of each study's page, by UID.
        of_none: rows that belong to no study.
    """
    threshold, source = results.threshold
    rows = ranked(results, pages)
    counts = Counter(row.verdict.kind for row in rows)
    parts = [rows[i : i + STUDIES_A_PAGE] for i in range(0, len(rows), STUDIES_A_PAGE)] or [[]]
    names = ["index.html", *(f"index-{i}.html" for i in range(2, len(parts) + 1))]
    more = sorted({name for study in results.studies for name, _ in study.more})
    return {
        name: page(
            "index.html",
            rows=part,
            more=more,
            counts=[(kind, counts[kind]) for kind in ORDER],
            total=len(rows),
            partial=sum(row.study.status == "partial" for row in rows),
            threshold=threshold,
            threshold_source=source,
            trained=TRAINED.get(results.run["bundle"]["training"], results.run["bundle"]["training"]),
            training=results.run["bundle"]["training"],
            run=results.run,
            digest=digest,
            finished=moment(results.run.get("finished")),
            of_none=left_out(of_none),
            number=i + 1,
            names=names,
            first=i * STUDIES_A_PAGE + 1,
        )
        for i, (name, part) in enumerate(zip(names, parts, strict=True))
    }


def ranked(results: RunResults, pages: Mapping[str, str]) -> list[IndexRow]:
    """Flagged studies first, then those without an answer, then the rest; the highest probability first in each."""
    threshold, _ = results.threshold
    rows = [
        IndexRow(
            study,
            verdict(study, threshold, results.spec.top_places),
            pages.get(study.uid, ""),
            (*study_sentences(study), *([NO_PAGE] if study.uid in results.repeated else [])),
        )
        for study in results.studies
    ]
    return sorted(rows, key=lambda row: (ORDER.index(row.verdict.kind), -(row.study.probability or 0.0), row.study.uid))

"""The worklist of a run: which studies are asked for, in which order, and a page of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

from dtvit_edge.reasons import STUDY_REASONS, Status
from dtvit_edge.report.standing import Entry, Standing
from dtvit_edge.report.templates import page
from dtvit_edge.report.words import TITLES, TRAINED, left_out_sentence, moment, study_sentences

ROWS_A_PAGE = 100
REFRESH_SECONDS = 10
_LONGEST_VALUE = 200  # of a parameter of the address; what is longer finds nothing
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_KINDS = tuple(TITLES)

# By what studies are sorted, and which end comes first unless the other one is asked for.
SORTS: dict[str, tuple[str, Callable[[Entry], Any], bool]] = {
    "answer": ("Answer", lambda e: (-_KINDS.index(e.kind), e.study.probability or 0.0), True),
    "probability": ("Probability", lambda e: -1.0 if e.study.probability is None else e.study.probability, True),
    "study": ("Study", lambda e: e.study.uid, False),
    "date": ("Date", lambda e: e.date, True),
    "scanner": ("Scanner", lambda e: e.scanners, False),
    "status": ("Status", lambda e: list(Status).index(e.study.status), True),
    "scored": ("Scored", lambda e: e.study.scored, False),
}


@dataclass(frozen=True)
class Query:
    """What an address asks for; every field is a parameter of it, empty where it is not given.

    Attributes:
        sort: a name of `SORTS`; order: `up` or `down`.
        answer, status, reason, scanner, protocol: only studies of which this holds.
        since, until: YYYY-MM-DD, both included; find: a part of UID, accession number or folder.
        page: from 1; refresh: `on` looks again and again, `off` does not; else a run under way does.
    """

    sort: str = ""
    order: str = ""
    answer: str = ""
    status: str = ""
    reason: str = ""
    scanner: str = ""
    protocol: str = ""
    since: str = ""
    until: str = ""
    find: str = ""
    page: str = ""
    refresh: str = ""

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Query:
        """The parameters of an address; unknown ones are passed over."""
        known = {f.name: parameters.get(f.name, "")[:_LONGEST_VALUE].strip() for f in fields(cls)}
        if known["sort"] not in SORTS:
            known["sort"] = known["order"] = ""
        known["order"] = known["order"] if known["order"] in ("up", "down") else ""
        for name in ("since", "until"):
            known[name] = known[name] if _DATE.fullmatch(known[name]) else ""
        digits = known["page"]
        known["page"] = digits if digits.isascii() and digits.isdigit() and len(digits) < 8 else ""
        return cls(**known)

    @property
    def number(self) -> int:
        """The page's number."""
        return max(int(self.page or 1), 1)

    @property
    def is_filtered(self) -> bool:
        """Whether it leaves studies out."""
        return any((self.answer, self.status, self.reason, self.scanner, self.protocol, self.since, self.until,
                    self.find))  # fmt: skip

    @property
    def descending(self) -> bool:
        """Whether the greatest come first."""
        return self.order == "down" if self.order else SORTS[self.sort or "answer"][2]

    def address(self, **changes: str) -> str:
        """The address that asks for the same, but for some fields."""
        asked = replace(self, **changes)
        given = {f.name: value for f in fields(self) if (value := getattr(asked, f.name))}
        return "/?" + urlencode(given) if given else "/"


def matching(standing: Standing, query: Query) -> list[Entry]:
    """The studies that are asked for, in their order; equals stand by their UIDs."""
    find = query.find.casefold()

    def holds(entry: Entry) -> bool:
        return (
            query.answer in ("", entry.kind)
            and query.status in ("", str(entry.study.status))
            and (not query.reason or query.reason in entry.codes)
            and (not query.scanner or query.scanner in entry.scanners)
            and (not query.protocol or query.protocol in entry.protocols)
            and (not query.since or entry.date >= query.since)
            and (not query.until or "" < entry.date <= query.until)
            and (not find or any(find in text.casefold() for text in (entry.study.uid, *entry.more.values())))
        )

    kept = sorted(filter(holds, standing.entries), key=lambda entry: entry.study.uid)
    kept.sort(key=SORTS[query.sort or "answer"][1], reverse=query.descending)
    return kept


def worklist_page(standing: Standing, query: Query) -> str:
    """The page of a worklist: `ROWS_A_PAGE` studies at most."""
    found = matching(standing, query)
    pages = max((len(found) + ROWS_A_PAGE - 1) // ROWS_A_PAGE, 1)
    number = min(query.number, pages)
    shown = found[(number - 1) * ROWS_A_PAGE : number * ROWS_A_PAGE]
    counts = Counter(entry.kind for entry in standing.entries)
    results = standing.results
    under_way, goes_on = results is None, results is None or standing.serves
    training = "" if results is None else str(results.run["bundle"]["training"])
    return page(
        "worklist.html",
        forms=True,
        query=query,
        rows=[(entry, TITLES[entry.kind], _why(entry)) for entry in shown],
        identifying=[name for name in standing.identifying if name != "study_date"],
        counts=[(kind, TITLES[kind], counts[kind]) for kind in TITLES],
        total=len(standing.entries),
        found=len(found),
        first=(number - 1) * ROWS_A_PAGE + 1,
        number=number,
        numbers=_numbers(number, pages),
        columns=[_column(name, query) for name in SORTS if name != "date" or standing.has_dates],
        sorts=[(name, SORTS[name][0]) for name in SORTS if name != "date" or standing.has_dates],
        choices=_choices(standing),
        has_dates=standing.has_dates,
        threshold=standing.threshold,
        threshold_source="" if results is None else results.threshold[1],
        trained=TRAINED.get(training, training),
        finished="" if results is None else moment(results.run.get("finished")),
        run=None if results is None else results.run,
        under_way=under_way,
        serves=standing.serves,
        unreadable=standing.unreadable,
        refresh=REFRESH_SECONDS if query.refresh == "on" or (goes_on and query.refresh != "off") else 0,
        of_no_study=[(row, _sentence(row.reason)) for row in standing.of_no_study],
        here="worklist",
    )


def _why(entry: Entry) -> list[str]:
    repeated = [] if entry.page else [
        "It has no page: more than one row has this UID, so that its images cannot be told apart."
    ]  # fmt: skip
    return [*study_sentences(entry.study), *repeated]


def _column(name: str, query: Query) -> dict[str, str]:
    """A column's title, the address that sorts by it, and how it is sorted now."""
    current = (query.sort or "answer") == name
    default = SORTS[name][2]
    down = not query.descending if current else default
    return {
        "title": SORTS[name][0],
        "name": name,
        "address": query.address(sort=name, order="" if down == default else "down" if down else "up", page=""),
        "sorted": ("descending" if query.descending else "ascending") if current else "none",
    }


def _choices(standing: Standing) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """The fields that studies are chosen by: name, label, and the values with their words."""
    words = {Status.SCORED: "scored", Status.PARTIAL: "partial", Status.NOT_SCORED: "not scored"}
    return [
        ("answer", "Answer", list(TITLES.items())),
        ("status", "Status", [(str(status), word) for status, word in words.items()]),
        ("reason", "Reason", [(code, f"{code}: {_sentence(code)}") for code in standing.known["reason"]]),
        ("scanner", "Scanner", [(name, name) for name in standing.known["scanner"]]),
        ("protocol", "Protocol", [(name, name) for name in standing.known["protocol"]]),
    ]


def _sentence(code: str) -> str:
    return STUDY_REASONS.get(code) or left_out_sentence(code)


def _numbers(number: int, pages: int) -> Sequence[int]:
    """The pages that are linked: the first, the last, and those beside this one; 0 stands for those between."""
    near = sorted({1, pages, *range(max(number - 2, 1), min(number + 2, pages) + 1)})
    linked: list[int] = []
    for one in near:
        linked += [0] if linked and one > linked[-1] + 1 else []
        linked.append(one)
    return linked if pages > 1 else []

"""What others published, from `published.toml`: figures to stand beside ours, each with the place that it is from."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

METRICS = ("accuracy", "precision", "recall", "f1", "specificity")
SOURCES = {
    "paper": "read in the paper",
    "summary": "a third party's summary of the paper, not read in the paper",
    "code": "the authors' public code and its logs; nothing says that it is what the paper prints",
}


@dataclass(frozen=True)
class Published:
    """One figure.

    Attributes:
        figure: what it measures; place: section, table or file, with the version; source: a key of `SOURCES`.
    """

    figure: str
    value: float
    place: str
    source: str


@dataclass(frozen=True)
class PaperRow:
    """A row of Table 2 or 3.

    Attributes:
        table: 2 or 3; classifier: 1 is haemorrhage, 2 is location.
        model: the encoder; augmentation: whether the row's set was augmented.
        printed: by `METRICS`, shares as printed with three decimals.
    """

    table: int
    classifier: int
    model: str
    augmentation: bool
    printed: dict[str, float]

    @property
    def name(self) -> str:
        """What a table calls it."""
        arm = ("with" if self.augmentation else "without") + " augmentation" if self.table == 2 else self.model
        return f"Table {self.table}, classifier {self.classifier}, {arm}"


@cache
def facts() -> dict[str, Any]:
    """`published.toml` as it stands."""
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def group(name: str) -> tuple[Published, ...]:
    """The figures of one of the file's lists, such as `accuracies`."""
    return tuple(Published(**entry) for entry in facts()[name])


def paper_rows() -> tuple[PaperRow, ...]:
    """Tables 2 and 3 as printed."""
    rows = []
    for table in (2, 3):
        for entry in facts()[f"table_{table}"]:
            printed = {metric: float(entry[metric]) for metric in METRICS}
            model, augmented = entry.get("encoder", "ViT"), entry.get("augmentation", True)
            rows.append(PaperRow(table, entry["classifier"], model, augmented, printed))
    return tuple(rows)

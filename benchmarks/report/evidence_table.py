"""What the evidence maps reached, for docs/report.md: one row a kind of model and set of slices."""

from __future__ import annotations

from pathlib import Path

from benchmarks.standalone import evidence_maps
from evaluation.records import Record, read

_MODELS = {"fp32": "the model in fp32", "int8": "the model in int8", "shuffled": "a wrong model: weights shuffled"}
_COLUMNS = {
    "cell": "hottest cell touches it",
    "point": "its middle lies inside",
    "location_cell": "hottest cell of the location's map touches it",
    "chance": "chance",
}


def evidence_table(path: Path) -> str:
    """A table of the newest record of each set of slices, and how alike fp32's and int8's maps are."""
    newest = {str(r.options["data"]): r for r in read(path) if r.what == evidence_maps.WHAT}
    rows = "".join(line for record in newest.values() for line in _rows(record))
    head = f"| slices | model | {' | '.join(_COLUMNS.values())} |\n|{'---|' * (len(_COLUMNS) + 2)}\n"
    return f"\n{head}{rows}\n" + "".join(_alike(record) for record in newest.values())


def judged_slices(record: Record) -> str:
    """How many slices a record is about, and of how many of whom."""
    s = record.summary
    return f"{s['slices']:.0f} slices of {s['patients']:.0f} {'people' if record.options['boxes'] else 'phantoms'}"


def _rows(record: Record) -> list[str]:
    s = record.summary
    return [
        f"| {judged_slices(record)} | {said} | {' | '.join(_cell(s, model, column) for column in _COLUMNS)} |\n"
        for model, said in _MODELS.items()
        if f"{model}: cell" in s
    ]


def _cell(s: dict[str, float], model: str, column: str) -> str:
    name = f"{model}: {column}"
    # A head that is not trained has no map, and no chance of its own.
    if column == "location_cell" and not s[f"{name}_high"]:
        return "not trained"
    return f"{s[name]:.1%} ({s[f'{name}_low']:.1%} to {s[f'{name}_high']:.1%})"


def _alike(record: Record) -> str:
    s = record.summary
    if "correlation_median" not in s:
        return ""
    return (
        f"In brackets: 95 % over patients. The maps of fp32 and int8 correlate by {s['correlation_median']:.3f} in the "
        f"median, by {s['correlation_pooled']:.3f} over all cells together, and by 0.9 or more in "
        f"{s['correlation_at_least_0.9']:.1%} of the slices; the least is {s['correlation_least']:.2f}.\n\n"
    )

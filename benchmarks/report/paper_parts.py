"""What docs/paper.md and docs/figures.md show of trained models, and of the paper's own tables."""

from __future__ import annotations

from pathlib import Path

from evaluation.gate import NOT_ASSESSED
from evaluation.records import Record, interval_text, latest, read
from training import ablation, encoder_comparison, paper_tables
from training.report import EVALUATION


def printed() -> str:
    """The paper's Tables 1 to 3 as it prints them."""
    tables = (paper_tables.table_1(), paper_tables.printed(2), paper_tables.printed(3))
    return "".join(table.markdown() + "\n" for table in tables)


def choices(path: Path) -> str:
    """What the choices do that the paper leaves open, of the newest record."""
    record = latest(path, ablation.WHAT)
    return (
        paper_tables.choices(record).markdown()
        if record
        else f"Not measured yet: `{' '.join(ablation.PROGRAM)} FOLDER WEIGHTS`.\n"
    )


def encoders(path: Path) -> str:
    """The newest comparison of encoders on each set, and where there is none the trainings one by one."""
    newest = {record.options["data"]: record for record in _records(path, encoder_comparison.WHAT)}
    if not newest:
        return evaluations(path)
    return "".join(table.markdown() + "\n" for record in newest.values() for table in paper_tables.encoders(record))


def evaluations(path: Path) -> str:
    """The newest evaluation of each model on each set."""
    newest = {(r.options["data"], r.options["model"]): r for r in _records(path, EVALUATION)}
    lines = []
    for (data, model), record in newest.items():
        s = record.summary
        judged = f"{s['ich_slices']:.0f} slices, {s['ich_patients']:.0f} patients"
        shown = ("ich_accuracy", "ich_auc", "ich_recall", "ich_specificity", "location_accuracy")
        figures = [interval_text(s, name) or NOT_ASSESSED for name in shown]
        lines.append(f"| {' | '.join((f'`{model}`', f'`{data}`', judged, *figures))} |\n")
    columns = (
        "model",
        "data",
        "judged on",
        "ICH accuracy",
        "ICH AUC",
        "sensitivity",
        "specificity",
        "location accuracy",
    )
    commands = sorted({str(r.options["command"]) for r in newest.values()})
    head = f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
    return head + "".join(lines) + "\n" + "".join(f"- `{command}`\n" for command in commands) + "\n"


def _records(path: Path, what: str) -> list[Record]:
    return [record for record in read(path) if record.what == what] if path.is_file() else []

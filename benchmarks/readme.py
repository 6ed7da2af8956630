"""README's tables, written from the code and from the records, so that no figure is typed by hand.

python -m benchmarks.readme
"""

from __future__ import annotations

from pathlib import Path

from benchmarks import graph_rewrites, slice_cost, startup
from benchmarks.records import DEFAULT_PATH, Record, latest, read
from dtvit_edge.reasons import REASONS, STUDY_REASONS

README = Path(__file__).parents[1] / "README.md"
EVALUATIONS = DEFAULT_PATH.with_name("paper.jsonl")


def tables() -> dict[str, str]:
    """The text between `<!-- NAME -->` and `<!-- /NAME -->`, by name."""
    return {
        "reasons": _reasons(),
        "study reasons": _study_reasons(),
        "figures": _figures(DEFAULT_PATH),
        "evaluations": _evaluations(EVALUATIONS),
    }


def _reasons() -> str:
    rows = "".join(f"| {r.status} | `{r.code}` | {r.sentence} |\n" for r in REASONS.values())
    return f"\n| status | reason | meaning |\n|---|---|---|\n{rows}\n"


def _study_reasons() -> str:
    return "\n" + "".join(f"- `{code}`: {sentence}\n" for code, sentence in STUDY_REASONS.items()) + "\n"


def _figures(path: Path) -> str:
    rows = []
    if record := latest(path, graph_rewrites.WHAT):
        s = record.summary
        rows.append((
            f"exported graph against a plain export, {record.options['encoder']}, ONNX Runtime, one core, batch 1",
            f"{s['ratio_median']:.3f} times faster "
            f"(quartiles {s['ratio_lower_quartile']:.3f} to {s['ratio_upper_quartile']:.3f}, {s['pairs']:.0f} pairs)",
            record,
        ))  # fmt: skip
    if record := latest(path, slice_cost.WHAT):
        s = record.summary
        parts = ", ".join(f"{name} {s[f'{name}_ms_median']:.2f}" for name in ("read", "table", "mask", "resample"))
        rows.append((
            "reading and preprocessing one uncompressed 512x512 slice, one core, median",
            f"{s['read_and_preprocess_ms_median']:.2f} ms ({parts}; the planning pass's header "
            f"{s['header_ms_median']:.2f} more)",
            record,
        ))  # fmt: skip
    if record := latest(path, startup.WHAT):
        s = record.summary
        rows.append((
            "`import dtvit_edge`; `dtvit-edge --help` as a whole process, median",
            f"{s['import_s_median']:.3f} s; {s['help_s_median']:.3f} s (a bare interpreter {s['bare_s_median']:.3f} s)",
            record,
        ))  # fmt: skip
    lines = [f"| {what} | {figure} | `{_command(record)}` |\n" for what, figure, record in rows]
    return "\n| what | figure | command |\n|---|---|---|\n" + "".join(lines) + "\n"


def _evaluations(path: Path) -> str:
    """The newest evaluation of each model on each set."""
    newest = {(r.options["data"], r.options["model"]): r for r in (read(path) if path.is_file() else ())}
    lines = []
    for (data, model), record in newest.items():
        s = record.summary
        judged = f"{s['ich_slices']:.0f} slices, {s['ich_patients']:.0f} patients"
        figures = [_interval(s, name) for name in ("ich_accuracy", "ich_auc", "ich_recall", "ich_specificity",
                                                   "location_accuracy")]  # fmt: skip
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
    commands = sorted({_command(r) for r in newest.values()})
    head = f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
    return head + "".join(lines) + "\n" + "".join(f"- `{command}`\n" for command in commands) + "\n"


def _interval(summary: dict[str, float], name: str) -> str:
    """A figure with its interval, or that there is none."""
    if name not in summary:
        return "not assessed"
    return f"{summary[name]:.4f} ({summary[f'{name}_low']:.3f} to {summary[f'{name}_high']:.3f})"


def _command(record: Record) -> str:
    return str(record.options["command"])


def main() -> None:
    """Write the tables into README.md."""
    text = README.read_text(encoding="utf-8")
    for name, table in tables().items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, rest = text.split(start)
        text = before + start + table + end + rest.split(end)[1]
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

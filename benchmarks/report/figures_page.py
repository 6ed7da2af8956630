"""docs/figures.md as a whole, and generated parts of other pages, so that no figure or code is typed by hand.

python -m benchmarks.report.figures_page
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.peers import EAGER, SCIKIT_IMAGE
from benchmarks.report import encoders, page_parts, paper_parts
from benchmarks.report.evidence_table import evidence_table
from benchmarks.report.gpu_tables import gpu_part
from benchmarks.report.int8_peers_table import int8_peers_table
from benchmarks.report.run_view import group_by_run, run_records, run_views
from benchmarks.report.saturation import saturation_table
from benchmarks.report.single_questions import rows
from benchmarks.results import (
    BENCH_RECORDS,
    CPU_RECORDS,
    ENCODER_RECORDS,
    EVALUATION_RECORDS,
    GATE_RECORDS,
    GPU_RECORDS,
    names,
)
from benchmarks.standalone import gpu_estimate, harness_check
from dtvit_edge.bundle.verdicts import real_verdict
from dtvit_edge.cli.units import duration, size
from dtvit_edge.preprocess import kernel
from dtvit_edge.scoring.csv_files import SLICE_TABLE, STUDY_TABLE
from dtvit_edge.scoring.series_file import SERIES_TABLE
from evaluation.gate import NOT_ASSESSED
from evaluation.records import Record, interval_text, latest, read
from training import paper_tables

ROOT = Path(__file__).parents[2]
PAGE = "docs/figures.md"
_TEMPLATE = Path(__file__).with_suffix(".txt")


def figures_page() -> str:
    """The whole of docs/figures.md: the template, with a table for every `{{ NAME }}`."""
    made = {
        "in short": page_parts.key_figures_with_commands(),
        "single questions": _single_questions(),
        "evaluations": paper_parts.evaluations(EVALUATION_RECORDS),
        "encoders": paper_parts.encoders(ENCODER_RECORDS),
        "gate": gate_part(GATE_RECORDS),
        "bench": _bench(BENCH_RECORDS),
        "gpu": gpu_part(GPU_RECORDS),
        "gpu estimate": _gpu_estimate(CPU_RECORDS),
    }
    return re.sub(r"{{ (.*?) }}", lambda place: made[place[1]].strip("\n"), _TEMPLATE.read_text(encoding="utf-8"))


def tables() -> dict[str, dict[str, str]]:
    """By page, the text between `<!-- NAME -->` and `<!-- /NAME -->` by name."""
    return {
        "README.md": {"figures": page_parts.key_figures()},
        "docs/results.md": {
            "reasons": page_parts.slice_reasons(),
            "study reasons": page_parts.study_reasons(),
            "exit status": page_parts.exit_statuses(),
            "columns of slices": page_parts.columns(SLICE_TABLE),
            "columns of studies": page_parts.columns(STUDY_TABLE),
            "columns of series": page_parts.columns(SERIES_TABLE),
        },
        "docs/paper.md": {
            "printed": paper_parts.printed(),
            "readings": paper_tables.readings_table().markdown(),
            "choices": paper_parts.choices(EVALUATION_RECORDS),
            "contradictions": paper_tables.contradictions().markdown(),
            "evaluations": paper_parts.evaluations(EVALUATION_RECORDS),
            "encoders": paper_parts.encoders(ENCODER_RECORDS),
        },
        "docs/scale-out.md": {
            "saturation": saturation_table(run_views(run_records(BENCH_RECORDS)), list(read(CPU_RECORDS)))
        },
        "docs/report.md": {"evidence": evidence_table(CPU_RECORDS)},
        "docs/benchmark.md": {"int8 by other tools": int8_peers_table(CPU_RECORDS)},
        "docs/calibrate.md": {"shifts": page_parts.scanner_shifts()},
        "docs/bundle-format.md": {
            "models": page_parts.model_files(),
            "manifest": page_parts.manifest_fields(),
            "thresholds": page_parts.threshold_fields(),
            "profile": page_parts.profile_fields(),
        },
    }


def _single_questions() -> str:
    asked = rows(run_views(run_records(BENCH_RECORDS)), list(read(CPU_RECORDS)))
    lines = (f"| {what} | {figure} | `{line}` |\n" for what, figure, line in asked)
    return "\n| what | figure | command |\n|---|---|---|\n" + "".join(lines) + "\n"


def _gpu_estimate(path: Path) -> str:
    """Microseconds by phase of each card and batch, and the kernels' registers."""
    record = latest(path, gpu_estimate.WHAT)
    assert record is not None, gpu_estimate.WHAT
    phases = record.options["phases"]
    lines = [f"| GPU | {' | '.join(phases)} | us a batch | us a slice | aim |\n|{'---|' * (len(phases) + 4)}\n"]
    for card in gpu_estimate.CARDS:
        aims = dict(card.aims)
        for batch in gpu_estimate.BATCHES:
            side = gpu_estimate.side_of(card, batch)
            us, aim = record.samples[side], aims.get(batch)
            each = sum(us) / batch
            judged = "" if aim is None else f"{aim:.0f}: {'met' if each <= aim else 'missed'}, by this estimate"
            cells = [side, *(f"{value:.1f}" for value in us), f"{sum(us):.0f}", f"{each:.1f}", judged]
            lines.append(f"| {' | '.join(cells)} |\n")
    by_sm = {sm: used for sm, used in names.by_contender(record.summary).items() if set(used) >= set(kernel.ENTRIES)}
    entries = kernel.ENTRIES
    lines.append(f"\n| registers | {' | '.join(f'`{name}`' for name in entries)} |\n|{'---|' * (len(entries) + 1)}\n")
    lines += [f"| {sm} | {' | '.join(f'{used[name]:.0f}' for name in entries)} |\n" for sm, used in by_sm.items()]
    spilled = record.summary["bytes spilled"]
    return (
        f"\n{''.join(lines)}\n{spilled:.0f} bytes are spilled in all. `{_command(record)}`, {record.options['nvcc']}\n"
    )


def gate_part(path: Path) -> str:
    """The newest verdict on each precision of each model."""
    newest = {r.options["name"]: r for r in (read(path) if path.is_file() else ())}
    columns = ("model, slices", "precision", "gate", "judged on", "ICH flips", "location flips", "largest \\|dp\\|",
               "mean \\|dp\\|", "dAUC", "sensitivity", "specificity", "size")  # fmt: skip
    lines = [f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"]
    for record in newest.values():
        title = "{name} ({encoder}, {training})".format(**record.options)
        figures = names.by_contender(record.summary)
        for precision, said in record.options["verdicts"].items():
            verdict, s = real_verdict(said, page_parts.limits_of(record)), figures[precision]
            located = s.get("location_slices")
            cells = (
                title, precision, verdict, f"{s['ich_slices']:.0f}", f"{s['ich_flips']:.0f}",
                f"{s['location_flips']:.0f} of {located:.0f}" if located else NOT_ASSESSED,
                f"{s['ich_largest_difference']:.4f}", f"{s['ich_mean_difference']:.5f}",
                f"{s['auc'] - s['auc_reference']:+.5f}" if "auc" in s else NOT_ASSESSED,
                _interval(s, "sensitivity"), _interval(s, "specificity"), f"{s['size']:.3f}",
            )  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |\n")
    lines.append("\n")
    for record in newest.values():
        s, held = record.summary, record.options["slices"]
        kept_higher = ", ".join(record.options["kept_higher"]) or "nothing"
        lines.append(
            f"- `{_command(record)}`: ranges from {held['calibration']} slices by {record.options['method']}, kept in "
            f"higher precision: {kept_higher}; {duration(s['seconds'])}, {size(s['peak_bytes'])} at most"
            f"{_curve(record.options.get('curve', ()))}{_hinted(record.options.get('configurations', {}))}\n"
        )
    return "".join(lines) + "\n"


def _hinted(verdicts: Mapping[str, str]) -> str:
    """What the gate said of configurations, which have no file and so no row; nothing where a record has none."""
    return "".join(f"; {name}, which has no file of its own: {said}" for name, said in verdicts.items())


def _curve(points: Iterable[dict[str, float]]) -> str:
    """Error against time over the number of ops in higher precision, where a record has it."""
    said = [f"{p['kept']:.0f} kept: rms {p['rms']:.3g} in {p['time']:.2f} of fp32's time" for p in points]
    return "; " + ", ".join(said) if said else ""


def _bench(path: Path) -> str:
    """The newest run of each bundle by each command, its fastest configuration first, and the harness's proofs."""
    columns = ("run", "model", "contender", "gate", "one slice in the model, median ms (samples)",
               "folder to result, ms a slice", "studies a minute", "against the plain script",
               "decided as by it")  # fmt: skip
    lines = [f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"]
    shown = run_views(run_records(path))
    numbers = {run[0].command: number for number, run in enumerate(group_by_run(shown), start=1)}
    for view in shown:
        script = f"{SCIKIT_IMAGE.name}, {EAGER.name}"
        for contender in [*view.passed, *view.peers()]:
            latency = view.records[names.LATENCY].samples[contender]
            figures = [view.figure(names.END_TO_END, contender, figure) for figure in
                       (f"{names.PER_SLICE}: median", "studies a minute", f"times as fast as {script}",
                        f"slices decided as by {script}")]  # fmt: skip
            forms = ("{:.4g}", "{:.3g}", "{:.2f} times as fast", "{:.2%}")
            cells = ["" if n is None else form.format(n) for n, form in zip(figures, forms, strict=True)]
            said = view.verdict(contender)
            timed = f"{view.median_ms(contender):.4g} ({len(latency)})"
            cells = [str(numbers[view.command]), view.title, contender, said, timed, *cells]
            lines.append(f"| {' | '.join(cells)} |\n")
    lines.append("\n")
    for run in group_by_run(shown):
        view = run[0]
        facts = view.records[names.LATENCY].options["before"]["observed"]
        busy = f"; {view.busy}" if view.busy else ""
        cores = facts["cores of this process"]
        lines.append(f"{numbers[view.command]}. `{view.command}`: {view.slices} slices judged; cores {cores}{busy}\n")
    lines.append("\n")
    for record in {r.options["bundle"]: r for r in read(path) if r.what == harness_check.WHAT}.values():
        s, said = record.summary, record.options["verdicts"]
        lines.append(
            f"- `{_command(record)}`: the harness adds {s['harness: share']:.3%} of a call; a repetition "
            f"{s['again: ratio']:.3f} ({s['again: low']:.3f} to {s['again: high']:.3f}), {said[harness_check.AGAIN]}; "
            f"{record.options['share']:.0%} slower {s['slower: ratio']:.3f} ({s['slower: low']:.3f} to "
            f"{s['slower: high']:.3f}), {said[harness_check.SLOWER]}\n"
        )
    several = [run for run in group_by_run(shown) if len(run) > 1]
    return "".join(lines) + "\n" + "".join(f"{encoders.table(run).markdown()}\n" for run in several)


def _interval(summary: dict[str, float], name: str) -> str:
    """A figure with its interval, or that there is none."""
    return interval_text(summary, name) or NOT_ASSESSED


def _command(record: Record) -> str:
    return str(record.options["command"])


def main() -> None:
    """Write docs/figures.md, and the tables of the other pages between their markers."""
    (ROOT / PAGE).write_text(figures_page(), encoding="utf-8")
    for page, parts in tables().items():
        file = ROOT / page
        text = file.read_text(encoding="utf-8")
        for name, table in parts.items():
            start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
            before, rest = text.split(start)
            text = before + start + table + end + rest.split(end)[1]
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

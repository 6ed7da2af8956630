"""Generated parts of pages that people write otherwise: README's five figures, the codes of docs/results.md, the
fields of docs/bundle-format.md."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.peers import EAGER, SCIKIT_IMAGE
from benchmarks.report.run_view import RunView, run_records, run_views
from benchmarks.results import BENCH_RECORDS, CPU_RECORDS, EVALUATION_RECORDS, names
from benchmarks.standalone import reading
from dtvit_edge.bundle.device_profile import PROFILE_SCHEMA
from dtvit_edge.bundle.json_schema import described
from dtvit_edge.bundle.schema import MANIFEST_SCHEMA, THRESHOLDS_SCHEMA
from dtvit_edge.bundle.verdicts import PASSED
from dtvit_edge.cli.exit_status import INTERRUPTED, READER_GONE
from dtvit_edge.cli.internal_error import EXIT_STATUS as INTERNAL_ERROR
from dtvit_edge.cli.units import size
from dtvit_edge.errors import ConfigError, DeviceFault, VerdictError
from dtvit_edge.precisions import MODEL_PRECISIONS
from dtvit_edge.reasons import REASONS, STUDY_REASONS
from dtvit_edge.scoring.csv_columns import LAST_COLUMNS, Column
from evaluation.limits import LIMIT_OPTIONS
from evaluation.records import Record, latest, read
from evaluation.scanner_shifts import SHIFTS
from export.encoders import DEFAULT_ENCODER
from export.onnx_graph import OPSET

DEMO = "demo"
SCRIPT = f"{SCIKIT_IMAGE.name}, {EAGER.name}"
INT8 = "openvino int8"

# What `dtvit-edge` returns to its caller; 0, 3 and 4 are `score`'s by `RunReport.exit_status`.
EXIT_STATUSES = {
    0: "Everything went well; for `score`, every slice was scored or skipped, and at least one was scored.",
    VerdictError.exit_status: "A negative verdict: parity, the self-test, the gate or a comparison said no.",
    ConfigError.exit_status: "Wrong usage, or a bundle, a checkpoint, a machine or a folder that cannot be used; said "
    "before the first file.",
    3: "`score`: some slices were refused or failed.",
    4: "`score`: no slice was scored.",
    DeviceFault.exit_status: "The device or the disk failed while it ran; the same command continues where it stopped.",
    INTERNAL_ERROR: "An error of this program itself, with what to report.",
    INTERRUPTED: "Interrupted: by Ctrl-C, SIGTERM or SIGHUP.",
    READER_GONE: "What reads the output has gone, as after `| head`.",
}


@dataclass(frozen=True)
class KeyFigure:
    """One line of README's table.

    Attributes:
        what: was measured; value: in words; commands: that repeat it.
    """

    what: str
    value: str
    commands: tuple[str, ...]


def key_figures() -> str:
    """README's table of five figures."""
    rows = "".join(f"| {figure.what} | {figure.value} |\n" for figure in _key_figures())
    return f"\n| what | figure |\n|---|---|\n{rows}\n"


def key_figures_with_commands() -> str:
    """The same for docs/figures.md, each with what repeats it."""
    rows = "".join(
        f"| {figure.what} | {figure.value} | {'; '.join(f'`{command}`' for command in figure.commands)} |\n"
        for figure in _key_figures()
    )
    return f"\n| what | figure | command |\n|---|---|---|\n{rows}\n"


def slice_reasons() -> str:
    """Every code that a row of slices.csv can have as its reason."""
    rows = "".join(f"| {reason.status} | `{reason.code}` | {reason.sentence} |\n" for reason in REASONS.values())
    return f"\n| status | reason | meaning |\n|---|---|---|\n{rows}\n"


def columns(table: Sequence[Column[Any]]) -> str:
    """The columns of one of a run's tables."""
    rows = {column.name: column.meaning for column in table} | LAST_COLUMNS
    return "\n| column | meaning |\n|---|---|\n" + "".join(f"| `{k}` | {v} |\n" for k, v in rows.items()) + "\n"


def model_files() -> str:
    """The model files that a bundle may hold."""
    rows = "".join(
        f"| `{row.file}` | {row.opset or OPSET} | {row.about} | `{row.made_by}` |\n" for row in MODEL_PRECISIONS
    )
    return f"\n| file | opset | what it is and what runs it | made by |\n|---|---|---|---|\n{rows}\n"


def study_reasons() -> str:
    """Every code that a row of studies.csv can have."""
    return "\n" + "".join(f"- `{code}`: {sentence}\n" for code, sentence in STUDY_REASONS.items()) + "\n"


def manifest_fields() -> str:
    """Every field of manifest.json, from its schema."""
    return _fields(MANIFEST_SCHEMA)


def threshold_fields() -> str:
    """Every field of thresholds.json, from its schema."""
    return _fields(THRESHOLDS_SCHEMA)


def profile_fields() -> str:
    """Every field of device-profile.json, from its schema."""
    return _fields(PROFILE_SCHEMA)


def _fields(schema: dict[str, Any]) -> str:
    rows = "".join(f"| `{path}` | {kind} | {sentence} |\n" for path, kind, sentence in described(schema))
    return f"\n| field | type | what it holds |\n|---|---|---|\n{rows}\n"


def scanner_shifts() -> str:
    """Every shift of the scanner under which the gate judges, and where its size comes from."""
    rows = "".join(f"| {shift.name} | {shift.meaning} |\n" for shift in SHIFTS)
    return f"\n| shift | what it stands for |\n|---|---|\n{rows}\n"


def exit_statuses() -> str:
    """What the command line returns."""
    rows = "".join(f"| {status} | {sentence} |\n" for status, sentence in EXIT_STATUSES.items())
    return f"\n| status | meaning |\n|---|---|\n{rows}\n"


def _key_figures() -> Iterator[KeyFigure]:
    """Five figures, from the newest record of each; one that has no record is left out."""
    evaluation = [record for record in read(EVALUATION_RECORDS) if record.options.get("model") == DEMO]
    encoder = evaluation[-1].options["encoder"] if evaluation else None
    if evaluation:
        s = evaluation[-1].summary
        yield KeyFigure(
            f"the demo model on {s['ich_slices']:.0f} phantom slices that it never saw",
            f"haemorrhage: AUC {s['ich_auc']:.4f}, accuracy {s['ich_accuracy']:.2%}; location: accuracy "
            f"{s['location_accuracy']:.2%}",
            (_command(evaluation[-1]),),
        )
    views = run_views(run_records(BENCH_RECORDS))
    on_one_core = [
        (view, speed)
        for view in views
        if (view.encoder, view.threads) == (DEFAULT_ENCODER, 1)
        and (speed := view.times_as_fast(names.LATENCY, INT8, EAGER.name))
    ]
    if on_one_core:
        view, speed = on_one_core[-1]
        yield KeyFigure(
            f"int8 on OpenVINO against PyTorch eager fp32, {view.encoder}, one core, one slice",
            f"{speed.value:.1f} times as fast, {view.median_ms(INT8):.0f} ms{_unless_passed(view.verdict(INT8))}",
            (view.command,),
        )
    whole = {view.name: (_model(view, encoder), *one) for view in views if (one := _against_script(view))}
    if whole:
        yield KeyFigure(
            "from folder to result against a plain script (pydicom, scikit-image, PyTorch), one core",
            "; ".join(
                f"{name} {times:.1f} times as fast{_unless_passed(said)}" for name, times, _, said in whole.values()
            ),
            tuple(command for _, _, command, _ in whole.values()),
        )
    if record := latest(CPU_RECORDS, reading.WHAT):
        s = record.summary
        both = ((kind, f"{kind}: plan and read") for kind in ("uncompressed", "RLE"))
        yield KeyFigure(
            "reading a 512 x 512 slice, header and pixels, against pydicom, one core",
            "; ".join(f"{kind} {s[f'{key}: ratio_median']:.1f} times as fast, {s[f'{key}: ms']:.2f} ms" for kind, key
                      in both),
            (_command(record),),
        )  # fmt: skip
    cold = [view for view in views if view.name == DEMO and view.passed and names.COLD_START in view.records]
    if cold:
        cold = [view for view in cold if view.encoder == cold[-1].encoder]
        seconds, peaks = (
            [view.figure(what, view.passed[0], figure) or 0.0 for view in cold]
            for what, figure in ((names.COLD_START, "median"), (names.MEMORY, "max"))
        )
        yield KeyFigure(
            f"cold start: `dtvit-edge score` of one slice, as a whole process, with {_model(cold[-1], encoder)}",
            f"{min(seconds):.1f} to {max(seconds):.1f} s in {len(cold)} runs, {size(max(peaks))} at most",
            tuple(view.command for view in cold),
        )


def _model(view: RunView, encoder: str | None) -> str:
    """Who a bundle is to a reader; a demo model with another encoder than the newest evaluation's is one of before."""
    if view.name != DEMO:
        return view.name
    return "the demo model" if view.encoder == encoder else f"the demo model of before ({view.encoder})"


def _against_script(view: RunView) -> tuple[float, str, str] | None:
    """How many times as fast as the plain script the fastest configuration is, what repeats it, and its verdict."""
    speed = view.times_as_fast(names.END_TO_END, view.passed[0], SCRIPT) if view.passed else None
    return None if speed is None else (speed.value, view.command, view.verdict(view.passed[0]))


def limits_of(record: Record) -> dict[str, float]:
    """The gate's limits in a calibration; of records that did not keep them, as their command has them."""
    if "limits" in record.options:
        return dict(record.options["limits"])
    given = {a.removeprefix("--").replace("-", "_"): b for a, b in pairwise(shlex.split(_command(record)))}
    return {field: float(given[option]) for option, field in LIMIT_OPTIONS.items() if option in given}


def _unless_passed(verdict: str) -> str:
    return "" if verdict == PASSED else f" ({verdict})"


def _command(record: Record) -> str:
    return str(record.options["command"])

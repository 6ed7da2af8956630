"""What each command prints of its result: tables, or JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dtvit_edge.cli import units
from dtvit_edge.cli.render_bundle import absent, bundle, untrained_location
from dtvit_edge.cli.render_profile import tuned
from dtvit_edge.cli.terminal import (
    ask_passphrase,
    echo,
    echo_lines,
    load_tables,
    pairs,
    progress,
    rows,
    show,
    table,
    uid_rows,
)
from dtvit_edge.spec import NOT_FLAGGED_NOTE, NOTICE

if TYPE_CHECKING:
    from dtvit_edge.backends.compiled_record import CompiledRecord
    from dtvit_edge.bundle import Bundle
    from dtvit_edge.cli.doctor import Facts
    from dtvit_edge.cluster.merge import Merged
    from dtvit_edge.dicom.discover import Plan
    from dtvit_edge.scoring.run import RunReport
    from dtvit_edge.selftest import SelfTest
    from dtvit_edge.targets.compatibility import Compatibility
    from dtvit_edge.targets.device_files import DeviceFiles
    from dtvit_edge.trt.store import BuildRecord

__all__ = [  # what commands of other rooms draw with is reached by the same door
    "ask_passphrase", "build", "builds_as_json", "bundle", "compatibility", "compiled", "device_files", "echo",
    "echo_lines", "facts", "load_tables", "merged", "plan", "progress", "rows", "run_report", "selftests", "tuned",
]  # fmt: skip
# Studies listed on the terminal; studies.csv holds them all.
MAX_LISTED = 20


def plan(found: Plan, *, as_json: bool) -> None:
    """`score --dry-run`: what would be scored, and why the rest would not."""
    series: list[dict[str, Any]] = [
        {
            "study_uid": s.study_uid,
            "series_uid": s.series_uid,
            "slices": len(s.headers),
            "refused": s.refusal.code if s.refusal else "",
            "warnings": list(s.warnings),
        }
        for s in found.series
    ]
    rejected = dict(sorted(Counter(rejection.reason.code for rejection in found.rejected).items()))
    if as_json:
        echo_lines(json.dumps({"series": series, "rejected": rejected}, indent=1))
        return
    cells = [
        (
            s["study_uid"],
            s["series_uid"],
            str(s["slices"]),
            f"refused: {s['refused']}" if s["refused"] else "scored",
            ", ".join(s["warnings"]),
        )
        for s in series
    ]
    uid_rows(("study", "series"), ("slices", "would be", "warnings"), cells)
    _reasons(rejected)


def run_report(report: RunReport, opened: Bundle, *, any_series: bool, as_json: bool) -> None:
    """The result of `score`: flagged studies first, then counts, reasons and where the files lie."""
    from dtvit_edge.scoring.csv_columns import flag, probability

    studies = report.studies
    if as_json:
        summary = {
            "slices": report.counts,
            "reasons": report.reasons,
            "studies": dict(Counter(str(s.status) for s in studies)),
            "flagged": [s.study_uid for s in studies if s.flagged],
            "files": [str(file) for file in report.files],
            "model_status": opened.manifest.training,
            "untrained_heads": opened.manifest.untrained_heads,
            "notice": NOTICE,
        }
        echo_lines(json.dumps(summary, indent=1))
        return
    ranked = sorted(studies, key=lambda s: (not s.flagged, -(s.ich_probability or 0.0), s.study_uid))
    cells = [
        (
            s.study_uid,
            str(s.status),
            flag(s.flagged),
            probability(s.ich_probability),
            s.location,
            f"{s.scored}/{s.slices}",
            s.reason,
        )
        for s in ranked[:MAX_LISTED]
    ]
    uid_rows(("study",), ("status", "flagged", "probability", "location", "scored", "reason"), cells)
    if len(ranked) > MAX_LISTED:
        echo(f"... and {len(ranked) - MAX_LISTED} more studies in studies.csv")
    untrained_location(opened.manifest.untrained_heads)
    _slices(report)
    if any_series:
        echo("--any-series: unsuitable series were scored as well")
    _files(report, opened.manifest.training)


def merged(found: Merged) -> None:
    """The result of `merge`: counts, reasons and where the files lie."""
    echo(f"{found.studies} studies of {found.shards} shards")
    untrained_location(found.untrained_heads)
    _slices(found)
    _files(found, found.training)


def _slices(result: RunReport | Merged) -> None:
    echo("slices: " + (", ".join(f"{n} {status}" for status, n in result.counts.items()) or "none"))
    _reasons(result.reasons)


def _files(result: RunReport | Merged, training: str) -> None:
    for file in result.files:
        echo(file)
    echo(f"model: {training}. {NOTICE}. {NOT_FLAGGED_NOTE}")


def selftests(opened: Bundle, checked: int, results: Sequence[SelfTest], *, as_json: bool) -> None:
    """The result of `verify`; `checked` files have their digests."""
    if as_json:
        rows = [
            {
                **r.backend,
                "precision": r.precision,
                "passed": r.passed,
                "tolerance": r.tolerance,
                "deviations": {str(batch): value for batch, value in r.deviations.items()},
                "differing_bytes": r.differing_bytes,
                "chain": r.chain,
            }
            for r in results
        ]
        echo_lines(json.dumps({"digest": opened.digest, "absent": opened.absent_files, "signer": opened.signer,
                               "selftests": rows}, indent=1))  # fmt: skip
        return
    echo(f"digests: {checked} files match the manifest")
    echo(f"signature: {opened.signature_state().words}")
    absent(opened)
    if not results:
        return
    grid = table("backend", "precision", "batches", "bytes", "largest |logit difference|", "tolerance", "verdict")
    for r in results:
        batches = ", ".join(map(str, r.deviations))
        verdict = "pass" if r.passed else "FAIL"
        name = f"{r.backend['backend']} {r.backend['version'].split('-')[0]}"
        prepared = "equal" if not r.differing_bytes else f"{r.differing_bytes} differ"
        grid.add_row(name, r.precision, batches, prepared, f"{r.worst:.3g}", f"{r.tolerance:g}", verdict)
    show(grid)


def builds_as_json(records: Sequence[BuildRecord | CompiledRecord], *, one: bool) -> None:
    """The result of `build --json`: the engine that was asked for, or a list of those that passed their gate."""
    texts = [record.to_json() for record in records]
    echo_lines(texts[0] if one else f"[{','.join(texts)}]")


def build(record: BuildRecord, opened: Bundle) -> None:
    """The result of `build` for one engine."""
    test = record.selftest
    tuned = sorted({profile["opt"] for profile in record.profiles})
    pairs(
        (
            ("engine", str(opened.path / "engines" / record.plan)),
            ("sha256", record.plan_sha256),
            ("size", f"{units.size(record.plan_bytes)}, built in {units.duration(record.seconds)}"),
            ("made from", f"{opened.manifest.models[record.graph].file} by {record.flavour} {record.version}"),
            ("for", f"{record.gpu or 'any GPU'} of SM {', '.join(record.capabilities)}"),
            ("batch", f"1 to {record.max_batch}, tuned for {' and '.join(str(opt) for opt in tuned)}"),
            ("flags", ", ".join((*record.flags, "TF32 off"))),
            ("set to FP32", f"{len(record.fp32_layers)} layers" if record.fp32_layers else "none"),
            ("layers", ", ".join(f"{n} {p}" for p, n in record.layer_precisions.items()) + f" ({record.layers_from})"),
            ("self-test", _passed(test) if test else f"NONE: {record.selftest_reason}"),
            *(("warning", warning) for warning in record.warnings),
        )
    )
    echo(NOTICE)


def compiled(record: CompiledRecord, opened: Bundle) -> None:
    """The result of `build` for OpenVINO."""
    pairs(
        (
            ("compiled model", str(opened.path / "engines" / record.blob)),
            ("sha256", record.blob_sha256),
            ("size", f"{units.size(record.blob_bytes)}, compiled in {units.duration(record.seconds)}"),
            ("made from", f"{opened.manifest.models[record.precision].file} by OpenVINO {record.version}"),
            ("for", f"{record.machine['processor']} ({record.machine['instruction_sets']})"),
            ("hint", record.hint),
            ("self-test", _passed(record.selftest)),
        )
    )
    echo(NOTICE)


def _passed(test: dict[str, Any]) -> str:
    worst = max([*test["deviations"].values(), *test["chain"].values()])
    return f"passed: {worst:.2e} at batch {' and '.join(test['deviations'])}, allowed {test['tolerance']:g}"


def device_files(found: DeviceFiles, *, as_json: bool) -> None:
    """The result of `inspect --device-files`: paths on stdout for another program, their size on stderr."""
    from dataclasses import asdict

    if as_json:
        echo_lines(json.dumps(asdict(found) | {"bytes": found.bytes}, indent=1))
        return
    for file in found.files:
        echo(file.path)
    precisions = ", ".join(found.precisions)
    echo(f"{len(found.files)} files, {units.size(found.bytes)}: {precisions} on {found.target}", err=True)


def compatibility(found: Compatibility, *, as_json: bool) -> None:
    """The result of `compat`: the model files on each stack, what is to be said of them, and what builds them."""
    from dataclasses import asdict

    from dtvit_edge.targets.facts import SEVERITIES, Finding

    if as_json:
        echo_lines(json.dumps(asdict(found), indent=1))
        return
    for stack in found.stacks:
        echo(stack.title)
        files = table("file", "state", "precision", "why")
        for f in stack.files:
            why = f"{f.why}: {f.command}" if f.command else f.why
            files.add_row(f.file, f.state.replace("_", " "), ", ".join(f.precisions) or "-", why)
        show(files)
    said: dict[Finding, list[str]] = {}
    for stack in found.stacks:
        for finding in stack.findings:
            said.setdefault(finding, []).append(stack.name)
    grid = table("severity", "about", "what is known")
    for finding, stacks in sorted(said.items(), key=lambda item: SEVERITIES.index(item[0].severity)):
        where = "" if len(stacks) == len(found.stacks) else f"[{'; '.join(stacks)}] "
        grid.add_row(finding.severity.replace("_", " "), finding.code.replace("_", " "), where + finding.sentence)
    show(grid)
    for command in dict.fromkeys(command for stack in found.stacks for command in stack.commands):
        echo(command)


def facts(found: Facts) -> None:
    """The result of `doctor`."""
    from dataclasses import asdict

    for title, values in asdict(found).items():
        pairs(values.items(), title)


def _reasons(counts: dict[str, int]) -> None:
    from dtvit_edge.reasons import REASONS

    for code, count in counts.items():
        echo(f"  {count:>6}  {code}: {REASONS[code].sentence}")

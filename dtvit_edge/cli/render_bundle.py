"""What `inspect` prints of a bundle: the model, its preprocessing, what proves it, its thresholds and files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from dtvit_edge.cli import units
from dtvit_edge.cli.render_profile import profile_words
from dtvit_edge.cli.terminal import echo, echo_lines, pairs, show, table
from dtvit_edge.spec import HEAD_LABELS, LOCATION_HEAD, NOTICE, UNTRAINED_LOCATION, PreprocessSpec

if TYPE_CHECKING:
    from dtvit_edge.bundle import Bundle, Manifest


def bundle(opened: Bundle, *, as_json: bool) -> None:
    """The result of `inspect`."""
    from dtvit_edge.bundle.verdicts import gate_verdicts

    manifest = opened.manifest
    gate = gate_verdicts(manifest)
    if as_json:
        beside = {
            "digest": opened.digest,
            "absent": opened.absent_files,
            "thresholds": opened.thresholds.to_dict(),
            "signature": asdict(opened.signature_state()),
            "gate": gate,
            "device_profile": profile_words(opened),
        }
        echo_lines(json.dumps(beside | json.loads(manifest.to_json()), indent=1))
        return
    echo(f"digest {opened.digest}")  # outside the table, where it would be folded
    pairs(
        (
            ("name", manifest.name),
            ("encoder", manifest.encoder),
            ("training", manifest.training),
            *_heads(manifest),
            *_preprocessing(manifest.spec),
            *_import(manifest),
            *_thresholds(opened),
            ("signature", opened.signature_state().words),
            ("calibration", "none" if manifest.calibration is None else "yes"),
            *((f"gate of {name}", verdict) for name, verdict in gate.items()),
            ("device profile", profile_words(opened)),
            *_proofs(manifest),
            ("made with", ", ".join(f"{k} {v}" for k, v in sorted(manifest.versions.items()))),
        )
    )
    files = table("precision", "file", "size", "facts")
    for precision, record in sorted(manifest.models.items()):
        facts = ", ".join(_fact(k, v) for k, v in record.facts.items() if isinstance(v, (str, int)))
        files.add_row(precision, record.file, units.size(record.bytes), facts)
    show(files)
    absent(opened)
    untrained_location(opened.manifest.untrained_heads)
    echo(NOTICE)


def absent(opened: Bundle) -> None:
    """Say which models this copy of a bundle lacks, if any."""
    if opened.absent:
        echo(opened.absence)


def untrained_location(untrained_heads: Sequence[str]) -> None:
    """Say that every location is left empty, where the head was never trained."""
    if LOCATION_HEAD in untrained_heads:
        echo(UNTRAINED_LOCATION)


def _heads(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Labels in the order of the outputs, the layers as they were read, and the activation."""
    for head, labels in HEAD_LABELS.items():
        untrained = " (untrained)" if head in manifest.untrained_heads else ""
        yield f"labels of {head}", ", ".join(labels) + untrained
    for name, layers in manifest.heads.items():
        yield f"layers of {name}", " > ".join(layers) or "not recorded"
    activations = [
        f"{value} ({source}, {key.rpartition('.')[0]})"
        for source in ("read", "given", "assumed")
        for key, value in ((manifest.imported or {}).get(source) or {}).items()
        if key.startswith("heads") and key.endswith(".activation")
    ]
    yield "activation", ", ".join(activations) or "not recorded"


def _preprocessing(spec: PreprocessSpec) -> Iterator[tuple[str, str]]:
    yield "window", "; ".join(f"{w.center_hu:g}/{w.width_hu:g} {w.kind}" for w in spec.windows)
    yield "head mask", "on" if spec.device_mask else "off"
    yield "resize, crop", f"{spec.resize or 'none'}, {spec.crop}"
    yield "fit, filter", f"{spec.fit}, {spec.filter}"
    yield "input", f"{spec.channels} x {spec.crop} x {spec.crop} uint8, {spec.encoder_channels} channels in the encoder"
    yield "mean", ", ".join(f"{value:g}" for value in spec.mean)
    yield "std", ", ".join(f"{value:g}" for value in spec.std)
    yield "thin slices", f"averaged to {spec.thickness_mm:g} mm"
    yield "a series", f"mean of the highest {spec.top_places} places"


def _import(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """What nobody said when the checkpoint was read."""
    if manifest.imported is not None:
        entries = manifest.imported.get("assumed") or {}
        yield "assumed", ", ".join(f"{name} {_plain(value)}" for name, value in entries.items()) or "nothing"


def _plain(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


def _thresholds(opened: Bundle) -> Iterator[tuple[str, str]]:
    thresholds = opened.thresholds
    for level, threshold in (("slice", thresholds.slice), ("study", thresholds.study)):
        yield f"threshold of a {level}", f"{threshold.value:g} ({threshold.source})"
    if thresholds.temperature is not None:
        yield "temperature", f"{thresholds.temperature:.4g} (recorded, not applied)"


def _proofs(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """The user's own outputs, PyTorch's rounding, and what each file may differ by and was seen to."""
    proof = manifest.proof
    if proof is None:
        yield "own outputs", "not compared (`export --expect`)"
    else:
        part = "model and preprocessing" if proof.get("preprocessing_proved") else "model alone"
        yield (
            "own outputs",
            f"{proof['says']}: {part}, {proof['images']} images, at most {proof['max_abs_difference']:.3g} apart "
            f"(allowed {proof['tolerance']:g})",
        )
    yield "rounding", f"PyTorch's float32 is at most {manifest.reference.rounding:.3g} from its float64"
    for precision, tolerance in sorted(manifest.tolerances.items()):
        yield f"tolerance of {precision}", f"{tolerance:g}"
    for precision, entry in sorted(manifest.parity.items()):
        yield (
            f"parity of {precision}",
            (f"left out: {manifest.refusals[precision]}" if precision in manifest.refusals else _parity(entry)),
        )


def _parity(entry: dict[str, Any]) -> str:
    worst = max(entry["max_abs_difference"].values())
    return f"within {worst:.3g} of PyTorch on {entry['slices']} golden slices (allowed {entry['tolerance']:g})"


def _fact(name: str, value: str | int) -> str:
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{name.removesuffix('_bytes')}: {units.size(value)}"
    return f"{name}: {value}"

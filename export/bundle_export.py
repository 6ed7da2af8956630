"""Checkpoint to bundle: load, rewrite, export, check, prove parity, and only then write."""

from __future__ import annotations

import platform
from collections.abc import Callable, Collection
from importlib import metadata
from pathlib import Path

from dtvit_edge.bundle import MODEL_FILES, SUFFIX, Bundle, FileRecord, Golden, Manifest, Reference, write_bundle
from dtvit_edge.errors import CheckpointError, ConfigError
from dtvit_edge.spec import ICH_HEAD, TRAINING_STATES, PreprocessSpec, Window
from export.checkpoint import Checkpoint, load_checkpoint, ordered_heads
from export.encoders import INPUT_SIZE
from export.facts import graph_facts
from export.golden import golden_slices, reference_logits, rounding_of, spread_of
from export.half import export_fp16
from export.onnx_graph import decompose_layer_norm, export_fp32
from export.parity import check_reference, prove_parity
from export.rewrites import rewrite

PACKAGES = ("torch", "timm", "torchvision", "onnx", "onnxscript", "onnxruntime", "numpy", "safetensors")


def export_bundle(
    weights: Path,
    output: Path,
    *,
    encoder: str | None = None,
    training: str | None = None,
    windows: tuple[Window, ...] = (),
    untrained_heads: Collection[str] = (),
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> Bundle:
    """Export a checkpoint as a bundle with `model.fp32.onnx`, `model.fp32-op16.onnx` and `model.fp16.onnx`.

    Args:
        weights: `.safetensors`, `.pt` or `.pth`.
        output: the directory, `NAME.dtvit`.
        encoder: where the checkpoint does not name it.
        training: where the checkpoint does not say it; contradicting it is refused.
        windows: one or three; none takes the checkpoint's spec, or the default.
        untrained_heads: those that were never trained, besides those that the checkpoint marks.
        progress: is given one line for each step.

    Raises:
        ConfigError: wrong options, or an output that exists.
        CheckpointError: weights that do not fit, or a haemorrhage head that was never trained.
        VerdictError: a graph that does not check, or differs from PyTorch; nothing is written then.
    """
    if output.suffix != SUFFIX:
        raise ConfigError(f"{output}: a bundle's name ends with {SUFFIX}")
    if output.exists() and not overwrite:
        raise ConfigError(f"{output} exists already; give another name or --overwrite")
    progress(f"reading {weights}")
    checkpoint = load_checkpoint(weights, encoder)
    training = _training(checkpoint, training)
    untrained = _untrained_heads(checkpoint, untrained_heads)
    spec = _spec(checkpoint, windows)
    model = checkpoint.model
    progress(f"exporting {model.encoder_name}")
    rewritten = rewrite(model, spec)
    data = {"fp32": export_fp32(rewritten.module, spec.channels)}
    data["fp32-op16"] = decompose_layer_norm(data["fp32"], spec.channels)
    data["fp16"] = export_fp16(data["fp32"], spec.channels)
    progress("rendering golden slices")
    stored, encodings, pixels = golden_slices(spec)
    progress("computing PyTorch's logits in float64")
    golden = Golden(tuple(stored), tuple(encodings), pixels, reference_logits(model, pixels, spec))
    reference = Reference(rounding_of(model, golden, spec), spread_of(golden.logits))
    check_reference(reference)
    parity = {}
    for precision in data:
        progress(f"comparing {precision} with PyTorch")
        parity[precision] = prove_parity(precision, data[precision], golden, reference)
    files = golden.to_files()
    models = {
        precision: FileRecord(MODEL_FILES[precision], "", 0, graph_facts(graph, model.encoder, rewritten.report))
        for precision, graph in data.items()
    }
    manifest = Manifest(
        name=output.stem,
        encoder=model.encoder_name,
        training=training,
        spec=spec,
        models=models,
        golden={file: FileRecord(file, "", 0) for file in files},
        golden_slices=golden.slices,
        reference=reference,
        parity=parity,
        tolerances={precision: proof["tolerance"] for precision, proof in parity.items()},
        weights_sha256=checkpoint.sha256,
        versions=versions(),
        untrained_heads=untrained,
    )
    files |= {MODEL_FILES[precision]: graph for precision, graph in data.items()}
    return write_bundle(output, manifest, files, overwrite=overwrite)


def versions() -> dict[str, str]:
    """Versions of Python and the packages that make a bundle."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}


def _training(checkpoint: Checkpoint, given: str | None) -> str:
    """The training state: the checkpoint's, else the caller's; a model is never taken for better trained."""
    if checkpoint.training and given and checkpoint.training != given:
        raise ConfigError(f"the checkpoint says training {checkpoint.training!r}, --training says {given!r}")
    training = checkpoint.training or given
    if training is None:
        raise ConfigError(
            f"the checkpoint does not say how it was trained; give --training ({', '.join(TRAINING_STATES)})"
        )
    return training


def _untrained_heads(checkpoint: Checkpoint, given: Collection[str]) -> tuple[str, ...]:
    """The checkpoint's marks and the caller's together; none can be taken back."""
    marked = ordered_heads({*checkpoint.untrained_heads, *given})
    if ICH_HEAD in marked:
        raise CheckpointError("the checkpoint's haemorrhage head was never trained; its bundle would detect nothing")
    return marked


def _spec(checkpoint: Checkpoint, windows: tuple[Window, ...]) -> PreprocessSpec:
    """The preprocessing of the bundle: what the model was trained with, which no option may contradict."""
    given = PreprocessSpec(windows=windows) if windows else None
    known = checkpoint.spec
    if known and given and known.windows != given.windows:
        raise ConfigError("the checkpoint carries other windows than --window gives; leave --window out")
    spec = known or given or PreprocessSpec()
    if spec.crop != INPUT_SIZE:
        raise ConfigError(f"the spec crops to {spec.crop}; encoders take {INPUT_SIZE} here")
    return spec

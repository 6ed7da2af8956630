"""Checkpoint to bundle: load, rewrite, export, check, prove parity, and only then write."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from dtvit_edge.bundle import (
    MODEL_FILES,
    REFUSED,
    Bundle,
    FileRecord,
    Golden,
    Manifest,
    Reference,
    write_bundle,
)
from dtvit_edge.errors import VerdictError
from dtvit_edge.precisions import REFERENCE_PRECISION, TRIMMED
from dtvit_edge.preprocess.cpu import CpuPreprocessor
from dtvit_edge.spec import PreprocessSpec
from export.expecting import prove_expected
from export.facts import graph_facts
from export.golden import golden_slices, reference_logits, rounding_of
from export.half import export_fp16
from export.importing import ImportOptions, import_model
from export.memory import release
from export.model import DTViT
from export.onnx_graph import decompose_layer_norm, export_fp32
from export.output import check_output
from export.parity import check_reference, prove_parity
from export.profile import distribution
from export.rewrites import rewrite
from export.trimmed import TrimmedViT
from export.trimming import trim_graph

# Without this file a bundle still serves, since every device runs float32; if any other fails, nothing is written.
DISPENSABLE = "fp16"
PACKAGES = ("torch", "timm", "torchvision", "onnx", "onnxscript", "onnxruntime", "numpy", "safetensors")


def export_bundle(
    weights: Path,
    output: Path,
    options: ImportOptions | None = None,
    *,
    expect: Path | None = None,
    overwrite: bool = False,
    progress: Callable[[str], None] = lambda line: None,
    **more: Any,
) -> Bundle:
    """Export a checkpoint as a bundle with `model.fp32.onnx`, `model.fp32-op16.onnx` and `model.fp16.onnx`.

    Of a ViT that leaves out empty patches there is `model.fp32-trimmed.onnx` besides (`export.trimmed`).

    Where float16 cannot hold the model, or answers too far from PyTorch, the bundle is written without
    `model.fp16.onnx`, and `parity` of its manifest has the reason (`Manifest.refusals`).

    Args:
        weights: of any of `export.weights.ENDINGS`.
        output: the directory, `NAME.dtvit`.
        options: what is said of the checkpoint; `more` are fields of it, for callers with one or two.
        expect: images with the user's own outputs, which the model has to give (`export.expecting`).
        progress: is given one line for each step, and what was concluded about the checkpoint.

    Raises:
        ConfigError: wrong options, a question that nobody answered, or an output that exists.
        CheckpointError: weights that do not fit, or a haemorrhage head that was never trained.
        VerdictError: a float32 graph that does not check, or differs from PyTorch, or a model that differs from the
            user's own outputs; nothing is written then.
    """
    options = replace(options or ImportOptions(), **more)
    check_output(output, overwrite=overwrite)
    progress(f"reading {weights}")
    imported = import_model(weights, options)
    for line in imported.findings.lines():
        progress(f"  {line}")
    model, spec = imported.model, imported.spec
    release()
    proof = None
    if expect is not None:
        progress(f"comparing with the outputs in {expect}")
        proof = prove_expected(imported, expect, progress)
    progress("rendering golden slices")
    stored, encodings, pixels = golden_slices(spec)
    progress("computing PyTorch's logits in float64")
    golden = Golden(tuple(stored), tuple(encodings), pixels, reference_logits(model, pixels, spec))
    prepare = CpuPreprocessor(spec)
    shares = [prepare(p, encoding).brain_share for p, encoding in zip(stored, encodings, strict=True)]
    reference = Reference(rounding_of(model, golden, spec), golden.spread)
    check_reference(reference)
    progress(f"exporting {model.encoder_name}")
    encoder_name, heads = model.encoder_name, imported.heads
    with tempfile.TemporaryDirectory(prefix="dtvit-export-") as folder:
        # Only one file is held at a time, and no model beside it.
        graphs, facts, refused = _write_graphs(model, spec, imported.own_module, Path(folder))
        training, findings, marked = imported.training, imported.findings, imported.untrained_heads
        sha256 = imported.sha256
        del model, imported
        release()
        parity: dict[str, dict[str, Any]] = {}
        for precision, graph in graphs.items():
            progress(f"comparing {precision} with PyTorch")
            try:
                parity[precision] = prove_parity(precision, graph.read_bytes(), golden, reference)
            except VerdictError as error:
                if precision != DISPENSABLE:
                    raise
                refused[precision] = str(error)
            release()
        data = {precision: graphs[precision].read_bytes() for precision in parity}
    for precision, reason in refused.items():
        progress(f"leaving {precision} out: {reason}")
    files = golden.to_files()
    models = {precision: FileRecord(MODEL_FILES[precision], "", 0, facts[precision]) for precision in data}
    manifest = Manifest(
        name=output.stem,
        encoder=encoder_name,
        training=training,
        spec=spec,
        models=models,
        golden={file: FileRecord(file, "", 0) for file in files},
        golden_slices=golden.slices,
        reference=reference,
        parity=parity | {precision: {REFUSED: reason} for precision, reason in refused.items()},
        tolerances={precision: verdict["tolerance"] for precision, verdict in parity.items()},
        weights_sha256=sha256,
        versions=versions(),
        heads=heads,
        imported=findings.to_dict(),
        proof=proof,
        profile={"golden": distribution(golden.logits, shares)},
        untrained_heads=marked,
    )
    files |= {MODEL_FILES[precision]: graph for precision, graph in data.items()}
    return write_bundle(output, manifest, files, overwrite=overwrite)


def _write_graphs(
    model: DTViT, spec: PreprocessSpec, own_module: bool, folder: Path
) -> tuple[dict[str, Path], dict[str, dict[str, Any]], dict[str, str]]:
    """The ONNX files of a model, written into a folder as they are made; the facts of each graph; what was refused."""
    rewritten = rewrite(model, spec, own_module=own_module)
    data = export_fp32(rewritten.module, spec.channels, spec.crop)
    report = rewritten.report
    del rewritten
    makers: dict[str, Callable[[], bytes]] = {
        "fp32": lambda: data,
        "fp32-op16": lambda: decompose_layer_norm(data, spec.channels, spec.crop),
        "fp16": lambda: export_fp16(data, spec.channels, spec.crop),
    }
    if isinstance(model.encoder, TrimmedViT):
        makers[TRIMMED[REFERENCE_PRECISION]] = lambda: trim_graph(data, spec.channels, spec.crop)
    graphs: dict[str, Path] = {}
    facts: dict[str, dict[str, Any]] = {}
    refused: dict[str, str] = {}
    for precision, make in makers.items():
        release()
        try:
            graph = make()
        except VerdictError as error:
            if precision != DISPENSABLE:
                raise
            refused[precision] = str(error)
            continue
        facts[precision] = graph_facts(graph, model.encoder, report)
        graphs[precision] = folder / MODEL_FILES[precision]
        graphs[precision].write_bytes(graph)
        del graph
    return graphs, facts, refused


def versions() -> dict[str, str]:
    """Versions of Python and the packages that make a bundle."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}

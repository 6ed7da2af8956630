"""`build --backend openvino`: a model is compiled, written, read back, proved, and installed in `engines/`.

What is installed answers as the model itself does, bit for bit, at every batch size that is tried, so that it makes no
difference to a run whether it was there.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from dtvit_edge import backends
from dtvit_edge.backend import Backend, Logits
from dtvit_edge.backends.compiled_models import CompiledModel, install
from dtvit_edge.backends.compiled_record import CompiledRecord
from dtvit_edge.backends.openvino import HINTS, NAME, PRECISIONS, OpenVinoBackend
from dtvit_edge.bundle import ENGINES, REFERENCE_PRECISION, Bundle, Manifest, MemoryCopy
from dtvit_edge.bundle.verdicts import PASSED, verdict_of
from dtvit_edge.environment import instruction_sets, machine
from dtvit_edge.errors import ConfigError, DigestMismatch, VerdictError
from dtvit_edge.files import write_atomically
from dtvit_edge.selftest import BATCHES, SelfTest
from dtvit_edge.spec import OUTPUT_NAMES, digest_bytes
from dtvit_edge.trt.device_key import make_key
from dtvit_edge.trt.staging import staging

Proof = Callable[[Bundle, Backend, Sequence[int]], SelfTest]

log = logging.getLogger(__name__)


def passed_models(manifest: Manifest, hint: str | None) -> list[str]:
    """Precisions below fp32 that passed their gate with a hint; fp32 where none did."""
    lower = [p for p in PRECISIONS if p in manifest.models and p != REFERENCE_PRECISION]
    passed = [p for p in lower if verdict_of(manifest, p, hint) == PASSED]
    return passed or [REFERENCE_PRECISION]


def build_compiled(bundle: Bundle, precision: str, hint: str | None, prove: Proof) -> CompiledRecord:
    """Compile a model, prove what was compiled, and install it.

    Args:
        hint: inference precision; None is f32.
        prove: the self-test that decides whether it is installed, `scoring.proof.prove_chain`. A VerdictError is its
            no.

    Returns:
        The record as it lies beside the compiled model.

    Raises:
        MissingDependency, ConfigError: no OpenVINO here, a precision that it does not run, or a hint that it lacks.
        BundleError: the bundle has no such model.
        VerdictError: it fails its self-test, or answers otherwise than the model does.
    """
    backends.choose(NAME)
    hint = hint or HINTS[0]
    if precision not in PRECISIONS or hint not in HINTS:
        raise ConfigError(f"{NAME} runs {', '.join(PRECISIONS)} with the hints {', '.join(HINTS)}")
    make_key()  # what cannot be signed is not built
    with staging(bundle.path / ENGINES) as stage:
        log.info("compiling %s with OpenVINO", bundle.model_path(precision).name)
        blob, expected, record = _compiled(bundle, precision, hint, stage)
        with OpenVinoBackend(partial(_read_back, blob, record), precision, hint=hint) as backend:
            try:
                result = prove(bundle, backend, BATCHES)
                _require_same(expected, _answers(bundle, backend))
            except VerdictError as error:
                raise VerdictError(f"{error}; it is not installed") from error
        return install(bundle.path / ENGINES, replace(record, selftest=result.to_dict()), blob)


def _compiled(bundle: Bundle, precision: str, hint: str, stage: Path) -> tuple[Path, list[Logits], CompiledRecord]:
    """Compile and write: the blob, the answers of what was compiled, and what is known of it before it is proved."""
    start = time.perf_counter()
    with OpenVinoBackend(partial(bundle.model_copy, precision), precision, hint=hint) as backend:
        seconds = time.perf_counter() - start
        expected = _answers(bundle, backend)
        stream = io.BytesIO()
        backend.compiled.export_model(stream)
        version = backend.describe()["version"]
    blob = stage / "compiled.blob"
    write_atomically(blob, stream.getbuffer())
    record = CompiledRecord(
        blob=blob.name,
        blob_sha256=digest_bytes(stream.getbuffer()),
        blob_bytes=len(stream.getbuffer()),
        precision=precision,
        hint=hint,
        onnx_sha256=bundle.manifest.models[precision].sha256,
        spec_digest=bundle.manifest.spec.digest,
        golden_digest=bundle.manifest.golden_digest,
        version=version,
        instruction_sets=instruction_sets(),
        seconds=seconds,
        selftest={},
        machine=machine(),
    )
    return blob, expected, record


def _read_back(blob: Path, record: CompiledRecord) -> CompiledModel:
    """What was written, from the disk.

    Raises:
        DigestMismatch: it has other bytes there.
    """
    copy = MemoryCopy.of_file(blob, record.blob_bytes)
    if copy.sha256 != record.blob_sha256:
        raise DigestMismatch("the compiled model's bytes changed on their way to the disk; nothing is installed")
    return CompiledModel(record, copy)


def _answers(bundle: Bundle, backend: Backend) -> list[Logits]:
    """The logits of all golden slices, in batches of each size."""
    pixels = bundle.golden().pixels
    starts = [(size, start) for size in BATCHES for start in range(0, len(pixels), size)]
    return [backend.infer(np.ascontiguousarray(pixels[start : start + size])) for size, start in starts]


def _require_same(expected: Sequence[Logits], answers: Sequence[Logits]) -> None:
    for before, after in zip(expected, answers, strict=True):
        if not all(np.array_equal(before[name], after[name]) for name in OUTPUT_NAMES):
            raise VerdictError("the compiled model answers otherwise than the one that was compiled")
